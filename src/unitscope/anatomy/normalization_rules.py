"""What results see that are made of many elements: reductions, normalizations, recurrent layers.

Examples:
    mean over rows and columns       one position, which sees what all saw
    softmax over channels            each position sees what all its channels saw
    layer norm                       the same, over the dimensions that are normalized
    running sum along rows           row 3 sees what rows 0 to 3 saw
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from unitscope.anatomy.extent_maps import (
    Extent,
    hull,
    reduce_dims,
    spread_over_shape,
)
from unitscope.anatomy.extent_registry import (
    Call,
    coarse,
    each_of,
    elementwise,
    rule,
)
from unitscope.anatomy.reshape_extents import (
    reshape_extent,
    take_places,
)
from unitscope.anatomy.window_extents import (
    accumulate_extent,
    mix_channels,
)


@rule(
    "mean",
    "sum",
    "amax",
    "amin",
    "prod",
    "var",
    "std",
    "var_mean",
    "std_mean",
    "linalg_vector_norm",
    "norm",
    "logsumexp",
    "max",
    "min",
    "argmax",
    "argmin",
    "any",
    "all",
    "median",
    "nansum",
    "nanmean",
    "aminmax",
    "mode",
    "count_nonzero",
    "kthvalue",
    "frobenius_norm",
    "sum_to_size",
)
def reduction(call: Call) -> Any:
    if isinstance(call.get("other"), Tensor):  # the larger of two tensors
        return elementwise(call)
    extent = call.extent
    dims = call.get("dim")
    dims = list(range(len(extent.shape))) if dims is None or dims == [] else each_of(dims, 1)
    keep = bool(call.get("keepdim", False))
    extent = reduce_dims(mixed_stimuli(extent, dims, why=call.name), dims, keep=keep, why=call.name)
    return tuple(extent for _ in call.result) if isinstance(call.result, tuple) else extent


def mixed_stimuli(extent: Extent, dims: Sequence[int], *, why: str) -> Extent:
    """The same maps, marked as unknown where an operation over `dims` mixes the stimuli of a batch."""
    if not any(
        extent.label(dim % len(extent.shape)) == "stimulus" and extent.shape[dim] > 1 for dim in dims if extent.shape
    ):
        return extent
    return replace(extent, unknown=extent.unknown | {f"{why.strip('_')} over the stimuli of a batch"})


@rule("_softmax", "softmax", "_log_softmax", "log_softmax", "_safe_softmax", "sort")
def along_dimension(call: Call) -> Any:
    """All elements along a dimension see each other."""
    extent = mixed_stimuli(call.extent, [call["dim"]], why=call.name)
    extent = reduce_dims(extent, [call["dim"]], keep=True, why=call.name.strip("_"), spread=True)
    return tuple(extent for _ in call.result) if isinstance(call.result, tuple) else extent


@rule("cumsum", "cumprod", "cummax", "cummin", "logcumsumexp")
def running(call: Call) -> Any:
    extent = accumulate_extent(call.extent, call["dim"], backwards=False, why=call.name)
    return tuple(extent for _ in call.result) if isinstance(call.result, tuple) else extent


@rule("mkldnn_rnn_layer")
def recurrent(call: Call) -> Any:
    """One direction of a recurrent layer: [time sequence feature], each moment sees those before it."""
    extent = call.extent
    if any(call.extent_of(call.get(name)) is not None for name in ("hx_", "cx_")):
        return coarse(call)
    extent = accumulate_extent(extent, 0, backwards=bool(call["reverse"]), why="recurrent layer")
    output = mix_channels(extent, 2, groups=1, out=call.result[0].shape[2])
    # The last state has seen all moments.
    last = reduce_dims(extent, [0, 2], keep=True, why="recurrent layer")
    states = [
        replace(spread_over_shape(last, tuple(state.shape), extent.dims), dims=extent.dims)
        if isinstance(state, Tensor) and state.ndim == 3
        else None
        for state in call.result[1:]
    ]
    return (output, *states)


@rule("topk")
def highest(call: Call) -> Any:
    extent = reduce_dims(call.extent, [call["dim"]], keep=True, why="topk")
    shape = tuple(call.result[0].shape)
    return (replace(extent, shape=shape),) * 2


@rule("native_layer_norm", "layer_norm", "rms_norm", "_fused_rms_norm")
def layer_norm(call: Call) -> Any:
    dims = [-1 - axis for axis in range(len(call["normalized_shape"]))]
    extent = reduce_dims(call.extent, dims, keep=True, why="layer norm", spread=True)
    return (extent, *(None for _ in call.result[1:])) if isinstance(call.result, tuple) else extent


@rule("native_group_norm", "group_norm")
def group_norm(call: Call) -> Any:
    extent = call.extent
    groups = call.get("group") or call.get("num_groups")
    shape = extent.shape
    # The channels of a group become an axis of their own, so that each group is reduced by itself.
    split = reshape_extent(extent, (shape[0], groups, shape[1] // groups, *shape[2:]))
    mixed = reduce_dims(split, range(2, len(shape) + 1), keep=True, why="group norm", spread=True)
    result = replace(reshape_extent(mixed, shape), dims=extent.dims)
    return (result, *(None for _ in call.result[1:])) if isinstance(call.result, tuple) else result


@rule(
    "native_batch_norm",
    "batch_norm",
    "_native_batch_norm_legit",
    "_native_batch_norm_legit_no_training",
    "_native_batch_norm_legit_functional",
    "cudnn_batch_norm",
    "miopen_batch_norm",
    "_batch_norm_with_update",
    "batch_norm_with_update",
    "_batch_norm_impl_index",
    "_batch_norm_no_update",
)
def batch_norm(call: Call) -> Any:
    """With its running statistics elementwise; with those of the batch (instance norm calls it so) all but the
    channel.
    """
    extent = call.extent
    # Some operations say it by an argument, others by their name.
    trains = call.get("training", call.get("train", "legit_no" not in call.name and "no_update" not in call.name))
    if trains:
        # Instance normalization calls it with the stimuli laid among the channels, so that the first axis has length 1.
        dims = [0, *range(2, len(extent.shape))]
        extent = reduce_dims(
            mixed_stimuli(extent, dims, why="normalization"), dims, keep=True, why="normalization", spread=True
        )
    return (extent, *(None for _ in call.result[1:])) if isinstance(call.result, tuple) else extent


@rule("glu")
def gated_half(call: Call) -> Extent:
    """The first half times the sigmoid of the second."""
    extent, dim = call.extent, call["dim"] % len(call.extent.shape)
    half = extent.shape[dim] // 2
    result = hull([take_places(extent, dim, np.arange(half)), take_places(extent, dim, np.arange(half, 2 * half))])
    return replace(
        result, dims=tuple(f if i != dim else tuple((n, half) for n, _ in f[:1]) for i, f in enumerate(result.dims))
    )


@rule("_fft_r2c", "_fft_c2r", "_fft_c2c")
def fourier(call: Call) -> Extent:
    extent = reduce_dims(call.extent, call["dim"], keep=True, why="Fourier transform")
    return spread_over_shape(extent, tuple(call.result.shape), call.extent.dims)
