"""Field windows: the part of every picture that the center neurons of a site see.

A mean preferred stimulus is kept in at most 64 x 64 pixels. So a field of up to 64 pixels is kept pixel by pixel, and a
larger one is reduced to 32 pixels on its longer side, by averaging areas:

    field  11 x 11  -> kept as it is, 11 x 11
    field 200 x 100 -> 32 x 16 means of 6.25 x 6.25 pixels
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from unitscope.recording.acceleration import accelerated
from unitscope.vocabulary import Box, Size

EXACT = 64
"""Fields up to this many pixels are averaged pixel by pixel, in the upper left corner of a square of this side."""

COARSE = 32
"""The longer side to which what is seen of a larger field is reduced."""

PICTURES_AT_A_TIME = 16
"""Pictures whose sums over corners are held at a time."""


@dataclass(frozen=True)
class FieldWindow:
    """A part of every picture: `box` in pixels of the network's input, kept as `shape` (rows, cols).

    A field up to 64 px is kept as it is, also where it hangs over the picture's edge (there it is not defined). Of a
    larger one the part on the picture is kept, reduced to 32 px on its longer side by averaging areas; with
    `full` it is not reduced.
    """

    box: Box
    shape: Size
    picture: Size

    @classmethod
    def of(cls, box: Box, picture: Size, *, full: bool = False) -> FieldWindow:
        if max(box.height, box.width) <= EXACT and not full:
            return cls(box, (box.height, box.width), picture)
        seen = box.clip(picture)
        if full:
            return cls(seen, (seen.height, seen.width), picture)
        longer = max(seen.height, seen.width)
        if longer <= COARSE:
            return cls(seen, (seen.height, seen.width), picture)
        return cls(
            seen, (max(1, round(seen.height * COARSE / longer)), max(1, round(seen.width * COARSE / longer))), picture
        )

    def cut(self, pictures: UInt8[Tensor, "stimulus color height width"]) -> UInt8[Tensor, "stimulus color row col"]:
        """This part of each picture; zeros off the picture (see `defined`)."""
        seen = self.box.clip(self.picture)
        if self.shape == (self.box.height, self.box.width) and self.box != seen:
            whole = pictures.new_zeros((*pictures.shape[:2], *self.shape))
            whole[:, :, *self._inside()] = pictures[:, :, seen.top : seen.bottom, seen.left : seen.right]
            return whole
        return torch.from_numpy(shrink(pictures.permute(0, 2, 3, 1).contiguous().numpy(), seen, self.shape))

    def defined(self) -> Bool[np.ndarray, "row col"]:
        """Which of the kept pixels lie on the picture."""
        inside = np.zeros(self.shape, dtype=bool)
        if self.shape == (self.box.height, self.box.width):
            inside[self._inside()] = True
        else:
            inside[:] = True
        return inside

    def _inside(self) -> tuple[slice, slice]:
        seen = self.box.clip(self.picture)
        return (
            slice(seen.top - self.box.top, seen.bottom - self.box.top),
            slice(seen.left - self.box.left, seen.right - self.box.left),
        )


@accelerated
def shrink(
    pictures: UInt8[np.ndarray, "stimulus height width color"], box: Box, shape: Size
) -> UInt8[np.ndarray, "stimulus color row col"]:
    """A part of each picture at another size, by averaging areas, cut as adaptive pooling cuts them; halves are rounded
    up.
    """
    small = np.empty((len(pictures), pictures.shape[3], *shape), dtype=np.uint8)
    for i in range(0, len(pictures), PICTURES_AT_A_TIME):
        part = pictures[i : i + PICTURES_AT_A_TIME, box.top : box.bottom, box.left : box.right]
        small[i : i + PICTURES_AT_A_TIME] = average_areas(part, shape)
    return small


def average_areas(
    part: UInt8[np.ndarray, "stimulus height width color"], shape: Size
) -> UInt8[np.ndarray, "stimulus color row col"]:
    """Whole pictures at another size. The sum over an area is a difference of sums over upper left corners."""
    if part.shape[1:3] == shape:
        return part.transpose(0, 3, 1, 2)
    corners = np.zeros((len(part), part.shape[1] + 1, part.shape[2] + 1, part.shape[3]), dtype=np.int64)
    corners[:, 1:, 1:] = part.cumsum(1, dtype=np.int64).cumsum(2)
    # Of `side` pixels in n areas, area i goes from i side / n, rounded down, to (i + 1) side / n, rounded up: areas
    # may overlap.
    (top, bottom), (left, right) = (
        (steps[:-1] * side // n, (steps[1:] * side + n - 1) // n)
        for side, n, steps in ((part.shape[axis], n, np.arange(n + 1)) for axis, n in zip((1, 2), shape, strict=True))
    )
    rows = corners[:, bottom] - corners[:, top]
    sums = rows[:, :, right] - rows[:, :, left]
    area = ((bottom - top)[:, None] * (right - left))[:, :, None]
    # The rounded mean in integers: floor(sums / area + 1/2), the same on every processor.
    return ((2 * sums + area) // (2 * area)).astype(np.uint8).transpose(0, 3, 1, 2)
