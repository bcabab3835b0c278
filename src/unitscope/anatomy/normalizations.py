"""Operations that compare or sum many elements: reductions, normalizations, recurrent layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from unitscope.anatomy.calls import (
    Call,
    coarse,
    each_of,
    elementwise,
    rule,
)
from unitscope.anatomy.maps import (
    Seen,
    hull,
    reduced,
    spread_over,
)
from unitscope.anatomy.views import (
    reshaped,
    taken,
)
from unitscope.anatomy.windows import (
    accumulated,
    channels_mixed,
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
    seen = call.maps
    dims = call.get("dim")
    dims = list(range(len(seen.shape))) if dims is None or dims == [] else each_of(dims, 1)
    keep = bool(call.get("keepdim", False))
    seen = reduced(mixed_stimuli(seen, dims, why=call.name), dims, keep=keep, why=call.name)
    return tuple(seen for _ in call.result) if isinstance(call.result, tuple) else seen


def mixed_stimuli(seen: Seen, dims: Sequence[int], *, why: str) -> Seen:
    """The same maps, marked as unknown where an operation over `dims` mixes the stimuli of a batch."""
    if not any(seen.label(dim % len(seen.shape)) == "stimulus" and seen.shape[dim] > 1 for dim in dims if seen.shape):
        return seen
    return replace(seen, unknown=seen.unknown | {f"{why.strip('_')} over the stimuli of a batch"})


@rule("_softmax", "softmax", "_log_softmax", "log_softmax", "_safe_softmax", "sort")
def along_dimension(call: Call) -> Any:
    """All elements along a dimension see each other."""
    seen = mixed_stimuli(call.maps, [call["dim"]], why=call.name)
    seen = reduced(seen, [call["dim"]], keep=True, why=call.name.strip("_"), spread=True)
    return tuple(seen for _ in call.result) if isinstance(call.result, tuple) else seen


@rule("cumsum", "cumprod", "cummax", "cummin", "logcumsumexp")
def running(call: Call) -> Any:
    seen = accumulated(call.maps, call["dim"], backwards=False, why=call.name)
    return tuple(seen for _ in call.result) if isinstance(call.result, tuple) else seen


@rule("mkldnn_rnn_layer")
def recurrent(call: Call) -> Any:
    """One direction of a recurrent layer: [time sequence feature], each moment sees those before it."""
    seen = call.maps
    if any(call.seen(call.get(name)) is not None for name in ("hx_", "cx_")):
        return coarse(call)
    seen = accumulated(seen, 0, backwards=bool(call["reverse"]), why="recurrent layer")
    output = channels_mixed(seen, 2, groups=1, out=call.result[0].shape[2])
    last = reduced(seen, [0, 2], keep=True, why="recurrent layer")
    states = [
        replace(spread_over(last, tuple(state.shape), seen.dims), dims=seen.dims)
        if isinstance(state, Tensor) and state.ndim == 3
        else None
        for state in call.result[1:]
    ]
    return (output, *states)


@rule("topk")
def highest(call: Call) -> Any:
    seen = reduced(call.maps, [call["dim"]], keep=True, why="topk")
    shape = tuple(call.result[0].shape)
    return (replace(seen, shape=shape),) * 2


@rule("native_layer_norm", "layer_norm", "rms_norm", "_fused_rms_norm")
def layer_norm(call: Call) -> Any:
    dims = [-1 - axis for axis in range(len(call["normalized_shape"]))]
    seen = reduced(call.maps, dims, keep=True, why="layer norm", spread=True)
    return (seen, *(None for _ in call.result[1:])) if isinstance(call.result, tuple) else seen


@rule("native_group_norm", "group_norm")
def group_norm(call: Call) -> Any:
    seen = call.maps
    groups = call.get("group") or call.get("num_groups")
    shape = seen.shape
    split = reshaped(seen, (shape[0], groups, shape[1] // groups, *shape[2:]))
    mixed = reduced(split, range(2, len(shape) + 1), keep=True, why="group norm", spread=True)
    result = replace(reshaped(mixed, shape), dims=seen.dims)
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
    seen = call.maps
    trains = call.get("training", call.get("train", "legit_no" not in call.name and "no_update" not in call.name))
    if trains:
        dims = [0, *range(2, len(seen.shape))]
        seen = reduced(
            mixed_stimuli(seen, dims, why="normalization"), dims, keep=True, why="normalization", spread=True
        )
    return (seen, *(None for _ in call.result[1:])) if isinstance(call.result, tuple) else seen


@rule("glu")
def gated_half(call: Call) -> Seen:
    """The first half times the sigmoid of the second."""
    seen, dim = call.maps, call["dim"] % len(call.maps.shape)
    half = seen.shape[dim] // 2
    result = hull([taken(seen, dim, np.arange(half)), taken(seen, dim, np.arange(half, 2 * half))])
    return replace(
        result, dims=tuple(f if i != dim else tuple((n, half) for n, _ in f[:1]) for i, f in enumerate(result.dims))
    )


@rule("_fft_r2c", "_fft_c2r", "_fft_c2c")
def fourier(call: Call) -> Seen:
    seen = reduced(call.maps, call["dim"], keep=True, why="Fourier transform")
    return spread_over(seen, tuple(call.result.shape), call.maps.dims)
