"""How a photograph is shown: decoded, turned upright, its shorter side resized, its center cropped to the network's
size.

The same pixels as torchvision's evaluation transforms (`Resize`, `CenterCrop` on PIL images) give, and the way back:
which part of the original a box of the network's input is. Pixels of a picture are counted from its upper left corner,
after it was turned upright.
"""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from unitscope.errors import BadInput
from unitscope.stimuli.items import Unreadable
from unitscope.stimuli.limits import PIXEL_LIMIT, check_work, too_large
from unitscope.stimuli.pixels import ValueRange, rgb
from unitscope.vocabulary import Box, Size

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "PPM", "JPEG2000", "AVIF")
"""The formats that are tried, whatever a file's name says; none that starts a foreign program is among them."""

HEIF = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
"""The brands by which a file says that it is such a one."""

ONE_AT_A_TIME = threading.Lock()

FloatBox = tuple[float, float, float, float]
"""(top, left, bottom, right) in fractions of pixels, half-open."""


@dataclass(frozen=True)
class Presentation:
    """How pictures are brought to `size` (height, width), the network's.

    `resize` is what the shorter side of the picture becomes before its center is cropped. By default 256/224 of the
    crop, as torchvision does; where the network's size is no square, a frame of 256/224 of it, which the picture is
    made to cover. Where the resized picture is smaller than the crop, black is added around it (torchvision, too).
    """

    size: Size
    resize: int | Size | None = None
    pixel_limit: int = PIXEL_LIMIT

    def __post_init__(self) -> None:
        height, width = (int(side) for side in self.size)
        object.__setattr__(self, "size", (height, width))
        resize = self.resize
        if resize is None:
            resize = (round(height * 256 / 224), round(width * 256 / 224))
            resize = resize[0] if height == width else resize
        elif not isinstance(resize, int):
            resize = (int(resize[0]), int(resize[1]))
        object.__setattr__(self, "resize", resize)
        if min(height, width, *(resize if isinstance(resize, tuple) else (resize,))) < 1:
            raise BadInput(f"a picture cannot be shown at size {self.size}, resized to {resize}; sides are at least 1.")

    def present(self, data: bytes) -> UInt8[np.ndarray, "height width color"]:
        """The encoded image as the network is shown it: RGB, 0..255. Raises Unreadable."""
        return self.show(decode(data, pixel_limit=self.pixel_limit))

    def show(self, picture: Image.Image) -> UInt8[np.ndarray, "height width color"]:
        """An upright RGB picture as the network is shown it."""
        original = (picture.height, picture.width)
        height, width = self.resized(original)
        top, left = self.corner(original)
        window = Box(top, left, top + self.size[0], left + self.size[1])
        if height * width > self.pixel_limit:
            shown = self._show_part(picture, window)
        else:
            shown = resize(picture, (height, width)).crop((window.left, window.top, window.right, window.bottom))
        return np.array(shown)

    def _show_part(self, picture: Image.Image, window: Box) -> Image.Image:
        """As `show`, for a picture that would be too long once resized: only the part that is shown is resized."""
        height, width = self.resized((picture.height, picture.width))
        part = window.clip((height, width))
        down, along = picture.height / height, picture.width / width
        source = (part.left * along, part.top * down, part.right * along, part.bottom * down)
        resized = picture.resize((part.width, part.height), Image.Resampling.BILINEAR, box=source)
        shown = Image.new("RGB", (window.width, window.height))
        shown.paste(resized, (part.left - window.left, part.top - window.top))
        return shown

    def resized(self, original: Size) -> Size:
        """Height and width of a picture of the size `original` after resizing; the longer side is rounded down."""
        height, width = original
        if isinstance(self.resize, int):
            frame = (self.resize, self.resize)
        else:
            assert self.resize is not None
            frame = self.resize
        if width * frame[0] <= height * frame[1]:
            # int, not round, as torchvision does.
            return max(frame[0], int(frame[1] * height / width)), frame[1]
        return frame[0], max(frame[1], int(frame[0] * width / height))

    def corner(self, original: Size) -> tuple[int, int]:
        """Where, in the resized picture, the crop begins (top, left); negative where black is added."""
        top, left = (
            # torchvision rounds the two cases differently: borders down, crops to the nearest (half to even).
            -((crop - side) // 2) if crop > side else round((side - crop) / 2)
            for side, crop in zip(self.resized(original), self.size, strict=True)
        )
        return top, left

    def to_original(self, box: Box | FloatBox, original: Size) -> FloatBox:
        """The part of the original (height, width, upright) that a box of the network's input shows. Not clipped."""
        down, along = self._scale(original)
        top, left = self.corner(original)
        return ((box[0] + top) * down, (box[1] + left) * along, (box[2] + top) * down, (box[3] + left) * along)

    def to_network(self, box: Box | FloatBox, original: Size) -> FloatBox:
        """A box of the original in pixels of the network's input; the inverse of `to_original`."""
        down, along = self._scale(original)
        top, left = self.corner(original)
        return (box[0] / down - top, box[1] / along - left, box[2] / down - top, box[3] / along - left)

    def _scale(self, original: Size) -> tuple[float, float]:
        """Pixels of the original per pixel of the network's input, down and along."""
        height, width = self.resized(original)
        return original[0] / height, original[1] / width


def resize(picture: Image.Image, size: Size) -> Image.Image:
    """The picture at another size (height, width): bilinear, antialiased; as it is where that is its size."""
    height, width = size
    same = (picture.width, picture.height) == (width, height)
    return picture if same else picture.resize((width, height), Image.Resampling.BILINEAR)


def decode(data: bytes, *, pixel_limit: int = PIXEL_LIMIT) -> Image.Image:
    """The picture behind an encoded image: upright (EXIF), RGB, 8 bits; of an animation the first frame.

    Transparency is laid on white. 16-bit values keep their high byte. Color profiles are not applied. Raises
    Unreadable, for gray values whose white is not known, too (see pixels.py); and before anything is decoded for a
    picture of more than `pixel_limit` pixels, or one that would take too much work (see limits.py).
    """
    return decode_opened(opened(data, pixel_limit=pixel_limit))


def decode_opened(image: ImageFile) -> Image.Image:
    """The picture of an opened image, as `decode` gives it. Raises Unreadable."""
    try:
        return upright_rgb(image)
    except (Unreadable, MemoryError):
        raise
    except Exception as error:  # whatever a decoder raises on bytes from anywhere means: not readable
        raise Unreadable(reason(error)) from None


def opened(data: bytes, *, pixel_limit: int = PIXEL_LIMIT) -> ImageFile:
    """The image with its header read, and nothing decoded. Raises Unreadable."""
    if not data:
        raise Unreadable("the file is empty (0 bytes)")
    try:
        with silence_warnings():
            image = Image.open(BytesIO(data), formats=known_formats())
    except MemoryError:
        raise
    except Image.DecompressionBombError as error:
        raise Unreadable(too_large("".join(re.findall(r"\((\d+) pixels\)", str(error))), pixel_limit)) from None
    except UnidentifiedImageError:
        raise Unreadable(nature(data)) from None
    except Exception as error:
        raise Unreadable(reason(error)) from None
    check_work(image, data, pixel_limit)
    return image


@contextmanager
def silence_warnings() -> Iterator[None]:
    """Without Pillow's warnings (corrupt EXIF data, many pixels): what matters is raised as Unreadable.

    One thread at a time, since Python keeps one list of filters for all threads.
    """
    with ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", category=UserWarning)
        yield


def known_formats() -> list[str]:
    """Those of FORMATS that this Pillow was built with."""
    # preinit loads only the common decoders; init loads all of them, which takes longer.
    Image.preinit()
    if any(name not in Image.OPEN for name in FORMATS):
        Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def nature(data: bytes) -> str:
    """What a file is that no decoder takes, in a few words."""
    if data[4:8] == b"ftyp" and data[8:12] in HEIF:
        return "it is an image in HEIF (HEIC), whatever its name says; convert it to JPEG or PNG"
    if data[4:12] in (b"ftypavif", b"ftypavis"):
        return "it is an AVIF image, which this Pillow cannot read, or a damaged one"
    if data[:4] in (b"II*\0", b"MM\0*"):
        return "it is a TIFF whose kind of values, or of compression, is not read (or a raw photograph)"
    if data[:4] == b"8BPS":
        return "it is a Photoshop document; convert it to JPEG or PNG"
    return "it is not an image of a known format"


def reason(error: Exception) -> str:
    """Why an image could not be decoded, in a few words."""
    text = " ".join(str(error).split())
    if "MAX_TEXT_CHUNK" in text or "MAX_TEXT_MEMORY" in text:
        return "a text or a color profile in it unpacks to more than a picture needs (too large)"
    return text if isinstance(error, OSError) and text else f"{type(error).__name__}: {text}"


def upright_rgb(image: ImageFile) -> Image.Image:
    """The opened image as RGB of 8 bits, turned as its EXIF orientation says (broken EXIF data turn nothing)."""
    values = ValueRange.of(image)
    image.load()
    return rgb(upright(image), values)


def upright(image: Image.Image) -> Image.Image:
    """The loaded image turned as its EXIF orientation says."""
    return image if exif_orientation(image) == 1 else ImageOps.exif_transpose(image)


def exif_orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8, of an opened image; 1, upright, where there is none or where it cannot be read."""
    try:
        with silence_warnings():
            value = image.getexif().get(0x0112, 1)
    except Exception:  # broken EXIF data, which nobody needs
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1
