"""Arrays in, pictures out: patches, mean stimuli and kernels as they are shown.

Nothing is computed here that a person would cite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from unitscope.vocabulary import Box, Size

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8

MARGIN = 1 / 8
"""A field much larger than the picture is shown with this share of the picture around it, not with all its overhang."""

SHARP_PIXELS = 36
"""A patch of at most this many pixels is enlarged pixel by pixel; a larger one smoothly."""


def frame_field(box: Box, picture: Size) -> Box:
    """What a figure of the field `box` frames: the box or, where that is much larger, the picture and a margin."""
    top, bottom = _span(box.top, box.bottom, picture[0])
    left, right = _span(box.left, box.right, picture[1])
    return Box(top, left, bottom, right)


def _span(first: int, last: int, length: int) -> tuple[int, int]:
    margin = round(MARGIN * length)
    return (first, last) if last - first <= length + 2 * margin else (-margin, length + margin)


def tile_size(field: Size, picture: Size, scale: float, *, longest: int) -> Size:
    """Height and width of the tiles in which patches of a field are shown, at most `longest`.

    A small field is enlarged by a whole number. `scale` is the photographs' pixels per pixel of the network's input.
    """
    frame = frame_field(Box(0, 0, *field), picture)
    height, width = frame.height * scale, frame.width * scale
    largest = max(height, width)
    times = max(1, int(longest // largest)) if largest <= SHARP_PIXELS else longest / largest
    return max(1, round(height * times)), max(1, round(width * times))


def cut_patch(photograph: Image.Image, box: Box, *, picture: Size, tile: Size) -> UInt8[np.ndarray, "height width 4"]:
    """What lies in `box` on the photograph, as a tile with an alpha channel: what is off the picture is transparent.

    Args:
        photograph: the whole picture as the network was shown it, at any scale.
        box: pixels of the network's input; it may hang over the edge.
        picture: height and width of the network's input.
        tile: height and width of the result. A box of another shape is centered in it.
    """
    frame, inside = frame_field(box, picture), box.clip(picture)
    times = min(tile[0] / frame.height, tile[1] / frame.width)
    offset = (tile[0] - frame.height * times) / 2, (tile[1] - frame.width * times) / 2
    rows = [_within(offset[0] + (at - frame.top) * times, tile[0]) for at in (inside.top, inside.bottom)]
    cols = [_within(offset[1] + (at - frame.left) * times, tile[1]) for at in (inside.left, inside.right)]
    result = np.zeros((*tile, 4), np.uint8)
    if rows[1] > rows[0] and cols[1] > cols[0] and inside.height > 0 and inside.width > 0:
        part = _cut(photograph, inside, picture, (rows[1] - rows[0], cols[1] - cols[0]))
        result[rows[0] : rows[1], cols[0] : cols[1], :3] = part
        result[rows[0] : rows[1], cols[0] : cols[1], 3] = 255
    return result


def _within(position: float, length: int) -> int:
    return min(max(round(position), 0), length)


def _cut(photograph: Image.Image, box: Box, picture: Size, size: Size) -> UInt8[np.ndarray, "height width 3"]:
    y, x = photograph.height / picture[0], photograph.width / picture[1]
    area = (box.left * x, box.top * y, box.right * x, box.bottom * y)
    enlarged = size[0] > box.height * y
    small = max(box.height * y, box.width * x) <= SHARP_PIXELS
    # The network was given these few pixels: smoothing would show something else.
    filter_ = Image.Resampling.NEAREST if enlarged and small else Image.Resampling.BILINEAR
    return np.asarray(photograph.resize((size[1], size[0]), filter_, box=area))


def draw_mean(mean: Float[np.ndarray, "color height width"]) -> UInt8[np.ndarray, "height width 4"]:
    """A mean stimulus in picture space, RGB 0..1, clipped (methods 2.4); transparent where NaN: nothing was seen."""
    return _painted(mean)


def draw_contrast(
    delta: Float[np.ndarray, "color height width"], *, gain: float
) -> UInt8[np.ndarray, "height width 4"]:
    """A difference of pictures around middle gray, 0.5 + gain x delta (methods 2.4), never stretched color by color."""
    return _painted(0.5 + gain * delta)


def contrast_gain(deltas: Float[np.ndarray, "unit color height width"]) -> float:
    """The one gain of a figure: 0.5 over the 99.5th percentile of its magnitudes (methods 2.4); 1.0 if all are zero."""
    magnitudes = np.abs(deltas[np.isfinite(deltas)])
    largest = float(np.percentile(magnitudes, 99.5)) if magnitudes.size else 0.0
    return 0.5 / largest if largest > 0 else 1.0


def reduce_picture(
    box: Box, picture: Float[np.ndarray, "color height width"], *, shape: Size
) -> Float[np.ndarray, "color row col"]:
    """What a record keeps of a picture in `box`, as `shape` rows and columns.

    Pixel by pixel where the shape is the box's, NaN off the picture; else the part on the picture, reduced by averaging
    areas.
    """
    seen = box.clip(picture.shape[1:])
    part = picture[:, seen.top : seen.bottom, seen.left : seen.right]
    if shape != (box.height, box.width):
        return _averaging(part.shape[1], shape[0]) @ part @ _averaging(part.shape[2], shape[1]).T
    whole = np.full((len(picture), *shape), np.nan)
    whole[:, seen.top - box.top : seen.bottom - box.top, seen.left - box.left : seen.right - box.left] = part
    return whole


def _averaging(length: int, parts: int) -> Float[np.ndarray, "part length"]:
    """Weights that average `length` pixels in `parts` areas, as adaptive average pooling does."""
    weights = np.zeros((parts, length))
    for part in range(parts):
        area = slice(part * length // parts, -(-(part + 1) * length // parts))
        weights[part, area] = 1 / (area.stop - area.start)
    return weights


def _painted(picture: Float[np.ndarray, "color height width"]) -> UInt8[np.ndarray, "height width 4"]:
    color = np.repeat(picture, 3, axis=0) if len(picture) == 1 else picture[:3]
    seen = np.isfinite(color).all(0)
    bytes_ = np.rint(np.clip(np.where(seen, color, 0), 0, 1) * 255).astype(np.uint8)
    return np.dstack([*bytes_, np.where(seen, 255, 0).astype(np.uint8)])


def enlarge(picture: UInt8[np.ndarray, "height width 4"], *, longest: int) -> UInt8[np.ndarray, "height width 4"]:
    """The picture as large as `longest` allows: pixel by pixel by a whole number where it is small, else smoothly."""
    height, width = picture.shape[:2]
    if max(height, width) <= SHARP_PIXELS // 2:
        times = max(1, longest // max(height, width))
        return picture.repeat(times, 0).repeat(times, 1)
    times_ = longest / max(height, width)
    size = max(1, round(width * times_)), max(1, round(height * times_))
    return np.asarray(Image.fromarray(picture, "RGBA").resize(size, Image.Resampling.BICUBIC))


def draw_heat(values: Float[np.ndarray, "row col"], *, longest: int) -> UInt8[np.ndarray, "height width 4"]:
    """A map of numbers, black where lowest and white where highest, each position a square (or a part of a pixel)."""
    finite = np.isfinite(values)
    low, high = (values[finite].min(), values[finite].max()) if finite.any() else (0.0, 0.0)
    shades = np.where(finite, (values - low) / (high - low if high > low else 1.0), 0)
    picture = _painted(np.where(finite, shades, np.nan)[None])
    times = max(1, longest // max(values.shape))
    large = picture.repeat(times, 0).repeat(times, 1)
    return large if max(large.shape) <= longest else fit_square(large, side=longest)


def fit_square(tile: UInt8[np.ndarray, "height width 4"], *, side: int) -> UInt8[np.ndarray, "side side 4"]:
    """The tile reduced or enlarged to fit a square, in its middle."""
    height, width = tile.shape[:2]
    times = side / max(height, width)
    size = max(1, round(width * times)), max(1, round(height * times))
    small = np.asarray(Image.fromarray(tile, "RGBA").resize(size, Image.Resampling.BILINEAR))
    result = np.zeros((side, side, 4), np.uint8)
    top, left = (side - size[1]) // 2, (side - size[0]) // 2
    result[top : top + size[1], left : left + size[0]] = small
    return result
