"""Images inside Parquet files: the image column of a table, as Hugging Face's datasets and others keep it.

A column is one if it holds bytes, or structures with a field `bytes`. Labels are those of the column `label`, where
there is one; numbers get the names that Hugging Face's metadata give them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from unitscope.errors import BadInput, few
from unitscope.stimuli.items import Images, Item, Unreadable, uri_of

if TYPE_CHECKING:
    import pyarrow as pa


class ImageRow(NamedTuple):
    """An image of a Parquet file: its label, its row group, its place in that, and the number of its bytes."""

    label: str | None
    group: int
    place: int
    length: int


@dataclass(frozen=True, eq=False)
class ImageColumn:
    """Reads cells of image columns: image i lies in row group `groups[i]`, at `places[i]`, of `paths[files[i]]`.

    A row group is read as a whole and kept for its neighbors, so reading in order is quick and jumping about is slow.
    """

    paths: Sequence[str]
    files: np.ndarray
    groups: np.ndarray
    places: np.ndarray

    def __call__(self, image: int) -> bytes:
        path = self.paths[self.files[image]]
        try:
            cell = cells(path, int(self.groups[image]), *file_version(path))[int(self.places[image])].as_py()
        except (OSError, ValueError, IndexError) as error:
            raise Unreadable(f"its Parquet file: {' '.join(str(error).split()) or type(error).__name__}") from None
        if not cell:
            raise Unreadable("its cell in the Parquet file is empty")
        return bytes(cell)


def images_of_parquet(paths: Sequence[str], source: str | list[str]) -> Images:
    """The images of Parquet files: files sorted by path, rows in their order; uri `FILE.parquet//ROW`.

    Raises BadInput where a file is no Parquet file or has no image column.
    """
    paths = sorted(set(paths), key=os.fsencode)
    root = os.path.commonpath([os.path.dirname(path) for path in paths])
    tables = [read_rows(path, *file_version(path)) for path in paths]
    items = tuple(
        Item(f"{uri_of(os.path.relpath(path, root))}//{number}", row.label)
        for path, rows in zip(paths, tables, strict=True)
        for number, row in enumerate(rows)
    )
    if not items:
        raise BadInput(f"no image in {', '.join(map(uri_of, paths[:3]))}: the table has no row.")
    places = [(number, row.group, row.place) for number, rows in enumerate(tables) for row in rows]
    sizes = [row.length for rows in tables for row in rows]
    source = uri_of(source) if isinstance(source, str) else [uri_of(path) for path in source]
    return Images(items, sizes, ImageColumn(paths, *np.array(places, np.int64).T), source)


def file_version(path: str) -> tuple[int, int]:
    """What changes when a file is replaced: its size and its time."""
    facts = os.stat(path)
    return facts.st_size, facts.st_mtime_ns


@lru_cache(maxsize=4096)
def read_rows(path: str, size: int, time: int) -> tuple[ImageRow, ...]:  # noqa: ARG001  (they are part of the cache's key)
    """The images of one Parquet file. Reads the image column once, for the numbers of bytes."""
    import pyarrow as pa
    import pyarrow.compute
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            labels = read_labels(file)
            image_column(file.schema_arrow, path)
            rows: list[ImageRow] = []
            for group in range(file.num_row_groups):
                lengths = pa.compute.binary_length(cells(path, group, *file_version(path))).to_pylist()
                rows += [ImageRow(labels[len(rows) + n], group, n, length or 0) for n, length in enumerate(lengths)]
            return tuple(rows)
    except (pa.ArrowException, OSError) as error:
        raise BadInput(f"{uri_of(path)} cannot be read as a Parquet file ({str(error).splitlines()[0]}).") from None


@lru_cache(maxsize=2)
def cells(path: str, group: int, size: int, time: int) -> pa.ChunkedArray:  # noqa: ARG001
    """The image column of one row group, as bytes."""
    import pyarrow.compute
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        name = image_column(file.schema_arrow, path)
        column = file.read_row_group(group, columns=[name]).column(name)
    return pyarrow.compute.struct_field(column, "bytes") if pyarrow.types.is_struct(column.type) else column


def image_column(schema: pa.Schema, path: str) -> str:
    """The name of the column that holds images: "image" or "img" if there is such a one, else the only one that holds
    bytes.
    """
    found = [field.name for field in schema if holds_bytes(field.type)]
    preferred = [name for name in ("image", "img") if name in found] or found
    if len(found) != 1 and not set(preferred) & {"image", "img"}:
        what = (
            f"several columns of bytes ({few(found)}), none called 'image'" if found else "no column of images (bytes)"
        )
        raise BadInput(f"{uri_of(path)} has {what}; its columns are {few(schema.names, most=10)}.")
    return preferred[0]


def holds_bytes(kind: pa.DataType) -> bool:
    import pyarrow.types as types

    if types.is_struct(kind):
        return any(field.name == "bytes" and holds_bytes(field.type) for field in kind)
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def read_labels(file: Any) -> Sequence[str | None]:
    """The label of each row, None where there is no column `label`."""
    if "label" not in file.schema_arrow.names:
        return [None] * file.metadata.num_rows
    names = class_names(file.schema_arrow.metadata or {})
    found = file.read(columns=["label"]).column("label").to_pylist()
    named = (names[value] if names and isinstance(value, int) and 0 <= value < len(names) else value for value in found)
    return [None if value is None else str(value) for value in named]


def class_names(metadata: dict[bytes, bytes]) -> list[str]:
    """The names of labels in Hugging Face's metadata, none where there are no such metadata."""
    try:
        return list(json.loads(metadata[b"huggingface"])["info"]["features"]["label"]["names"])
    except (KeyError, TypeError, ValueError):
        return []
