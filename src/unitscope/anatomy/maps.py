"""Maps: for each element of a tensor, the first and the last picture row and column that it can see.

A map is an int32 array [2, *shape] of (first, -last); because the last one is negated, the hull of two maps is their
elementwise minimum. `maps` are exact on the picture: borders count at every operation. `rules` say where the element
would look if neither the picture nor any lattice ended anywhere; fields are read off them, and they become `NO_RULE`
for good where neurons do not look through equal windows at equal distances. Elements that see nothing (padding,
constants) hold `NOTHING`. A dimension along which nothing changes has length 1, so that the maps of an ordinary network
are a few numbers per site.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

NOTHING = 1 << 28
NO_RULE = -(1 << 28)

Map = NDArray[np.int32]
Factors = tuple[tuple[str, int], ...]
"""What a dimension is made of, outermost first: ("stimulus", 2), ("row", 56), ... A view multiplies and divides
them.
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the elements of one tensor can see: maps of rows and columns, and the meaning of the tensor's dimensions.

    `steps` are the distances, in picture rows and columns, between neighbors on the lattice (None where unknown).
    `lost` names the operations at which the rule was lost, `bounded` those for which only an upper bound is known,
    `unknown` those of which nothing is.
    """

    shape: tuple[int, ...]
    maps: tuple[Map, Map]
    rules: tuple[Map, Map]
    dims: tuple[Factors, ...]
    steps: tuple[int | None, int | None]
    lost: frozenset[str] = frozenset()
    bounded: frozenset[str] = frozenset()
    unknown: frozenset[str] = frozenset()

    def label(self, dim: int) -> str:
        """ "stimulus", "channel", "row", "col", "token" (rows and columns in one), "mixed" or "" for a dimension."""
        return label_of(self.dims[dim])


def label_of(factors: Factors) -> str:
    names = [name for name, size in factors if size > 1] or [name for name, _ in factors]
    if not names:
        return ""
    kinds = set(names)
    if len(kinds) == 1:
        return names[0]
    if "stimulus" in kinds:
        return "mixed"
    if names[0] == "channel":
        return "channel"
    spatial = kinds - {"channel"}
    return spatial.pop() if len(spatial) == 1 else "token"


def origin(shape: tuple[int, ...], dims: tuple[Factors, ...], *, channel: int, lattice: tuple[int, int]) -> Seen:
    """The maps of a value in which every lattice position sees itself only.

    `channel` is the dimension of channels; the one or two others (but for the first, that of stimuli) make the lattice.
    """
    places = [dim for dim in range(1, len(shape)) if dim != channel]
    extent = [size if dim in places else 1 for dim, size in enumerate(shape)]
    rows, cols = (index.astype(np.int32).reshape(extent) for index in np.indices(lattice))
    maps = tuple(condensed(np.stack([index, -index])) for index in (rows, cols))
    return Seen(shape, maps, maps, dims, (1, 1))  # type: ignore[arg-type]


def nothing(shape: tuple[int, ...], dims: tuple[Factors, ...] | None = None) -> Seen:
    """The maps of a constant."""
    empty = filled(shape, NOTHING)
    return Seen(shape, (empty, empty), (empty, empty), dims or tuple(() for _ in shape), (None, None))


def filled(shape: Sequence[int], value: int) -> Map:
    """A map that is `value` everywhere on a tensor of this shape."""
    return np.full((2, *(1 for _ in shape)), value, np.int32)


def each(seen: Seen, change: Callable[[Map], Map], **facts: Any) -> Seen:
    """Apply `change` to all maps and rules alike."""
    maps = (change(seen.maps[0]), change(seen.maps[1]))
    rules = (change(seen.rules[0]), change(seen.rules[1]))
    return replace(seen, maps=maps, rules=rules, **facts)


def without_rule(seen: Seen, why: str) -> Seen:
    """Neurons no longer look through equal windows at equal distances."""
    none = filled(seen.shape, NO_RULE)
    return replace(seen, rules=(none, none), lost=seen.lost | {why})


# hulls


def hull(seens: Sequence[Seen]) -> Seen:
    """What elementwise operations see: broadcasting, the hull of all operands."""
    if len(seens) == 1:
        return seens[0]
    ndim = max(len(seen.shape) for seen in seens)
    seens = [agree(at_rank(seen, ndim)) for seen in seens]
    shape = tuple(max(sizes) if min(sizes) > 0 else 0 for sizes in zip(*(seen.shape for seen in seens), strict=True))
    maps = (least([seen.maps[0] for seen in seens]), least([seen.maps[1] for seen in seens]))
    rules = (settled(least([seen.rules[0] for seen in seens])), settled(least([seen.rules[1] for seen in seens])))
    dims = tuple(
        max((seen.dims[dim] for seen in seens if seen.shape[dim] == shape[dim]), key=len) for dim in range(ndim)
    )
    return Seen(shape, maps, rules, dims, common_steps(seens), *common_doubts(seens))


def least(arrays: Sequence[Map]) -> Map:
    result = arrays[0]
    for array in arrays[1:]:
        result = np.minimum(result, array)
    return result


def settled(rule: Map) -> Map:
    """A rule that is lost everywhere takes no room."""
    return filled(rule.shape[1:], NO_RULE) if rule.size > 2 and (rule == NO_RULE).all() else rule


def at_rank(seen: Seen, ndim: int) -> Seen:
    """With dimensions of length 1 put in front, as broadcasting does."""
    missing = ndim - len(seen.shape)
    if missing == 0:
        return seen
    ones = (1,) * missing
    return each(
        seen,
        lambda array: array.reshape(2, *ones, *array.shape[1:]),
        shape=ones + seen.shape,
        dims=((),) * missing + seen.dims,
    )


def agree(seen: Seen) -> Seen:
    """Where the rows or the columns see nothing the element sees nothing: make both maps say so."""
    rows, cols = seen.maps
    if max(rows[0].max(initial=0), cols[0].max(initial=0)) < NOTHING:
        return seen
    rowless, colless = np.broadcast_arrays(np.asarray(rows[0] >= NOTHING), np.asarray(cols[0] >= NOTHING))
    if (rowless == colless).all():
        return seen
    blind = rowless | colless

    rows, cols = (np.where(blind, NOTHING, array).astype(np.int32) for array in seen.maps)
    return replace(seen, maps=(rows, cols))


def common_steps(seens: Sequence[Seen]) -> tuple[int | None, int | None]:
    return tuple(next((seen.steps[kind] for seen in seens if seen.steps[kind] is not None), None) for kind in (0, 1))  # type: ignore[return-value]


def common_doubts(seens: Sequence[Seen]) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    none: frozenset[str] = frozenset()
    return (
        none.union(*(seen.lost for seen in seens)),
        none.union(*(seen.bounded for seen in seens)),
        none.union(*(seen.unknown for seen in seens)),
    )


def reduced(seen: Seen, dims: Sequence[int], *, keep: bool, why: str, spread: bool = False) -> Seen:
    """What a reduction over `dims` sees. With `spread` the result has the old shape (softmax, normalization)."""
    dims = sorted({dim % len(seen.shape) for dim in dims}) if seen.shape else []
    seen = agree(seen)
    lost = set(seen.lost)

    def shrunk(array: Map) -> Map:
        axes = tuple(dim + 1 for dim in dims if array.shape[dim + 1] > 1)
        return array.min(axis=axes, keepdims=True) if axes else array

    def shrunk_rule(rule: Map) -> Map:
        if not any(rule.shape[dim + 1] > 1 and seen.label(dim) != "channel" for dim in dims):
            return shrunk(rule)
        lost.add(why)
        return filled(seen.shape, NO_RULE)

    rules = (shrunk_rule(seen.rules[0]), shrunk_rule(seen.rules[1]))
    maps = (shrunk(seen.maps[0]), shrunk(seen.maps[1]))
    seen = replace(seen, maps=maps, rules=rules, lost=frozenset(lost))
    if spread:
        return seen
    seen = replace(
        seen,
        shape=tuple(1 if dim in dims else size for dim, size in enumerate(seen.shape)),
        dims=tuple(tuple((name, 1) for name, _ in f) if dim in dims else f for dim, f in enumerate(seen.dims)),
    )
    return seen if keep else squeezed(seen, dims)


def spread_over(seen: Seen, shape: tuple[int, ...], dims: tuple[Factors, ...]) -> Seen:
    """The same maps for a broadcast shape: what changes along no dimension has maps of length 1 there already."""
    seen = at_rank(seen, len(shape))
    dims = tuple(new or old for new, old in zip(dims or seen.dims, seen.dims, strict=True))
    return replace(seen, shape=shape, dims=dims)


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


# windows


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


def resized(dims: tuple[Factors, ...], dim: int, size: int) -> tuple[Factors, ...]:
    """The meaning of the dimensions after one of them changed its length."""
    label = label_of(dims[dim])
    return (*dims[:dim], ((label, size),) if label else (), *dims[dim + 1 :])


def relabeled(seen: Seen, dim: int, label: str) -> Seen:
    dim %= len(seen.shape)
    return replace(seen, dims=(*seen.dims[:dim], ((label, seen.shape[dim]),), *seen.dims[dim + 1 :]))


def channels_mixed(seen: Seen, dim: int, *, groups: int, out: int) -> Seen:
    """Each of the `out` channels reads all channels of its group."""
    dim %= len(seen.shape)
    seen = agree(seen)

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


# views


def permuted(seen: Seen, order: Sequence[int]) -> Seen:
    order = [dim % len(seen.shape) for dim in order]
    axes = (0, *(dim + 1 for dim in order))
    return each(
        seen,
        lambda array: array.transpose(axes),
        shape=tuple(seen.shape[dim] for dim in order),
        dims=tuple(seen.dims[dim] for dim in order),
    )


def squeezed(seen: Seen, dims: Sequence[int]) -> Seen:
    dims = [dim % len(seen.shape) for dim in dims]
    keep = [dim for dim in range(len(seen.shape)) if not (dim in dims and seen.shape[dim] == 1)]
    return each(
        seen,
        lambda array: array.reshape(2, *(array.shape[dim + 1] for dim in keep)),
        shape=tuple(seen.shape[dim] for dim in keep),
        dims=tuple(seen.dims[dim] for dim in keep),
    )


def unsqueezed(seen: Seen, dim: int) -> Seen:
    dim %= len(seen.shape) + 1
    return each(
        seen,
        lambda array: np.expand_dims(array, dim + 1),
        shape=(*seen.shape[:dim], 1, *seen.shape[dim:]),
        dims=(*seen.dims[:dim], (), *seen.dims[dim:]),
    )


def taken(seen: Seen, dim: int, places: NDArray[np.int64]) -> Seen:
    """The elements at `places` along one dimension: slices, flips, rolls, repeated indices."""
    dim %= len(seen.shape)
    shape = (*seen.shape[:dim], len(places), *seen.shape[dim + 1 :])
    return each(
        seen,
        lambda array: array if array.shape[dim + 1] == 1 else array.take(places, dim + 1),
        shape=shape,
        dims=resized(seen.dims, dim, len(places)),
    )


def expanded(seen: Seen, shape: tuple[int, ...]) -> Seen:
    """Broadcast to a larger shape; added dimensions have no meaning of their own."""
    seen = at_rank(seen, len(shape))
    dims = tuple(
        factors if old == new else ((label_of(factors) or "copy", new),)
        for factors, old, new in zip(seen.dims, seen.shape, shape, strict=True)
    )
    return replace(seen, shape=shape, dims=dims)


def joined(seens: Sequence[Seen], dim: int) -> Seen:
    """Concatenation along one dimension."""
    ndim = len(seens[0].shape)
    dim %= ndim
    total = sum(seen.shape[dim] for seen in seens)

    def along(arrays: Sequence[Map]) -> Map:
        return joined_maps([(array, seen.shape[dim]) for array, seen in zip(arrays, seens, strict=True)], dim + 1)

    maps = (along([seen.maps[0] for seen in seens]), along([seen.maps[1] for seen in seens]))
    rules = (along([seen.rules[0] for seen in seens]), along([seen.rules[1] for seen in seens]))
    named = max(seens, key=lambda seen: sum(len(factors) for factors in seen.dims))
    shape = (*named.shape[:dim], total, *named.shape[dim + 1 :])
    lost, bounded, unknown = common_doubts(seens)
    return Seen(shape, maps, rules, resized(named.dims, dim, total), common_steps(seens), lost, bounded, unknown)


def joined_maps(parts: Sequence[tuple[Map, int]], axis: int) -> Map:
    first = parts[0][0]
    if all(array.shape == first.shape and array.shape[axis] == 1 and (array == first).all() for array, _ in parts):
        return first
    shapes = [tuple(1 if i == axis else n for i, n in enumerate(array.shape)) for array, _ in parts]
    common = np.broadcast_shapes(*shapes)
    full = [
        np.broadcast_to(array, tuple(size if i == axis else n for i, n in enumerate(common))) for array, size in parts
    ]
    return np.concatenate(full, axis)


def reshaped(seen: Seen, shape: tuple[int, ...]) -> Seen:
    """The same elements in another shape. Dimensions that only merge or split among themselves stay as small as they
    were.
    """
    groups = matching(seen.shape, shape)

    def change(array: Map) -> Map:
        source, target = [2], [2]
        for old, new in groups:
            flat = all(array.shape[dim + 1] == 1 for dim in old)
            source += [1 if flat else seen.shape[dim] for dim in old]
            target += [1 if flat else shape[dim] for dim in new]
        return np.broadcast_to(array, source).reshape(target)

    dims: list[Factors] = []
    for old, new in groups:
        dims += regrouped([factor for dim in old for factor in seen.dims[dim]], [shape[dim] for dim in new])
    return each(seen, change, shape=shape, dims=tuple(dims))


def matching(old: tuple[int, ...], new: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """Smallest runs of dimensions of both shapes that hold the same number of elements."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        left: list[int] = []
        right: list[int] = []
        a = b = 1
        while not (left or right) or a != b:
            if (a <= b and i < len(old)) or j >= len(new):
                a *= old[i]
                left.append(i)
                i += 1
            else:
                b *= new[j]
                right.append(j)
                j += 1
        if not right and j < len(new) and new[j] == 1:
            right.append(j)
            j += 1
        groups.append((left, right))
    return groups


