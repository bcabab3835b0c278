"""What a decoder may be asked to do: how many pixels, from how many bytes, in how many scans.

A file may take far more work and memory than its size suggests: a progressive JPEG may go over all its pixels
thousands of times, and some formats write a picture of one color, however large, in 40 bytes. All limits are known from
the file itself, before anything is decoded, so that what is shown never depends on how busy a machine is.
"""

from __future__ import annotations

import re

from PIL import Image

from unitscope.stimuli.items import Unreadable

PIXEL_LIMIT = 100_000_000
"""A picture of more pixels is refused before it is decoded."""

HEAVY = {"WEBP": 2, "JPEG2000": 2}
"""How many times as much memory the decoders of some formats need as others: their pictures may have fewer pixels."""

SMALL_IMAGE = 16_000_000
"""How many pixels may come from a file of any size."""

PIXELS_PER_BYTE = 2_000
"""How many pixels may come from each byte. A photograph has about 10; a page of one color has up to 1,000 as PNG."""

SCAN_LIMIT = 100
"""How many scans a JPEG may have. Programs write 10, seldom up to 30."""

ROUNDS = 20
"""How often the pixels of the largest picture may be gone over: all scans of a JPEG together."""

MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
"""A marker of a JPEG: neither a stuffed byte, nor one that restarts the decoder, nor fill."""

ALONE = (0x01, 0xD8)
"""Markers without a segment behind them."""

FRAMES = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))
PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
SCAN, END = 0xDA, 0xD9


def check_work(image: Image.Image, data: bytes, pixel_limit: int = PIXEL_LIMIT) -> None:
    """Raises Unreadable where an opened image would take too much to decode. `data` is the whole file."""
    pixels, form = image.width * image.height, image.format or ""
    size = f"{image.width:,} x {image.height:,}"
    if pixels > pixel_limit // HEAVY.get(form, 1):
        raise Unreadable(too_large(size, pixel_limit // HEAVY.get(form, 1), f" of a {form}" if form in HEAVY else ""))
    if pixels > SMALL_IMAGE and pixels > PIXELS_PER_BYTE * len(data):
        raise Unreadable(f"{size} pixels from {len(data):,} bytes, which no photograph has")
    if form in ("JPEG", "MPO"):
        scans = count_scans(data)
        if scans > min(SCAN_LIMIT, ROUNDS * pixel_limit // max(pixels, 1)):
            raise Unreadable(f"a JPEG of {scans} scans of {size} pixels, which takes too long to decode")


def too_large(pixels: str, limit: int, of: str = "") -> str:
    """Why a picture was not decoded. Pillow has a limit of its own, twice its MAX_IMAGE_PIXELS."""
    limit = min(limit, 2 * (Image.MAX_IMAGE_PIXELS or limit))
    return f"{pixels} pixels; at most {limit / 1e6:,.0f} million{of} are decoded"


def count_scans(data: bytes) -> int:
    """How many scans libjpeg decodes of a JPEG: 1 where the first has all colors and is not refined, else all."""
    scans, colors, several, place = 0, 0, False, 2
    while (found := MARKER.search(data, place)) and found[1][0] != END:
        marker, place = found[1][0], found.end()
        if marker in ALONE:
            continue
        # The length of a segment includes its own two bytes; a damaged file may claim less.
        body = data[place + 2 : place + max(int.from_bytes(data[place : place + 2], "big"), 2)]
        place += 2 + len(body)
        if marker in FRAMES and len(body) > 5:
            several, colors = several or marker in PROGRESSIVE, body[5]
        elif marker == SCAN:
            scans += 1
            several = several or not body or body[0] < colors
            if not several or scans > 10 * SCAN_LIMIT:
                break
    return scans
