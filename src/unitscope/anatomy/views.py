"""Maps of rearranged tensors: permuted, sliced, joined, reshaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from unitscope.anatomy.maps import (
    Factors,
    Map,
    Seen,
    at_rank,
    common_doubts,
    common_steps,
    each,
    label_of,
    resized,
)


def permuted(seen: Seen, order: Sequence[int]) -> Seen:
    order = [dim % len(seen.shape) for dim in order]
    axes = (0, *(dim + 1 for dim in order))
    return each(
        seen,
        lambda array: array.transpose(axes),
        shape=tuple(seen.shape[dim] for dim in order),
        dims=tuple(seen.dims[dim] for dim in order),
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
