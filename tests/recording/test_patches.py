"""Patches: exactly the fields, from the originals, of the very pictures that were surveyed."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.conftest import needs
from tests.stimuli.pictures import encoded, noise, plain, turned
from unitscope.errors import BadInput, Failure, UnknownName
from unitscope.record import Record, open_record, write_facts, write_table
from unitscope.recording.patches import (
    FILL,
    _layout,
    cut,
    cut_shown,
    images_of,
    neuron_feature,
    originals_of,
    patches,
    presentation_of,
)
from unitscope.stimuli.images import Images, digest, open_images
from unitscope.stimuli.presentation import Presentation, decode
from unitscope.vocabulary import Box

INSIDE = Box(100, 60, 127, 87)
"""A field of 27 x 27 that lies on the picture."""


def record_of(
    folder: Path,
    images: Images,
    rows: list[tuple[int, Box, float]],
    *,
    presentation: Presentation | None = None,
    pole: str = "preferred",
    digests: bool = True,
) -> Record:
    """A record of one site of two units whose unit 1 has the given stimuli (image, box, value), best first."""
    presentation = presentation or Presentation((224, 224))
    table = {
        "image": pa.array(range(len(images)), pa.int64()),
        "uri": pa.array([item.uri for item in images], pa.string()),
        "label": pa.array([item.label for item in images], pa.string()),
        "status": pa.array(["ok"] * len(images), pa.string()),
    }
    if digests:
        data = [images.bytes(i) for i in range(len(images))]
        table |= {"digest": pa.array(map(digest, data), pa.string()), "bytes": pa.array(map(len, data), pa.int64())}
    stimuli = {
        "unit": pa.array([1] * len(rows), pa.int64()),
        "pole": pa.array([pole] * len(rows), pa.string()),
        "rank": pa.array(range(len(rows)), pa.int64()),
        "image": pa.array([image for image, *_ in rows], pa.int64()),
        "value": pa.array([value for *_, value in rows], pa.float32()),
    }
    for number, side in enumerate(("top", "left", "bottom", "right")):
        stimuli[side] = pa.array([box[number] for _, box, _ in rows], pa.int64())
    write_table(folder / "images.parquet", pa.table(table))
    write_table(folder / "stimuli.parquet", pa.table(stimuli).take(pa.array(range(len(rows))[::-1], pa.int64())))
    field = {"size": [27, 27], "stride": [4, 4], "start": [-13, -13], "status": "exact", "cause": ""}
    site = {"name": "conv", "channels": 2, "lattice": [56, 56], "operation": "conv2d", "preactivation": True}
    facts = {
        "format": 1,
        "network": {"name": "n", "fingerprint": "f" * 64, "size": list(presentation.size)},
        "stimuli": {
            "source": images.source,
            "fingerprint": images.fingerprint,
            "count": len(images),
            "size": list(presentation.size),
            "resize": presentation.resize,
        },
        "sites": [site | {"first_unit": 0, "field": field}],
        "complete": True,
    }
    write_facts(folder, facts)
    return open_record(folder)


def saved(folder: Path, files: dict[str, bytes]) -> Images:
    """A folder of image files, opened."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return open_images(folder)


def slow_patch(picture: Image.Image, box: Box, presentation: Presentation) -> np.ndarray:
    """Pixel by pixel: those of the original whose centers lie in the box; FILL beyond the network's input."""
    original = np.asarray(picture)
    size = original.shape[:2]
    top, left, bottom, right = presentation.to_original(box, size)
    seen = presentation.to_original(box.clip(presentation.size), size)
    rows = [row for row in range(-2000, 4000) if top <= row + 0.5 < bottom]
    cols = [col for col in range(-2000, 4000) if left <= col + 0.5 < right]
    patch = np.empty((len(rows), len(cols), 3), np.uint8)
    for i, row in enumerate(rows):
        for j, col in enumerate(cols):
            visible = seen[0] <= row + 0.5 < seen[2] and seen[1] <= col + 0.5 < seen[3]
            patch[i, j] = original[row, col] if visible else FILL
    return patch


