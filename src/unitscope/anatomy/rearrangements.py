"""What rearranged elements see: views, slices, concatenations, shuffles, padding. The maps are rearranged alike."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from unitscope.anatomy.calls import (
    Call,
    Constant,
    coarse,
    each_of,
    rule,
)
from unitscope.anatomy.maps import (
    NOTHING,
    Factors,
    Map,
    Seen,
    common_doubts,
    common_steps,
    condensed,
    each,
    labeled,
    nothing,
    reduced,
    relabeled,
    resized,
    squeezed,
)
from unitscope.anatomy.operations import tensors_in
from unitscope.anatomy.views import (
    expanded,
    joined,
    permuted,
    reshaped,
    taken,
    unsqueezed,
)
from unitscope.anatomy.windows import (
    padded,
)


@rule("view", "_unsafe_view", "reshape", "_reshape_alias", "flatten", "unflatten", "_reshape_copy", "view_copy")
def view(call: Call) -> Seen:
    shape = tuple(call.result.shape)
    return call.maps if call.maps.shape == shape else reshaped(call.maps, shape)


@rule("permute", "permute_copy")
def permute(call: Call) -> Seen:
    return permuted(call.maps, call["dims"])


@rule("transpose", "transpose_", "swapaxes")
def transpose(call: Call) -> Seen:
    order = list(range(len(call.maps.shape)))
    a, b = call["dim0"], call["dim1"]
    order[a], order[b] = order[b], order[a]
    return permuted(call.maps, order)


@rule("t", "numpy_T", "mT")
def matrix_transpose(call: Call) -> Seen:
    order = list(range(len(call.maps.shape)))
    return permuted(call.maps, [*order[:-2], *order[-2:][::-1]])


@rule("squeeze")
def squeeze(call: Call) -> Seen:
    dims = call.get("dim")
    return squeezed(call.maps, list(range(len(call.maps.shape))) if dims is None else each_of(dims, 1))


@rule("unsqueeze")
def unsqueeze(call: Call) -> Seen:
    return unsqueezed(call.maps, call["dim"])


@rule("expand", "expand_copy", "broadcast_to")
def expand(call: Call) -> Seen:
    return expanded(call.maps, tuple(call.result.shape))


@rule("slice", "slice_copy")
def sliced(call: Call) -> Seen:
    dim = call.get("dim", 0)
    size = call.subject.shape[dim]
    places = np.arange(size)[slice(call.get("start"), call.get("end"), call.get("step", 1))]
    return call.maps if len(places) == size else taken(call.maps, dim, places)


@rule("narrow")
def narrow(call: Call) -> Seen:
    return taken(call.maps, call["dim"], np.arange(call["start"], call["start"] + call["length"]))


@rule("select", "select_copy")
def select(call: Call) -> Seen:
    dim = call["dim"]
    return squeezed(taken(call.maps, dim, np.array([call["index"] % call.subject.shape[dim]])), [dim])


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
def split(call: Call) -> tuple[Seen, ...]:
    dim, start, parts = call.get("dim", 0), 0, []
    for part in call.result:
        size = part.shape[dim]
        parts.append(taken(call.maps, dim, np.arange(start, start + size)))
        start += size
    return tuple(parts)


@rule("unbind", "unbind_copy")
def unbind(call: Call) -> tuple[Seen, ...]:
    dim = call.get("dim", 0)
    return tuple(squeezed(taken(call.maps, dim, np.array([i])), [dim]) for i in range(len(call.result)))


@rule("cat", "concat", "concatenate", "_cat")
def cat(call: Call) -> Seen:
    parts = [part for part in call["tensors"] if part.numel() or part.ndim > 1]
    return joined([call.seen(part) or nothing(tuple(part.shape)) for part in parts], call.get("dim", 0))


@rule("stack")
def stack(call: Call) -> Seen:
    dim = call.get("dim", 0) % call.result.ndim
    return joined([unsqueezed(call.seen(part) or nothing(tuple(part.shape)), dim) for part in call["tensors"]], dim)


@rule("flip")
def flip(call: Call) -> Seen:
    seen = call.maps
    for dim in each_of(call["dims"], 1):
        seen = taken(seen, dim, np.arange(seen.shape[dim])[::-1])
    return seen


@rule("roll")
def roll(call: Call) -> Seen:
    seen = call.maps
    dims = each_of(call.get("dims") or [], 1)
    if not dims:
        return coarse(call)
    for dim, shift in zip(dims, each_of(call["shifts"], len(dims)), strict=True):
        seen = taken(seen, dim, np.roll(np.arange(seen.shape[dim]), shift))
    return seen


@rule("repeat")
def repeat(call: Call) -> Seen:
    seen = call.maps
    while len(seen.shape) < call.result.ndim:
        seen = unsqueezed(seen, 0)
    for dim, times in enumerate(call["repeats"]):
        if times != 1:
            seen = taken(seen, dim, np.tile(np.arange(seen.shape[dim]), times))
    return seen


@rule("index_select")
def index_select(call: Call) -> Seen:
    if call.seen(call["index"]) is not None:
        return coarse(call)
    return taken(call.maps, call["dim"], call["index"].cpu().numpy().reshape(-1))


@rule("constant_pad_nd", "pad")
def constant_pad(call: Call) -> Seen:
    seen, amounts = call.maps, call["pad"]
    for pair in range(len(amounts) // 2):
        before, after = amounts[2 * pair], amounts[2 * pair + 1]
        if before or after:
            seen = padded(seen, -1 - pair, before, after)
    return seen


@rule(
    "reflection_pad1d",
    "reflection_pad2d",
    "reflection_pad3d",
    "replication_pad1d",
    "replication_pad2d",
    "replication_pad3d",
    "circular_pad",
)
def mirror_pad(call: Call) -> Seen:
    """What is added sees what it is a copy of; the rule of the neurons within goes on as if it saw what lies beyond."""
    seen, amounts = call.maps, call["padding"]
    for pair in range(len(amounts) // 2):
        dim = len(seen.shape) - 1 - pair
        before, after, size = amounts[2 * pair], amounts[2 * pair + 1], seen.shape[dim]
        places = np.arange(-before, size + after)
        if "replication" in call.name:
            places = places.clip(0, size - 1)
        elif size > 1:
            places = np.abs(places)
            places = (size - 1) - np.abs((size - 1) - places)
        copies, beyond = taken(seen, dim, places), padded(seen, dim, before, after)
        seen = replace(beyond, maps=copies.maps)
    return seen


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
def moved(call: Call) -> Seen:
    """Any rearrangement: the operation itself is applied to the maps."""
    positions = [value for key, value in list(call.arguments.items())[1:] for value in tensors_in([value])]
    if any(call.seen(value) is not None for value in positions):
        return coarse(call)
    return through(call, call.maps)


@rule("view_as_real")
def real_and_imaginary(call: Call) -> Seen:
    return expanded(unsqueezed(call.maps, len(call.maps.shape)), tuple(call.result.shape))


@rule("view_as_complex")
def real_with_imaginary(call: Call) -> Seen:
    return squeezed(reduced(call.maps, [-1], keep=True, why=call.name), [-1])


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
def pasted(call: Call) -> Seen:
    """One value written into another at known places: the operation itself is applied to the maps of both."""
    name = next(name for name in PASTED if name in call.arguments)
    others = [call[key] for key in list(call.arguments)[1:] if key != name]
    if (
        call.get("accumulate")
        or call.get("reduce")
        or any(call.seen(value) is not None for value in tensors_in(others))
    ):
        return coarse(call)
    into = call.seen(call.subject) or nothing(tuple(call.subject.shape))
    written = call.seen(call[name]) or nothing(tuple(call[name].shape) if isinstance(call[name], Tensor) else ())

    def change(mine: Map, theirs: Map) -> Map:
        layers = []
        for side in (0, 1):
            value = written_out(call, theirs[side], written.shape)
            instead = {name: value if isinstance(call[name], Tensor) else value.item()}
            layers.append(applied(call, written_out(call, mine[side], into.shape), instead))
        return condensed(np.stack(layers).astype(np.int32))

    maps = (change(into.maps[0], written.maps[0]), change(into.maps[1], written.maps[1]))
    rules = (change(into.rules[0], written.rules[0]), change(into.rules[1], written.rules[1]))
    same_rank = len(written.shape) == len(into.shape)
    dims = into.dims if any(into.dims) or not same_rank else labeled(written.dims, into.shape)
    return Seen(into.shape, maps, rules, dims, common_steps([into, written]), *common_doubts([into, written]))


@rule("embedding")
def looked_up(call: Call) -> Seen:
    """Rows of a table at places that the picture chose; each row is one vector of channels."""
    if call.seen(call["weight"]) is not None:
        return coarse(call)
    seen = call.seen(call["indices"])
    if seen is None:
        raise Constant
    places = unsqueezed(seen, len(seen.shape))
    return relabeled(expanded(places, tuple(call.result.shape)), -1, "channel")


def through(call: Call, seen: Seen, *, empty: bool = False) -> Seen:
    """Run the operation on each side of the maps, written out in full. With `empty`, zeros that it adds see nothing."""

    def change(array: Map) -> Map:
        below = NOTHING * empty
        layers = [applied(call, written_out(call, layer, seen.shape) - below, {}) + below for layer in array]
        return condensed(np.stack(layers).astype(np.int32))

    return each(seen, change, shape=tuple(call.result.shape), dims=relabeled_dims(seen, tuple(call.result.shape)))


def written_out(call: Call, layer: ArrayLike, shape: tuple[int, ...]) -> Tensor:
    """One side of a map in full, as a tensor on the device of the operation."""
    return torch.from_numpy(np.broadcast_to(layer, shape).astype(np.float64)).to(call.subject.device)


def applied(call: Call, first: Tensor, instead: dict[str, Any]) -> NDArray[np.float64]:
    """The operation on another first argument, with some of the others replaced."""
    others = [(key, instead.get(key, value)) for key, value in list(call.arguments.items())[1:]]
    return call.function(first, *positional(call, others), **keywords(call, others)).cpu().numpy()


def positional(call: Call, others: list[tuple[str, Any]]) -> list[Any]:
    names = {argument.name for argument in call.function._schema.arguments if not argument.kwarg_only}
    return [value for name, value in others if name in names]


def keywords(call: Call, others: list[tuple[str, Any]]) -> dict[str, Any]:
    names = {argument.name for argument in call.function._schema.arguments if argument.kwarg_only}
    return {name: value for name, value in others if name in names}


def relabeled_dims(seen: Seen, shape: tuple[int, ...]) -> tuple[Factors, ...]:
    if len(shape) != len(seen.shape):
        return tuple(seen.dims[i] if i < len(seen.shape) and seen.shape[i] == n else () for i, n in enumerate(shape))
    return labeled(seen.dims, shape)


@rule("unfold", "unfold_copy")
def unfold(call: Call) -> Seen:
    """Windows along one dimension: their positions stay there, the places within them become the last dimension."""
    seen = call.maps
    dim, size, step = call["dimension"] % len(seen.shape), call["size"], call["step"]
    places = np.arange(call.result.shape[dim])[:, None] * step + np.arange(size)

    def change(array: Map) -> Map:
        axis = dim + 1
        if array.shape[axis] == 1:
            return array[..., None]
        windows = array.take(places.ravel(), axis)
        return np.moveaxis(windows.reshape(*array.shape[:axis], *places.shape, *array.shape[axis + 1 :]), axis + 1, -1)

    label = seen.label(dim)
    dims = (*resized(seen.dims, dim, places.shape[0]), ((label, size),) if label else ())
    return each(seen, change, shape=tuple(call.result.shape), dims=dims)


@rule("im2col")
def windows_as_columns(call: Call) -> Seen:
    seen = through(call, call.maps, empty=True)
    return replace(seen, dims=(call.maps.dims[0], (("channel", seen.shape[1]),), (("token", seen.shape[2]),)))
