"""Mean preferred stimuli over positions: of the best position of each image, or of all positions with a response
(methods 2.2).

Sums of pixels are integers, and so is their correlation with the zeros and ones of "responds here": it is taken in the
frequency domain in double precision and rounded, which gives the exact sums as long as the error is far below one half.
A neuron's mask on the lattice, spread over the picture's pixels at the site's stride, has the spectrum of the lattice
repeated: it is transformed once, at the lattice's own size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int, UInt8
from torch import Tensor

from unitscope.recording.views import COARSE, EXACT
from unitscope.vocabulary import ReceptiveField, Size

if TYPE_CHECKING:
    from unitscope.vocabulary import Site

WHERE = ("best", "all")
"""Which positions take part: the best of each image, or all with a response above zero."""


@dataclass(frozen=True)
class Lens:
    """How the pictures are seen for one field: reduced `by` a whole factor, so that the field takes `shape` pixels.

    A field up to 64 px is kept as it is; a larger one is reduced to about 32. On the reduced picture neuron (0, 0)
    begins at `start` and neighbors are `stride` apart, which are whole numbers only where `by` is 1: elsewhere places
    are rounded.
    """

    field: ReceptiveField
    picture: Size
    by: int

    @classmethod
    def of(cls, field: ReceptiveField, picture: Size) -> Lens:
        longer = max(field.size)
        return cls(field, picture, 1 if longer <= EXACT else ceil(longer / COARSE))

    @property
    def shape(self) -> Size:
        return ceil(self.field.size[0] / self.by), ceil(self.field.size[1] / self.by)

    def reduce(self, pictures: UInt8[Tensor, "stimulus color height width"]) -> UInt8[Tensor, "stimulus color row col"]:
        """The pictures at this lens's scale, averaged over areas."""
        if self.by == 1:
            return pictures
        height, width = (max(1, round(side / self.by)) for side in self.picture)
        return torch.nn.functional.adaptive_avg_pool2d(pictures.float(), (height, width)).round_().to(torch.uint8)

    def starts(self, lattice: Size) -> tuple[np.ndarray, np.ndarray]:
        """Where, on the reduced picture, the field of each lattice row and column begins."""
        return tuple(  # type: ignore[return-value]
            np.rint((self.field.start[axis] + np.arange(lattice[axis]) * self.field.stride[axis]) / self.by).astype(int)
            for axis in (0, 1)
        )


@dataclass
class PositionSums:
    """Exact sums of the patches at chosen positions, for units that share a field.

    `total` [unit color row col] of pixels, `n` [unit row col] how many patches had that pixel on the picture, `patches`
    [unit].
    """

    where: str
    lens: Lens
    lattice: Size
    channels: np.ndarray
    total: np.ndarray
    n: np.ndarray
    patches: np.ndarray

    @classmethod
    def empty(
        cls, where: str, site: Site, field_: ReceptiveField, channels: np.ndarray, *, colors: int
    ) -> PositionSums:
        lens = Lens.of(field_, site.picture)
        total = np.zeros((len(channels), colors, *lens.shape), dtype=np.int64)
        n = np.zeros((len(channels), *lens.shape), dtype=np.int64)
        return cls(where, lens, site.lattice, channels, total, n, np.zeros(len(channels), dtype=np.int64))

    def add(
        self,
        responses: Float32[Tensor, "stimulus unit row col"],
        pictures: UInt8[Tensor, "stimulus color height width"],
        counted: Bool[Tensor, "stimulus unit"],
    ) -> None:
        """Add a batch. Responses and pictures that are not `counted` do not take part."""
        mask = best_positions(responses) if self.where == "best" else responses > 0
        mask &= counted[:, :, None, None]
        if not mask.any():
            return
        seen = self.lens.reduce(pictures)
        framed = torch.cat([seen.double(), torch.ones_like(seen[:, :1], dtype=torch.float64)], dim=1)
        sums = correlated(mask, framed, self.lens, self.lattice)
        self.total += sums[:, :-1].numpy()
        self.n += sums[:, -1].numpy()
        self.patches += mask.sum((0, 2, 3)).numpy()

    def merge(self, other: PositionSums) -> PositionSums:
        sums = [getattr(self, name) + getattr(other, name) for name in ("total", "n", "patches")]
        return PositionSums(self.where, self.lens, self.lattice, self.channels, *sums)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"total": self.total, "n": self.n, "patches": self.patches}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.total, self.n, self.patches = arrays["total"], arrays["n"], arrays["patches"]

    def means(self) -> Float32[np.ndarray, "unit color height width"]:
        """Means, RGB 0..1, in the upper left corner of 64 x 64 pixels; NaN where nothing was averaged."""
        means = np.full((len(self.n), self.total.shape[1], EXACT, EXACT), np.nan, dtype=np.float32)
        with np.errstate(invalid="ignore", divide="ignore"):
            means[:, :, : self.n.shape[1], : self.n.shape[2]] = self.total / (255.0 * self.n[:, None])
        return means