# --- the exact field, from the original -----------------------------------------------------------


@pytest.mark.parametrize("shape", [(600, 400), (400, 700), (512, 512)])
@pytest.mark.parametrize(
    "box", [INSIDE, Box(-13, -13, 14, 14), Box(210, 100, 237, 127), Box(100, 200, 159, 259), Box(-20, -30, 240, 250)]
)
def test_a_patch_is_the_original_s_pixels_and_beyond_the_input_is_fill(tmp_path, shape, box):
    picture = noise(*shape)
    record = record_of(tmp_path / "r", saved(tmp_path / "i", {"a.png": encoded(picture)}), [(0, box, 2.0)])
    (patch,) = patches(record, "conv:1")
    assert patch.mode == "RGB"
    assert np.array_equal(np.asarray(patch), slow_patch(picture, box, Presentation((224, 224))))


def test_the_fill_is_a_choice_and_none_is_transparent(tmp_path):
    images = saved(tmp_path / "i", {"a.png": encoded(plain(512, 512, (1, 2, 3)))})
    record = record_of(tmp_path / "r", images, [(0, Box(-10, 0, 10, 20), 1.0)])
    (red,) = patches(record, "conv:1", fill=(255, 0, 0))
    (clear,) = patches(record, "conv:1", fill=None)
    assert red.getpixel((5, 5)) == (255, 0, 0)
    assert clear.mode == "RGBA"
    opaque = np.asarray(clear)[..., 3]
    assert set(np.unique(opaque)) == {0, 255}
    assert (opaque == 255).mean() == pytest.approx(0.5, abs=0.03)
    assert np.array_equal(opaque == 255, (np.asarray(red) == (1, 2, 3)).all(2))


def test_a_patch_knows_where_it_comes_from(tmp_path):
    images = saved(tmp_path / "i", {"a.png": encoded(noise(300, 300)), "b.png": encoded(noise(300, 300, seed=1))})
    record = record_of(tmp_path / "r", images, [(1, INSIDE, 3.0), (0, INSIDE, 2.5)])
    first, second = patches(record, "conv:1")
    assert (first.info["uri"], first.info["value"], first.info["box"]) == ("b.png", 3.0, INSIDE)
    assert (second.info["uri"], second.info["value"]) == ("a.png", 2.5)
    assert "reason" not in first.info


@pytest.mark.parametrize("orientation", [3, 6, 8])
@pytest.mark.parametrize("size", [None, 20])
def test_a_turned_photograph_gives_the_patch_of_the_upright_one(tmp_path, orientation, size):
    picture = Image.fromarray(np.asarray(noise(30, 45)).repeat(20, 0).repeat(20, 1))
    for number, data in enumerate((encoded(picture, "JPEG"), turned(picture, orientation, "JPEG"))):
        images = saved(tmp_path / f"i{number}", {"a.jpg": data})
        record_of(tmp_path / f"r{number}", images, [(0, INSIDE, 1.0)])
    (upright,), (other,) = (patches(open_record(tmp_path / f"r{n}"), "conv:1", size=size) for n in (0, 1))
    assert upright.size == other.size
    assert np.abs(np.asarray(upright).astype(int) - np.asarray(other)).mean() < 6


def test_patches_of_one_size(tmp_path):
    picture = Image.fromarray(np.asarray(noise(40, 60)).repeat(16, 0).repeat(16, 1))
    images = saved(tmp_path / "i", {"a.png": encoded(picture), "b.jpg": encoded(picture, "JPEG", quality=95)})
    record = record_of(tmp_path / "r", images, [(0, INSIDE, 1.0), (1, INSIDE, 1.0), (0, Box(-9, 0, 9, 18), 1.0)])
    png, jpeg, hanging = patches(record, "conv:1", size=(40, 50))
    assert {patch.size for patch in (png, jpeg, hanging)} == {(50, 40)}
    top, left, bottom, right = Presentation((224, 224)).to_original(INSIDE, (640, 960))
    expected = picture.resize((50, 40), Image.Resampling.BILINEAR, box=(left, top, right, bottom))
    assert np.array_equal(np.asarray(png), np.asarray(expected))
    assert np.abs(np.asarray(jpeg).astype(int) - np.asarray(expected)).mean() < 8
    assert (np.asarray(hanging)[:20] == FILL).all()
    assert not (np.asarray(hanging)[20:] == FILL).all(2).any()


