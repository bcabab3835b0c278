"""From a record back to its images: the exact fields of a unit's stimuli, cut from the originals at their own
resolution.

A box of a record is in pixels of the network's input. It is mapped back through crop and resize to the original file.
What of a field lies beyond the network's input was not seen by the network, even where the photograph goes on, and is
filled with one color.

No patch is ever cut from another picture than the one that was surveyed: where the table of images has the columns
`bytes` and `digest` (stimuli.images.digest of the file), a file that has changed is found out.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64, Int64, UInt8
from PIL import Image, ImageDraw

from unitscope.errors import BadInput, Failure
from unitscope.recording.source_images import Originals, images_of, originals_of, presentation_of
from unitscope.stimuli.items import Unreadable
from unitscope.stimuli.presentation import FloatBox, Presentation, decode, decode_opened, exif_orientation, opened
from unitscope.vocabulary import Box, Size, Unit

if TYPE_CHECKING:
    from unitscope.record import Record

__all__ = [
    "FILL",
    "NeuronFeature",
    "Originals",
    "cut",
    "cut_shown",
    "images_of",
    "neuron_feature",
    "originals_of",
    "patches",
    "presentation_of",
    "weighted_mean",
]

FILL = (128, 128, 128)
"""The color of what lies beyond the network's input, unless another one is given."""

Color = tuple[int, int, int]


def patches(
    record: Record,
    unit: str | Unit,
    *,
    pole: str = "preferred",
    count: int = 16,
    size: int | Size | None = None,
    fill: Color | None = FILL,
    originals: Originals | None = None,
) -> list[Image.Image]:
    """The fields of a unit's `count` best stimuli (fewer where the record has fewer), best first.

    Args:
        record: a record whose images are still at their source.
        unit: SITE:CHANNEL, or a Unit.
        pole: "preferred" or "antipreferred".
        count: at most so many pictures.
        size: (height, width) of the pictures in pixels; by default the resolution of the original photographs, or that
            of the network's input where the latter is finer.
        fill: the color, RGB in 0..255, of what lies beyond the network's input; None makes it transparent (mode RGBA).
        originals: where the images are now, if they are not where they were.

    Returns:
        Pictures. The `info` of each holds "uri", "value" and "box". Where an image has vanished or changed since the
        survey, the picture is a crossed-out blank, and `info["reason"]` says why.

    Raises:
        UnknownName: the record does not hold the unit's site.
        BadInput: the record does not hold the unit or the pole.
        Failure: no image at all can be read.

    Example:
        >>> pictures = unitscope.patches(record, "maxpool:1", count=2)
        >>> [picture.size for picture in pictures]  # width, height, in pixels of the photographs
        [(15, 15), (14, 15)]
    """
    if count < 0:
        raise BadInput(f"{count} patches cannot be given; count is at least 0.")
    originals = originals or originals_of(record)
    rows = record.stimuli(unit, pole=pole).sort_values("rank").head(count)
    stimuli = [(int(row.image), _box(row), float(row.value)) for row in rows.itertuples()]
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        found = list(pool.map(lambda stimulus: _patch(originals, *stimulus, size=size, fill=fill), stimuli))
    if found and all("reason" in patch.info for patch in found):
        raise Failure(_none_story(originals, found))
    return found


def _patch(
    originals: Originals, image: int, box: Box, value: float, *, size: int | Size | None, fill: Color | None
) -> Image.Image:
    try:
        patch = _cut_one(originals.bytes(image), box, originals.presentation, size, fill)
    except Unreadable as error:
        patch = blank(_pair(size) or (box.height, box.width))
        patch.info["reason"] = error.reason
    patch.info.update(uri=originals.images.items[image].uri, value=value, box=box)
    return patch


def _none_story(originals: Originals, found: Sequence[Image.Image]) -> str:
    first = found[0].info
    return (
        f"not one of the {len(found)} images can be had from {originals.images.source}; "
        f"{first['uri']}: {first['reason']}. "
        "Where the images have moved, say so: patches(..., originals=originals_of(record, NEW_PLACE))."
    )


def blank(size: Size) -> Image.Image:
    """What stands for a patch that cannot be read: a crossed-out field."""
    height, width = size
    picture = Image.new("RGB", (width, height), FILL)
    draw = ImageDraw.Draw(picture)
    for line in ((0, 0, width - 1, height - 1), (0, height - 1, width - 1, 0)):
        draw.line(line, fill=(200, 200, 200))
    return picture


# --- cutting --------------------------------------------------------------------------------------


def cut(
    data: bytes,
    boxes: Sequence[Box],
    *,
    presentation: Presentation,
    size: int | Size,
    fill: Color = FILL,
) -> UInt8[np.ndarray, "box h w color"]:
    """Many fields of one encoded image, all brought to `size` (height, width), from the original, which is decoded
    once.

    A large JPEG is decoded only as finely as the patches need. Raises Unreadable.
    """
    height, width = _pair(size)
    picture, original = _picture(data, boxes, presentation, (height, width))
    found = [_layout(box, presentation, original, (height, width)).fill(picture, original, fill) for box in boxes]
    return np.array([np.asarray(patch) for patch in found], np.uint8).reshape(len(found), height, width, 3)


