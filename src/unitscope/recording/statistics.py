"""What a survey keeps of responses: each statistic begins empty, takes in blocks of stimuli, merges with another, and
ends as arrays.

Problem: a record must be the same, bit for bit, whether one process showed all images, or eight machines an eighth
each, or a survey was interrupted and resumed. But sums of real numbers depend on their order: in float32, (1e8 + 1) -
1e8 is 0, and (1e8 - 1e8) + 1 is 1.

Idea: whatever is merged is either exact, so that no order matters, or merged in one order that is always the same.

    counts         integers
    extremes       a total order: by value, then image, row and column; the best k of two lists are the best k of all
    sums           integers in fixed point: 2^24 steps a unit (`to_fixed_point`)
    mean, variance merged along one binary tree over the blocks (`Ladder`), which each shard grows its own part of:

                   blocks    0   1   2   3   4      shard 1 showed 0, 1 and 2; shard 2 showed 3 and 4
                             '-.-'   '-.-'   |      shard 1 keeps 0-1 and 2; shard 2 keeps 3 and 4;
                              0-1     2-3    |      merging them puts 2 and 3 together, then 0-1 and 2-3
                               '---.---'     |
                                  0-3        4
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int, Int32, Int64

from unitscope.recording.acceleration import accelerated
from unitscope.recording.accumulator import Block

Array = np.ndarray

POINT = 1 << 24
"""Fixed-point sums are integers in units of 1 / POINT."""

LARGEST_INT64 = float(2**63 - 2**10)
"""The largest 64-bit integer that float64 holds."""


@runtime_checkable
class Statistic(Protocol):
    """What all statistics can do. `arrays` and `restore` save them to disk and load them again."""

    def take(self, block: Block) -> None: ...
    def merge(self, other: Any) -> Any: ...
    def arrays(self) -> dict[str, Array]: ...
    def restore(self, arrays: Mapping[str, Array]) -> None: ...


class ArrayFields:
    """The part that is the same for statistics that are a few arrays."""

    def arrays(self) -> dict[str, Array]:
        return {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}

    def restore(self, arrays: Mapping[str, Array]) -> None:
        for name, value in arrays.items():
            setattr(self, name, value)


@dataclass
class Counts(ArrayFields):
    """Images that counted, images with a positive response or with one that is not finite, positive positions;
    extremes over all.
    """

    seen: Array
    positive: Array
    not_finite: Array
    positive_positions: Array
    peak_max: Array
    trough_min: Array

    @classmethod
    def empty(cls, units: int) -> Counts:
        zeros = [np.zeros(units, dtype=np.int64) for _ in range(4)]
        lowest = np.full(units, -np.inf, dtype=np.float32)
        return cls(zeros[0], zeros[1], zeros[2], zeros[3], lowest, -lowest)

    def take(self, block: Block) -> None:
        before = self.seen.copy()
        count_responses(
            block.peak, block.trough, block.positive_positions, block.counted, seen=self.seen, positive=self.positive,
            positions=self.positive_positions, highest=self.peak_max, lowest=self.trough_min,
        )  # fmt: skip
        # A readable stimulus that did not count had a response that is not finite.
        self.not_finite += block.readable.sum() - (self.seen - before)

    def unsummed(self) -> Bool[Array, " unit"]:
        """Units whose sums in fixed point are not known to be right: those with a response that is not finite, and
        those whose responses are so large (from 2^38 / images on, about 5e6 for 50,000 images) that 64 bits may not
        hold their sum.
        """
        extreme = np.maximum(np.abs(self.peak_max), np.abs(self.trough_min)).astype(np.float64)
        largest = np.where(self.seen > 0, extreme, 0) * self.seen * POINT
        return (self.not_finite > 0) | ~(largest < 2.0**62)

    def merge(self, other: Counts) -> Counts:
        return Counts(
            self.seen + other.seen,
            self.positive + other.positive,
            self.not_finite + other.not_finite,
            self.positive_positions + other.positive_positions,
            np.maximum(self.peak_max, other.peak_max),
            np.minimum(self.trough_min, other.trough_min),
        )


@dataclass
class Extremes(ArrayFields):
    """The `k` highest (`sign` = 1) or lowest (-1) responses of each unit in the order of methods 2.5.

    `value` [unit rank] float32; `image`, `row`, `col` [unit rank] int; empty places have image -1 and come last. Of
    equal values the earlier image wins, then the upper row, then the left column.
    """

    sign: int
    value: Array
    image: Array
    row: Array
    col: Array

    @classmethod
    def empty(cls, units: int, *, k: int, sign: int) -> Extremes:
        value = np.full((units, k), -sign * np.inf, dtype=np.float32)
        image = np.full((units, k), -1, dtype=np.int64)
        return cls(sign, value, image, image.astype(np.int32), image.astype(np.int32))

    def take(self, block: Block) -> None:
        if block.positions is None:
            self.insert(*block.candidates[self.sign])
            return
        responses = block.peak if self.sign > 0 else block.trough
        insert_located(
            self.sign, responses, block.positions[self.sign], first=block.first, cols=block.response_sum.shape[2],
            value=self.value, image=self.image, row=self.row, col=self.col,
        )  # fmt: skip

    def merge(self, other: Extremes) -> Extremes:
        unit, rank = np.nonzero(other.image >= 0)
        merged = Extremes(self.sign, self.value.copy(), self.image.copy(), self.row.copy(), self.col.copy())
        merged.insert(unit, *(getattr(other, name)[unit, rank] for name in ("value", "image", "row", "col")))
        return merged

    def insert(self, unit: Array, value: Array, image: Array, row: Array, col: Array) -> None:
        """Put further responses, given as flat arrays of equal length, into the lists where they are good enough."""
        if not len(unit):
            return
        # lexsort sorts by its last key first: by unit, then better value, earlier image, upper row, left column.
        order = np.lexsort((col, row, image, -self.sign * value, unit))
        units, place = np.unique(unit[order], return_inverse=True)
        rank = rank_within(place)
        later = bool(image.min() > self.image[units].max())
        columns = {}
        for name, column in (("value", value), ("image", image), ("row", row), ("col", col)):
            held = getattr(self, name)[units]
            # Units have different numbers of candidates: the rest of a row holds what loses against everything.
            empty = -self.sign * np.inf if name == "value" else -1
            new = np.full((len(units), int(rank.max()) + 1), empty, dtype=held.dtype)
            new[place, rank] = column[order]
            columns[name] = np.concatenate([held, new], axis=1)
        keys = -self.sign * columns["value"]
        if later:  # both lists are in order, and of equal values those held are earlier
            best = np.argsort(keys, axis=1, kind="stable")
        else:
            best = np.lexsort((columns["col"], columns["row"], columns["image"], keys), axis=1)
        best = best[:, : self.value.shape[1]]
        for name, column in columns.items():
            getattr(self, name)[units] = np.take_along_axis(column, best, axis=1)


@dataclass
class Moments:
    """Number, mean and sum of squared deviations per unit, in float64. Source: chan1983, as in methods 2.5."""

    n: Array
    mean: Array
    m2: Array

    @classmethod
    def of(cls, values: Float[Array, "stimulus unit"], counted: Bool[Array, "stimulus unit"]) -> Moments:
        return cls(*compute_moments(values, counted))

    def merge(self, other: Moments) -> Moments:
        n = self.n + other.n
        share = other.n / np.maximum(n, 1)
        # share * self.n is n_a n_b / (n_a + n_b) of chan1983.
        delta = other.mean - self.mean
        return Moments(n, self.mean + delta * share, self.m2 + other.m2 + delta**2 * self.n * share)

    def deviation(self) -> Float[Array, " unit"]:
        """The standard deviation; 0 where fewer than two were counted."""
        return np.sqrt(self.m2 / np.maximum(self.n - 1, 1))


@dataclass
class Ladder:
    """Moments of consecutive blocks, merged along a fixed binary tree: rung (height, index) spans blocks index *
    2^height and on.

    Two neighbors are merged as soon as both are there, so that few are kept, and the result is the same, bit for bit,
    whichever block came first and whoever merged it. `of` names the values: "peak" or "mean".
    """

    of: str
    rungs: dict[tuple[int, int], Moments] = field(default_factory=dict)

    def take(self, block: Block) -> None:
        self.add(0, block.number, Moments.of(getattr(block, self.of), block.counted))

    def add(self, height: int, index: int, moments: Moments) -> None:
        """Put in the moments of a rung and merge upwards as far as there are neighbors."""
        # index ^ 1 is the neighbor with the same parent: 0 and 1, 2 and 3, but never 1 and 2.
        while (height, index ^ 1) in self.rungs:
            neighbor = self.rungs.pop((height, index ^ 1))
            # The earlier blocks stand on the left: in the last bit, a.merge(b) differs from b.merge(a).
            moments = neighbor.merge(moments) if index & 1 else moments.merge(neighbor)
            height, index = height + 1, index >> 1
        self.rungs[height, index] = moments

    def merge(self, other: Ladder) -> Ladder:
        merged = Ladder(self.of, dict(self.rungs))
        for (height, index), moments in other.rungs.items():
            merged.add(height, index, moments)
        return merged

    def total(self) -> Moments:
        """All rungs merged, from the first block to the last."""
        # index << height is the first block of a rung.
        ordered = [self.rungs[rung] for rung in sorted(self.rungs, key=lambda rung: rung[1] << rung[0])]
        total = ordered[0]
        for moments in ordered[1:]:
            total = total.merge(moments)
        return total

    def arrays(self) -> dict[str, Array]:
        return {
            f"{height}.{index}.{name}": getattr(moments, name)
            for (height, index), moments in self.rungs.items()
            for name in ("n", "mean", "m2")
        }

    def restore(self, arrays: Mapping[str, Array]) -> None:
        self.rungs = {
            (int(height), int(index)): Moments(*(arrays[f"{height}.{index}.{name}"] for name in ("n", "mean", "m2")))
            for height, index, name in (key.split(".") for key in arrays)
            if name == "n"
        }


@cache
def bin_edges() -> Float32[Array, " edge"]:
    """Edges of the histograms' bins: -2^16 ... -2^-16 and 2^-16 ... 2^16 in steps of half an octave. The outer bins
    are open.
    """
    powers = (2.0 ** (np.arange(-32, 33) / 2)).astype(np.float32)
    return np.concatenate([-powers[::-1], powers])


@dataclass
class Histogram(ArrayFields):
    """How many images had their peak (`of` = "peak") or trough in each bin; bin i lies below edge i, and at or above
    edge i - 1.
    """

    of: str
    count: Array

    @classmethod
    def empty(cls, units: int, *, of: str) -> Histogram:
        return cls(of, np.zeros((units, len(bin_edges()) + 1), dtype=np.int64))

    def take(self, block: Block) -> None:
        count_in_bins(getattr(block, self.of), block.counted, self.count)

    def merge(self, other: Histogram) -> Histogram:
        return Histogram(self.of, self.count + other.count)


@dataclass
class LabelSums(ArrayFields):
    """Per label and unit: sums of peaks, of troughs and of peaks above zero in fixed point, and images with a positive
    response. `n` [label] counts images.

    A unit with a response that is not finite, or with sums that 64 bits may not hold, has no means per label.
    """

    n: Array
    peak: Array
    trough: Array
    rectified: Array
    positive: Array

    @classmethod
    def empty(cls, units: int, *, labels: int) -> LabelSums:
        peak, trough, rectified = (np.zeros((labels, units), dtype=np.int64) for _ in range(3))
        positive = np.zeros((labels, units), dtype=np.int32)
        return cls(np.zeros(labels, dtype=np.int64), peak, trough, rectified, positive)

    def take(self, block: Block) -> None:
        label = np.where(block.readable, block.labels, -1)
        self.n += np.bincount(label[label >= 0], minlength=len(self.n))
        sum_by_label(
            block.peak, block.trough, block.counted, label, peaks=self.peak, troughs=self.trough,
            rectified=self.rectified, positive=self.positive,
        )  # fmt: skip

    def merge(self, other: LabelSums) -> LabelSums:
        names = ("n", "peak", "trough", "rectified", "positive")
        return LabelSums(*(getattr(self, name) + getattr(other, name) for name in names))


@dataclass
class ResponseMap(ArrayFields):
    """Sum of responses at each lattice position, in fixed point, and the number of images."""

    n: Array
    total: Array

    @classmethod
    def empty(cls, units: int, lattice: tuple[int, int]) -> ResponseMap:
        return cls(np.zeros(1, dtype=np.int64), np.zeros((units, *lattice), dtype=np.int64))

    def take(self, block: Block) -> None:
        self.n += block.readable.sum()
        add_fixed(block.response_sum, self.total)

    def merge(self, other: ResponseMap) -> ResponseMap:
        return ResponseMap(self.n + other.n, self.total + other.total)

    def mean(self, unsummed: Bool[Array, " unit"]) -> Float32[Array, "unit row col"]:
        """Mean response per position; NaN for units of which no sum is known (see Counts.unsummed)."""
        means = (self.total / (POINT * max(int(self.n[0]), 1))).astype(np.float32)
        means[unsummed] = np.nan
        return means


# --- from a block to arrays ------------------------------------------------------------------------
#
# Each function adds a block to arrays that are given by name, in place. The fast path has twins of them.


@accelerated
def count_responses(
    peak: Float32[Array, "stimulus unit"],
    trough: Float32[Array, "stimulus unit"],
    positive_positions: Float32[Array, "stimulus unit"],
    counted: Bool[Array, "stimulus unit"],
    *,
    seen: Int64[Array, " unit"],
    positive: Int64[Array, " unit"],
    positions: Int64[Array, " unit"],
    highest: Float32[Array, " unit"],
    lowest: Float32[Array, " unit"],
) -> None:
    """Count the stimuli that counted, those with a positive response, and positive positions; update the extremes."""
    seen += counted.sum(0)
    positive += ((peak > 0) & counted).sum(0)
    # float32 holds the count of one map exactly (up to 2^24), but not the sum of a block; float64 does (up to 2^53).
    positions += np.where(counted, positive_positions, 0).sum(0, dtype=np.float64).astype(np.int64)
    np.maximum(highest, np.where(counted, peak, -np.inf).max(0), out=highest)
    np.minimum(lowest, np.where(counted, trough, np.inf).min(0), out=lowest)


@accelerated
def compute_moments(
    values: Float[Array, "stimulus unit"], counted: Bool[Array, "stimulus unit"]
) -> tuple[Int64[Array, " unit"], Float64[Array, " unit"], Float64[Array, " unit"]]:
    """Number, mean and sum of squared deviations of the counted values, stimulus after stimulus in float64."""
    # Two passes: E x^2 - (E x)^2 in one pass loses digits where the mean is large compared with the deviation.
    n = counted.sum(0)
    kept = np.where(counted, values, 0).astype(np.float64)
    mean = sum_in_order(kept) / np.maximum(n, 1)
    return n, mean, sum_in_order(np.where(counted, (kept - mean) ** 2, 0))


@accelerated
def count_in_bins(
    values: Float32[Array, "stimulus unit"], counted: Bool[Array, "stimulus unit"], count: Int64[Array, "unit bin"]
) -> None:
    """Count the values in the bins of `bin_edges`."""
    stimulus, unit = np.nonzero(counted)
    bins = np.searchsorted(bin_edges(), values[stimulus, unit], side="right")
    units, width = count.shape
    # Not `count[unit, bins] += 1`, which counts each pair (unit, bin) only once.
    count += np.bincount(unit * width + bins, minlength=units * width).reshape(units, width)


@accelerated
def sum_by_label(
    peak: Float32[Array, "stimulus unit"],
    trough: Float32[Array, "stimulus unit"],
    counted: Bool[Array, "stimulus unit"],
    label: Int64[Array, " stimulus"],
    *,
    peaks: Int64[Array, "label unit"],
    troughs: Int64[Array, "label unit"],
    rectified: Int64[Array, "label unit"],
    positive: Int32[Array, "label unit"],
) -> None:
    """Sum peaks, troughs and peaks above zero in fixed point, and count positive peaks; stimuli of label -1 are left
    out.
    """
    for one in np.unique(label[label >= 0]):
        of_label = label == one
        peaks[one] += to_fixed_point(np.where(counted, peak, 0)[of_label]).sum(0)
        troughs[one] += to_fixed_point(np.where(counted, trough, 0)[of_label]).sum(0)
        rectified[one] += to_fixed_point(np.where(counted, peak.clip(min=0), 0)[of_label]).sum(0)
        positive[one] += ((peak > 0) & counted)[of_label].sum(0, dtype=np.int32)


@accelerated
def add_fixed(values: Float32[Array, "unit row col"], total: Int64[Array, "unit row col"]) -> None:
    """Add real numbers to sums in fixed point."""
    total += to_fixed_point(values)


@accelerated
def insert_located(
    sign: int,
    responses: Float32[Array, "stimulus unit"],
    positions: Int32[Array, "stimulus unit"],
    *,
    first: int,
    cols: int,
    value: Float32[Array, "unit rank"],
    image: Int64[Array, "unit rank"],
    row: Int32[Array, "unit rank"],
    col: Int32[Array, "unit rank"],
) -> None:
    """Put a block's responses at flat `positions` (-1: none) of a lattice of `cols` columns into the lists where they
    are good enough.

    The images are numbered from `first` on, and are later than all that are held.
    """
    stimulus, unit = np.nonzero(positions >= 0)
    position = positions[stimulus, unit]
    held = Extremes(sign, value, image, row, col)
    held.insert(unit, responses[stimulus, unit], first + stimulus, position // cols, position % cols)


def sum_in_order(values: Float[Array, "stimulus unit"]) -> Float[Array, " unit"]:
    """The sum over stimuli, from the first to the last (numpy adds a single column in another order)."""
    return np.repeat(values, 2, axis=1).sum(0)[::2] if values.shape[1] == 1 else values.sum(0)


def to_fixed_point(values: Float[Array, ...]) -> Int[Array, ...]:
    """Real numbers in fixed point: 0.5 becomes 2^23. What is not finite becomes 0 (`Counts.not_finite` keeps account of
    these). A number that 64 bits cannot hold becomes the nearest one that they can.
    """
    steps = np.rint(np.nan_to_num(values.astype(np.float64), nan=0, posinf=0, neginf=0) * POINT)
    # Not 2^63 - 1: in float64 that is 2^63, which does not fit into int64.
    return steps.clip(-(2.0**63), LARGEST_INT64).astype(np.int64)


def rank_within(sorted_groups: Int[Array, " n"]) -> Int[Array, " n"]:
    """For each element its place within its run of equal values: [7 7 7 9 9] gives [0 1 2 0 1]."""
    index = np.arange(len(sorted_groups))
    starts = np.flatnonzero(np.r_[True, sorted_groups[1:] != sorted_groups[:-1]]) if len(index) else index
    lengths = np.diff(np.r_[starts, len(index)])
    return index - np.repeat(starts, lengths)
