"""Maps: for each element of a tensor, the first and the last picture row and column that it can see.

    a picture of 4 rows                         first  0  1  2  3      last  0  1  2  3
    behind 3 x 3 taps with padding 1, exact     first  0  0  1  2      last  1  2  3  3
                                      rule      first -1  0  1  2      last  1  2  3  4

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

# Larger than any row: in a minimum with a row it loses, since the hull of nothing and something is something. Small
# enough that sums with steps stay within int32.
NOTHING = 1 << 28


# Smaller than any row, so that it wins each minimum: where one operand has no rule, the hull has none.
NO_RULE = -(1 << 28)


Map = NDArray[np.int32]


Factors = tuple[tuple[str, int], ...]


"""What a dimension is made of, outermost first: ("stimulus", 2), ("row", 56), ... A view multiplies and divides
them.
"""


@dataclass(frozen=True, slots=True)
class Extent:
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
    # What `flatten(1)` makes of a map, (channel, row, col), holds channels; what it makes of rows and columns alone
    # holds tokens.
    if names[0] == "channel":
        return "channel"
    spatial = kinds - {"channel"}
    return spatial.pop() if len(spatial) == 1 else "token"


def origin(shape: tuple[int, ...], dims: tuple[Factors, ...], *, channel: int, lattice: tuple[int, int]) -> Extent:
    """The maps of a value in which every lattice position sees itself only.

    `channel` is the dimension of channels; the one or two others (but for the first, that of stimuli) make the lattice.
    """
    places = [dim for dim in range(1, len(shape)) if dim != channel]
    sides = [size if dim in places else 1 for dim, size in enumerate(shape)]
    rows, cols = (index.astype(np.int32).reshape(sides) for index in np.indices(lattice))
    maps = tuple(condense_map(np.stack([index, -index])) for index in (rows, cols))
    return Extent(shape, maps, maps, dims, (1, 1))  # type: ignore[arg-type]


def nothing(shape: tuple[int, ...], dims: tuple[Factors, ...] | None = None) -> Extent:
    """The maps of a constant."""
    empty = full_map(shape, NOTHING)
    return Extent(shape, (empty, empty), (empty, empty), dims or tuple(() for _ in shape), (None, None))


def full_map(shape: Sequence[int], value: int) -> Map:
    """A map that is `value` everywhere on a tensor of this shape."""
    return np.full((2, *(1 for _ in shape)), value, np.int32)


def change_maps(extent: Extent, change: Callable[[Map], Map], **facts: Any) -> Extent:
    """Apply `change` to all maps and rules alike."""
    maps = (change(extent.maps[0]), change(extent.maps[1]))
    rules = (change(extent.rules[0]), change(extent.rules[1]))
    return replace(extent, maps=maps, rules=rules, **facts)


def drop_rule(extent: Extent, why: str) -> Extent:
    """Neurons no longer look through equal windows at equal distances."""
    none = full_map(extent.shape, NO_RULE)
    return replace(extent, rules=(none, none), lost=extent.lost | {why})


def hull(extents: Sequence[Extent]) -> Extent:
    """What elementwise operations see: broadcasting, the hull of all operands."""
    if len(extents) == 1:
        return extents[0]
    ndim = max(len(extent.shape) for extent in extents)
    extents = [keep_rule_where_equal(at_rank(extent, ndim)) for extent in extents]
    shape = tuple(
        max(sizes) if min(sizes) > 0 else 0 for sizes in zip(*(extent.shape for extent in extents), strict=True)
    )
    maps = (least([extent.maps[0] for extent in extents]), least([extent.maps[1] for extent in extents]))
    rules = (
        settle_rule(least([extent.rules[0] for extent in extents])),
        settle_rule(least([extent.rules[1] for extent in extents])),
    )
    dims = tuple(
        max((extent.dims[dim] for extent in extents if extent.shape[dim] == shape[dim]), key=len) for dim in range(ndim)
    )
    return Extent(shape, maps, rules, dims, common_steps(extents), *common_doubts(extents))


def least(arrays: Sequence[Map]) -> Map:
    """The least of several maps. Where they vary along different dimensions, dimensions without change shrink first."""
    # [2 1 1 56 1] with [2 1 64 1 1] would broadcast to [2 1 64 56 1], though often one of the two does not really
    # change.
    if np.broadcast_shapes(*(array.shape for array in arrays)) not in {array.shape for array in arrays}:
        arrays = [condense_map(array) for array in arrays]
    result = arrays[0]
    for array in arrays[1:]:
        result = np.minimum(result, array)
    return result


def settle_rule(rule: Map) -> Map:
    """A rule that is lost everywhere takes no room."""
    return full_map(rule.shape[1:], NO_RULE) if rule.size > 2 and (rule == NO_RULE).all() else rule


def at_rank(extent: Extent, ndim: int) -> Extent:
    """With dimensions of length 1 put in front, as broadcasting does."""
    missing = ndim - len(extent.shape)
    if missing == 0:
        return extent
    ones = (1,) * missing
    return change_maps(
        extent,
        lambda array: array.reshape(2, *ones, *array.shape[1:]),
        shape=ones + extent.shape,
        dims=((),) * missing + extent.dims,
    )


def keep_rule_where_equal(extent: Extent) -> Extent:
    """Where the rows or the columns see nothing the element sees nothing: make both maps say so."""
    rows, cols = extent.maps
    if max(rows[0].max(initial=0), cols[0].max(initial=0)) < NOTHING:
        return extent
    # Maps of rows and of columns have different shapes, and are written out only where they disagree.
    rowless, colless = np.broadcast_arrays(np.asarray(rows[0] >= NOTHING), np.asarray(cols[0] >= NOTHING))
    if (rowless == colless).all():
        return extent
    blind = rowless | colless

    rows, cols = (np.where(blind, NOTHING, array).astype(np.int32) for array in extent.maps)
    return replace(extent, maps=(rows, cols))


def common_steps(extents: Sequence[Extent]) -> tuple[int | None, int | None]:
    return tuple(
        next((extent.steps[kind] for extent in extents if extent.steps[kind] is not None), None) for kind in (0, 1)
    )  # type: ignore[return-value]


def common_doubts(extents: Sequence[Extent]) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    none: frozenset[str] = frozenset()
    return (
        none.union(*(extent.lost for extent in extents)),
        none.union(*(extent.bounded for extent in extents)),
        none.union(*(extent.unknown for extent in extents)),
    )


def reduce_dims(extent: Extent, dims: Sequence[int], *, keep: bool, why: str, spread: bool = False) -> Extent:
    """What a reduction over `dims` sees. With `spread` the result has the old shape (softmax, normalization)."""
    dims = sorted({dim % len(extent.shape) for dim in dims}) if extent.shape else []
    extent = keep_rule_where_equal(extent)
    lost = set(extent.lost)

    def shrink_map(array: Map) -> Map:
        axes = tuple(dim + 1 for dim in dims if array.shape[dim + 1] > 1)
        return array.min(axis=axes, keepdims=True) if axes else array

    def shrunk_rule(rule: Map) -> Map:
        # Over channels alone each place keeps its window. Over places neurons see the whole, and there is no window to
        # be moved.
        if not any(rule.shape[dim + 1] > 1 and not extent.channels_only(dim) for dim in dims):
            return shrink_map(rule)
        lost.add(why)
        return full_map(extent.shape, NO_RULE)

    rules = (shrunk_rule(extent.rules[0]), shrunk_rule(extent.rules[1]))
    maps = (shrink_map(extent.maps[0]), shrink_map(extent.maps[1]))
    extent = replace(extent, maps=maps, rules=rules, lost=frozenset(lost))
    if spread:
        return extent
    extent = replace(
        extent,
        shape=tuple(1 if dim in dims else size for dim, size in enumerate(extent.shape)),
        dims=tuple(tuple((name, 1) for name, _ in f) if dim in dims else f for dim, f in enumerate(extent.dims)),
    )
    return extent if keep else squeeze_dims(extent, dims)


def spread_over_shape(extent: Extent, shape: tuple[int, ...], dims: tuple[Factors, ...]) -> Extent:
    """The same maps for a broadcast shape: what changes along no dimension has maps of length 1 there already."""
    extent = at_rank(extent, len(shape))
    dims = tuple(new or old for new, old in zip(dims or extent.dims, extent.dims, strict=True))
    return replace(extent, shape=shape, dims=dims)


def resize_dim(dims: tuple[Factors, ...], dim: int, size: int) -> tuple[Factors, ...]:
    """The meaning of the dimensions after one of them changed its length."""
    label = label_of(dims[dim])
    return (*dims[:dim], ((label, size),) if label else (), *dims[dim + 1 :])


def label_dims(dims: tuple[Factors, ...], shape: tuple[int, ...]) -> tuple[Factors, ...]:
    """The meaning of dimensions that may have changed their lengths."""
    for dim, size in enumerate(shape):
        if dims[dim] and prod(length for _, length in dims[dim]) != size:
            dims = resize_dim(dims, dim, size)
    return dims


def relabel_dim(extent: Extent, dim: int, label: str) -> Extent:
    dim %= len(extent.shape)
    return replace(extent, dims=(*extent.dims[:dim], ((label, extent.shape[dim]),), *extent.dims[dim + 1 :]))


def squeeze_dims(extent: Extent, dims: Sequence[int]) -> Extent:
    dims = [dim % len(extent.shape) for dim in dims]
    keep = [dim for dim in range(len(extent.shape)) if not (dim in dims and extent.shape[dim] == 1)]
    return change_maps(
        extent,
        lambda array: array.reshape(2, *(array.shape[dim + 1] for dim in keep)),
        shape=tuple(extent.shape[dim] for dim in keep),
        dims=tuple(extent.dims[dim] for dim in keep),
    )


def condense_map(array: Map) -> Map:
    """Dimensions along which nothing changes shrink to length 1."""
    for axis in range(1, array.ndim):
        if array.shape[axis] > 1 and (array == array.take([0], axis)).all():
            array = array.take([0], axis)
    return array