def best_positions(responses: Float32[Tensor, "stimulus unit row col"]) -> Bool[Tensor, "stimulus unit row col"]:
    """The first position, in row-major order, of the highest response, where that is above zero."""
    flat = responses.flatten(2)
    peak, place = flat.max(2)
    place = (flat == peak[:, :, None]).to(torch.uint8).argmax(2)
    mask = torch.zeros_like(flat, dtype=torch.bool).scatter_(2, place[:, :, None], (peak > 0)[:, :, None])
    return mask.view_as(responses)


def correlated(
    mask: Bool[Tensor, "stimulus unit row col"],
    pictures: Tensor,
    lens: Lens,
    lattice: Size,
) -> Int[Tensor, "unit color height width"]:
    """Sum of the patches of `pictures` [stimulus color height width] (whole numbers, float64) at the positions of
    `mask`.

    Patches reach over the edge, where pictures are zero.
    """
    rows, cols = lens.starts(lattice)
    first = (int(min(rows.min(), 0)), int(min(cols.min(), 0)))
    extent = [
        max(int(places.max()) + side, length) - low
        for places, side, length, low in zip((rows, cols), lens.shape, pictures.shape[2:], first, strict=True)
    ]
    size, spectrum = spectrum_of(mask, rows - first[0], cols - first[1], extent)
    padded = torch.zeros((*pictures.shape[:2], *size), dtype=torch.float64)
    padded[:, :, -first[0] : pictures.shape[2] - first[0], -first[1] : pictures.shape[3] - first[1]] = pictures
    seen = torch.fft.rfft2(padded)
    units, colors = mask.shape[1], pictures.shape[1]
    sums = torch.empty((units, colors, *lens.shape), dtype=torch.int64)
    chunk = max(1, (1 << 24) // (len(mask) * size[0] * (size[1] // 2 + 1)))
    for i in range(0, units, chunk):
        part = spectrum(slice(i, i + chunk))
        product = torch.einsum("nuij,ncij->ucij", part.conj(), seen)
        whole = torch.fft.irfft2(product, s=size)
        sums[i : i + chunk] = whole[:, :, : lens.shape[0], : lens.shape[1]].round().to(torch.int64)
    return sums


@dataclass(frozen=True)
class Spectrum:
    """Spectra of masks that were spread over the picture's pixels, for some units at a time."""

    mask: Tensor
    rows: np.ndarray
    cols: np.ndarray
    size: tuple[int, int]
    steps: tuple[int, int]
    tiled: bool = field(default=False)

    def __call__(self, units: slice) -> Tensor:
        mask = self.mask[:, units].double()
        if not self.tiled:
            spread = torch.zeros((*mask.shape[:2], *self.size), dtype=torch.float64)
            spread[:, :, torch.from_numpy(self.rows)[:, None], torch.from_numpy(self.cols)[None, :]] = mask
            return torch.fft.rfft2(spread)
        small = (self.size[0] // self.steps[0], self.size[1] // self.steps[1])
        lattice = torch.fft.fft2(mask, s=small)
        width = self.size[1] // 2 + 1
        repeated = lattice.repeat(1, 1, self.steps[0], -(-width // small[1]))[:, :, :, :width]
        shift = [
            torch.exp(-2j * torch.pi * torch.arange(n) * int(o) / n)
            for n, o in zip(self.size, (self.rows[0], self.cols[0]), strict=True)
        ]
        return repeated * shift[0][:, None] * shift[1][None, :width]


def spectrum_of(
    mask: Tensor, rows: np.ndarray, cols: np.ndarray, extent: list[int]
) -> tuple[tuple[int, int], Spectrum]:
    """The size of the transform, at least `extent`, and the masks' spectra; by way of the lattice where its steps are
    even.
    """
    steps = tuple(int(places[1] - places[0]) if len(places) > 1 else 1 for places in (rows, cols))
    even = (
        all((np.diff(places) == step).all() for places, step in zip((rows, cols), steps, strict=True))
        and min(steps) > 0
    )
    if even:
        size = tuple(
            step * fast_length(max(-(-n // step), k)) for n, step, k in zip(extent, steps, mask.shape[2:], strict=True)
        )
    else:
        size = tuple(fast_length(n) for n in extent)
    return size, Spectrum(mask, rows, cols, size, steps, tiled=even)  # type: ignore[arg-type,return-value]


def fast_length(n: int) -> int:
    """The next length from `n` on that has only the factors 2, 3 and 5."""
    while True:
        rest = n
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return n
        n += 1


def position_sums(site: Site, where: str, *, colors: int) -> list[PositionSums]:
    """Empty sums for the units of a site, in groups of equal fields.

    Units without a field that moves (they see the whole picture from every position, or nobody knows what) have none.
    """
    groups = np.asarray(site.groups or [0] * site.channels)
    return [
        PositionSums.empty(where, site, one, np.flatnonzero(groups == number), colors=colors)
        for number, one in enumerate(site.fields)
        if one.status in ("exact", "upper bound") and max(one.stride) > 0
    ]
