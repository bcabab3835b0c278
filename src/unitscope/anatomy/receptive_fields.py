"""From maps to fields: the size, stride and start of a site's neurons, and the exact bounds of each.

Problem: the maps of a value (extent_maps.py) hold two numbers for each element, and a field is a line: neuron n sees
the rows start + n stride to start + n stride + size - 1.

Idea: the exact maps are the bounds. The line is read off the rules, which go on beyond the picture's edges. Where no
rule is left, the line is the smallest one that contains all neurons, and is called an upper bound.

    rows -1..1, 1..3, 3..5, 5..7         size 3, stride 2, start -1
    bounds on a picture of 7 rows        0..1, 1..3, 3..5, 5..6
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unitscope.anatomy.extent_maps import NO_RULE, NOTHING, Extent, Map
from unitscope.anatomy.window_extents import step_along
from unitscope.vocabulary import Bounds, ReceptiveField, Size

Layout = tuple[int, Size]
"""The axis of channels and the lattice of a value."""


def layout(extent: Extent, stimuli: int) -> Layout | None:
    """Where the channels of a value are and what its lattice is; None for what has no stimulus or no channel axis.

    The first axis has as many rows as `stimuli` were shown: where a network joins or cuts the pictures of a batch
    (`torch.cat([x, x.flip(3)])`, `x.chunk(2)`) nothing says which row belongs to which stimulus.

    A value [stimulus channel row col], [stimulus row col channel], [stimulus token channel], [stimulus channel token]
    or [stimulus channel] has them. Tokens that are a whole lattice, row by row, keep its rows and columns.
    """
    ndim = len(extent.shape)
    if (
        ndim not in (2, 3, 4)
        or 0 in extent.shape
        or extent.label(0) != "stimulus"
        or extent.shape[0] != stimuli
        # The first axis holds something besides the stimuli, as after `x.flatten(0, 1)`.
        or sum(s > 1 for _, s in extent.dims[0]) > 1
        or any(extent.label(dim) == "stimulus" and extent.shape[dim] > 1 for dim in range(1, ndim))
    ):
        return None
    if ndim == 2:
        return 1, (1, 1)
    channels = [dim for dim in range(1, ndim) if extent.label(dim) == "channel"]
    if len(channels) > 1:
        channels = [dim for dim in channels if extent.shape[dim] > 1] or channels[:1]
    if not channels:  # one channel whose axis was lost on the way, or the only axis of which nothing is known
        channels = [dim for dim in (1, ndim - 1) if extent.shape[dim] == 1 and not extent.dims[dim]][:1]
        channels = channels or [dim for dim in range(1, ndim) if not extent.dims[dim]]
    if len(channels) != 1:
        return None
    places = [dim for dim in range(1, ndim) if dim != channels[0]]
    if ndim == 4:
        return channels[0], (extent.shape[places[0]], extent.shape[places[1]])
    return channels[0], lattice_of(extent.dims[places[0]], extent.shape[places[0]])


def lattice_of(factors: tuple[tuple[str, int], ...], size: int) -> Size:
    if [name for name, _ in factors] == ["row", "col"] and factors[0][1] * factors[1][1] == size:
        return factors[0][1], factors[1][1]
    return size, 1


class OnLattice(NamedTuple):
    """The maps and rules of rows and columns as [side unit row col], as small as they are simple."""

    rows: Map
    cols: Map
    row_rule: Map
    col_rule: Map

    @classmethod
    def of(cls, extent: Extent, axis: int, lattice: Size) -> OnLattice:
        return cls(*(put_on_lattice(array, axis, lattice) for array in (*extent.maps, *extent.rules)))

    def channel(self, channel: int) -> OnLattice:
        return OnLattice(*(array[:, channel : channel + 1] if array.shape[1] > 1 else array for array in self))


def put_on_lattice(array: Map, axis: int, lattice: Size) -> Map:
    """A map [side stimulus ...] as [side unit row col], the hull over stimuli."""
    # Both halves of a map (first, and last negated) are joined by their minimum.
    array = np.moveaxis(array.min(axis=1), axis, 1)
    if array.ndim == 2:
        array = array[:, :, None, None]
    elif array.ndim == 3:
        array = array[..., None] if array.shape[2] == 1 else array.reshape(2, array.shape[1], *lattice)
    return shrink_map(array)


def shrink_map(array: Map) -> Map:
    for axis in (1, 2, 3):
        if array.shape[axis] > 1 and (array == array.take([0], axis)).all():
            array = array.take([0], axis)
    return array


def bounds_of(maps: OnLattice, picture: Size, *, unknown: bool) -> Bounds:
    """Exact bounds [unit row col] on the picture, half-open; what sees nothing has an empty box at the origin."""
    if unknown:
        return everything(picture)
    # Maps hold the last position negated: its bound, which is excluded, is 1 - (-last).
    sides = (maps.rows[0], maps.cols[0], 1 - maps.rows[1], 1 - maps.cols[1])
    blind = (maps.rows[0] >= NOTHING) | (maps.cols[0] >= NOTHING)
    if blind.any():
        return Bounds(*(np.where(blind, 0, side).astype(np.int32) for side in sides))
    return Bounds(*sides)


def everything(picture: Size) -> Bounds:
    """The bounds of neurons of which nothing less than the whole picture can be claimed."""
    zero = np.zeros((1, 1, 1), np.int32)
    return Bounds(zero, zero, zero + np.int32(picture[0]), zero + np.int32(picture[1]))


def fields_of(
    extent: Extent, maps: OnLattice, lattice: Size, picture: Size
) -> tuple[tuple[ReceptiveField, ...], tuple[int, ...]]:
    """The different fields of a site's channels, and for each channel the index of its field (empty where all share
    one).
    """
    channels = max(array.shape[1] for array in maps)
    if channels == 1:
        return (field_of(extent, maps, lattice, picture),), ()
    tables = [np.broadcast_to(a, (2, channels, *a.shape[2:])).swapaxes(0, 1).reshape(channels, -1) for a in maps]
    # Of thousands of channels few see different things: fields are made once for each different row of the table.
    kinds: dict[bytes, int] = {}
    groups = [kinds.setdefault(row.tobytes(), len(kinds)) for row in np.concatenate(tables, axis=1)]
    chosen = [groups.index(kind) for kind in range(len(kinds))]
    fields = [field_of(extent, maps.channel(channel), lattice, picture) for channel in chosen]
    return merge_fields(fields, groups)


def merge_fields(fields: list[ReceptiveField], groups: list[int]) -> tuple[tuple[ReceptiveField, ...], tuple[int, ...]]:
    """Equal fields are one field."""
    different = list(dict.fromkeys(fields))
    if len(different) == 1:
        return (fields[0],), ()
    number = [different.index(field) for field in fields]
    return tuple(different), tuple(number[group] for group in groups)


def field_of(extent: Extent, maps: OnLattice, lattice: Size, picture: Size) -> ReceptiveField:
    """The field of one channel."""
    if extent.unknown:
        return ReceptiveField(picture, (0, 0), (0, 0), "unknown", "no rule for " + list_names(extent.unknown))
    row = along(maps.rows, maps.row_rule, 0, lattice, picture, extent.steps)
    col = along(maps.cols, maps.col_rule, 1, lattice, picture, extent.steps)
    size, stride, start = (row.size, col.size), (row.stride, col.stride), (row.start, col.start)
    if extent.bounded:
        return ReceptiveField(size, stride, start, "upper bound", list_names(extent.bounded))
    if not (row.fits and col.fits):
        cause = f"{list_names(extent.lost) or 'rearrangement'}: fields differ along the lattice"
        return ReceptiveField(size, stride, start, "upper bound", cause)
    if (size, stride, start) == (picture, (0, 0), (0, 0)) and extent.lost:
        return ReceptiveField(size, stride, start, "whole image", list_names(extent.lost))
    return ReceptiveField(size, stride, start)


class Line(NamedTuple):
    """Size, stride and start along rows or columns, and whether they fit every neuron."""

    size: int
    stride: int
    start: int
    fits: bool


def along(exact: Map, rule: Map, kind: int, lattice: Size, picture: Size, steps: tuple[int | None, int | None]) -> Line:
    """The line along rows (kind 0) or columns (kind 1) of one channel's maps [side 1 row col]."""
    axis, other, count, step = 2 + kind, 3 - kind, lattice[kind], steps[kind]
    live = exact[0] < NOTHING
    if not live.any():
        return Line(0, 0, 0, True)
    seeing = rule[0] < NOTHING
    # A line along rows needs a rule that is the same for all columns.
    if (rule > NO_RULE).all() and rule.shape[other] == 1 and seeing.any():
        # On a lattice of one position no neighbor shows the stride; `steps` has kept it.
        stride = step_along(rule, axis) if rule.shape[axis] > 1 else (step or 0) if count == 1 else 0
        if stride is not None:
            first, last = int(rule[0][seeing].flat[0]), -int(rule[1][seeing].flat[0])
            return Line(last - first + 1, stride, first, True)
    first, last = exact[0][live], -exact[1][live]
    # All neurons see the same, as behind a mean over the map: stride 0.
    if (first == first[0]).all() and (last == last[0]).all():
        return Line(int(last[0] - first[0]) + 1, 0, int(first[0]), True)
    # Without a known step: that of a lattice spread evenly over the picture.
    line = fit_line(exact, live, axis, step or round(picture[kind] / count))
    # A bound as large as the picture says nothing of the place.
    return line if line.size < picture[kind] else Line(picture[kind], 0, 0, False)


def fit_line(exact: Map, live: NDArray[np.bool_], axis: int, stride: int) -> Line:
    """The smallest even line that contains every neuron's field."""
    stride = stride if exact.shape[axis] > 1 else 0
    at = np.arange(exact.shape[axis]).reshape([-1 if i == axis - 1 else 1 for i in range(3)]) * stride
    low = int((exact[0] - at)[live].min())
    high = int((-exact[1] - at)[live].max())
    return Line(high - low + 1, stride, low, False)


def list_names(names: Iterable[str]) -> str:
    return ", ".join(sorted(name.replace("_", " ").strip() for name in names))
