"""Image columns of Parquet files, as Hugging Face keeps them."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from unitscope.errors import BadInput
from unitscope.stimuli.images import Item, Unreadable, open_images, reopen


def hugging(path: Path, cells: list[bytes | None], labels: list[int | None], names: list[str] | None = None) -> Path:
    """A Parquet file in Hugging Face's form, in row groups of two."""
    images = pa.array([{"bytes": cell, "path": f"{n}.jpg"} for n, cell in enumerate(cells)])
    table = pa.table({"image": images, "label": pa.array(labels, pa.int64())})
    if names:
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pa.parquet.write_table(table, path, row_group_size=2)
    return path


def test_images_and_labels_come_from_the_table(tmp_path):
    hugging(tmp_path / "b.parquet", [b"b0"], [1], ["cat", "dog"])
    hugging(tmp_path / "a.parquet", [b"a0", b"a1", b"", None, b"a4"], [1, 0, None, 7, 1], ["cat", "dog"])
    for source in (tmp_path, tmp_path / "*.parquet", [tmp_path / "b.parquet", tmp_path / "a.parquet"]):
        images = open_images(source)
        assert [item.uri for item in images] == [f"a.parquet//{n}" for n in range(5)] + ["b.parquet//0"]
        assert [item.label for item in images] == ["dog", "cat", None, "7", "dog", "dog"]
        assert list(images.sizes) == [2, 2, 0, 0, 2, 2]
        assert [images.bytes(i) for i in (5, 0, 4, 1)] == [b"b0", b"a0", b"a4", b"a1"]
        assert pickle.loads(pickle.dumps(images)).bytes(4) == b"a4"
        assert reopen(images.source, images.items[::-1]).bytes(1) == b"a4"
        for image in (2, 3):
            with pytest.raises(Unreadable, match="cell in the Parquet file is empty"):
                images.bytes(image)


def test_a_plain_column_of_bytes_will_do(tmp_path):
    pa.parquet.write_table(pa.table({"jpeg": [b"x", b"yy"], "label": ["a", "b"]}), tmp_path / "t.parquet")
    images = open_images(tmp_path / "t.parquet")
    assert images.items == (Item("t.parquet//0", "a"), Item("t.parquet//1", "b"))
    assert images.bytes(1) == b"yy"


def test_what_has_no_image_column_is_told(tmp_path):
    path = tmp_path / "t.parquet"
    pa.parquet.write_table(pa.table({"text": ["x"], "n": [1]}), path)
    with pytest.raises(BadInput, match=r"t\.parquet has no column of images \(bytes\); its columns are text, n"):
        open_images(path)
    pa.parquet.write_table(pa.table({"left": [b"x"], "right": [b"y"]}), path)
    with pytest.raises(BadInput, match=r"has several columns of bytes \(left, right\), none called 'image'"):
        open_images(path)
    pa.parquet.write_table(pa.table({"image": pa.array([], pa.binary())}), path)
    with pytest.raises(BadInput, match=r"no image in .*t\.parquet: the table has no row"):
        open_images(path)
    path.write_bytes(b"no parquet at all")
    with pytest.raises(BadInput, match=r"t\.parquet cannot be read as a Parquet file \("):
        open_images(path)


def test_a_file_that_is_gone_or_damaged_gives_unreadable_images(tmp_path):
    path = hugging(tmp_path / "t.parquet", [b"x", b"y", b"z"], [0, 0, 0])
    images = open_images(path)
    path.write_bytes(b"damaged")
    os.utime(path, ns=(1, 1))
    with pytest.raises(Unreadable, match="its Parquet file: "):
        images.bytes(0)
    path.unlink()
    with pytest.raises(Unreadable, match="its Parquet file: "):
        images.bytes(2)