def cut_shown(
    shown: UInt8[np.ndarray, "height width color"], boxes: Sequence[Box], *, size: int | Size, fill: Color = FILL
) -> UInt8[np.ndarray, "box h w color"]:
    """Many fields of a picture as the network saw it (`Originals.shown`, `Presentation.present`), brought to `size`."""
    height, width = _pair(size)
    picture, original = Image.fromarray(shown), (shown.shape[0], shown.shape[1])
    as_it_is = Presentation(original, original)
    found = [_layout(box, as_it_is, original, (height, width)).fill(picture, original, fill) for box in boxes]
    return np.array([np.asarray(patch) for patch in found], np.uint8).reshape(len(found), height, width, 3)


def _cut_one(
    data: bytes, box: Box, presentation: Presentation, size: int | Size | None, fill: Color | None
) -> Image.Image:
    """One field, at `size` or at the original's own resolution; with transparency where `fill` is None."""
    picture, original = _picture(data, [box], presentation, _pair(size))
    layout = _layout(box, presentation, original, _pair(size))
    patch = layout.fill(picture, original, fill or FILL)
    if fill is None:
        patch.putalpha(layout.mask())
    return patch


def _picture(
    data: bytes, boxes: Sequence[Box], presentation: Presentation, size: Size | None
) -> tuple[Image.Image, Size]:
    """The decoded picture, possibly coarser than the original, and the size (height, width) of the upright original."""
    # b"\xff\xd8" begins a JPEG, whose decoder can produce a smaller picture directly (`draft`).
    if size is None or data[:2] != b"\xff\xd8" or not boxes:
        picture = decode(data, pixel_limit=presentation.pixel_limit)
        return picture, (picture.height, picture.width)
    image = opened(data, pixel_limit=presentation.pixel_limit)
    # With orientations 5 to 8, height and width change places.
    original = (image.height, image.width) if exif_orientation(image) < 5 else (image.width, image.height)
    fine = max(_fineness(box, presentation, original, size) for box in boxes)
    image.draft(image.mode, (ceil(image.width * fine), ceil(image.height * fine)))
    return decode_opened(image), original


def _fineness(box: Box, presentation: Presentation, original: Size, size: Size) -> float:
    """Pixels of the patch per pixel of the original, the larger of both directions."""
    top, left, bottom, right = presentation.to_original(box, original)
    return min(1.0, max(size[0] / (bottom - top), size[1] / (right - left)))


@dataclass(frozen=True)
class _Layout:
    """Where things go in a patch of `size`: the network's input at `seen`, the photograph's part `source` at `place`.

    `seen` and `place` are whole pixels of the patch; they differ only where black was added around a small picture.
    """

    size: Size
    seen: Box
    place: Box
    source: FloatBox

    def fill(self, picture: Image.Image, original: Size, fill: Color) -> Image.Image:
        """The patch, from a picture of the size `original`, or a coarser version of it."""
        patch = Image.new("RGB", self.size[::-1], fill)
        if _empty(self.seen):
            return patch
        patch.paste((0, 0, 0), _ltrb(self.seen))
        if not _empty(self.place):
            patch.paste(self._part(picture, original), _ltrb(self.place))
        return patch

    def _part(self, picture: Image.Image, original: Size) -> Image.Image:
        """The photograph's part, as large as its place."""
        down, along = picture.height / original[0], picture.width / original[1]
        top, left, bottom, right = self.source
        window = (left * along, top * down, right * along, bottom * down)
        as_large = window[2] - window[0] == self.place.width and window[3] - window[1] == self.place.height
        if as_large and all(side == round(side) for side in window):
            return picture.crop(window)
        return picture.resize((self.place.width, self.place.height), Image.Resampling.BILINEAR, box=window)

    def mask(self) -> Image.Image:
        """255 where the patch shows the network's input, 0 beyond it."""
        mask = Image.new("L", self.size[::-1], 0)
        if not _empty(self.seen):
            mask.paste(255, _ltrb(self.seen))
        return mask


def _layout(box: Box, presentation: Presentation, original: Size, size: Size | None) -> _Layout:
    """Where the field `box` of a picture goes in its patch, which has `size` or the original's resolution."""
    whole = presentation.to_original(box, original)
    seen = presentation.to_original(box.clip(presentation.size), original)
    real = _intersection(seen, original)
    if size is not None or whole[2] - whole[0] < box.height or whole[3] - whole[1] < box.width:
        size = size or _at_least(whole, box)
        return _Layout(size, _within(seen, whole, size), _within(real, whole, size), real)
    whole, seen, real = (_whole(b) for b in (whole, seen, real))
    top, left, bottom, right = whole
    return _Layout((bottom - top, right - left), seen.shift(-top, -left), real.shift(-top, -left), real)


