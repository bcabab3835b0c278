"""The demonstration set: about a thousand square crops, at several scales, of six photographs that scikit-image's
wheel carries.

They show that everything works where no images are at hand; six photographs are no sample of natural images, and
`note` says so. All six are free of restrictions, as scikit-image's documentation states for each
(skimage/data/_fetchers.py). Nothing is downloaded.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from unitscope.errors import Failure
from unitscope.stimuli.items import Images, Item, Unreadable
from unitscope.vocabulary import Box, Size

DEMONSTRATION_NOTE = "demonstration set: crops of six photographs, not a sample of natural images"

CROPS_EACH = 170
SMALLEST_CROP = 96
"""Pixels of the side of the smallest crop; the largest is the photograph's shorter side."""


@dataclass(frozen=True)
class SourcePhotograph:
    """One of the six: its file in `skimage/data`, its height and width, and whose it is."""

    file: str
    size: Size
    rights: str


SOURCE_PHOTOGRAPHS = {
    "astronaut": SourcePhotograph("astronaut.png", (512, 512), "NASA (Eileen Collins); public domain"),
    "chelsea": SourcePhotograph("chelsea.png", (300, 451), "Stefan van der Walt; CC0"),
    "coffee": SourcePhotograph("coffee.png", (400, 600), "Rachel Michetti, courtesy of Pikolo Espresso Bar; CC0"),
    "hubble": SourcePhotograph("hubble_deep_field.jpg", (872, 1000), "NASA (eXtreme Deep Field); public domain"),
    "retina": SourcePhotograph("retina.jpg", (1411, 1411), "Mikael Häggström; CC0"),
    "rocket": SourcePhotograph("rocket.jpg", (427, 640), "SpaceX (launch of DSCOVR); public domain"),
}


@dataclass(frozen=True)
class CroppedImages:
    """Reads the crops that `uris` such as "builtin:coffee/042?box=10,20,110,120" name.

    They come as PPM, which is lossless and, unlike PNG, the same bytes with every version of the encoder.
    """

    uris: Sequence[str]

    def __call__(self, image: int) -> bytes:
        match = re.fullmatch(r"builtin:(\w+)/\d+\?box=(\d+),(\d+),(\d+),(\d+)", self.uris[image])
        if match is None or match[1] not in SOURCE_PHOTOGRAPHS:
            raise Unreadable(f"{self.uris[image]!r} names no crop of the demonstration set")
        top, left, bottom, right = map(int, match.groups()[1:])
        crop = photograph_pixels(match[1])[top:bottom, left:right]
        return b"P6\n%d %d\n255\n" % (crop.shape[1], crop.shape[0]) + crop.tobytes()


def builtin_images() -> Images:
    """The demonstration set: crops of six photographs, labeled by the photographs' names.

    Raises:
        Failure: scikit-image, which holds the photographs, is not installed.

    Example:
        >>> len(unitscope.builtin_images())
        1020
    """
    for photograph in SOURCE_PHOTOGRAPHS.values():
        file_of(photograph)
    crops = [
        (name, number, box)
        for name in SOURCE_PHOTOGRAPHS
        for number, box in enumerate(crop_boxes(SOURCE_PHOTOGRAPHS[name].size))
    ]
    items = tuple(
        Item(f"builtin:{name}/{number:03d}?box={','.join(map(str, box))}", name, f"builtin:{name}")
        for name, number, box in crops
    )
    sizes = [len(f"P6\n{box.width} {box.height}\n255\n") + 3 * box.width * box.height for _, _, box in crops]
    return Images(items, sizes, CroppedImages([item.uri for item in items]), "builtin", DEMONSTRATION_NOTE)


def crop_boxes(size: Size) -> Iterator[Box]:
    """Square crops of a photograph, from the smallest to the largest side in equal ratios, spread over it evenly.

    Places follow the two-dimensional golden-ratio sequence (multiples of 1/g and 1/g**2, modulo 1, g**3 = g + 1),
    which begins at the center.
    """
    largest, g = min(size), 1.32471795724474602596
    for number in range(CROPS_EACH):
        side = round(SMALLEST_CROP * (largest / SMALLEST_CROP) ** (number / (CROPS_EACH - 1)))
        top = round(((0.5 + number / g) % 1) * (size[0] - side))
        left = round(((0.5 + number / g**2) % 1) * (size[1] - side))
        yield Box(top, left, top + side, left + side)


@lru_cache(maxsize=len(SOURCE_PHOTOGRAPHS))
def photograph_pixels(name: str) -> UInt8[np.ndarray, "height width color"]:
    """One of the photographs. Raises Failure where another picture lies in its place."""
    photograph = SOURCE_PHOTOGRAPHS[name]
    with Image.open(file_of(photograph)) as image:
        picture = np.asarray(image.convert("RGB"))
    if picture.shape[:2] != photograph.size:
        raise Failure(
            f"scikit-image's {photograph.file} has {picture.shape[1]} x {picture.shape[0]} pixels instead of "
            f"{photograph.size[1]} x {photograph.size[0]}; the demonstration set is made of scikit-image 0.24 or later."
        )
    return picture


def file_of(photograph: SourcePhotograph) -> Path:
    """Where a photograph lies; scikit-image is not imported for that."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise Failure(
            "the demonstration set is cut from photographs that scikit-image carries, and that is not installed. "
            "Install the extra: pip install 'unitscope[demo]'; or give a folder of your own images."
        )
    path = Path(spec.submodule_search_locations[0], "data", photograph.file)
    if not path.is_file():
        raise Failure(
            f"this scikit-image does not carry {photograph.file} ({path}), of which the demonstration set "
            "is made. Install it from its wheel (pip install --force-reinstall scikit-image), "
            "or give a folder of your own images."
        )
    return path
