"""How photographs are shown: torchvision's pixels, every kind of file, and the way between input and original."""

from __future__ import annotations

import io
import json
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from tests.conftest import needs
from tests.stimuli.pictures import encoded, noise, plain, png_header, turned
from unitscope.errors import BadInput
from unitscope.stimuli.presentation import Presentation, Unreadable, decode, exif_orientation, opened
from unitscope.vocabulary import Box

SIDES = st.integers(1, 400)


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(decode(data))


# --- the pixels that the network is shown ---------------------------------------------------------


@needs("torchvision")
@settings(deadline=None, max_examples=60)
@given(height=SIDES, width=SIDES, size=st.integers(1, 200), resize=st.none() | st.integers(1, 300))
def test_pixels_equal_torchvision_s(height, width, size, resize):
    from torchvision import transforms

    picture = noise(height, width)
    side = round(size * 256 / 224) if resize is None else resize
    expected = transforms.CenterCrop(size)(transforms.Resize(side)(picture))
    shown = Presentation((size, size), resize).present(encoded(picture, compress_level=0))
    assert shown.dtype == np.uint8
    assert np.array_equal(shown, np.asarray(expected))


@needs("torchvision")
@settings(deadline=None, max_examples=30)
@given(height=SIDES, width=SIDES, size=st.tuples(st.integers(1, 200), st.integers(1, 200)), resize=st.integers(1, 300))
def test_pixels_equal_torchvision_s_where_the_network_s_input_is_no_square(height, width, size, resize):
    from torchvision import transforms

    picture = noise(height, width)
    expected = transforms.CenterCrop(size)(transforms.Resize(resize)(picture))
    assert np.array_equal(Presentation(size, resize).show(picture), np.asarray(expected))


@given(size=st.tuples(st.integers(1, 300), st.integers(1, 300)), height=SIDES, width=SIDES)
def test_by_default_no_black_is_ever_added(size, height, width):
    presentation = Presentation(size)
    assert min(presentation.corner((height, width))) >= 0
    resized = presentation.resized((height, width))
    assert all(whole >= part for whole, part in zip(resized, size, strict=True))


def test_the_default_is_torchvision_s_256_for_224():
    assert Presentation((224, 224)).resize == 256
    assert Presentation((112, 112)).resize == 128
    assert Presentation((224, 448)).resize == (256, 512)
    assert Presentation((224, 224)).resized((300, 451)) == (256, 384)  # int(256 * 451 / 300) = int(384.85)


def test_facts_survive_json():
    for presentation in (Presentation((224, 224)), Presentation((64, 128)), Presentation((32, 32), 32)):
        size, resize = json.loads(json.dumps([presentation.size, presentation.resize]))
        again = Presentation(tuple(size), tuple(resize) if isinstance(resize, list) else resize)
        assert again == presentation


@pytest.mark.parametrize(("size", "resize"), [((0, 5), None), ((5, 5), 0), ((5, 5), (4, -1)), ((5, -5), 7)])
def test_impossible_sizes_are_told(size, resize):
    with pytest.raises(BadInput, match="cannot be shown at size"):
        Presentation(size, resize)


def test_what_is_shown_may_be_written_to():
    assert Presentation((8, 8)).present(encoded(plain(9, 9))).flags.writeable


def test_a_picture_of_one_pixel_fills_the_input():
    shown = Presentation((32, 32)).present(encoded(plain(1, 1, (1, 2, 3))))
    assert (shown == (1, 2, 3)).all()


def test_a_thread_of_a_picture_is_shown_without_being_resized_as_a_whole():
    ramp = np.linspace(0, 255, 3_000_000).astype(np.uint8)
    long = Image.fromarray(np.repeat(ramp[None, :, None], 3, 2))
    start = time.perf_counter()
    shown = Presentation((224, 224)).show(long)  # resized as a whole: 256 x 768,000,000
    assert time.perf_counter() - start < 5
    assert shown.shape == (224, 224, 3)
    assert set(np.unique(shown)) <= {126, 127, 128}


