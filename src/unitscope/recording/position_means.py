"""Mean preferred stimuli over positions: of the best position of each image, or of all positions with a response
(methods 2.2).

Problem: a unit with a response above zero at 1,000 positions of an image adds 1,000 overlapping patches of that image.

Idea: sums of pixels are integers, so they may be computed in whatever way is fastest; the result is the same.

    gather_patches      cut patches out one by one       the best position: one patch per image and unit
    multiply_patches    mask @ all patches               all positions, small lattices or small fields
    correlate_patches   FFT of mask and picture          all positions else; in double precision, then rounded
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int, UInt8
from torch import Tensor

from unitscope.recording.field_windows import COARSE, EXACT
from unitscope.vocabulary import ReceptiveField, Size

if TYPE_CHECKING:
    from unitscope.vocabulary import Site

GATHERED = 1 << 22
"""How many numbers of patches are added up at a time."""

EXACT_SUMS = 65_793
"""How many pixels of 255 add up to less than 2^24."""

SPECTRA = 1 << 22
"""How many numbers the spectra of some units may take at a time."""

TRANSFORM_COST = 30
"""How much more a transform costs than a product, for each pixel that the transform covers (measured)."""

WHERE = ("best", "all")
"""Which positions take part: the best of each image, or all with a response above zero."""


@dataclass(frozen=True)
class FieldScale:
    """How the pictures are seen for one field: reduced `by` a whole factor, so that the field takes `shape` pixels.

    A field up to 64 px is kept as it is; a larger one is reduced to about 32. On the reduced picture neuron (0, 0)
    begins at `start` and neighbors are `stride` apart, which are whole numbers only where `by` is 1: elsewhere places
    are rounded.
    """

    field: ReceptiveField
    picture: Size
    by: int

    @classmethod
    def of(cls, field: ReceptiveField, picture: Size) -> FieldScale:
        longer = max(field.size)
        return cls(field, picture, 1 if longer <= EXACT else ceil(longer / COARSE))

    @property
    def shape(self) -> Size:
        return ceil(self.field.size[0] / self.by), ceil(self.field.size[1] / self.by)

    def reduce(self, pictures: UInt8[Tensor, "stimulus color height width"]) -> UInt8[Tensor, "stimulus color row col"]:
        """The pictures at this scale, averaged over areas."""
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
    scale: FieldScale
    lattice: Size
    channels: np.ndarray
    total: np.ndarray
    n: np.ndarray
    patches: np.ndarray

    @classmethod
    def empty(
        cls, where: str, site: Site, field_: ReceptiveField, channels: np.ndarray, *, colors: int
    ) -> PositionSums:
        scale = FieldScale.of(field_, site.picture)
        total = np.zeros((len(channels), colors, *scale.shape), dtype=np.int64)
        n = np.zeros((len(channels), *scale.shape), dtype=np.int64)
        return cls(where, scale, site.lattice, channels, total, n, np.zeros(len(channels), dtype=np.int64))

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
        seen = self.scale.reduce(pictures)
        # Ones as one more color: their sums count the patches that had each pixel on the picture.
        framed = torch.cat([seen, torch.ones_like(seen[:, :1])], dim=1)
        add_up = gather_patches if self.where == "best" else sum_patches
        sums = add_up(mask, framed, self.scale, self.lattice)
        self.total += sums[:, :-1].numpy()
        self.n += sums[:, -1].numpy()
        self.patches += mask.sum((0, 2, 3)).numpy()

    def merge(self, other: PositionSums) -> PositionSums:
        sums = [getattr(self, name) + getattr(other, name) for name in ("total", "n", "patches")]
        return PositionSums(self.where, self.scale, self.lattice, self.channels, *sums)

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
    peak = flat.amax(2)
    place = (flat == peak[:, :, None]).to(torch.uint8).argmax(2)
    mask = torch.zeros_like(flat, dtype=torch.bool).scatter_(2, place[:, :, None], (peak > 0)[:, :, None])
    return mask.view_as(responses)


def gather_patches(
    mask: Bool[Tensor, "stimulus unit row col"],
    pictures: UInt8[Tensor, "stimulus color height width"],
    scale: FieldScale,
    lattice: Size,
) -> Int[Tensor, "unit color down across"]:
    """Sum of the patches of `pictures` at the positions of `mask`, cut out one by one: for masks of few positions.

    Patches reach over the edge, where pictures are zero.
    """
    rows, cols, windows = _windows_of(pictures, scale, lattice)
    unit, stimulus, row, col = mask.transpose(0, 1).nonzero(as_tuple=True)
    top, left = torch.from_numpy(rows)[row], torch.from_numpy(cols)[col]
    sums = torch.zeros((mask.shape[1], pictures.shape[1], *scale.shape), dtype=torch.int32)
    step = max(1, GATHERED // sums[0].numel())
    for i in range(0, len(unit), step):
        part = slice(i, i + step)
        # Indices on both sides of a slice put their axis first: the result is [patch color down across].
        sums.index_add_(0, unit[part], windows[stimulus[part], :, top[part], left[part]].int())
    return sums.long()


def multiply_patches(
    mask: Bool[Tensor, "stimulus unit row col"],
    pictures: UInt8[Tensor, "stimulus color height width"],
    scale: FieldScale,
    lattice: Size,
) -> Int[Tensor, "unit color down across"]:
    """Sum of the patches of `pictures` at the positions of `mask`, as a product with all patches: for small lattices
    and small fields.

    Done in float32, which holds integers up to 2^24 exactly: that is 65,793 pixels of 255. Patches reach over the
    edge, where pictures are zero.
    """
    rows, cols, windows = _windows_of(pictures, scale, lattice)
    sums = torch.zeros((mask.shape[1], pictures.shape[1] * scale.shape[0] * scale.shape[1]), dtype=torch.int64)
    left = torch.from_numpy(cols)
    for row, top in enumerate(rows.tolist()):
        patches = windows[:, :, top, left].transpose(1, 2).reshape(-1, sums.shape[1])
        for i in range(0, len(patches), EXACT_SUMS):
            here = mask[:, :, row].transpose(1, 2).reshape(-1, mask.shape[1])[i : i + EXACT_SUMS]
            sums += (here.T.float() @ patches[i : i + EXACT_SUMS].float()).long()
    return sums.view(mask.shape[1], pictures.shape[1], *scale.shape)


def _windows_of(pictures: Tensor, scale: FieldScale, lattice: Size) -> tuple[np.ndarray, np.ndarray, Tensor]:
    """Where the patches of the lattice's rows and columns begin, and all windows of the framed pictures, as views."""
    rows, cols, extent = _patch_starts(scale, lattice, pictures)
    framed = _pad_pictures(pictures, scale, lattice, extent)
    return rows, cols, framed.unfold(2, scale.shape[0], 1).unfold(3, scale.shape[1], 1)