def regrouped(factors: Sequence[tuple[str, int]], sizes: Sequence[int]) -> list[Factors]:
    """Deal the factors of a run of dimensions out to its new dimensions; a factor is split where a new dimension ends
    within it.
    """
    waiting = list(factors)
    if prod(size for _, size in waiting) != prod(sizes):
        return [() if size == 1 else (("mixed", size),) for size in sizes]
    dims: list[Factors] = []
    for size in sizes:
        here: list[tuple[str, int]] = []
        need = size
        while waiting and (need > 1 or (not here and waiting[0][1] == 1)):
            name, length = waiting.pop(0)
            if need % length == 0:
                here.append((name, length))
                need //= length
            elif length % need == 0:
                here.append((name, need))
                waiting.insert(0, (name, length // need))
                need = 1
            else:
                return dims + [() if n == 1 else (("mixed", n),) for n in sizes[len(dims) :]]
        dims.append(merged(here))
    if dims and waiting:
        dims[-1] = merged([*dims[-1], *waiting])
    return dims


def merged(factors: Sequence[tuple[str, int]]) -> Factors:
    """Neighboring factors of one kind are one factor."""
    result: list[tuple[str, int]] = []
    for name, size in factors:
        if result and result[-1][0] == name:
            result[-1] = (name, result[-1][1] * size)
        else:
            result.append((name, size))
    return tuple(result)


def condensed(array: Map) -> Map:
    """Dimensions along which nothing changes shrink to length 1."""
    for axis in range(1, array.ndim):
        if array.shape[axis] > 1 and (array == array.take([0], axis)).all():
            array = array.take([0], axis)
    return array
