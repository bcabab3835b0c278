"""What is kept of responses: each statistic is made of a batch, merged with another, and finished as arrays.

Merging never depends on how the session was cut: integers are added, extremes have a total order (value, then image, row, column), and real
numbers are merged along one fixed binary tree over the session's blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor

Array = np.ndarray
LOOK_UP = 1 << 24
"""How many responses are copied at a time when positions are looked up."""


@dataclass
class Extremes:
    """The `k` highest (`sign` = 1) or lowest (-1) responses of each unit, at most one per image, in the order of methods 2.5.

    `value` [unit rank] float32; `image`, `row`, `col` [unit rank] int; empty places have image -1 and come last. Of equal values the earlier
    image wins, then the upper row, then the left column.
    """

    sign: int
    value: Array
    image: Array
    row: Array
    col: Array

    @classmethod
    def empty(cls, units: int, *, k: int, sign: int) -> Extremes:
        whole = np.full((units, k), -1, dtype=np.int64)
        return cls(sign, np.full((units, k), -sign * np.inf, dtype=np.float32), whole, whole.copy(), whole.copy())

    def merge(self, unit: Array, value: Array, image: Array, row: Array, col: Array) -> Extremes:
        """With further responses, given as flat arrays of equal length."""
        units, k = self.value.shape
        held = self.image.ravel() >= 0
        columns = [
            np.concatenate([mine.ravel()[held], others])
            for mine, others in (
                (np.repeat(np.arange(units), k), unit),
                (self.value, value),
                (self.image, image),
                (self.row, row),
                (self.col, col),
            )
        ]
        unit, value, image, row, col = columns
        order = np.lexsort((col, row, image, -self.sign * value, unit))
        rank = _rank_within(unit[order])
        order, rank = order[rank < k], rank[rank < k]
        merged = Extremes.empty(units, k=k, sign=self.sign)
        for name, column in (("value", value), ("image", image), ("row", row), ("col", col)):
            getattr(merged, name)[unit[order], rank] = column[order]
        return merged

    def merged_with(self, other: Extremes) -> Extremes:
        """With the extremes of another part of the session."""
        unit, rank = np.nonzero(other.image >= 0)
        return self.merge(unit, *(getattr(other, name)[unit, rank] for name in ("value", "image", "row", "col")))


@dataclass
class Moments:
    """Number, mean and sum of squared deviations per unit, in float64. Source: chan1983, as in methods 2.5."""

    n: Array
    mean: Array
    m2: Array

    @classmethod
    def of(cls, values: Float[Array, "stimulus unit"], counted: Bool[Array, "stimulus unit"]) -> Moments:
        n = counted.sum(0)
        kept = np.where(counted, values, 0).astype(np.float64)
        mean = kept.sum(0) / np.maximum(n, 1)
        m2 = np.where(counted, (kept - mean) ** 2, 0).sum(0)
        return cls(n, mean, m2)

    def merge(self, other: Moments) -> Moments:
        n = self.n + other.n
        share = other.n / np.maximum(n, 1)
        delta = other.mean - self.mean
        return Moments(n, self.mean + delta * share, self.m2 + other.m2 + delta**2 * self.n * share)


@dataclass
class Ladder:
    """Moments of consecutive blocks, merged along a fixed binary tree: rung (height, index) spans blocks index * 2^height and on.

    Two neighbors are merged as soon as both are there, so that few are kept, and the result is the same, bit for bit, whichever block came first
    and whoever merged it.
    """

    rungs: dict[tuple[int, int], Moments]

    def add(self, height: int, index: int, moments: Moments) -> None:
        """Put in the moments of a rung and merge upwards as far as there are neighbors."""
        while (height, index ^ 1) in self.rungs:
            neighbor = self.rungs.pop((height, index ^ 1))
            moments = neighbor.merge(moments) if index & 1 else moments.merge(neighbor)
            height, index = height + 1, index >> 1
        self.rungs[height, index] = moments

    def total(self) -> Moments:
        """All rungs merged, from the first block to the last."""
        ordered = [self.rungs[rung] for rung in sorted(self.rungs, key=lambda rung: rung[1] << rung[0])]
        total = ordered[0]
        for moments in ordered[1:]:
            total = total.merge(moments)
        return total


class Heard:
    """What one site answered to one block of stimuli, while it is being shown: peaks, troughs, signs at the center, and candidates.

    `floor` holds, per pole, the k best values so far: only responses that enter it have their position looked up.
    """

    def __init__(self, *, k: int, center: tuple[int, int], floor: Mapping[int, Tensor]) -> None:
        self.k, self.center = k, center
        self.floor = dict(floor)
        self.peaks: list[Tensor] = []
        self.troughs: list[Tensor] = []
        self.centers: list[Tensor] = []
        self.candidates: dict[int, list[tuple[Tensor, ...]]] = {1: [], -1: []}

    def hear(self, responses: Float32[Tensor, "stimulus unit row col"], images: Int[Tensor, " stimulus"], shown: Bool[Tensor, " stimulus"]) -> None:
        """Take in a batch. `images` are the stimuli's numbers; those that could not be shown are not counted."""
        peak, trough = responses.amax((2, 3)), responses.amin((2, 3))
        self.peaks.append(peak)
        self.troughs.append(trough)
        self.centers.append(responses[:, :, self.center[0], self.center[1]] > 0)
        counted = (torch.isfinite(peak) & torch.isfinite(trough)) & shown[:, None]
        for sign, extreme in ((1, peak), (-1, trough)):
            self._consider(responses, torch.where(counted, extreme, -sign * torch.inf), images, sign)

    def _consider(self, responses: Tensor, extreme: Tensor, images: Tensor, sign: int) -> None:
        """Look up the position of those responses that are among the k best so far."""
        best = torch.cat([self.floor[sign], (sign * extreme).T], dim=1).topk(self.k, dim=1).values
        self.floor[sign] = best
        entering = (sign * extreme >= best[:, -1]) & torch.isfinite(extreme)
        stimulus, unit = entering.nonzero(as_tuple=True)
        if len(unit):
            value = extreme[stimulus, unit]
            place = first_position(responses, stimulus, unit, value)
            cols = responses.shape[3]
            self.candidates[sign].append((unit, value, images[stimulus], place // cols, place % cols))

    def flat(self, sign: int) -> tuple[Array, ...]:
        """The candidates of a pole as flat arrays: unit, value, image, row, col."""
        if not self.candidates[sign]:
            return tuple(np.empty(0, dtype=kind) for kind in (np.int64, np.float32, np.int64, np.int64, np.int64))
        return tuple(torch.cat(column).cpu().numpy() for column in zip(*self.candidates[sign], strict=True))


def first_position(responses: Tensor, stimulus: Tensor, unit: Tensor, value: Tensor) -> Int[Tensor, " candidate"]:
    """Where on the flattened lattice each (stimulus, unit) first takes `value`, in row-major order."""
    rows, cols = responses.shape[2:]
    step = max(1, LOOK_UP // (rows * cols))
    places = []
    for i in range(0, len(unit), step):
        maps = responses[stimulus[i : i + step], unit[i : i + step]].reshape(-1, rows * cols)
        places.append((maps == value[i : i + step, None]).to(torch.uint8).argmax(1))
    return torch.cat(places)


def _rank_within(sorted_groups: Int[Array, " n"]) -> Int[Array, " n"]:
    """For each element its place within its run of equal values."""
    index = np.arange(len(sorted_groups))
    starts = np.flatnonzero(np.r_[True, sorted_groups[1:] != sorted_groups[:-1]]) if len(index) else index
    lengths = np.diff(np.r_[starts, len(index)])
    return index - np.repeat(starts, lengths)
