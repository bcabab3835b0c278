"""What the center neuron of each unit was shown: the part of every picture that is averaged into the mean preferred stimulus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float32, UInt8
from torch import Tensor

from unitscope.vocabulary import Box, Size

if TYPE_CHECKING:
    from unitscope.vocabulary import Site

EXACT = 64
"""Fields up to this many pixels are averaged pixel by pixel, in the upper left corner of a square of this side."""

COARSE = 32
"""The longer side to which what is seen of a larger field is reduced."""


@dataclass(frozen=True)
class View:
    """A part of every picture: `box` in pixels of the network's input, kept as `shape` (rows, cols).

    A field up to 64 px is kept as it is, also where it hangs over the picture's edge (there it is not defined). Of a larger one the part on the
    picture is kept, reduced to 32 px on its longer side by averaging areas.
    """

    box: Box
    shape: Size
    picture: Size

    @classmethod
    def of(cls, box: Box, picture: Size) -> View:
        if max(box.height, box.width) <= EXACT:
            return cls(box, (box.height, box.width), picture)
        seen = box.clip(picture)
        longer = max(seen.height, seen.width)
        if longer <= COARSE:
            return cls(seen, (seen.height, seen.width), picture)
        return cls(seen, (max(1, round(seen.height * COARSE / longer)), max(1, round(seen.width * COARSE / longer))), picture)

    def cut(self, pictures: UInt8[Tensor, "stimulus color height width"]) -> UInt8[Tensor, "stimulus color row col"]:
        """This part of each picture; zeros off the picture (see `defined`)."""
        seen = self.box.clip(self.picture)
        part = pictures[:, :, seen.top : seen.bottom, seen.left : seen.right]
        if self.shape == (seen.height, seen.width):
            return part
        if self.shape == (self.box.height, self.box.width):
            whole = pictures.new_zeros((*pictures.shape[:2], *self.shape))
            whole[:, :, *self._inside()] = part
            return whole
        reduced = torch.nn.functional.adaptive_avg_pool2d(part.float(), self.shape)
        return reduced.round_().to(torch.uint8)

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


def views(site: Site) -> list[tuple[View, slice | np.ndarray]]:
    """The views of a site's center neurons, each with the channels that share it."""
    if len(site.fields) == 1:
        return [(View.of(site.box(*site.center), site.picture), slice(0, site.channels))]
    boxes = [site.box(*site.center, channel=channel) for channel in range(site.channels)]
    return [
        (View.of(box, site.picture), np.flatnonzero([other == box for other in boxes])) for box in sorted(set(boxes))
    ]


@dataclass
class CenterSums:
    """Sums of the pictures that made the center neuron respond, as integers: exact, so in any order the same.

    `total` [unit color height width] int64 sums of uint8 pixels, `n` [unit] how many pictures. Source: kobayashi2020, eq. 4 and 5.
    """

    n: np.ndarray
    total: np.ndarray

    @classmethod
    def empty(cls, units: int, shape: tuple[int, ...]) -> CenterSums:
        return cls(np.zeros(units, dtype=np.int64), np.zeros((units, *shape), dtype=np.int64))

    def add(self, positive: Bool[np.ndarray, "stimulus unit"], patches: np.ndarray) -> None:
        """Add a block: `patches` [stimulus color height width] uint8, the same for all units.

        The product is done in float32, which holds integers up to 2^24 exactly: that is 65,793 pictures of 255.
        """
        count, *shape = patches.shape
        if count > 65_793:
            raise ValueError(f"a block of {count} stimuli is too large for exact sums in float32")
        weights = torch.from_numpy(np.ascontiguousarray(positive.T)).float()
        sums = weights @ torch.from_numpy(patches.reshape(count, -1)).float()
        torch.from_numpy(self.total).add_(sums.reshape(-1, *shape).to(torch.int32))
        self.n += positive.sum(0)


def mean_stimuli(
    n: np.ndarray, total: np.ndarray, view: View
) -> Float32[np.ndarray, "unit color height width"]:
    """Sums [unit color row col] as means, RGB 0..1, in the upper left corner of 64 x 64 pixels; NaN where nothing was averaged."""
    means = np.full((len(n), total.shape[1], EXACT, EXACT), np.nan, dtype=np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):
        kept = (total / (255.0 * n[:, None, None, None])).astype(np.float32)
    kept[:, :, ~view.defined()] = np.nan
    means[:, :, : view.shape[0], : view.shape[1]] = kept
    return means
