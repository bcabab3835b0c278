"""Gray values of every kind are shown as they are meant, or not at all."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.stimuli.pictures import encoded
from unitscope.stimuli.pixels import ValueRange, from_fractions, high_byte
from unitscope.stimuli.presentation import Unreadable, decode, decode_opened, opened

RAMP = np.linspace(0, 65535, 64).astype(np.uint16)[None].repeat(8, 0)

BLACK_IS_ZERO, WHITE_IS_ZERO = 1, 0


def tiff(
    values: np.ndarray, photometric: int, *, order: str = "<", kind: int = 1, bits: int = 0, planes: int = 1
) -> bytes:
    """An uncompressed TIFF of [row col] values, or with `planes` = 2 of [color row col]."""
    rows, cols = values.shape[-2:]
    data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    bits = bits or 8 * values.itemsize
    colors = len(values) if values.ndim == 3 else 1
    after = struct.pack(f"{order}{3 * colors}L", *range(8, 8 + len(data), len(data) // colors),
                        *[len(data) // colors] * colors, *[0] * colors)  # fmt: skip
    depths = struct.pack(f"{order}{colors}H", *[bits] * colors)
    at = 8 + len(data)
    tags = {256: (4, 1, cols), 257: (4, 1, rows), 258: (3, colors, at + len(after) if colors > 2 else bits),
            259: (3, 1, 1), 262: (3, 1, photometric), 273: (4, colors, at if colors > 1 else 8),
            277: (3, 1, colors), 278: (4, 1, rows),
            279: (4, colors, at + 4 * colors if colors > 1 else len(data)), 284: (3, 1, planes)}  # fmt: skip
    if kind != 1:
        tags[339] = (3, 1, kind)
    directory = struct.pack(f"{order}H", len(tags))
    for tag, (form, count, value) in tags.items():
        short = form == 3 and count == 1
        directory += struct.pack(
            f"{order}HHL" + ("HH" if short else "L"), tag, form, count, value, *([0] if short else [])
        )
    start = at + len(after) + len(depths)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}L", start)
    return head + data + after + depths + directory + bytes(4)


def png(rows: bytes, size: tuple[int, int], depth: int, color: int, key: tuple[int, ...] = ()) -> bytes:
    """A PNG of packed rows; `key` is the transparent color."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">L", len(data)) + name + data + struct.pack(">L", zlib.crc32(name + data))

    step = len(rows) // size[0]
    lines = b"".join(b"\0" + rows[i : i + step] for i in range(0, len(rows), step))
    parts = chunk(b"IHDR", struct.pack(">LLBBBBB", size[1], size[0], depth, color, 0, 0, 0))
    if key:
        parts += chunk(b"tRNS", struct.pack(f">{len(key)}H", *key))
    return b"\x89PNG\r\n\x1a\n" + parts + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def grays(data: bytes) -> np.ndarray:
    shown = np.asarray(decode(data))
    assert (shown == shown[..., :1]).all()
    return shown[..., 0]


def test_sixteen_bits_of_tiff_are_shown_the_same_whether_zero_is_black_or_white():
    assert np.array_equal(grays(tiff(RAMP, BLACK_IS_ZERO)), RAMP >> 8)
    assert np.array_equal(grays(tiff(RAMP, BLACK_IS_ZERO, order=">")), RAMP >> 8)
    assert np.array_equal(grays(tiff(65535 - RAMP, WHITE_IS_ZERO)), RAMP >> 8)
    assert np.array_equal(grays(tiff((255 - (RAMP >> 8)).astype(np.uint8), WHITE_IS_ZERO)), RAMP >> 8)
    with pytest.raises(Unreadable, match="it is a TIFF whose kind of values"):  # Pillow knows no such
        decode(tiff(65535 - RAMP, WHITE_IS_ZERO, order=">"))


def test_twelve_bits_of_tiff_reach_white():
    twelve = RAMP[:, ::2] >> 4
    packed = np.stack(
        [twelve[:, ::2] >> 4, twelve[:, ::2] % 16 * 16 + (twelve[:, 1::2] >> 8), twelve[:, 1::2] % 256], 2
    )
    data = tiff(packed.reshape(8, -1).astype(np.uint8), BLACK_IS_ZERO, bits=12)
    width = data.index(struct.pack("<HHL", 256, 4, 1)) + 8
    data = data[:width] + struct.pack("<L", 32) + data[width + 4 :]
    assert np.array_equal(grays(data), twelve >> 4)


@pytest.mark.parametrize("order", ["<", ">"])
def test_fractions_of_tiff_are_shown_the_same_whether_zero_is_black_or_white(order):
    values = (RAMP / 65535).astype(np.float32)
    assert np.array_equal(grays(tiff(values, BLACK_IS_ZERO, order=order, kind=3)), np.rint(values * 255))
    inverted = tiff(1 - values, WHITE_IS_ZERO, order="<", kind=3)
    assert np.abs(grays(inverted) - np.rint(values * 255)).max() <= 1


