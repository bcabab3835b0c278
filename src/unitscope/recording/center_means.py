"""The mean preferred stimulus of each unit's center neuron: the mean of the pictures that made it respond.

Problem: 7,680 units and 50,000 images are 400 million additions of patches; and the sum must not depend on their order.

Idea: pixels are integers, so their sums are exact. For a block of stimuli, all units' sums are one product of matrices,
of zeros and ones ("this unit responds to this stimulus") with pixels:

    chosen [unit stimulus] @ pixels [stimulus pixel] -> sums [unit pixel]

Processors multiply matrices of signed bytes fastest. So pixels are shifted by 128 before, and 128 for each chosen
picture is added afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int32, Int64, Integer, UInt8
from torch import Tensor

from unitscope.recording.acceleration import accelerated
from unitscope.recording.accumulator import Block
from unitscope.recording.field_windows import EXACT, FieldWindow
from unitscope.recording.statistics import ArrayFields
from unitscope.vocabulary import Box

if TYPE_CHECKING:
    from unitscope.vocabulary import Site

MOST_PICTURES = (2**31 - 1) // 255
"""How many pictures of 255 fit into sums of 32 bits."""

UNITS_AT_A_TIME = 256
"""Units whose sums of a block are held at a time."""


@dataclass
class CenterSums:
    """Sums of the pictures that made the center neuron respond, as integers: exact, so in any order the same.

    Of `every` = 2, only stimuli with even numbers take part (a split half; blocks begin with even numbers).

    `total` [unit color row col] sums of uint8 pixels in what `view` sees, for the units `channels` of a site; `n`
    [unit] how many pictures. Source: kobayashi2020, eq. 4 and 5.
    """

    view: FieldWindow
    channels: slice | np.ndarray
    n: np.ndarray
    total: np.ndarray
    every: int = 1

    @classmethod
    def empty(
        cls, view: FieldWindow, channels: slice | np.ndarray, *, units: int, colors: int, every: int = 1
    ) -> CenterSums:
        count = len(np.arange(units)[channels])
        total = np.zeros((count, colors, *view.shape), dtype=np.int32)
        return cls(view, channels, np.zeros(count, dtype=np.int64), total, every)

    def take(self, block: Block) -> None:
        positive = (block.center & block.counted)[:: self.every, self.channels]
        self.add(positive, block.patches[self.view][:: self.every])

    def add(
        self, positive: Bool[np.ndarray, "stimulus unit"], patches: UInt8[np.ndarray, "stimulus color row col"]
    ) -> None:
        """Add a block of pictures, the same for all units."""
        count = len(patches)
        # 65,793 x 255 = 2^24 - 1: float32 holds all integers up to 2^24.
        if count > 65_793:
            raise ValueError(f"a block of {count} stimuli is too large for exact sums in float32")
        self.n += positive.sum(0)
        # `n` includes this block already, so sums get 64 bits before 32 could overflow. Most sums never need them.
        if self.total.dtype == np.int32 and self.n.max(initial=0) > MOST_PICTURES:
            self.total = self.total.astype(np.int64)
        chosen = torch.from_numpy(np.ascontiguousarray(positive.T))
        pixels = torch.from_numpy(np.ascontiguousarray(patches.reshape(count, -1)))
        for i in range(0, len(chosen), UNITS_AT_A_TIME):
            add_chosen(self.total[i : i + UNITS_AT_A_TIME], chosen[i : i + UNITS_AT_A_TIME], pixels)

    def merge(self, other: CenterSums) -> CenterSums:
        n = self.n + other.n
        kind = np.int64 if n.max(initial=0) > MOST_PICTURES else np.int32
        return CenterSums(self.view, self.channels, n, self.total.astype(kind) + other.total, self.every)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"n": self.n, "total": self.total}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.n, self.total = arrays["n"], arrays["total"]


@dataclass
class EnsembleSums(ArrayFields):
    """Sums of all readable pictures, whatever a unit responds to them: of those with even and those with odd numbers.

    `total` [half color row col] sums of uint8 pixels in what `view` sees, `n` [half] how many pictures; exact.
    """

    view: FieldWindow
    n: Int64[np.ndarray, " 2"]
    total: Int64[np.ndarray, "2 color row col"]

    @classmethod
    def empty(cls, view: FieldWindow, *, colors: int) -> EnsembleSums:
        return cls(view, np.zeros(2, dtype=np.int64), np.zeros((2, colors, *view.shape), dtype=np.int64))

    def take(self, block: Block) -> None:
        patches = block.patches[self.view]
        for half in (0, 1):  # blocks begin with even numbers
            chosen = patches[half::2][block.readable[half::2]]
            self.n[half] += len(chosen)
            self.total[half] += chosen.sum(0, dtype=np.int64)

    def merge(self, other: EnsembleSums) -> EnsembleSums:
        return EnsembleSums(self.view, self.n + other.n, self.total + other.total)


def add_chosen(
    total: Integer[np.ndarray, "unit color row col"],
    chosen: Bool[Tensor, "unit stimulus"],
    pixels: UInt8[Tensor, "stimulus pixel"],
) -> None:
    """Add to each unit's total the pictures that are chosen, exactly.

    As a product of bytes (pixels less 128, so that they have a sign) where that is known to be right, else in float32,
    which holds integers up to 2^24: that is 65,793 pictures of 255. (A single row or column goes that way, too:
    torch._int_mm takes it for transposed, and leaves the product unset.)
    """
    if min(*chosen.shape, *pixels.shape) < 2 or not bytes_multiply():
        sums = chosen.float() @ pixels.float()
        torch.from_numpy(total).add_(sums.to(torch.int32).reshape(total.shape))
        return
    less, n = product_of_bytes(chosen, pixels), chosen.sum(1, dtype=torch.int32)
    add_pixels(less.numpy(), n.numpy(), total)


@accelerated
def add_pixels(
    less: Int32[np.ndarray, "unit pixel"],
    n: Int32[np.ndarray, " unit"],
    total: Integer[np.ndarray, "unit color row col"],
) -> None:
    """Add sums of pixels less 128, of `n` pictures each, to sums of pixels."""
    total += (less + 128 * n[:, None]).reshape(total.shape)


def product_of_bytes(
    chosen: Bool[Tensor, "unit stimulus"], pixels: UInt8[Tensor, "stimulus pixel"]
) -> Int32[Tensor, "unit pixel"]:
    """For each unit the sum of the chosen pixels less 128."""
    # Flipping the highest bit of a byte p, and reading the byte as signed, gives p - 128: 0 becomes -128, 255 becomes
    # 127.
    return torch._int_mm(chosen.view(torch.int8), (pixels ^ 128).view(torch.int8))


@cache
def bytes_multiply() -> bool:
    """Whether this PyTorch multiplies matrices of bytes on this processor, and without error."""
    chosen = torch.arange(20 * 33).reshape(20, 33) % 3 == 0
    pixels = (torch.arange(33 * 50).reshape(33, 50) * 37 % 256).to(torch.uint8)
    # The largest values that can occur.
    pixels[:, :10], chosen[0] = 255, True
    try:
        less = product_of_bytes(chosen, pixels)
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    whole = less + 128 * chosen.sum(1, dtype=torch.int32)[:, None]
    return bool((whole == chosen.long() @ pixels.long()).all())


def center_sums(site: Site, *, colors: int, full: bool = False, every: int = 1) -> list[CenterSums]:
    """Empty sums for a site's center neurons: one for each part of the picture that some of them see."""
    if len(site.fields) == 1:
        boxes: dict[Box, slice | np.ndarray] = {site.box(*site.center): slice(0, site.channels)}
    else:
        own = [site.box(*site.center, channel=channel) for channel in range(site.channels)]
        boxes = {box: np.flatnonzero([other == box for other in own]) for box in sorted(set(own))}
    return [
        CenterSums.empty(
            FieldWindow.of(box, site.picture, full=full), channels, units=site.channels, colors=colors, every=every
        )
        for box, channels in boxes.items()
    ]


