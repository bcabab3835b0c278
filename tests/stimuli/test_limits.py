"""A file cannot make a decoder work or hold more than its pixels and bytes allow."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image

from tests.stimuli.pictures import encoded, noise, plain, png_header
from unitscope.stimuli.limits import PIXELS_PER_BYTE, SCAN_LIMIT, SMALL_IMAGE, count_scans
from unitscope.stimuli.presentation import Unreadable, decode


def repeated(data: bytes, times: int) -> bytes:
    """A progressive JPEG whose last scan comes `times` more."""
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * times + data[-2:]


PROGRESSIVE = encoded(noise(64, 64), "JPEG", progressive=True)


def test_scans_are_counted():
    assert count_scans(encoded(noise(64, 64), "JPEG")) == 1
    assert count_scans(encoded(noise(64, 64).convert("L"), "JPEG")) == 1
    assert count_scans(PROGRESSIVE) == 10
    assert count_scans(repeated(PROGRESSIVE, 7)) == 17
    assert count_scans(encoded(noise(64, 64).convert("L"), "JPEG", progressive=True)) == 6
    thumbnail = b"\xff\xe1" + struct.pack(">H", 2 + len(PROGRESSIVE)) + PROGRESSIVE  # whose scans are not the picture's
    assert count_scans(PROGRESSIVE[:2] + thumbnail + PROGRESSIVE[2:]) == 10
    assert count_scans(PROGRESSIVE[:2] + b"\xff\xff\xff\x01" + PROGRESSIVE[2:]) == 10
    assert count_scans(PROGRESSIVE + PROGRESSIVE) == 10
    for length in range(0, len(PROGRESSIVE), 7):
        assert count_scans(PROGRESSIVE[:length]) <= 10


def test_scans_of_one_color_each_are_counted_where_there_are_several():
    """A sequential JPEG may have a scan for each color, and each again."""
    data = encoded(noise(16, 16).convert("L"), "JPEG")
    frame = data.index(b"\xff\xc0")
    length = struct.unpack(">H", data[frame + 2 : frame + 4])[0]
    three = b"\xff\xc0" + struct.pack(">HB2HB", 17, 8, 16, 16, 3) + bytes([1, 17, 0, 2, 17, 0, 3, 17, 0])
    several = data[:frame] + three + data[frame + 2 + length :]
    assert count_scans(repeated(several, 4)) == 5
    assert count_scans(repeated(data, 4)) == 1  # the first scan has all that there is: the decoder ends with it


def test_a_jpeg_of_many_scans_is_not_decoded():
    assert decode(repeated(PROGRESSIVE, SCAN_LIMIT - 10)).size == (64, 64)
    with pytest.raises(Unreadable, match="a JPEG of 101 scans of 64 x 64 pixels, which takes too long to decode"):
        decode(repeated(PROGRESSIVE, SCAN_LIMIT - 9))
    with pytest.raises(Unreadable, match="a JPEG of 31 scans"):
        decode(repeated(PROGRESSIVE, 21), pixel_limit=64 * 96)  # 20 rounds over 64 x 96 are 30 over 64 x 64


def test_as_many_scans_as_programs_write_are_decoded_of_the_largest_picture():
    assert decode(PROGRESSIVE, pixel_limit=64 * 64).size == (64, 64)
    assert decode(encoded(noise(64, 64).convert("CMYK"), "JPEG", progressive=True), pixel_limit=64 * 64)  # 18 scans


@pytest.mark.parametrize("side", [5_000, 9_000])
def test_few_bytes_are_not_many_pixels(side):
    assert side * side > SMALL_IMAGE
    with pytest.raises(Unreadable, match=rf"{side:,} x {side:,} pixels from \d\d bytes, which no photograph has"):
        decode(png_header(side, side))
    gif = b"GIF89a" + struct.pack("<HHBBB", side, side, 0, 0, 0) + b"\x2c" + struct.pack("<4HB", 0, 0, 1, 1, 0)
    with pytest.raises(Unreadable, match="which no photograph has"):
        decode(gif + b"\x02\x02\x4c\x01\x00\x3b")


def test_a_webp_holds_its_picture_several_times_and_has_half_the_pixels():
    data = encoded(noise(40, 50), "WEBP")
    assert decode(data, pixel_limit=4000).size == (50, 40)
    with pytest.raises(Unreadable, match="50 x 40 pixels; at most 0 million of a WEBP are decoded"):
        decode(data, pixel_limit=3999)
    lossless = (
        b"WEBPVP8L"
        + struct.pack("<LBL", 14, 0x2F, (8000 - 1) | (8000 - 1) << 14)
        + b"\x07\x10\x11\x11\x88\x88\xfe\x07\x00"
    )
    bomb = b"RIFF" + struct.pack("<L", len(lossless)) + lossless
    with pytest.raises(Unreadable, match="8,000 x 8,000 pixels"):
        decode(bomb)


def test_a_blank_page_is_shown():
    assert decode(encoded(plain(1000, 1000, (255, 255, 255)), "WEBP", lossless=True)).size == (1000, 1000)
    page = encoded(Image.new("RGB", (4200, 4200), "white"))
    assert len(page) > 4200 * 4200 / PIXELS_PER_BYTE
    assert np.asarray(decode(page)).min() == 255


@pytest.mark.parametrize("name", [b"zTXt", b"iTXt", b"iCCP"])
def test_text_that_unpacks_to_much_is_not_unpacked(name):
    import zlib

    packed = zlib.compress(bytes(100_000_000))
    body = {b"zTXt": b"a\0\0", b"iTXt": b"a\0\1\0\0\0", b"iCCP": b"a\0\0"}[name] + packed
    chunk = struct.pack(">L", len(body)) + name + body + struct.pack(">L", zlib.crc32(name + body))
    data = encoded(plain(4, 4))
    data = data[:33] + chunk + data[33:]
    with pytest.raises(Unreadable, match="too large"):
        decode(data)


def test_what_a_file_is_that_is_not_read():
    for data, story in [
        (b"\0\0\0\x18ftypheic" + bytes(64), "it is an image in HEIF"),
        (b"8BPS\0\1" + bytes(64), "it is a Photoshop document"),
        (b"II*\0\x08\0\0\0" + bytes(64), "it is a TIFF whose kind"),
    ]:
        with pytest.raises(Unreadable, match=story):
            decode(data)