@settings(deadline=None, max_examples=25)
@given(
    height=st.integers(1, 80), width=st.integers(1, 80), size=st.integers(1, 60), resize=st.none() | st.integers(1, 90)
)
def test_the_part_path_gives_the_same_picture_within_rounding(height, width, size, resize):
    picture = noise(height, width)
    whole = Presentation((size, size), resize).show(picture).astype(int)
    part = Presentation((size, size), resize, pixel_limit=0).show(picture).astype(int)
    assert np.abs(whole - part).max() <= 4


# --- between the network's input and the original -------------------------------------------------

PRESENTATIONS = st.builds(
    Presentation,
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
    st.none() | st.integers(1, 400) | st.tuples(st.integers(1, 400), st.integers(1, 400)),
)
CORNERS = st.integers(-500, 500)


@given(PRESENTATIONS, CORNERS, CORNERS, CORNERS, CORNERS, SIDES, SIDES)
def test_boxes_go_to_the_original_and_come_back(presentation, top, left, height, width, rows, cols):
    box = Box(top, left, top + height, left + width)
    there = presentation.to_original(box, (rows, cols))
    assert presentation.to_network(there, (rows, cols)) == pytest.approx(tuple(box), abs=1e-6)


@given(st.tuples(st.integers(1, 300), st.integers(1, 300)), SIDES, SIDES)
def test_by_default_the_whole_input_lies_on_the_original(size, rows, cols):
    top, left, bottom, right = Presentation(size).to_original(Box(0, 0, *size), (rows, cols))
    assert -1e-9 <= top < bottom <= rows + 1e-9
    assert -1e-9 <= left < right <= cols + 1e-9