@pytest.mark.parametrize(
    ("values", "kind", "story"),
    [
        ((RAMP >> 1).astype(np.int16), 2, "whole numbers from 0 to 32,767, of which none is known to be white"),
        ((RAMP >> 8).astype(np.int32), 2, "whole numbers from 0 to 255, of which none is known to be white"),
        (RAMP.astype(np.uint32), 1, "whole numbers from 0 to 65,535, of which none is known to be white"),
        (RAMP >> 4, 1, "16-bit grays up to 4,095 of 65,535, nearly black; scale them to what is white"),
        (RAMP >> 8, 1, "16-bit grays up to 255 of 65,535, nearly black"),
    ],
    ids=["16 signed", "32 signed", "32 bits", "12 in 16", "8 in 16"],
)
def test_values_whose_white_is_not_known_are_not_shown_black(values, kind, story):
    with pytest.raises(Unreadable, match=story):
        decode(tiff(values, BLACK_IS_ZERO, kind=kind))


def test_a_black_picture_of_sixteen_bits_is_black():
    assert not grays(tiff(RAMP * 0, BLACK_IS_ZERO)).any()
    assert grays(tiff(RAMP * 0, WHITE_IS_ZERO)).min() == 255


def test_sixteen_bit_planes_which_pillow_would_mix_up_are_told():
    planes = np.stack([RAMP, RAMP[:, ::-1], RAMP])
    with pytest.raises(Unreadable, match="its 16-bit colors lie in separate planes, which are not read"):
        decode(tiff(planes, 2, planes=2))
    eight = (planes >> 8).astype(np.uint8)
    assert np.array_equal(np.asarray(decode(tiff(eight, 2, planes=2))), eight.transpose(1, 2, 0))


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_transparent_gray_of_any_depth_is_laid_on_white(depth):
    top = (1 << depth) - 1
    values = np.arange(16 if depth > 2 else 1 << depth) * top // (15 if depth > 2 else top)
    for key in (int(values[0]), int(values[-1]), int(values[len(values) // 2])):
        bits = "".join(f"{value:0{depth}b}" for value in np.repeat(values, 8))
        rows = int(bits, 2).to_bytes(len(bits) // 8, "big")
        found = grays(png(rows, (1, 8 * len(values)), depth, 0, (key,)))[0, ::8]
        scaled = values >> 8 if depth == 16 else values * 255 // top
        assert found.tolist() == np.where(values == key, 255, scaled).tolist()


def test_a_transparent_color_of_sixteen_bits_is_laid_on_white():
    colors = np.array([[[0x1234, 0x5678, 0x9ABC], [0xFFFF, 0, 0x8000]]], ">u2")
    shown = np.asarray(decode(png(colors.tobytes(), (1, 2), 16, 2, (0x1234, 0x5678, 0x9ABC))))
    assert shown.tolist() == [[[255, 255, 255], [255, 0, 128]]]
    shown = np.asarray(decode(png(colors.tobytes(), (1, 2), 16, 2)))
    assert shown.tolist() == [[[0x12, 0x56, 0x9A], [255, 0, 128]]]


@pytest.mark.parametrize("color", [2, 4, 6])
def test_colors_of_sixteen_bits_that_are_nearly_black_are_told(color):
    bands = {2: 3, 4: 2, 6: 4}[color]
    values = np.full((1, 2, bands), 4095, ">u2")
    if color != 2:
        values[..., -1] = 65535
    with pytest.raises(Unreadable, match=r"16-bit colors below 4,096 of 65,535, nearly black"):
        decode(png(values.tobytes(), (1, 2), 16, color))
    values[0, 0, 0] = 4096
    assert np.asarray(decode(png(values.tobytes(), (1, 2), 16, color)))[0, 0, 0] == 16


def test_gray_with_alpha_of_sixteen_bits_is_laid_on_white():
    values = np.array([[[0x4000, 0xFFFF], [0x4000, 0]]], ">u2")
    assert grays(png(values.tobytes(), (1, 2), 16, 4)).tolist() == [[0x40, 255]]


def test_cmyk_is_shown_as_printed():
    ink = Image.merge("CMYK", [Image.new("L", (9, 9), value) for value in (0, 255, 255, 0)])  # magenta and yellow: red
    for data in (encoded(ink, "TIFF"), encoded(ink, "JPEG", quality=100)):
        assert np.abs(np.asarray(decode(data))[4, 4].astype(int) - (255, 0, 0)).max() <= 6


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_what_is_white_in_any_mode_is_shown_white(mode):
    white = {"I;16": 65535}
    image = Image.new(mode, (4, 4), 65535) if mode in white else Image.new("RGB", (4, 4), "white").convert(mode)
    assert (np.asarray(decode_opened(opened(encoded(image, "TIFF")))) == 255).all()


def test_whole_numbers_keep_their_high_byte():
    with pytest.raises(Unreadable, match=r"whole numbers from -1 to 7, of which none is known to be white"):
        high_byte(np.array([[-1, 7]], np.int32), ValueRange())
    assert high_byte(np.array([[0, 65535, 128]], np.int32), ValueRange()).tolist() == [[0, 255, 0]]
    assert high_byte(np.array([[0, 15, 8]]), ValueRange(bits=4)).tolist() == [[0, 255, 136]]
    assert from_fractions(np.array([[0.0, 1.0]], np.float32), inverted=True).tolist() == [[255, 0]]
