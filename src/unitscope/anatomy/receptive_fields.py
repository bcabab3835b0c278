"""From maps to fields: the size, stride and start of a site's neurons, and the exact bounds of each."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from unitscope.anatomy.maps import NO_RULE, NOTHING, Map, Seen, step_along
from unitscope.vocabulary import Bounds, ReceptiveField, Size

Layout = tuple[int, Size]
"""The axis of channels and the lattice of a value."""


def layout(seen: Seen) -> Layout | None:
    """Where the channels of a value are and what its lattice is; None for what has no stimulus or no channel axis.

    A value [stimulus channel row col], [stimulus row col channel], [stimulus token channel], [stimulus channel token] or
    [stimulus channel] has them. Tokens that are a whole lattice, row by row, keep its rows and columns.
    """
    ndim = len(seen.shape)
    if ndim not in (2, 3, 4) or 0 in seen.shape or seen.label(0) != "stimulus" or sum(s > 1 for _, s in seen.dims[0]) > 1:
        return None
    if ndim == 2:
        return 1, (1, 1)
    channels = [dim for dim in range(1, ndim) if seen.label(dim) == "channel"]
    if len(channels) > 1:
        channels = [dim for dim in channels if seen.shape[dim] > 1] or channels[:1]
    if not channels:  # one channel whose axis was lost on the way
        channels = [dim for dim in (1, ndim - 1) if seen.shape[dim] == 1 and not seen.dims[dim]][:1]
    if len(channels) != 1:
        return None
    places = [dim for dim in range(1, ndim) if dim != channels[0]]
    if ndim == 4:
        return channels[0], (seen.shape[places[0]], seen.shape[places[1]])
    return channels[0], lattice_of(seen.dims[places[0]], seen.shape[places[0]])


def lattice_of(factors: tuple[tuple[str, int], ...], size: int) -> Size:
    if [name for name, _ in factors] == ["row", "col"] and factors[0][1] * factors[1][1] == size:
        return factors[0][1], factors[1][1]
    return size, 1


def on_lattice(array: Map, seen: Seen, axis: int, lattice: Size) -> Map:
    """A map as [layer unit row col], of one stimulus."""
    array = array[:, :1]
    if array.ndim == 3:
        return array.reshape(4, array.shape[2], 1, 1)
    array = np.moveaxis(array, axis + 1, 2)
    if array.ndim == 5:
        return array
    if array.shape[3] == 1:
        return array[:, 0, :, :, None]
    return array[:, 0].reshape(4, array.shape[2], *lattice)


def lattice_maps(seen: Seen, axis: int, lattice: Size) -> tuple[Map, Map]:
    """Maps of rows and columns as [layer unit row col], as small as they are simple."""
    maps = [on_lattice(array, seen, axis, lattice) for array in seen.maps]
    return tuple(shrunk(array[:, 0] if array.ndim == 5 else array) for array in maps)  # type: ignore[return-value]


def shrunk(array: Map) -> Map:
    for axis in (1, 2, 3):
        if array.shape[axis] > 1 and (array == array.take([0], axis)).all():
            array = array.take([0], axis)
    return array


def bounds_of(rows: Map, cols: Map, picture: Size, *, unknown: bool) -> Bounds:
    """Exact bounds [unit row col] on the picture, half-open; what sees nothing has an empty box at the origin."""
    if unknown:
        zero = np.zeros((1, 1, 1), np.int32)
        return Bounds(zero, zero, zero + picture[0], zero + picture[1])
    blind_rows, blind_cols = rows[0] >= NOTHING, cols[0] >= NOTHING
    top, bottom, left, right = rows[0], 1 - rows[1], cols[0], 1 - cols[1]
    if blind_rows.any() or blind_cols.any():
        blind = blind_rows | blind_cols
        top, left, bottom, right = (np.where(blind, 0, side).astype(np.int32) for side in (top, left, bottom, right))
    return Bounds(top, left, bottom, right)


def fields_of(
    seen: Seen, rows: Map, cols: Map, lattice: Size, picture: Size
) -> tuple[tuple[ReceptiveField, ...], tuple[int, ...]]:
    """The different fields of a site's channels, and for each channel the index of its field (empty where all share one)."""
    channels = max(rows.shape[1], cols.shape[1])
    if channels == 1:
        return (field_of(seen, rows, cols, lattice, picture),), ()
    both = [np.broadcast_to(array, (4, channels, *array.shape[2:])) for array in (rows, cols)]
    table = np.concatenate([array.transpose(1, 0, 2, 3).reshape(channels, -1) for array in both], axis=1)
    _, first, groups = np.unique(table, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))
    chosen = np.sort(first)
    fields = [field_of(seen, both[0][:, c : c + 1], both[1][:, c : c + 1], lattice, picture) for c in chosen]
    if len(fields) == 1:
        return (fields[0],), ()
    return tuple(fields), tuple(int(order[group]) for group in groups.reshape(-1))


def field_of(seen: Seen, rows: Map, cols: Map, lattice: Size, picture: Size) -> ReceptiveField:
    """The field of one channel (maps [layer 1 row col])."""
    if seen.unknown:
        return ReceptiveField(picture, (0, 0), (0, 0), "unknown", "no rule for " + listed(seen.unknown))
    row = along(rows, 2, lattice[0], picture[0], seen.steps[0])
    col = along(cols, 3, lattice[1], picture[1], seen.steps[1])
    (height, down, top, row_fits), (width, right, left, col_fits) = row, col
    shape = (height, width), (down, right), (top, left)
    if (height, width) == picture and (down, right) == (0, 0) and (top, left) == (0, 0) and seen.lost:
        return ReceptiveField(*shape, "whole image", listed(seen.lost))
    if seen.bounded:
        return ReceptiveField(*shape, "upper bound", listed(seen.bounded))
    if not (row_fits and col_fits):
        return ReceptiveField(
            *shape, "upper bound", f"{listed(seen.lost) or 'rearrangement'}: fields differ along the lattice"
        )
    return ReceptiveField(*shape, "exact", "")


def along(array: Map, axis: int, count: int, extent: int, step: int | None) -> tuple[int, int, int, bool]:
    """Size, stride and start along one dimension, and whether they hold for every neuron (after clipping)."""
    exact, rule = array[:2], array[2:]
    live = exact[0] < NOTHING
    if not live.any():
        return 0, 0, 0, True
    other = 5 - axis
    if (rule > NO_RULE).all() and rule.shape[other] == 1:
        stride = step_along(rule, axis) if rule.shape[axis] > 1 else (step or 0) if count == 1 else 0
        if stride is not None:
            seeing = rule[0] < NOTHING
            if seeing.any():
                first, last = int(rule[0][seeing].flat[0]), -int(rule[1][seeing].flat[0])
                return last - first + 1, stride, first, True
    first, last = exact[0][live], -exact[1][live]
    if (first == first[0]).all() and (last == last[0]).all():
        return int(last[0] - first[0]) + 1, 0, int(first[0]), True
    return fitted(exact, live, axis, count, extent, step)


def fitted(
    exact: Map, live: NDArray[np.bool_], axis: int, count: int, extent: int, step: int | None
) -> tuple[int, int, int, bool]:
    """The smallest even rule that contains every neuron's field."""
    constant = exact.shape[axis] == 1
    stride = 0 if constant else step or round(extent / count)
    at = np.arange(exact.shape[axis]).reshape([-1 if i == axis - 1 else 1 for i in range(3)]) * stride
    low = int((exact[0] - at)[live].min())
    high = int((-exact[1] - at)[live].max())
    return high - low + 1, stride, low, False


def listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(name.replace("_", " ").strip() for name in names))
