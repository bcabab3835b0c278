"""What rearranged elements see: views, slices, concatenations, shuffles, padding. The maps are rearranged alike.

Examples:
    x.flip(2), 56 rows             row 0 sees what row 55 saw
    x[:, :, ::2]                   row 3 sees what row 6 saw
    torch.cat([a, b], 1)           the channels of a, then those of b
    one row of zeros before x      row 0 sees nothing, row 1 sees what row 0 saw
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from unitscope.anatomy.extent_maps import (
    NOTHING,
    Extent,
    Factors,
    Map,
    change_maps,
    common_doubts,
    common_steps,
    condense_map,
    label_dims,
    nothing,
    reduce_dims,
    relabel_dim,
    resize_dim,
    squeeze_dims,
)
from unitscope.anatomy.extent_registry import (
    Call,
    Constant,
    coarse,
    each_of,
    rule,
)
from unitscope.anatomy.operations import tensors_in
from unitscope.anatomy.reshape_extents import (
    concat_extents,
    expand_extent,
    permute_extent,
    reshape_extent,
    take_places,
    unsqueeze_extent,
)
from unitscope.anatomy.window_extents import (
    pad_extent,
)


@rule("view", "_unsafe_view", "reshape", "_reshape_alias", "flatten", "unflatten", "_reshape_copy", "view_copy")
def view(call: Call) -> Extent:
    shape = tuple(call.result.shape)
    return call.extent if call.extent.shape == shape else reshape_extent(call.extent, shape)


@rule("permute", "permute_copy")
def permute(call: Call) -> Extent:
    return permute_extent(call.extent, call["dims"])


@rule("transpose", "transpose_", "swapaxes")
def transpose(call: Call) -> Extent:
    order = list(range(len(call.extent.shape)))
    a, b = call["dim0"], call["dim1"]
    order[a], order[b] = order[b], order[a]
    return permute_extent(call.extent, order)


@rule("t", "numpy_T", "mT")
def matrix_transpose(call: Call) -> Extent:
    order = list(range(len(call.extent.shape)))
    return permute_extent(call.extent, [*order[:-2], *order[-2:][::-1]])


@rule("squeeze")
def squeeze(call: Call) -> Extent:
    dims = call.get("dim")
    return squeeze_dims(call.extent, list(range(len(call.extent.shape))) if dims is None else each_of(dims, 1))


@rule("unsqueeze")
def unsqueeze(call: Call) -> Extent:
    return unsqueeze_extent(call.extent, call["dim"])


@rule("expand", "expand_copy", "broadcast_to")
def expand(call: Call) -> Extent:
    return expand_extent(call.extent, tuple(call.result.shape))


@rule("slice", "slice_copy")
def slice_extent(call: Call) -> Extent:
    dim = call.get("dim", 0)
    size = call.subject.shape[dim]
    places = np.arange(size)[slice(call.get("start"), call.get("end"), call.get("step", 1))]
    return call.extent if len(places) == size else take_places(call.extent, dim, places)


@rule("narrow")
def narrow(call: Call) -> Extent:
    return take_places(call.extent, call["dim"], np.arange(call["start"], call["start"] + call["length"]))


@rule("select", "select_copy")
def select(call: Call) -> Extent:
    dim = call["dim"]
    return squeeze_dims(take_places(call.extent, dim, np.array([call["index"] % call.subject.shape[dim]])), [dim])


@rule(
    "split",
    "split_with_sizes",
    "chunk",
    "tensor_split",
    "unsafe_split",
    "unsafe_chunk",
    "split_copy",
    "split_with_sizes_copy",
)
def split(call: Call) -> tuple[Extent, ...]:
    dim, start, parts = call.get("dim", 0), 0, []
    for part in call.result:
        size = part.shape[dim]
        parts.append(take_places(call.extent, dim, np.arange(start, start + size)))
        start += size
    return tuple(parts)


@rule("unbind", "unbind_copy")
def unbind(call: Call) -> tuple[Extent, ...]:
    dim = call.get("dim", 0)
    return tuple(squeeze_dims(take_places(call.extent, dim, np.array([i])), [dim]) for i in range(len(call.result)))


@rule("cat", "concat", "concatenate", "_cat")
def cat(call: Call) -> Extent:
    # torch.cat leaves out empty vectors, whatever the shape of the others.
    parts = [part for part in call["tensors"] if part.numel() or part.ndim > 1]
    return concat_extents([call.extent_of(part) or nothing(tuple(part.shape)) for part in parts], call.get("dim", 0))


@rule("stack")
def stack(call: Call) -> Extent:
    dim = call.get("dim", 0) % call.result.ndim
    return concat_extents(
        [unsqueeze_extent(call.extent_of(part) or nothing(tuple(part.shape)), dim) for part in call["tensors"]], dim
    )


@rule("flip")
def flip(call: Call) -> Extent:
    extent = call.extent
    for dim in each_of(call["dims"], 1):
        extent = take_places(extent, dim, np.arange(extent.shape[dim])[::-1])
    return extent


@rule("roll")
def roll(call: Call) -> Extent:
    extent = call.extent
    dims = each_of(call.get("dims") or [], 1)
    # Without dims torch rolls the tensor as one long row.
    if not dims:
        return coarse(call)
    for dim, shift in zip(dims, each_of(call["shifts"], len(dims)), strict=True):
        extent = take_places(extent, dim, np.roll(np.arange(extent.shape[dim]), shift))
    return extent


@rule("repeat")
def repeat(call: Call) -> Extent:
    extent = call.extent
    while len(extent.shape) < call.result.ndim:
        extent = unsqueeze_extent(extent, 0)
    for dim, times in enumerate(call["repeats"]):
        if times != 1:
            extent = take_places(extent, dim, np.tile(np.arange(extent.shape[dim]), times))
    return extent


@rule("index_select")
def index_select(call: Call) -> Extent:
    if call.extent_of(call["index"]) is not None:
        return coarse(call)
    return take_places(call.extent, call["dim"], call["index"].cpu().numpy().reshape(-1))


@rule("constant_pad_nd", "pad")
def constant_pad(call: Call) -> Extent:
    extent, amounts = call.extent, call["pad"]
    for pair in range(len(amounts) // 2):
        before, after = amounts[2 * pair], amounts[2 * pair + 1]
        if before or after:
            extent = pad_extent(extent, -1 - pair, before, after)
    return extent


@rule(
    "reflection_pad1d",
    "reflection_pad2d",
    "reflection_pad3d",
    "replication_pad1d",
    "replication_pad2d",
    "replication_pad3d",
    "circular_pad",
)
def mirror_pad(call: Call) -> Extent:
    """What is added sees what it is a copy of; the rule of the neurons within goes on as if it saw what lies beyond."""
    extent, amounts = call.extent, call["padding"]
    for pair in range(len(amounts) // 2):
        dim = len(extent.shape) - 1 - pair
        before, after, size = amounts[2 * pair], amounts[2 * pair + 1], extent.shape[dim]
        places = np.arange(-before, size + after)
        if "replication" in call.name:
            places = places.clip(0, size - 1)
        elif size > 1:
            # Mirrored at the first place, then at the last.
            places = np.abs(places)
            places = (size - 1) - np.abs((size - 1) - places)
        # The exact maps are those of the copies; the rules go on as with zeros.
        copies, beyond = take_places(extent, dim, places), pad_extent(extent, dim, before, after)
        extent = replace(beyond, maps=copies.maps)
    return extent


@rule(
    "pixel_shuffle",
    "pixel_unshuffle",
    "channel_shuffle",
    "native_channel_shuffle",
    "index",
    "take",
    "repeat_interleave",
    "rot90",
    "as_strided",
    "diagonal",
    "tril",
    "triu",
    "masked_select",
    "take_along_dim",
    "view_as_complex",
    "view_as_real",
    "movedim",
)
def rearrange(call: Call) -> Extent:
    """Any rearrangement: the operation itself is applied to the maps."""
    positions = [value for key, value in list(call.arguments.items())[1:] for value in tensors_in([value])]
    if any(call.extent_of(value) is not None for value in positions):
        return coarse(call)
    return apply_to_maps(call, call.extent)


@rule("view_as_real")
def real_and_imaginary(call: Call) -> Extent:
    return expand_extent(unsqueeze_extent(call.extent, len(call.extent.shape)), tuple(call.result.shape))


@rule("view_as_complex")
def real_with_imaginary(call: Call) -> Extent:
    return squeeze_dims(reduce_dims(call.extent, [-1], keep=True, why=call.name), [-1])


PASTED = ("src", "source", "values", "value")
"""What operations call the tensor that they write into another."""


@rule(
    "index_put",
    "_index_put_impl",
    "_unsafe_index_put",
    "index_copy",
    "index_fill",
    "put",
    "scatter",
    "select_scatter",
    "slice_scatter",
    "diagonal_scatter",
    "as_strided_scatter",
)
def write_values(call: Call) -> Extent:
    """One value written into another at known places: the operation itself is applied to the maps of both."""
    name = next(name for name in PASTED if name in call.arguments)
    others = [call[key] for key in list(call.arguments)[1:] if key != name]
    if (
        call.get("accumulate")
        or call.get("reduce")
        or any(call.extent_of(value) is not None for value in tensors_in(others))
    ):
        return coarse(call)
    into = call.extent_of(call.subject) or nothing(tuple(call.subject.shape))
    written = call.extent_of(call[name]) or nothing(tuple(call[name].shape) if isinstance(call[name], Tensor) else ())

    def change(mine: Map, theirs: Map) -> Map:
        layers = []
        for side in (0, 1):
            value = write_out(call, theirs[side], written.shape)
            # A number that is written (`index_fill`) is a constant: its map is a number, too.
            instead = {name: value if isinstance(call[name], Tensor) else value.item()}
            layers.append(apply_operation(call, write_out(call, mine[side], into.shape), instead))
        return condense_map(np.stack(layers).astype(np.int32))

    maps = (change(into.maps[0], written.maps[0]), change(into.maps[1], written.maps[1]))
    rules = (change(into.rules[0], written.rules[0]), change(into.rules[1], written.rules[1]))
    same_rank = len(written.shape) == len(into.shape)
    dims = into.dims if any(into.dims) or not same_rank else label_dims(written.dims, into.shape)
    return Extent(into.shape, maps, rules, dims, common_steps([into, written]), *common_doubts([into, written]))


@rule("embedding")
def look_up(call: Call) -> Extent:
    """Rows of a table at places that the picture chose; each row is one vector of channels."""
    if call.extent_of(call["weight"]) is not None:
        return coarse(call)
    extent = call.extent_of(call["indices"])
    if extent is None:
        raise Constant
    places = unsqueeze_extent(extent, len(extent.shape))
    return relabel_dim(expand_extent(places, tuple(call.result.shape)), -1, "channel")


def apply_to_maps(call: Call, extent: Extent, *, empty: bool = False) -> Extent:
    """Run the operation on each side of the maps, written out in full. With `empty`, zeros that it adds see nothing."""

    def change(array: Map) -> Map:
        # What the operation adds is 0. Shifted down by NOTHING and up again, 0 becomes NOTHING.
        below = NOTHING * empty
        layers = [apply_operation(call, write_out(call, layer, extent.shape) - below, {}) + below for layer in array]
        return condense_map(np.stack(layers).astype(np.int32))

    return change_maps(
        extent, change, shape=tuple(call.result.shape), dims=relabel_dims(extent, tuple(call.result.shape))
    )


def write_out(call: Call, layer: ArrayLike, shape: tuple[int, ...]) -> Tensor:
    """One side of a map in full, as a tensor on the device of the operation."""
    # float64 holds each int32 exactly, and operations take it that refuse whole numbers.
    return torch.from_numpy(np.broadcast_to(layer, shape).astype(np.float64)).to(call.subject.device)


def apply_operation(call: Call, first: Tensor, instead: dict[str, Any]) -> NDArray[np.float64]:
    """The operation on another first argument, with some of the others replaced."""
    others = [(key, instead.get(key, value)) for key, value in list(call.arguments.items())[1:]]
    return call.function(first, *positional(call, others), **keywords(call, others)).cpu().numpy()


def positional(call: Call, others: list[tuple[str, Any]]) -> list[Any]:
    names = {argument.name for argument in call.function._schema.arguments if not argument.kwarg_only}
    return [value for name, value in others if name in names]


def keywords(call: Call, others: list[tuple[str, Any]]) -> dict[str, Any]:
    names = {argument.name for argument in call.function._schema.arguments if argument.kwarg_only}
    return {name: value for name, value in others if name in names}


def relabel_dims(extent: Extent, shape: tuple[int, ...]) -> tuple[Factors, ...]:
    if len(shape) != len(extent.shape):
        return tuple(
            extent.dims[i] if i < len(extent.shape) and extent.shape[i] == n else () for i, n in enumerate(shape)
        )
    return label_dims(extent.dims, shape)


@rule("unfold", "unfold_copy")
def unfold(call: Call) -> Extent:
    """Windows along one dimension: their positions stay there, the places within them become the last dimension."""
    extent = call.extent
    dim, size, step = call["dimension"] % len(extent.shape), call["size"], call["step"]
    places = np.arange(call.result.shape[dim])[:, None] * step + np.arange(size)

    def change(array: Map) -> Map:
        axis = dim + 1
        if array.shape[axis] == 1:
            return array[..., None]
        windows = array.take(places.ravel(), axis)
        return np.moveaxis(windows.reshape(*array.shape[:axis], *places.shape, *array.shape[axis + 1 :]), axis + 1, -1)

    label = extent.label(dim)
    dims = (*resize_dim(extent.dims, dim, places.shape[0]), ((label, size),) if label else ())
    return change_maps(extent, change, shape=tuple(call.result.shape), dims=dims)


@rule("im2col")
def windows_as_columns(call: Call) -> Extent:
    extent = apply_to_maps(call, call.extent, empty=True)
    return replace(extent, dims=(call.extent.dims[0], (("channel", extent.shape[1]),), (("token", extent.shape[2]),)))
