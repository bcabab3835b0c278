"""What windows see that slide along a dimension, and where the rule of a lattice goes on beyond its ends."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from unitscope.anatomy.maps import (
    NO_RULE,
    NOTHING,
    Map,
    Seen,
    agree,
    each,
    filled,
    relabeled,
    resized,
    without_rule,
)


def accumulated(seen: Seen, dim: int, *, backwards: bool, why: str) -> Seen:
    """Each element along one dimension sees itself and all before it (running sums, recurrent layers)."""
    dim %= len(seen.shape)
    seen = agree(seen)

    def running(array: Map) -> Map:
        if array.shape[dim + 1] == 1:
            return array
        array = np.flip(array, dim + 1) if backwards else array
        array = np.minimum.accumulate(array, axis=dim + 1)
        return np.flip(array, dim + 1) if backwards else array

    moved = any(rule.shape[dim + 1] > 1 for rule in seen.rules)
    seen = without_rule(seen, why) if moved else seen
    return replace(seen, maps=(running(seen.maps[0]), running(seen.maps[1])))


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


def slid(seen: Seen, dim: int, window: Window, *, why: str) -> Seen:
    """What a window sliding along one dimension sees (convolution, pooling)."""
    dim %= len(seen.shape)
    size = seen.shape[dim]
    lost = set(seen.lost)
    own = ("row", "col").index(seen.label(dim)) if seen.label(dim) in ("row", "col") else -1
    positions = window.positions()
    inside = (positions >= 0) & (positions < size)

    def continued(kind: int) -> Map:
        step = seen.steps[kind] if kind == own else 0 if seen.label(dim) in ("row", "col", "channel") else None
        rule = slid_rule(seen.rules[kind], dim, size, window, step)
        if rule is None:
            lost.add(why)
        return filled(seen.shape, NO_RULE) if rule is None else rule

    rows, cols = (gathered_windows(array, dim, positions, inside) for array in seen.maps)
    rules = (continued(0), continued(1))
    steps = tuple(step if kind != own or step is None else step * window.stride for kind, step in enumerate(seen.steps))
    shape = (*seen.shape[:dim], window.out, *seen.shape[dim + 1 :])
    dims = resized(seen.dims, dim, window.out)
    return Seen(shape, (rows, cols), rules, dims, steps, frozenset(lost), seen.bounded, seen.unknown)  # type: ignore[arg-type]


def gathered_windows(exact: Map, dim: int, positions: NDArray[np.int64], inside: NDArray[np.bool_]) -> Map:
    """A map reduced over the taps that lie on the lattice."""
    axis = dim + 1
    if exact.shape[axis] == 1:
        if inside.any(1).all():
            return exact
        blind = np.asarray(~inside.any(1))
        shape = [1] * exact.ndim
        shape[axis] = blind.size
        return np.where(blind.reshape(shape), NOTHING, exact).astype(np.int32)
    padded = np.concatenate([exact, np.full_like(exact.take([0], axis), NOTHING)], axis)
    places = np.where(inside, positions, exact.shape[axis])
    result = padded.take(places[:, 0], axis)
    for tap in range(1, places.shape[1]):
        result = np.minimum(result, padded.take(places[:, tap], axis))
    return result


def slid_rule(rule: Map, dim: int, size: int, window: Window, step: int | None) -> Map | None:
    """The rule after a window: the line of the lattice, continued beyond its ends; None where there is no line.

    `step` is the known distance between neighbors, which a lattice of one position cannot show.
    """
    axis = dim + 1
    if (rule == NO_RULE).all():
        return filled(rule.shape[1:], NO_RULE)
    if (rule == NO_RULE).any():
        return None
    if rule.shape[axis] > 1:
        step = step_along(rule, axis)
    elif size > 1:
        step = 0
    if step is None:
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
    moved = base + np.stack([first, -last]).reshape(2, *shape[1:])
    return np.where(base >= NOTHING, NOTHING, moved).astype(np.int32)


def step_along(rule: Map, axis: int) -> int | None:
    """The one distance at which all rules move along an axis, or None."""
    live = rule[0] < NOTHING
    alive = live.all(axis=axis - 1, keepdims=True)
    if (live.any(axis=axis - 1, keepdims=True) != alive).any():
        return None
    steps = np.diff(rule, axis=axis) * np.array([1, -1], rule.dtype).reshape(2, *(1 for _ in rule.shape[1:]))
    chosen = steps[:, np.broadcast_to(alive, steps.shape[1:])]
    if chosen.size == 0:
        return 0
    return int(chosen.flat[0]) if (chosen == chosen.flat[0]).all() else None


def ranged(
    seen: Seen, dim: int, first: NDArray[np.int64], last: NDArray[np.int64], *, why: str, step: int | None = None
) -> Seen:
    """What an operation sees that reads positions first[o] ... last[o] for each output position o along one dimension.

    No rule is left of it (adaptive pooling, interpolation), save where nothing changes along the dimension.
    """
    dim %= len(seen.shape)
    size, out = seen.shape[dim], len(first)
    taps = int((last - first).max()) + 1
    positions = first[:, None] + np.arange(taps)
    inside = (positions <= last[:, None]) & (positions >= 0) & (positions < size)
    lost = set(seen.lost)
    own = ("row", "col").index(seen.label(dim)) if seen.label(dim) in ("row", "col") else -1

    def kept(rule: Map) -> Map:
        if rule.shape[dim + 1] == 1:
            return rule
        lost.add(why)
        return filled(seen.shape, NO_RULE)

    seen = agree(seen)
    rows, cols = (gathered_windows(array, dim, positions, inside) for array in seen.maps)
    rules = (kept(seen.rules[0]), kept(seen.rules[1]))
    shape = (*seen.shape[:dim], out, *seen.shape[dim + 1 :])
    steps = tuple(step if kind == own else old for kind, old in enumerate(seen.steps))
    dims = resized(seen.dims, dim, out)
    return Seen(shape, (rows, cols), rules, dims, steps, frozenset(lost), seen.bounded, seen.unknown)  # type: ignore[arg-type]


def padded(seen: Seen, dim: int, before: int, after: int) -> Seen:
    """Constant padding: what is added sees nothing, and the rule goes on. Negative numbers crop."""
    dim %= len(seen.shape)
    out = seen.shape[dim] + before + after
    return slid(seen, dim, Window(1, 1, before, 1, out), why="pad")


def channels_mixed(seen: Seen, dim: int, *, groups: int, out: int) -> Seen:
    """Each of the `out` channels reads all channels of its group."""
    dim %= len(seen.shape)
    seen = agree(seen)
    if not seen.channels_only(dim) and any(rule.shape[dim + 1] > 1 for rule in seen.rules):
        seen = without_rule(seen, "flatten")

    def change(array: Map) -> Map:
        axis = dim + 1
        channels = array.shape[axis]
        if channels == 1:
            return array
        if groups == 1:
            return array.min(axis=axis, keepdims=True)
        split = array.reshape(*array.shape[:axis], groups, channels // groups, *array.shape[axis + 1 :])
        return np.repeat(split.min(axis=axis + 1), out // groups, axis=axis)

    shape = (*seen.shape[:dim], out, *seen.shape[dim + 1 :])
    seen = each(seen, change, shape=shape)
    return relabeled(seen, dim, "channel")