@pytest.mark.parametrize("original", [(600, 400), (400, 600), (100, 170), (512, 512)])
@pytest.mark.parametrize(
    "presentation", [Presentation((224, 224)), Presentation((96, 160)), Presentation((64, 64), 64)]
)
def test_a_painted_marker_is_shown_where_the_mapping_says(original, presentation):
    height, width = presentation.size
    box = Box(height // 4, width // 2, height // 4 + 20, width // 2 + 14)
    top, left, bottom, right = presentation.to_original(box, original)
    canvas = np.zeros((*original, 3), np.uint8)
    rows, cols = np.arange(original[0]) + 0.5, np.arange(original[1]) + 0.5
    marked = ((rows > top) & (rows < bottom))[:, None] & ((cols > left) & (cols < right))
    canvas[marked] = 255
    shown = presentation.show(Image.fromarray(canvas))[..., 0]
    found_rows, found_cols = np.nonzero(shown.max(1) > 127)[0], np.nonzero(shown.max(0) > 127)[0]
    found = found_rows[0], found_cols[0], found_rows[-1] + 1, found_cols[-1] + 1
    assert found == pytest.approx(tuple(box), abs=1.5 * max(1, height / original[0]))


# --- every kind of file ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(kind, orientation):
    picture = Image.new("RGB", (60, 40))
    for color, place in (((250, 0, 0), (0, 0)), ((0, 250, 0), (30, 0)), ((0, 0, 250), (0, 20))):
        picture.paste(color, (*place, place[0] + 30, place[1] + 20))
    options = {"quality": 95} if kind in ("JPEG", "WEBP") else {}
    upright = decode(turned(picture, orientation, kind, **options))
    assert upright.size == (60, 40)
    assert np.abs(np.asarray(upright)[10::20, 15::30].astype(int) - np.asarray(picture)[10::20, 15::30]).max() < 12


@pytest.mark.parametrize("tags", [b"MM\x00\x2a\xff\xff\xff\xff", b"XXXXXXXX", b"MM\x00\x2a\x00\x00\x00\x08\x00\x09"])
def test_broken_exif_data_turn_nothing(tags):
    data = encoded(plain(8, 6), "JPEG")
    broken = data[:2] + b"\xff\xe1" + (8 + len(tags)).to_bytes(2, "big") + b"Exif\x00\x00" + tags + data[2:]
    assert decode(broken).size == (6, 8)
    assert decode(encoded(plain(8, 6), exif=b"Exif\x00\x00" + tags)).size == (6, 8)


@pytest.mark.parametrize("value", [0, 9, 77])
def test_orientations_that_there_are_not_turn_nothing(value):
    data = turned(plain(8, 6), value, "JPEG")
    assert Image.open(io.BytesIO(data)).getexif()[0x0112] == value
    assert exif_orientation(opened(data)) == 1
    assert decode(data).size == (6, 8)


def test_gray_palette_bilevel_and_cmyk_become_rgb():
    gray = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for image in (Image.fromarray(gray), Image.fromarray(gray).convert("P")):
        assert np.array_equal(pixels(encoded(image)), np.repeat(gray[..., None], 3, 2))
    bilevel = Image.fromarray(gray > 127)
    assert np.array_equal(pixels(encoded(bilevel))[..., 0], np.where(gray > 127, 255, 0))
    colored = plain(9, 9, (200, 30, 60))
    cmyk = encoded(colored.convert("CMYK"), "JPEG", quality=100)
    assert np.abs(pixels(cmyk).astype(int) - (200, 30, 60)).max() < 6


def test_adaptive_palette_keeps_colors():
    colors = noise(4, 4)
    indexed = colors.quantize(16)
    assert np.array_equal(pixels(encoded(indexed)), np.asarray(indexed.convert("RGB")))


def test_transparency_is_laid_on_white():
    layers = np.zeros((4, 4, 4), np.uint8)
    layers[..., 0], layers[..., 3] = 200, [0, 85, 170, 255]
    expected = [[255, 255, 255], [237, 170, 170], [218, 85, 85], [200, 0, 0]]
    found = pixels(encoded(Image.fromarray(layers)))
    assert np.abs(found[0].astype(int) - expected).max() <= 1
    gray = Image.fromarray(layers).convert("LA")
    assert tuple(pixels(encoded(gray))[0, 0]) == (255, 255, 255)
    indexed = plain(4, 4, (9, 9, 9)).quantize(2)
    assert tuple(pixels(encoded(indexed, transparency=0))[0, 0]) == (255, 255, 255)
    keyed = encoded(plain(4, 4, (9, 9, 9)), transparency=(9, 9, 9))
    assert tuple(pixels(keyed)[0, 0]) == (255, 255, 255)
    partly = plain(4, 4, (9, 9, 9)).quantize(2)
    assert tuple(pixels(encoded(partly, transparency=bytes([0, 255])))[0, 0]) == (255, 255, 255)


def test_sixteen_bits_keep_their_high_byte():
    values = np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16)
    for kind in ("PNG", "TIFF"):
        assert np.array_equal(pixels(encoded(Image.fromarray(values), kind))[..., 0], values >> 8)


def test_fractions_are_scaled_and_other_floating_point_values_refused():
    values = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)
    assert np.array_equal(pixels(encoded(Image.fromarray(values), "TIFF"))[..., 1], np.rint(values * 255))
    for wrong in (values * 300, values - 0.5, values * np.nan):
        with pytest.raises(Unreadable, match="of which none is known to be white"):
            decode(encoded(Image.fromarray(wrong), "TIFF"))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_shown(kind):
    frames = [plain(8, 8, color) for color in ((250, 0, 0), (0, 250, 0), (0, 0, 250))]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert getattr(Image.open(io.BytesIO(data)), "n_frames", 1) == 3
    assert tuple(pixels(data)[4, 4]) == (250, 0, 0)


# --- what cannot be shown -------------------------------------------------------------------------