def mean_stimuli(sums: CenterSums) -> Float32[np.ndarray, "unit color height width"]:
    """Means, RGB 0..1, in the upper left corner of 64 x 64 pixels; NaN where nothing was averaged."""
    means = np.full((len(sums.n), sums.total.shape[1], EXACT, EXACT), np.nan, dtype=np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):
        kept = (sums.total / (255.0 * sums.n[:, None, None, None])).astype(np.float32)
    kept[:, :, ~sums.view.defined()] = np.nan
    # Fields differ in size, and all means are kept in one array: the rest of the 64 x 64 pixels stays NaN.
    means[:, :, : sums.view.shape[0], : sums.view.shape[1]] = kept
    return means


def reliability(whole: CenterSums, even: CenterSums, ensemble: EnsembleSums) -> Float32[np.ndarray, " unit"]:
    """Correlation of the mean preferred stimuli of even and of odd images, stepped up to the whole's length: 1 where
    they are the same, about 0 for a unit that picks images at random; -1 to 1.

    From each half the mean of all readable images of that half is taken off first: photographs have a mean of their own
    (bright above, reddish), which any two halves share, and which is no preference. It must be the half's own mean.
    With that of all images, halves would differ from it in opposite directions, and chance would lie below 0.
    NaN where a half is empty or flat, and for a unit that answers to all images: it prefers nothing.

    Unlike Spearman and Brown, who have 2 r / (1 + r): 2 r / (1 + |r|), so that chance lies as far below 0 as above.
    """
    shown = whole.view.defined()
    halves = []
    # Integers: the whole less the even half is exactly the odd half.
    for half, (n, total) in enumerate([(even.n, even.total), (whole.n - even.n, whole.total - even.total)]):
        mean = ensemble.total[half] / max(int(ensemble.n[half]), 1)
        pixels = (total / np.maximum(n, 1)[:, None, None, None] - mean)[:, :, shown].reshape(len(n), -1)
        known = (n > 0) & (n < ensemble.n[half])
        halves.append(np.where(known[:, None], pixels - pixels.mean(1, keepdims=True), np.nan))
    a, b = halves
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))
        return (2 * r / (1 + np.abs(r))).astype(np.float32)
