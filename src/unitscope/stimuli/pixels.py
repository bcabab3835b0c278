"""The values of a decoded picture as RGB of 8 bits, whatever they are in the file.

Gray values of more than 8 bits come as they are stored, so it must be known which of them is white: from the file where
it says so; otherwise the picture cannot be read, since a guess would show it black, or as a negative.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from unitscope.stimuli.items import Unreadable

PAPER = (255, 255, 255)
"""What shows through transparent pixels."""

BITS, PHOTOMETRIC, PLANES, SAMPLE_FORMAT = 258, 262, 284, 339
"""Tags of TIFF: bits of a value, what zero is, whether colors lie in separate planes, the kind of number."""

DARK = 4096
"""16-bit grays that are all below this are probably 12-bit ones (of cameras, of depth)."""


@dataclass(frozen=True)
class ValueRange:
    """What a file says of its values: how many `bits` they have (None where their white is not known), and whether
    zero is white (`inverted`, which Pillow sees to in 8 bits only). `key` is a gray value that is transparent.
    `deep`: colors have 16 bits, of which Pillow keeps the high byte.
    """

    bits: int | None = 16
    inverted: bool = False
    key: int | None = None
    deep: bool = False

    @classmethod
    def of(cls, image: ImageFile) -> ValueRange:
        """Of an opened image that is not loaded yet. Raises Unreadable for what Pillow would decode wrong."""
        if isinstance(image, TiffImageFile):
            return cls.of_tiff(image)
        key = image.info.get("transparency")
        if image.format != "PNG" or not isinstance(key, int):
            return cls(deep=is_deep(image))
        if image.mode in ("1", "L"):  # Pillow brings the pixels to 0..255, and leaves the key as it is in the file
            bits = {"1": 1, "L;2": 2, "L;4": 4}.get(str(image.tile[0].args), 8)
            image.info["transparency"] = key * 255 // ((1 << bits) - 1)
        return cls(key=key)

    @classmethod
    def of_tiff(cls, image: TiffImageFile) -> ValueRange:
        tags, mode = image.tag_v2, image.mode
        bits, kind = (numbers(tags.get(tag)) for tag in (BITS, SAMPLE_FORMAT))
        raw = all(tile.codec_name == "raw" for tile in image.tile)
        if raw and tags.get(PLANES) == 2 and max(bits, default=1) > 8:
            raise Unreadable(f"its {max(bits)}-bit colors lie in separate planes, which are not read")
        if not raw and mode == "F" and tags.prefix == b"MM":
            raise Unreadable("its fractions are compressed with the high byte first, which is not read")
        known = mode.startswith("I;16") and kind in ((), (1,)) and len(bits) == 1 and bits[0] <= 16
        return cls(bits[0] if known else None, tags.get(PHOTOMETRIC) == 0 and mode[0] in "IF", deep=is_deep(image))


def is_deep(image: ImageFile) -> bool:
    """Whether an opened image has light of 16 bits, of which 8 are left once it is loaded."""
    return image.mode in ("LA", "RGB", "RGBA", "RGBX") and any(";16" in str(tile.args) for tile in image.tile)


def numbers(value: object) -> tuple[int, ...]:
    """A tag's numbers; none where it is not there, or something else."""
    values = value if isinstance(value, tuple) else (value,)
    return tuple(number for number in values if isinstance(number, int))


def rgb(image: Image.Image, values: ValueRange) -> Image.Image:
    """Any Pillow mode as RGB of 8 bits. Raises Unreadable for values whose white is unknown."""
    if values.deep and max(high for _, high in bands(image)) < DARK >> 8:
        raise Unreadable(f"16-bit colors below {DARK:,} of 65,535, nearly black; scale them to what is white")
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):
        return Image.fromarray(high_byte(np.asarray(image), values)).convert("RGB")
    if image.mode == "F":
        return Image.fromarray(from_fractions(np.asarray(image), inverted=values.inverted)).convert("RGB")
    if "transparency" in image.info or image.mode in ("RGBA", "RGBa", "LA", "La", "PA"):
        return on_paper(image)
    return image.convert("RGB")


def bands(image: Image.Image) -> list[tuple[float, float]]:
    """The lowest and the highest value of each color of a picture, without its alpha."""
    light = image.getbands().index("A") if "A" in image.getbands() else len(image.getbands())
    return [image.getchannel(band).getextrema() for band in range(light)]  # type: ignore[misc]


def on_paper(image: Image.Image) -> Image.Image:
    """A picture with transparency laid on white."""
    key = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(key, tuple) and max(key) > 255:  # a 16-bit color, of which 8 bits are left
        image.info["transparency"] = tuple(value >> 8 for value in key)
    layers = image.convert("RGBA")
    paper = Image.new("RGB", image.size, PAPER)
    paper.paste(layers, mask=layers.getchannel("A"))
    return paper


def high_byte(values: Shaped[np.ndarray, "height width"], known: ValueRange) -> UInt8[np.ndarray, "height width"]:
    """Grays of up to 16 bits as 8-bit ones, as Pillow does for 16-bit colors: the high byte."""
    low, high = int(values.min()), int(values.max())
    if known.bits is None or low < 0 or high >= 1 << known.bits:
        raise Unreadable(f"whole numbers from {low:,} to {high:,}, of which none is known to be white")
    if known.bits == 16 and 0 < high < DARK and not known.inverted:
        raise Unreadable(f"16-bit grays up to {high:,} of 65,535, nearly black; scale them to what is white")
    values, white = values.astype(np.uint16), (1 << known.bits) - 1
    # Before inverting: the key is a gray value as stored in the file.
    transparent = None if known.key is None else values == known.key
    values = white - values if known.inverted else values
    grays = (values >> known.bits - 8 if known.bits >= 8 else values * 255 // white).astype(np.uint8)
    if transparent is not None:
        grays[transparent] = 255
    return grays


def from_fractions(
    values: Shaped[np.ndarray, "height width"], *, inverted: bool = False
) -> UInt8[np.ndarray, "height width"]:
    """Grays of 0..1 as 8-bit ones."""
    if not (values.min() >= 0 and values.max() <= 1):
        raise Unreadable(f"fractions from {values.min():g} to {values.max():g}, of which none is known to be white")
    return np.rint((1 - values if inverted else values) * 255).astype(np.uint8)