JPEG = encoded(noise(64, 64), "JPEG")
PNG = encoded(noise(64, 64))


@pytest.mark.parametrize(
    ("data", "story"),
    [
        (b"", r"^the file is empty \(0 bytes\)$"),
        (b"this is text, named a.jpg\n" * 20, "^it is not an image of a known format$"),
        (bytes(5000), "^it is not an image of a known format$"),
        (JPEG[: len(JPEG) // 2], r"^image file is truncated"),
        (JPEG[:300], r"(?i)truncated|not an image|broken"),
        (PNG[: len(PNG) // 2], r"truncated"),
        (PNG[:40], r"truncated|not an image|unrecognized"),
        (PNG[:60] + bytes(60) + PNG[120:], r"broken|truncated|decod|bad|error|Error"),
        (png_header(30_000, 30_000), r"^900000000 pixels; at most 100 million are decoded$"),
        (png_header(9_500, 11_000), r"^11,000 x 9,500 pixels; at most 100 million are decoded$"),
        (png_header(0, 5), r"not an image|pixels|cannot|zero|Error"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n", "^it is not an image of a known format$"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "^it is not an image of a known format$"),
    ],
    ids=["empty", "text", "zeros", "half JPEG", "JPEG head", "half PNG", "PNG head", "holed PNG",
         "900 megapixels", "104 megapixels", "no rows", "PostScript", "SVG"],
)  # fmt: skip
def test_what_cannot_be_decoded_tells_why(data, story):
    start = time.perf_counter()
    with pytest.raises(Unreadable, match=story) as caught:
        Presentation((8, 8)).present(data)
    assert isinstance(caught.value, BadInput)
    assert 5 < len(caught.value.reason) < 120
    assert "BytesIO" not in caught.value.reason
    assert time.perf_counter() - start < 2


@settings(deadline=None, max_examples=150)
@given(st.sampled_from([JPEG, PNG]), st.data())
def test_damaged_files_are_shown_or_unreadable_and_nothing_else(data, draws):
    damaged = bytearray(data)
    for place in draws.draw(st.lists(st.integers(0, len(data) - 1), min_size=1, max_size=8)):
        damaged[place] = draws.draw(st.integers(0, 255))
    try:
        shown = Presentation((16, 16)).present(bytes(damaged))
    except Unreadable:
        return
    assert shown.shape == (16, 16, 3)


def test_the_limit_is_a_choice_and_decoding_leaves_the_warnings_as_they_were():
    before = list(warnings.filters)
    with pytest.raises(Unreadable, match=r"9 x 9 pixels; at most 0 million"):
        decode(encoded(plain(9, 9)), pixel_limit=80)
    assert decode(encoded(plain(9, 9)), pixel_limit=81).size == (9, 9)
    assert warnings.filters == before


def test_threads_that_decode_leave_the_warnings_as_they_were():
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        shown = list(pool.map(Presentation((8, 8)).present, [PNG, JPEG] * 100))
    assert len(shown) == 200
    assert warnings.filters == before


def test_corrupt_exif_data_make_no_noise():
    data = encoded(plain(8, 6), "JPEG")
    tags = b"Exif\x00\x00MM\x00\x2a\x00\x00\x00\x08\x00\x09"  # nine tags are announced, none comes
    broken = data[:2] + b"\xff\xe1\x00\x12" + tags + data[2:]
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        assert decode(broken).size == (6, 8)
        assert heard == []
        Image.open(io.BytesIO(broken)).getexif()
        assert "Corrupt EXIF" in str(heard[0].message)


@pytest.mark.parametrize(("owner", "step"), [(Image, "open"), (ImageFile.ImageFile, "load")])
def test_memory_that_is_short_is_not_the_image_s_fault(monkeypatch, owner, step):
    def short(*_, **__):
        raise MemoryError

    monkeypatch.setattr(owner, step, short)
    with pytest.raises(MemoryError):
        decode(PNG)
