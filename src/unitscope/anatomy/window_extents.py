"""What windows see that slide along a dimension, and where the rule of a lattice goes on beyond its ends.

Problem: at the border of a map a window is cut off, so that a neuron there sees less than its neighbors. Yet all share
one field: one size, and one distance from neighbor to neighbor.

Idea: two maps. The exact one takes the hull over those taps that lie on the lattice. The rule is continued beyond both
ends of the lattice by the step between neighbors, so that a border neuron gets the window that it would have there.

    taps of row 0, three rows, padding 1:     -1  0  1
    exact                                         0..1      what lies on the map
    rule                                      -1 ..  1      as if the map went on
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from unitscope.anatomy.extent_maps import (
    NO_RULE,
    NOTHING,
    Extent,
    Map,
    change_maps,
    drop_rule,
    full_map,
    keep_rule_where_equal,
    relabel_dim,
    resize_dim,
)


def accumulate_extent(extent: Extent, dim: int, *, backwards: bool, why: str) -> Extent:
    """Each element along one dimension sees itself and all before it (running sums, recurrent layers)."""
    dim %= len(extent.shape)
    extent = keep_rule_where_equal(extent)

    def running(array: Map) -> Map:
        if array.shape[dim + 1] == 1:
            return array
        array = np.flip(array, dim + 1) if backwards else array
        array = np.minimum.accumulate(array, axis=dim + 1)
        return np.flip(array, dim + 1) if backwards else array

    moving = any(rule.shape[dim + 1] > 1 for rule in extent.rules)
    extent = drop_rule(extent, why) if moving else extent
    return replace(extent, maps=(running(extent.maps[0]), running(extent.maps[1])))


@dataclass(frozen=True, slots=True)
class Window:
    """How an operation reads along one dimension: taps, stride, padding before, dilation, and how many positions come
    out.
    """

    taps: int
    stride: int
    before: int
    dilation: int
    out: int

    def positions(self) -> NDArray[np.int64]:
        """Input position of each tap of each output position: [out taps]."""
        return np.arange(self.out)[:, None] * self.stride - self.before + np.arange(self.taps)[None, :] * self.dilation


def slide_window(extent: Extent, dim: int, window: Window, *, why: str) -> Extent:
    """What a window sliding along one dimension sees (convolution, pooling)."""
    dim %= len(extent.shape)
    size = extent.shape[dim]
    lost = set(extent.lost)
    own = ("row", "col").index(extent.label(dim)) if extent.label(dim) in ("row", "col") else -1
    positions = window.positions()
    inside = (positions >= 0) & (positions < size)

    def continued(kind: int) -> Map:
        # One row further along the axis of rows, a window begins one step lower, and no column further right: step 0.
        # How far tokens are apart is not known.
        step = extent.steps[kind] if kind == own else 0 if extent.label(dim) in ("row", "col", "channel") else None
        rule = slide_rule(extent.rules[kind], dim, size, window, step)
        if rule is None:
            lost.add(why)
        return full_map(extent.shape, NO_RULE) if rule is None else rule

    rows, cols = (gather_windows(array, dim, positions, inside) for array in extent.maps)
    rules = (continued(0), continued(1))
    steps = tuple(
        step if kind != own or step is None else step * window.stride for kind, step in enumerate(extent.steps)
    )
    shape = (*extent.shape[:dim], window.out, *extent.shape[dim + 1 :])
    dims = resize_dim(extent.dims, dim, window.out)
    return Extent(shape, (rows, cols), rules, dims, steps, frozenset(lost), extent.bounded, extent.unknown)  # type: ignore[arg-type]


def gather_windows(exact: Map, dim: int, positions: NDArray[np.int64], inside: NDArray[np.bool_]) -> Map:
    """A map reduced over the taps that lie on the lattice."""
    axis = dim + 1
    if exact.shape[axis] == 1:
        # The same everywhere: a window sees that, too, unless all its taps lie off the lattice.
        if inside.any(1).all():
            return exact
        blind = np.asarray(~inside.any(1))
        shape = [1] * exact.ndim
        shape[axis] = blind.size
        return np.where(blind.reshape(shape), NOTHING, exact).astype(np.int32)
    # One more place, which sees nothing, for all taps off the lattice.
    bordered = np.concatenate([exact, np.full_like(exact.take([0], axis), NOTHING)], axis)
    places = np.where(inside, positions, exact.shape[axis])
    result = bordered.take(places[:, 0], axis)
    for tap in range(1, places.shape[1]):
        result = np.minimum(result, bordered.take(places[:, tap], axis))
    return result


def slide_rule(rule: Map, dim: int, size: int, window: Window, step: int | None) -> Map | None:
    """The rule after a window: the line of the lattice, continued beyond its ends; None where there is no line.

    `step` is the known distance between neighbors, which a lattice of one position cannot show.
    """
    axis = dim + 1
    if (rule == NO_RULE).all():
        return full_map(rule.shape[1:], NO_RULE)
    if (rule == NO_RULE).any():
        return None
    # A rule of length 1 along a longer lattice does not change along it.
    if rule.shape[axis] > 1:
        step = step_along(rule, axis)
    elif size > 1:
        step = 0
    if step is None:
        # A single position that stays where it is needs no step.
        if window.taps == window.stride == window.out == 1 and window.before == 0:
            return rule
        return None
    if step == 0:
        return rule.take([0], axis)
    ends = window.positions()[:, [0, -1]] * step  # a lattice may run backwards
    first, last = ends.min(1), ends.max(1)
    shape = [1] * rule.ndim
    shape[axis] = window.out
    base = rule.take([0], axis)
    # Maps hold the last position negated.
    placed = base + np.stack([first, -last]).reshape(2, *shape[1:])
    return np.where(base >= NOTHING, NOTHING, placed).astype(np.int32)


def step_along(rule: Map, axis: int) -> int | None:
    """The one distance at which all rules move along an axis, or None."""
    live = rule[0] < NOTHING
    alive = live.all(axis=axis - 1, keepdims=True)
    if (live.any(axis=axis - 1, keepdims=True) != alive).any():
        return None
    # Maps hold the last position negated, and so its step.
    steps = np.diff(rule, axis=axis) * np.array([1, -1], rule.dtype).reshape(2, *(1 for _ in rule.shape[1:]))
    chosen = steps[:, np.broadcast_to(alive, steps.shape[1:])]
    if chosen.size == 0:
        return 0
    return int(chosen.flat[0]) if (chosen == chosen.flat[0]).all() else None


def take_ranges(
    extent: Extent, dim: int, first: NDArray[np.int64], last: NDArray[np.int64], *, why: str, step: int | None = None
) -> Extent:
    """What an operation sees that reads positions first[o] ... last[o] for each output position o along one dimension.

    The rule is lost (adaptive pooling, interpolation), except where nothing changes along the dimension.
    """
    dim %= len(extent.shape)
    size, out = extent.shape[dim], len(first)
    taps = int((last - first).max()) + 1
    positions = first[:, None] + np.arange(taps)
    inside = (positions <= last[:, None]) & (positions >= 0) & (positions < size)
    lost = set(extent.lost)
    own = ("row", "col").index(extent.label(dim)) if extent.label(dim) in ("row", "col") else -1

    def kept(rule: Map) -> Map:
        if rule.shape[dim + 1] == 1:
            return rule
        lost.add(why)
        return full_map(extent.shape, NO_RULE)

    extent = keep_rule_where_equal(extent)
    rows, cols = (gather_windows(array, dim, positions, inside) for array in extent.maps)
    rules = (kept(extent.rules[0]), kept(extent.rules[1]))
    shape = (*extent.shape[:dim], out, *extent.shape[dim + 1 :])
    steps = tuple(step if kind == own else old for kind, old in enumerate(extent.steps))
    dims = resize_dim(extent.dims, dim, out)
    return Extent(shape, (rows, cols), rules, dims, steps, frozenset(lost), extent.bounded, extent.unknown)  # type: ignore[arg-type]


def pad_extent(extent: Extent, dim: int, before: int, after: int) -> Extent:
    """Constant padding: what is added sees nothing, and the rule goes on. Negative numbers crop."""
    dim %= len(extent.shape)
    out = extent.shape[dim] + before + after
    return slide_window(extent, dim, Window(1, 1, before, 1, out), why="pad")


def mix_channels(extent: Extent, dim: int, *, groups: int, out: int) -> Extent:
    """Each of the `out` channels reads all channels of its group."""
    dim %= len(extent.shape)
    extent = keep_rule_where_equal(extent)
    if not extent.channels_only(dim) and any(rule.shape[dim + 1] > 1 for rule in extent.rules):
        extent = drop_rule(extent, "flatten")

    def change(array: Map) -> Map:
        axis = dim + 1
        channels = array.shape[axis]
        if channels == 1:
            return array
        if groups == 1:
            return array.min(axis=axis, keepdims=True)
        split = array.reshape(*array.shape[:axis], groups, channels // groups, *array.shape[axis + 1 :])
        return np.repeat(split.min(axis=axis + 1), out // groups, axis=axis)

    shape = (*extent.shape[:dim], out, *extent.shape[dim + 1 :])
    extent = change_maps(extent, change, shape=shape)
    return relabel_dim(extent, dim, "channel")