def _at_least(whole: FloatBox, box: Box) -> Size:
    """The size of a patch at the original's resolution or, in a direction where that is finer, the network's."""
    return max(round(whole[2] - whole[0]), box.height), max(round(whole[3] - whole[1]), box.width)


def _intersection(box: FloatBox, original: Size) -> FloatBox:
    height, width = original
    top, left, bottom, right = box
    return max(top, 0.0), max(left, 0.0), min(bottom, height), min(right, width)


def _within(part: FloatBox, whole: FloatBox, size: Size) -> Box:
    """Where a part of `whole` lies when `whole` is brought to `size`, in whole pixels."""
    down, along = size[0] / (whole[2] - whole[0]), size[1] / (whole[3] - whole[1])
    sides = [(part[n] - whole[n % 2]) * (along if n % 2 else down) for n in range(4)]
    return _whole(sides)


def _whole(box: Sequence[float]) -> Box:
    """The pixels whose centers lie in a box."""
    # Pixel i has its center at i + 0.5. The rule is the same for both ends, so two adjacent boxes share no pixel.
    return Box(*(ceil(side - 0.5) for side in box))


def _empty(box: Box) -> bool:
    return box.height <= 0 or box.width <= 0


def _ltrb(box: Box) -> tuple[int, int, int, int]:
    """A box in Pillow's order."""
    return box.left, box.top, box.right, box.bottom


def _pair(size: Any) -> Any:
    """A size as (height, width); one number stands for a square."""
    return (size, size) if isinstance(size, int) else size


def _box(row: Any) -> Box:
    return Box(int(row.top), int(row.left), int(row.bottom), int(row.right))


# --- the neuron feature ---------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class NeuronFeature:
    """The activation-weighted mean of a unit's best patches: RGB 0..1, NaN in pixels that no patch covers.

    `n_valid` is the number of patches behind each pixel, `patches` how many entered; `reason` says why there is none,
    or which are missing.
    """

    picture: Float64[np.ndarray, "color height width"]
    n_valid: Int64[np.ndarray, "height width"]
    patches: int
    reason: str = ""


def neuron_feature(
    record: Record, unit: str | Unit, *, count: int = 100, originals: Originals | None = None
) -> NeuronFeature:
    """The mean of a unit's `count` best patches, weighted by its responses, in pixels of the network's input.

    NF = sum_z w z / sum_z w over the best patches z with w = f / f_max.

    Args:
        record: a record whose images are still at their source.
        unit: SITE:CHANNEL, or a Unit.
        count: at most so many patches.
        originals: the record's photographs. Pass them to read each image once for many units.

    Raises:
        UnknownName: the record does not hold the unit's site.
        BadInput: the record does not hold the unit.

    Source: rafegas2020; nefesi, neuron_feature2.py. Unlike the paper, responses that are not positive have no weight,
    and a pixel's mean is over the patches that cover the pixel: fields may hang over the edge.

    Example:
        >>> feature = unitscope.neuron_feature(record, "maxpool:1")
        >>> feature.picture.shape, feature.patches  # color height width
        ((3, 11, 11), 4)
    """
    originals = originals or originals_of(record)
    rows = record.stimuli(unit, pole="preferred").sort_values("rank").head(count)
    stimuli = [(int(row.image), _box(row), float(row.value)) for row in rows.itertuples() if row.value > 0]
    return weighted_mean(originals, stimuli)


def weighted_mean(originals: Originals, stimuli: Sequence[tuple[int, Box, float]]) -> NeuronFeature:
    """The weighted mean of patches (image, box, weight > 0). Boxes of different sizes are laid center on center."""
    height = max((box.height for _, box, _ in stimuli), default=1)
    width = max((box.width for _, box, _ in stimuli), default=1)
    total, weights = np.zeros((height, width, 3)), np.zeros((height, width))
    n_valid, missing, strongest = np.zeros((height, width), np.int64), [], max((v for *_, v in stimuli), default=1.0)
    for image, box, value in stimuli:
        seen = box.clip(originals.presentation.size)
        try:
            shown = originals.shown(image)[seen.top : seen.bottom, seen.left : seen.right]
        except Unreadable as error:
            missing.append(f"{originals.images.items[image].uri}: {error.reason}")
            continue
        # From the box's own corner; boxes that differ in size are aligned at their centers.
        top, left = seen.top - box.top + (height - box.height) // 2, seen.left - box.left + (width - box.width) // 2
        place = (slice(top, top + seen.height), slice(left, left + seen.width))
        total[place] += value / strongest * shown
        weights[place] += value / strongest
        n_valid[place] += 1
    with np.errstate(invalid="ignore"):
        picture = (total / weights[..., None] / 255).transpose(2, 0, 1)
    return NeuronFeature(picture, n_valid, len(stimuli) - len(missing), _lack(stimuli, missing))


def _lack(stimuli: Sequence[Any], missing: Sequence[str]) -> str:
    if not stimuli:
        return "no positive response"
    return f"{len(missing)} of {len(stimuli)} images cannot be had: {missing[0]}" if missing else ""
