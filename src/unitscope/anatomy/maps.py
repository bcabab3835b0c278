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

    def channels_only(self, dim: int) -> bool:
        """Whether a dimension holds nothing but channels (a flattened map holds places, too)."""
        return all(name == "channel" for name, size in self.dims[dim] if size > 1) and bool(self.dims[dim])

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
    """The least of several maps. Where they vary along different dimensions, dimensions without change shrink first."""
    if np.broadcast_shapes(*(array.shape for array in arrays)) not in {array.shape for array in arrays}:
        arrays = [condensed(array) for array in arrays]
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
        if not any(rule.shape[dim + 1] > 1 and not seen.channels_only(dim) for dim in dims):
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


def resized(dims: tuple[Factors, ...], dim: int, size: int) -> tuple[Factors, ...]:
    """The meaning of the dimensions after one of them changed its length."""
    label = label_of(dims[dim])
    return (*dims[:dim], ((label, size),) if label else (), *dims[dim + 1 :])


def labeled(dims: tuple[Factors, ...], shape: tuple[int, ...]) -> tuple[Factors, ...]:
    """The meaning of dimensions that may have changed their lengths."""
    for dim, size in enumerate(shape):
        if dims[dim] and prod(length for _, length in dims[dim]) != size:
            dims = resized(dims, dim, size)
    return dims


def relabeled(seen: Seen, dim: int, label: str) -> Seen:
    dim %= len(seen.shape)
    return replace(seen, dims=(*seen.dims[:dim], ((label, seen.shape[dim]),), *seen.dims[dim + 1 :]))


def squeezed(seen: Seen, dims: Sequence[int]) -> Seen:
    dims = [dim % len(seen.shape) for dim in dims]
    keep = [dim for dim in range(len(seen.shape)) if not (dim in dims and seen.shape[dim] == 1)]
    return each(
        seen,
        lambda array: array.reshape(2, *(array.shape[dim + 1] for dim in keep)),
        shape=tuple(seen.shape[dim] for dim in keep),
        dims=tuple(seen.dims[dim] for dim in keep),
    )


def condensed(array: Map) -> Map:
    """Dimensions along which nothing changes shrink to length 1."""
    for axis in range(1, array.ndim):
        if array.shape[axis] > 1 and (array == array.take([0], axis)).all():
            array = array.take([0], axis)
    return array
