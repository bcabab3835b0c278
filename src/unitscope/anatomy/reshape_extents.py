"""Extents of rearranged tensors: permuted, sliced, concatenated, reshaped.

Problem: behind `x.flatten(2).transpose(1, 2)` a shape does not show which axis holds channels, and which holds rows
and columns.

Idea: each dimension keeps the factors that it is made of, outermost first. A view multiplies and divides them, a
permutation moves them along; the maps are rearranged as the tensor is.

    [2, 64, 7, 7]        stimulus 2 | channel 64 | row 7 | col 7
    flatten(2)           stimulus 2 | channel 64 | row 7, col 7
    transpose(1, 2)      stimulus 2 | row 7, col 7 | channel 64
    view(2, 7, 7, 64)    stimulus 2 | row 7 | col 7 | channel 64
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from unitscope.anatomy.extent_maps import (
    Extent,
    Factors,
    Map,
    at_rank,
    change_maps,
    common_doubts,
    common_steps,
    label_of,
    resize_dim,
)


def permute_extent(extent: Extent, order: Sequence[int]) -> Extent:
    order = [dim % len(extent.shape) for dim in order]
    axes = (0, *(dim + 1 for dim in order))
    return change_maps(
        extent,
        lambda array: array.transpose(axes),
        shape=tuple(extent.shape[dim] for dim in order),
        dims=tuple(extent.dims[dim] for dim in order),
    )


def unsqueeze_extent(extent: Extent, dim: int) -> Extent:
    dim %= len(extent.shape) + 1
    return change_maps(
        extent,
        lambda array: np.expand_dims(array, dim + 1),
        shape=(*extent.shape[:dim], 1, *extent.shape[dim:]),
        dims=(*extent.dims[:dim], (), *extent.dims[dim:]),
    )


def take_places(extent: Extent, dim: int, places: NDArray[np.int64]) -> Extent:
    """The elements at `places` along one dimension: slices, flips, rolls, repeated indices."""
    dim %= len(extent.shape)
    shape = (*extent.shape[:dim], len(places), *extent.shape[dim + 1 :])
    return change_maps(
        extent,
        lambda array: array if array.shape[dim + 1] == 1 else array.take(places, dim + 1),
        shape=shape,
        dims=resize_dim(extent.dims, dim, len(places)),
    )


def expand_extent(extent: Extent, shape: tuple[int, ...]) -> Extent:
    """Broadcast to a larger shape; added dimensions have no meaning of their own."""
    extent = at_rank(extent, len(shape))
    dims = tuple(
        factors if old == new else ((label_of(factors) or "copy", new),)
        for factors, old, new in zip(extent.dims, extent.shape, shape, strict=True)
    )
    return replace(extent, shape=shape, dims=dims)


def concat_extents(extents: Sequence[Extent], dim: int) -> Extent:
    """Concatenation along one dimension."""
    ndim = len(extents[0].shape)
    dim %= ndim
    total = sum(extent.shape[dim] for extent in extents)

    def along(arrays: Sequence[Map]) -> Map:
        return concat_maps([(array, extent.shape[dim]) for array, extent in zip(arrays, extents, strict=True)], dim + 1)

    maps = (along([extent.maps[0] for extent in extents]), along([extent.maps[1] for extent in extents]))
    rules = (along([extent.rules[0] for extent in extents]), along([extent.rules[1] for extent in extents]))
    # A constant part does not know what its dimensions mean; the part that knows most does.
    named = max(extents, key=lambda extent: sum(len(factors) for factors in extent.dims))
    shape = (*named.shape[:dim], total, *named.shape[dim + 1 :])
    lost, bounded, unknown = common_doubts(extents)
    return Extent(shape, maps, rules, resize_dim(named.dims, dim, total), common_steps(extents), lost, bounded, unknown)


def concat_maps(parts: Sequence[tuple[Map, int]], axis: int) -> Map:
    first = parts[0][0]
    if all(array.shape == first.shape and array.shape[axis] == 1 and (array == first).all() for array, _ in parts):
        return first
    shapes = [tuple(1 if i == axis else n for i, n in enumerate(array.shape)) for array, _ in parts]
    common = np.broadcast_shapes(*shapes)
    full = [
        np.broadcast_to(array, tuple(size if i == axis else n for i, n in enumerate(common))) for array, size in parts
    ]
    return np.concatenate(full, axis)


def reshape_extent(extent: Extent, shape: tuple[int, ...]) -> Extent:
    """The same elements in another shape. Dimensions that only merge or split among themselves stay as small as they
    were.
    """
    groups = match_dims(extent.shape, shape)

    def change(array: Map) -> Map:
        source, target = [2], [2]
        for old, new in groups:
            # A run of dimensions along which nothing changes stays of length 1.
            flat = all(array.shape[dim + 1] == 1 for dim in old)
            source += [1 if flat else extent.shape[dim] for dim in old]
            target += [1 if flat else shape[dim] for dim in new]
        return np.broadcast_to(array, source).reshape(target)

    dims: list[Factors] = []
    for old, new in groups:
        dims += regroup_factors([factor for dim in old for factor in extent.dims[dim]], [shape[dim] for dim in new])
    return change_maps(extent, change, shape=shape, dims=tuple(dims))


def match_dims(old: tuple[int, ...], new: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """Smallest runs of dimensions of both shapes that hold the same number of elements."""
    # [2 64 7 7] and [2 64 49] give ([0], [0]), ([1], [1]), ([2, 3], [2]).
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
        # A dimension of length 1 goes with one of length 1, where there is one.
        if not right and j < len(new) and new[j] == 1:
            right.append(j)
            j += 1
        groups.append((left, right))
    return groups


def regroup_factors(factors: Sequence[tuple[str, int]], sizes: Sequence[int]) -> list[Factors]:
    """Deal the factors of a run of dimensions out to its new dimensions; a factor is split where a new dimension ends
    within it.
    """
    waiting = list(factors)
    if prod(size for _, size in waiting) != prod(sizes):
        return [() if size == 1 else (("mixed", size),) for size in sizes]
    # (channel 64) dealt to sizes 8, 8 gives (channel 8), (channel 8); (row 7, col 7) dealt to 7, 7 gives (row 7), (col
    # 7).
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
        dims.append(merge_factors(here))
    if dims and waiting:
        dims[-1] = merge_factors([*dims[-1], *waiting])
    return dims


def merge_factors(factors: Sequence[tuple[str, int]]) -> Factors:
    """Neighboring factors of one kind are one factor."""
    result: list[tuple[str, int]] = []
    for name, size in factors:
        if result and result[-1][0] == name:
            result[-1] = (name, result[-1][1] * size)
        else:
            result.append((name, size))
    return tuple(result)