def _patch_starts(scale: FieldScale, lattice: Size, pictures: Tensor) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Where the patches of the lattice's rows and columns begin in pictures with a frame, and how large these are."""
    starts = scale.starts(lattice)
    low = [int(min(places.min(), 0)) for places in starts]
    extent = [
        max(int(places.max()) + side, length) - first
        for places, side, length, first in zip(starts, scale.shape, pictures.shape[2:], low, strict=True)
    ]
    return starts[0] - low[0], starts[1] - low[1], extent


def _pad_pictures(pictures: Tensor, scale: FieldScale, lattice: Size, size: Sequence[int]) -> Tensor:
    """The pictures in a frame of zeros, so that no patch reaches out of it."""
    top, left = (-int(min(places.min(), 0)) for places in scale.starts(lattice))
    height, width = pictures.shape[2:]
    return torch.nn.functional.pad(pictures, (left, size[1] - left - width, top, size[0] - top - height))


def correlate_patches(
    mask: Bool[Tensor, "stimulus unit row col"],
    pictures: UInt8[Tensor, "stimulus color height width"],
    scale: FieldScale,
    lattice: Size,
) -> Int[Tensor, "unit color down across"]:
    """Sum of the patches of `pictures` at the positions of `mask`, in the frequency domain: for large lattices.

    The pictures are taken apart into as many as there are pixels in a step of the lattice, so that all transforms are
    of the lattice's size. Patches reach over the edge, where pictures are zero.
    """
    steps = _lattice_steps(scale, lattice)
    counts = tuple(-(-side // step) for side, step in zip(scale.shape, steps, strict=True))
    # At least k + count - 1, so that nothing wraps around, and with small factors, which are transformed fastest.
    size = tuple(fast_length(k + count - 1) for k, count in zip(lattice, counts, strict=True))
    seen = torch.fft.rfft2(_split_into_phases(pictures, scale, lattice, size).double()).permute(2, 3, 0, 1).contiguous()
    units, apart = mask.shape[1], seen.shape[3]
    sums = torch.empty((units, pictures.shape[1], *scale.shape), dtype=torch.int64)
    chunk = max(1, SPECTRA // (seen.shape[0] * seen.shape[1] * max(apart, len(mask))))
    for i in range(0, units, chunk):
        spectra = torch.fft.rfft2(mask[:, i : i + chunk].double(), s=size)
        # The conjugate makes it a correlation: without, the product of spectra is a convolution.
        product = spectra.conj().permute(2, 3, 1, 0) @ seen
        whole = torch.fft.irfft2(product.permute(2, 3, 0, 1), s=size)[:, :, : counts[0], : counts[1]]
        put = whole.unflatten(1, (-1, *steps)).permute(0, 1, 4, 2, 5, 3)
        put = put.reshape(len(put), -1, counts[0] * steps[0], counts[1] * steps[1])
        # The true sums are integers: rounding removes the errors of the transforms.
        sums[i : i + chunk] = put[:, :, : scale.shape[0], : scale.shape[1]].round().to(torch.int64)
    return sums


def _split_into_phases(
    pictures: UInt8[Tensor, "stimulus color height width"], scale: FieldScale, lattice: Size, size: Sequence[int]
) -> UInt8[Tensor, "stimulus part down across"]:
    """For each pixel of a step of the lattice, and each color: the pictures' pixels at that place of every step."""
    steps = _lattice_steps(scale, lattice)
    first = [int(places[0]) for places in scale.starts(lattice)]
    whole = pictures.new_zeros((*pictures.shape[:2], *(count * step for count, step in zip(size, steps, strict=True))))
    here, there = [], []
    for start, length, room in zip(first, pictures.shape[2:], whole.shape[2:], strict=True):
        low, high = max(start, 0), min(length, start + room)
        here.append(slice(low, max(high, low)))
        there.append(slice(low - start, max(high, low) - start))
    whole[:, :, there[0], there[1]] = pictures[:, :, here[0], here[1]]
    apart = whole.unflatten(3, (size[1], steps[1])).unflatten(2, (size[0], steps[0]))
    return apart.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)


def _lattice_steps(scale: FieldScale, lattice: Size) -> Size:
    """Pixels between neighbors on the lattice; 0 where these are not even."""
    found = []
    for places in scale.starts(lattice):
        apart = np.unique(np.diff(places))
        found.append(1 if len(places) == 1 else int(apart[0]) if len(apart) == 1 else 0)
    return found[0], found[1]


def sum_patches(
    mask: Bool[Tensor, "stimulus unit row col"],
    pictures: UInt8[Tensor, "stimulus color height width"],
    scale: FieldScale,
    lattice: Size,
) -> Int[Tensor, "unit color down across"]:
    """Sum of the patches of `pictures` at the positions of `mask`, by the cheaper of the two ways."""
    steps = _lattice_steps(scale, lattice)
    direct = lattice[0] * lattice[1] * scale.shape[0] * scale.shape[1]
    transformed = (lattice[0] * steps[0] + scale.shape[0]) * (lattice[1] * steps[1] + scale.shape[1])
    # Where places are rounded, steps may be uneven (0): then pictures cannot be split into phases.
    transform = min(steps) > 0 and direct > TRANSFORM_COST * transformed
    return (correlate_patches if transform else multiply_patches)(mask, pictures, scale, lattice)


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

    Units without a field that moves have none: they see the whole picture from every position, or their field is not
    known.
    """
    groups = np.asarray(site.groups or [0] * site.channels)
    return [
        PositionSums.empty(where, site, one, np.flatnonzero(groups == number), colors=colors)
        for number, one in enumerate(site.fields)
        if one.status in ("exact", "upper bound") and max(one.stride) > 0
    ]