def test_a_large_jpeg_is_decoded_no_finer_than_needed(tmp_path, monkeypatch):
    picture = Image.fromarray(np.asarray(noise(20, 30)).repeat(100, 0).repeat(100, 1))
    record = record_of(
        tmp_path / "r", saved(tmp_path / "i", {"a.jpg": encoded(picture, "JPEG", quality=95)}), [(0, INSIDE, 1.0)]
    )
    decoded = []
    load = Image.Image.load
    monkeypatch.setattr(Image.Image, "load", lambda image, *a: (decoded.append(image.size), load(image, *a))[1])
    (small,) = patches(record, "conv:1", size=25)
    assert max(decoded) == (375, 250)
    decoded.clear()
    (whole,) = patches(record, "conv:1")
    assert max(decoded) == (3000, 2000)
    expected = np.asarray(whole.resize((25, 25), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(np.asarray(small) - expected).mean() < 10


def test_a_small_original_is_shown_at_the_network_s_resolution(tmp_path):
    record = record_of(tmp_path / "r", saved(tmp_path / "i", {"a.png": encoded(noise(20, 20))}), [(0, INSIDE, 1.0)])
    (patch,) = patches(record, "conv:1")
    assert patch.size == (27, 27)
    shown = Presentation((224, 224)).show(noise(20, 20))
    expected = shown[INSIDE.top : INSIDE.bottom, INSIDE.left : INSIDE.right].astype(int)
    assert np.abs(np.asarray(patch) - expected).max() <= 40
    assert np.abs(np.asarray(patch) - expected).mean() <= 4


def test_black_that_the_network_saw_is_black(tmp_path):
    presentation = Presentation((64, 64), 32)
    record = record_of(
        tmp_path / "r",
        saved(tmp_path / "i", {"a.png": encoded(plain(32, 32))}),
        [(0, Box(-8, -8, 72, 72), 1.0)],
        presentation=presentation,
    )
    patch = np.asarray(patches(record, "conv:1")[0])
    assert tuple(patch[4, 4]) == FILL
    assert tuple(patch[12, 12]) == (0, 0, 0)
    assert tuple(patch[40, 40]) == (200, 100, 50)
    assert np.array_equal(patch[8:72, 8:72], presentation.show(plain(32, 32)))


@given(
    box=st.tuples(st.integers(-300, 220), st.integers(-300, 220), st.integers(1, 600), st.integers(1, 600)),
    original=st.tuples(st.integers(1, 2000), st.integers(1, 2000)),
    size=st.none() | st.tuples(st.integers(1, 90), st.integers(1, 90)),
    resize=st.none() | st.integers(1, 400),
)
def test_every_field_has_a_layout_that_fits(box, original, size, resize):
    box = Box(box[0], box[1], box[0] + box[2], box[1] + box[3])
    layout = _layout(box, Presentation((224, 224), resize), original, size)
    height, width = layout.size
    assert min(height, width) >= 1
    if size:
        assert layout.size == size
    for part in (layout.seen, layout.place):
        if part.height > 0 and part.width > 0:
            assert part == part.clip(layout.size)
    if layout.place.height > 0 and layout.place.width > 0:
        top, left, bottom, right = layout.source
        assert 0 <= top < bottom <= original[0]
        assert 0 <= left < right <= original[1]


# --- where images come from -----------------------------------------------------------------------


def test_patches_from_tars_and_lists_and_folders_are_the_same(tmp_path):
    data = encoded(noise(300, 400))
    saved(tmp_path / "i", {"a.png": data})
    (tmp_path / "list.csv").write_text("uri,label\ni/a.png,x\n")
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        member = tarfile.TarInfo("x/a.png")
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    found = []
    for number, source in enumerate((tmp_path / "i", tmp_path / "list.csv", tmp_path / "s.tar")):
        record = record_of(tmp_path / f"r{number}", open_images(source), [(0, INSIDE, 1.0)])
        found.append(np.asarray(patches(record, "conv:1")[0]))
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


@needs("skimage")
def test_patches_of_the_demonstration_set(tmp_path):
    images = open_images("builtin")
    rows = [(image, INSIDE, 1.0) for image in (0, 169, 700)]
    record = record_of(tmp_path / "r", images, rows, presentation=Presentation((112, 112)), digests=False)
    found = patches(record, "conv:1", size=32)
    assert [patch.info["uri"] for patch in found] == [images.items[image].uri for image, *_ in rows]
    assert not any("reason" in patch.info for patch in found)
    assert images_of(record).note == images.note
    assert presentation_of(record) == Presentation((112, 112))


def test_images_are_found_by_name_though_others_were_added(tmp_path):
    images = saved(tmp_path / "i", {"b.png": encoded(noise(300, 300)), "c.png": encoded(noise(300, 300, seed=1))})
    record = record_of(tmp_path / "r", images, [(1, INSIDE, 1.0)])
    (before,) = patches(record, "conv:1")
    saved(tmp_path / "i", {"a.png": encoded(plain(300, 300))})
    (after,) = patches(record, "conv:1")
    assert np.array_equal(np.asarray(before), np.asarray(after))


def test_what_vanished_or_changed_is_crossed_out_with_a_reason(tmp_path):
    names = ["kept.png", "gone.png", "longer.png", "other.png", "broken.png"]
    images = saved(tmp_path / "i", {name: encoded(noise(300, 300), compress_level=0) for name in names})
    order = {item.uri: i for i, item in enumerate(images)}
    record = record_of(tmp_path / "r", images, [(order[name], INSIDE, 1.0) for name in names])
    (tmp_path / "i" / "gone.png").unlink()
    saved(tmp_path / "i", {"longer.png": encoded(noise(300, 301), compress_level=0)})
    saved(tmp_path / "i", {"other.png": encoded(noise(300, 300, seed=1), compress_level=0)})
    saved(tmp_path / "i", {"broken.png": b"text"})
    kept, gone, longer, other, broken = patches(record, "conv:1")
    assert "reason" not in kept.info
    assert gone.info["reason"] == "the file is not there"
    assert "it has changed since the survey: " in longer.info["reason"]
    assert other.info["reason"] == "it has changed since the survey (as many bytes, other contents)"
    assert "changed" in broken.info["reason"]
    for patch in (gone, longer, other, broken):
        assert patch.size == (27, 27)
        assert (
            len(set(patch.getdata() if not hasattr(patch, "get_flattened_data") else patch.get_flattened_data())) == 2
        )


def test_records_without_digests_still_find_out_what_cannot_be_decoded(tmp_path):
    images = saved(tmp_path / "i", {"a.png": encoded(noise(300, 300)), "b.png": encoded(noise(300, 300))})
    record = record_of(tmp_path / "r", images, [(0, INSIDE, 1.0), (1, INSIDE, 1.0)], digests=False)
    saved(tmp_path / "i", {"a.png": b"text"})
    first, second = patches(record, "conv:1")
    assert first.info["reason"] == "it is not an image of a known format"
    assert "reason" not in second.info


def test_if_nothing_can_be_had_it_is_an_error_that_says_what_to_do(tmp_path):
    images = saved(tmp_path / "i", {"a.png": encoded(noise(300, 300))})
    record = record_of(tmp_path / "r", images, [(0, INSIDE, 1.0)])
    (before,) = patches(record, "conv:1")
    (tmp_path / "i" / "a.png").unlink()
    story = r"not one of the 1 images can be had from .*i; a\.png: the file is not there\. Where the images have moved"
    with pytest.raises(Failure, match=story):
        patches(record, "conv:1")
    (tmp_path / "i").rename(tmp_path / "empty")
    with pytest.raises(
        BadInput, match=r"no longer where they were: .*i does not exist.* Where they have moved, say so"
    ):
        patches(record, "conv:1")
    saved(tmp_path / "new", {"a.png": encoded(noise(300, 300)), "0.png": encoded(plain(9, 9))})
    (after,) = patches(record, "conv:1", originals=originals_of(record, tmp_path / "new"))
    assert np.array_equal(np.asarray(before), np.asarray(after))
    (again,) = patches(record, "conv:1", originals=originals_of(record, open_images(tmp_path / "new")))
    assert np.array_equal(np.asarray(before), np.asarray(again))
    saved(tmp_path / "foreign", {"z.png": encoded(plain(9, 9))})
    with pytest.raises(BadInput, match=r"holds none of the record's 1 images; the first should be called 'a\.png'"):
        originals_of(record, tmp_path / "foreign")


# --- which stimuli --------------------------------------------------------------------------------


def test_count_and_pole(tmp_path):
    images = saved(tmp_path / "i", {f"{n}.png": encoded(plain(300, 300, (n, n, n))) for n in range(5)})
    rows = [(n, INSIDE, 9.0 - n) for n in (3, 1, 4, 0, 2)]
    record = record_of(tmp_path / "r", images, rows, pole="antipreferred")
    found = patches(record, "conv:1", pole="antipreferred", count=3)
    assert [patch.getpixel((5, 5))[0] for patch in found] == [3, 1, 4]
    assert len(patches(record, "conv:1", pole="antipreferred")) == 5
    assert patches(record, "conv:1", count=3) == []
    assert patches(record, "conv:0") == []
    assert patches(record, "conv:1", pole="antipreferred", count=0) == []
    with pytest.raises(UnknownName, match="'con'"):
        patches(record, "con:1")
    with pytest.raises(BadInput, match="is no pole"):
        patches(record, "conv:1", pole="best")
    with pytest.raises(BadInput, match="-1 patches cannot be given"):
        patches(record, "conv:1", count=-1)


# --- many patches at once -------------------------------------------------------------------------


def test_cutting_many_at_once_equals_cutting_each(tmp_path):
    data, presentation = encoded(noise(300, 500), "JPEG"), Presentation((224, 224))
    boxes = [INSIDE, Box(-13, 200, 14, 227), Box(0, 0, 224, 224)]
    record = record_of(tmp_path / "r", saved(tmp_path / "i", {"a.jpg": data}), [(0, box, 1.0) for box in boxes])
    together = cut(data, boxes, presentation=presentation, size=24)
    assert together.shape == (3, 24, 24, 3)
    for one, patch in zip(together[:2], patches(record, "conv:1", size=24), strict=False):
        assert np.array_equal(one, np.asarray(patch))
    assert cut(data, [], presentation=presentation, size=24).shape == (0, 24, 24, 3)


def test_cutting_what_was_shown_gives_its_very_pixels():
    shown = Presentation((224, 224)).show(noise(300, 400))
    inside, hanging = cut_shown(shown, [INSIDE, Box(-13, 200, 14, 227)], size=27, fill=(9, 9, 9))
    assert np.array_equal(inside, shown[100:127, 60:87])
    assert np.array_equal(hanging[13:, :24], shown[:14, 200:])
    assert (hanging[:13] == 9).all()
    assert (hanging[:, 24:] == 9).all()


def test_what_was_shown_is_kept_for_a_while(tmp_path, monkeypatch):
    images = saved(tmp_path / "i", {f"{n}.png": encoded(plain(300, 300, (n, n, n))) for n in range(4)})
    originals = originals_of(record_of(tmp_path / "r", images, []), keep=2)
    reads = []
    monkeypatch.setattr(type(originals.images), "bytes", lambda images, i: (reads.append(i), images.reader(i))[1])
    for image in (0, 1, 0, 2, 0, 1):
        assert (originals.shown(image) == image).all()
    assert reads == [0, 1, 2, 1]


# --- the neuron feature ---------------------------------------------------------------------------


def slow_feature(shown: list[np.ndarray], stimuli: list[tuple[int, Box, float]]) -> tuple[np.ndarray, np.ndarray]:
    """From the definition: for each pixel, sum w z / sum w over the patches that cover it."""
    _, first, strongest = stimuli[0]
    mean, n_valid = np.full((3, first.height, first.width), np.nan), np.zeros((first.height, first.width), int)
    for row in range(first.height):
        for col in range(first.width):
            here = [(value / strongest, shown[image][box.top + row, box.left + col] / 255)
                    for image, box, value in stimuli
                    if 0 <= box.top + row < 224 and 0 <= box.left + col < 224]  # fmt: skip
            n_valid[row, col] = len(here)
            if here:
                mean[:, row, col] = sum(w * z for w, z in here) / sum(w for w, _ in here)
    return mean, n_valid


def test_the_neuron_feature_is_the_weighted_mean(tmp_path):
    images = saved(tmp_path / "i", {f"{n}.png": encoded(noise(250, 260, seed=n)) for n in range(4)})
    rows = [(2, INSIDE, 4.0), (0, Box(-13, -5, 14, 22), 3.0), (1, Box(-9, -6, 18, 21), 1.0), (3, INSIDE, -2.0)]
    record = record_of(tmp_path / "r", images, rows)
    feature = neuron_feature(record, "conv:1")
    mean, n_valid = slow_feature([originals_of(record).shown(i) for i in range(4)], rows[:3])
    assert feature.picture.shape == (3, 27, 27)
    assert np.allclose(feature.picture, mean, equal_nan=True, rtol=0, atol=1e-12)
    assert np.array_equal(feature.n_valid, n_valid)
    assert (feature.patches, feature.reason) == (3, "")
    best_only = neuron_feature(record, "conv:1", count=1)
    assert np.array_equal(best_only.picture, originals_of(record).shown(2)[100:127, 60:87].transpose(2, 0, 1) / 255)


def test_pixels_that_no_patch_covers_have_no_mean(tmp_path):
    images = saved(tmp_path / "i", {"a.png": encoded(plain(300, 300, (51, 102, 204)))})
    record = record_of(tmp_path / "r", images, [(0, Box(-10, 0, 10, 20), 2.0)])
    feature = neuron_feature(record, "conv:1")
    assert np.isnan(feature.picture[:, :10]).all()
    assert np.allclose(feature.picture[:, 10:].transpose(1, 2, 0), (0.2, 0.4, 0.8))
    assert (feature.n_valid[:10] == 0).all()
    assert (feature.n_valid[10:] == 1).all()


def test_a_unit_without_positive_responses_has_no_feature_and_a_reason(tmp_path):
    images = saved(tmp_path / "i", {"a.png": encoded(plain(300, 300))})
    record = record_of(tmp_path / "r", images, [(0, INSIDE, -1.0)])
    for unit in ("conv:1", "conv:0"):
        feature = neuron_feature(record, unit)
        assert np.isnan(feature.picture).all()
        assert (feature.patches, feature.reason) == (0, "no positive response")


def test_a_feature_says_which_images_it_had_to_do_without(tmp_path):
    images = saved(tmp_path / "i", {"a.png": encoded(plain(300, 300)), "b.png": encoded(plain(300, 300, (0, 0, 0)))})
    record = record_of(tmp_path / "r", images, [(0, INSIDE, 2.0), (1, INSIDE, 1.0)])
    (tmp_path / "i" / "a.png").unlink()
    feature = neuron_feature(record, "conv:1")
    assert (feature.picture == 0).all()
    assert (feature.patches, feature.reason) == (1, "1 of 2 images cannot be had: a.png: the file is not there")


# --- manners --------------------------------------------------------------------------------------


def test_patches_need_no_torch():
    code = "import sys, unitscope.recording.patches; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_decoded_original_is_upright_rgb(tmp_path):
    record = record_of(tmp_path / "r", saved(tmp_path / "i", {"a.jpg": turned(plain(30, 50), 6, "JPEG")}), [])
    assert decode(originals_of(record).bytes(0)).size == (50, 30)
