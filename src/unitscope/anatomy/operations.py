"""What each operation of torch lets its output see: one rule per operation, none of them guessed.

An operation is a `Call`: its plain name, its arguments by name, its result, and the maps of its tensors before it ran.
Elementwise operations, which torch marks as such, need no rule: they see the hull of their operands. Windows are here,
views and rearrangements in rearrangements.py. Sources: methods of araujo2019 for windows, the operations' own
definitions otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from unitscope.anatomy.maps import (
    NO_RULE,
    Seen,
    Window,
    accumulated,
    channels_mixed,
    hull,
    ranged,
    reduced,
    relabeled,
    reshaped,
    slid,
    spread_over,
    squeezed,
    taken,
    without_rule,
)


@dataclass(slots=True)
class Gates:
    """Whether products with gates count (squeeze-and-excitation), and whether there were any."""

    count: bool = True
    met: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """One operation as it ran: `arguments` by name, `result`, and `seen`, which gives a tensor's maps or None for a
    constant.
    """

    name: str
    function: Any
    arguments: dict[str, Any]
    result: Any
    seen: Callable[[Any], Seen | None]
    gates: Gates

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.arguments.get(name, default)

    @property
    def subject(self) -> Tensor:
        """The first argument."""
        return next(iter(self.arguments.values()))

    @property
    def maps(self) -> Seen:
        """What the first argument sees; raises Constant where it is one."""
        seen = self.seen(self.subject)
        if seen is None:
            raise Constant
        return seen

    @property
    def all_seen(self) -> list[Seen]:
        """What all tensors among the arguments see, constants left out."""
        return [seen for tensor in flat(self.arguments.values()) if (seen := self.seen(tensor)) is not None]


class Constant(Exception):
    """A rule expects maps where the operation has a constant; the operation is then taken as unknown."""


Rule = Callable[[Call], Any]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    def enter(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return enter


def flat(values: Any) -> list[Tensor]:
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += flat(value)
    return found


ELEMENTWISE = frozenset(
    [
        "alias", "clamp", "clone", "contiguous", "copy", "detach", "dropout", "hardsigmoid", "hardswish", "hardtanh",
        "lift_fresh",
        "log_sigmoid_forward", "masked_fill", "nan_to_num", "_prelu_kernel", "prelu", "relu6", "rrelu_with_noise",
        "_to_copy", "to",
        "where", "_conj", "real", "imag", "fake_quantize_per_tensor_affine",
    ]
)  # fmt: skip
"""Elementwise operations that torch does not mark as pointwise (or does so only in some versions)."""


def elementwise(call: Call) -> Seen:
    return hull(call.all_seen)


@rule("mul")
def multiplied(call: Call) -> Seen:
    """Elementwise; but what one number per channel, taken from the whole image, does to a map is called gating."""
    seens = call.all_seen
    gate = next((seen for seen in seens if len(seens) == 2 and is_gate(seen)), None)
    if gate is not None:
        gated = next(seen for seen in seens if seen is not gate)
        if not is_gate(gated) and any((rule != NO_RULE).all() for rule in gated.rules):
            call.gates.met = True
            if not call.gates.count:
                return hull([gated])
    return hull(seens)


def is_gate(seen: Seen) -> bool:
    """Whether a value is the same at all positions because it was taken from all of them."""
    spatial = [dim for dim in range(len(seen.shape)) if seen.label(dim) not in ("stimulus", "channel")]
    flat_maps = all(array.shape[dim + 1] == 1 for array in seen.maps for dim in spatial)
    return flat_maps and bool(seen.lost) and all((rule == NO_RULE).all() for rule in seen.rules)


# windows


def each_of(value: Any, count: int) -> list[int]:
    """A scalar or a list of one or `count` numbers, as `count` numbers."""
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    return values * count if len(values) == 1 else values


@rule(
    "convolution",
    "_convolution",
    "convolution_overrideable",
    "cudnn_convolution",
    "mkldnn_convolution",
    "miopen_convolution",
)
def convolution(call: Call) -> Seen:
    weight: Tensor = call["weight"]
    nd = weight.ndim - 2
    seen = call.maps
    if len(seen.shape) == nd + 1:
        raise Constant
    if call.seen(weight) is not None:
        return coarse(call)
    stride, padding = each_of(call.get("stride", 1), nd), each_of(call.get("padding", 0), nd)
    dilation, groups = each_of(call.get("dilation", 1), nd), call.get("groups", 1)
    seen = channels_mixed(seen, 1, groups=groups, out=call.result.shape[1])
    for axis in range(nd):
        taps, out = weight.shape[2 + axis], call.result.shape[2 + axis]
        if call.get("transposed", False):
            seen = transposed(seen, 2 + axis, taps, stride[axis], padding[axis], dilation[axis], out)
        else:
            seen = slid(
                seen, 2 + axis, Window(taps, stride[axis], padding[axis], dilation[axis], out), why="convolution"
            )
    return seen


def transposed(seen: Seen, dim: int, taps: int, stride: int, padding: int, dilation: int, out: int) -> Seen:
    """Transposed convolution along one dimension: output o reads the inputs i with o = i stride - padding + tap
    dilation.
    """
    if stride == 1:
        return slid(seen, dim, Window(taps, 1, dilation * (taps - 1) - padding, dilation, out), why="conv_transpose")
    size = seen.shape[dim]
    offsets = np.arange(out)[:, None] + padding - np.arange(taps)[None, :] * dilation
    sources, whole = offsets // stride, offsets % stride == 0
    inside = whole & (sources >= 0) & (sources < size)
    first = np.where(inside, sources, size).min(1)
    last = np.where(inside, sources, -1).max(1)
    return ranged(seen, dim, first, last, why="conv_transpose", step=finer(seen, dim, stride))


def finer(seen: Seen, dim: int, factor: float) -> int | None:
    """The step on a lattice that is finer by `factor`, where it is a whole number of pixels."""
    label = seen.label(dim)
    step = seen.steps[("row", "col").index(label)] if label in ("row", "col") else None
    return int(step / factor) if step is not None and factor > 0 and (step / factor).is_integer() else None


@rule(
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_pool2d_with_indices",
    "max_pool3d_with_indices",
    "mkldnn_max_pool2d",
    "quantized_max_pool2d",
)
def pooling(call: Call) -> Any:
    seen = call.maps
    result = call.result[0] if isinstance(call.result, tuple) else call.result
    nd = int(call.name.split("pool")[1][0])
    taps = each_of(call["kernel_size"], nd)
    stride = each_of(call.get("stride") or taps, nd)
    padding, dilation = each_of(call.get("padding", 0), nd), each_of(call.get("dilation", 1), nd)
    for axis in range(nd):
        window = Window(taps[axis], stride[axis], padding[axis], dilation[axis], result.shape[axis - nd])
        seen = slid(seen, len(seen.shape) + axis - nd, window, why="pooling")
    return (seen, seen) if isinstance(call.result, tuple) else seen


@rule(
    "_adaptive_avg_pool2d",
    "_adaptive_avg_pool3d",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "mkldnn_adaptive_avg_pool2d",
)
def adaptive_pooling(call: Call) -> Any:
    """Output o of O reads the positions floor(o N / O) ... ceil((o + 1) N / O) - 1 of N."""
    seen = call.maps
    nd = len(each_of(call["output_size"], 1)) if isinstance(call["output_size"], (list, tuple)) else 1
    result = call.result[0] if isinstance(call.result, tuple) else call.result
    for axis in range(-nd, 0):
        dim = len(seen.shape) + axis
        size, out = seen.shape[dim], result.shape[dim]
        if out == 1 and size > 1:
            seen = reduced(seen, [dim], keep=True, why="adaptive pooling")
        elif size % out == 0:
            seen = slid(seen, dim, Window(size // out, size // out, 0, 1, out), why="adaptive pooling")
        else:
            o = np.arange(out)
            first, last = o * size // out, -((-(o + 1) * size) // out) - 1
            seen = ranged(seen, dim, first, last, why="adaptive pooling")
    return (seen, seen) if isinstance(call.result, tuple) else seen


@rule(
    "upsample_nearest1d",
    "upsample_nearest2d",
    "upsample_nearest3d",
    "_upsample_nearest_exact2d",
    "upsample_linear1d",
    "upsample_bilinear2d",
    "upsample_bicubic2d",
    "_upsample_bilinear2d_aa",
    "_upsample_bicubic2d_aa",
)
def upsampling(call: Call) -> Seen:
    seen = call.maps
    nd = len(seen.shape) - 2
    for axis in range(nd):
        dim, size, out = 2 + axis, call.subject.shape[2 + axis], call.result.shape[2 + axis]
        if size == out and "cubic" not in call.name and "_aa" not in call.name and not call.get("align_corners"):
            continue
        first, last = sources(call, axis, size, out)
        seen = ranged(seen, dim, first, last, why="upsampling", step=finer(seen, dim, out / size))
    return seen


def sources(call: Call, axis: int, size: int, out: int) -> tuple[np.ndarray, np.ndarray]:
    """First and last input position that each output position of an interpolation reads."""
    given = scale_of(call, axis)
    scale = 1 / given if given else size / out
    if call.get("align_corners"):
        scale = (size - 1) / (out - 1) if out > 1 else 0.0
    at = np.arange(out)
    if "nearest" in call.name:
        half = 0.5 if "exact" in call.name else 0.0
        place = np.minimum(np.floor(np.float32(scale) * (at + half).astype(np.float32)), size - 1).astype(np.int64)
        return place, place
    center = at * scale if call.get("align_corners") else (at + 0.5) * scale - 0.5
    if "_aa" in call.name:
        reach = (2.0 if "cubic" in call.name else 1.0) * max(scale, 1.0)
        low = np.floor(center + 0.5 - reach + 0.5).astype(np.int64)
        high = np.floor(center + 0.5 + reach + 0.5).astype(np.int64) - 1
    elif "cubic" in call.name:
        low, high = np.floor(center).astype(np.int64) - 1, np.floor(center).astype(np.int64) + 2
    else:
        center = np.maximum(center, 0)
        low, high = np.floor(center).astype(np.int64), np.floor(center).astype(np.int64) + 1
    return np.clip(low, 0, size - 1), np.clip(high, 0, size - 1)


def scale_of(call: Call, axis: int) -> float | None:
    factors = call.get("scale_factors")
    if factors:
        return float(factors[axis])
    given = call.get(("scales_h", "scales_w")[axis]) if "2d" in call.name else call.get("scales")
    return float(given) if given else None


# mixing channels and positions


@rule("mm", "bmm", "matmul", "addmm", "addbmm", "baddbmm", "linear", "mv", "dot", "addmv")
def product(call: Call) -> Seen:
    """Matrix products: rows of the first, columns of the second factor, and all that they are summed over."""
    factors = [value for key, value in call.arguments.items() if isinstance(value, Tensor) and key not in ("bias",)]
    extra = factors[:-2] if call.name.startswith(("add", "badd")) else []
    first, second = factors[-2:] if call.name != "linear" else (call["input"], call["weight"])
    if first.ndim < 2 or second.ndim < 2:
        return coarse(call)
    seen = [at for at in (self_or_none(call, value) for value in extra) if at is not None]
    left, right = call.seen(first), call.seen(second)
    if right is not None and call.name == "linear":
        return coarse(call)
    shape = tuple(call.result.shape)
    if left is not None:
        left = reduced(left, [-1], keep=True, why=call.name)
        left = replace(left, dims=(*left.dims[:-1], right.dims[-1] if right is not None else (("channel", 1),)))
        seen.append(replace(left, shape=(*left.shape[:-1], shape[-1])))
    if right is not None:
        right = reduced(right, [-2], keep=True, why=call.name)
        dims = right.dims if left is None else (*right.dims[:-2], left.dims[-2], right.dims[-1])
        seen.append(replace(right, shape=(*right.shape[:-2], *shape[-2:]), dims=dims))
    result = hull(seen)
    result = replace(result, shape=shape)
    return relabeled(result, -1, "channel") if right is None else result


def self_or_none(call: Call, value: Any) -> Seen | None:
    return call.seen(value) if isinstance(value, Tensor) else None


@rule(
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_attention_math",
    "_scaled_dot_product_cudnn_attention",
    "scaled_dot_product_attention",
    "_scaled_dot_product_fused_attention_overrideable",
    "_scaled_dot_product_attention_math_for_mps",
)
def attention(call: Call) -> Any:
    """A query sees itself, all keys and all values."""
    parts = []
    for name, dims in (("query", [-1]), ("key", [-1, -2]), ("value", [-2])):
        seen = call.seen(call[name])
        if seen is not None:
            parts.append(reduced(seen, dims, keep=True, why="attention"))
    masks = [self_or_none(call, call.get(name)) for name in ("attn_mask", "attn_bias")]
    parts += [reduced(mask, [-1], keep=True, why="attention") for mask in masks if mask is not None]
    result = call.result[0] if isinstance(call.result, tuple) else call.result
    seen = hull(parts)
    seen = spread_over(seen, tuple(result.shape), seen.dims)
    like = call.seen(call["query"])
    if like is not None:
        seen = replace(seen, dims=like.dims)
    if call.get("is_causal"):
        seen = replace(seen, bounded=seen.bounded | {"causal attention"})
    return (seen, *(None for _ in call.result[1:])) if isinstance(call.result, tuple) else seen


@rule("_native_multi_head_attention", "_transformer_encoder_layer_fwd")
def encoder(call: Call) -> Any:
    """torch's fused attention: all positions of a sequence (second dimension), all channels."""
    seen = hull([reduced(seen, [1, 2], keep=True, why="attention") for seen in call.all_seen if len(seen.shape) == 3])
    like = call.maps
    result = call.result[0] if isinstance(call.result, tuple) else call.result
    seen = spread_over(seen, tuple(result.shape), like.dims)
    return (seen, *(None for _ in call.result[1:])) if isinstance(call.result, tuple) else seen


# reductions and normalizations


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
    seen = reduced(seen, dims, keep=keep, why=call.name)
    return tuple(seen for _ in call.result) if isinstance(call.result, tuple) else seen


@rule("_softmax", "softmax", "_log_softmax", "log_softmax", "_safe_softmax", "sort")
def along_dimension(call: Call) -> Any:
    """All elements along a dimension see each other."""
    seen = reduced(call.maps, [call["dim"]], keep=True, why=call.name.strip("_"), spread=True)
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
    states = [spread_over(last, tuple(state.shape), ()) if state.ndim == 3 else None for state in call.result[1:]]
    return (output, *(None if state is None else replace(state, dims=seen.dims) for state in states))


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
        seen = reduced(seen, dims, keep=True, why="normalization", spread=True)
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


@rule(
    "lstm",
    "gru",
    "rnn_tanh",
    "rnn_relu",
    "_cudnn_rnn",
    "grid_sampler_2d",
    "cudnn_grid_sampler",
    "gather",
    "index_put",
    "_index_put_impl",
    "scatter",
    "scatter_add",
    "scatter_reduce",
    "embedding",
    "col2im",
    "deform_conv2d",
)
def coarse(call: Call) -> Any:
    """An upper bound: every output sees all that any input of its stimulus sees, or of all stimuli where they cannot
    be told apart.
    """
    seens = call.all_seen
    return coarse_like(seens, call.result, why=call.name)


def coarse_like(seens: Sequence[Seen], result: Any, *, why: str) -> Any:
    whole = hull([squeezed(every(seen), range(len(seen.shape))) for seen in seens])
    whole = without_rule(whole, why)
    whole = replace(whole, bounded=whole.bounded | {why})
    stimulus = next((seen.shape[0] for seen in seens if seen.shape and seen.label(0) == "stimulus"), None)

    def one(value: Any) -> Seen | None:
        if not isinstance(value, Tensor):
            return None
        shape = tuple(value.shape)
        known = next((seen.dims for seen in seens if len(seen.shape) == len(shape)), None)
        dims = tuple(
            tuple((name, shape[i]) for name, _ in factors[:1]) for i, factors in enumerate(known or ((),) * len(shape))
        )
        if shape and shape[0] == stimulus and not dims[0]:
            dims = ((("stimulus", shape[0]),), *dims[1:])
        return spread_over(whole, shape, dims)

    return tuple(one(value) for value in result) if isinstance(result, (tuple, list)) else one(result)


def every(seen: Seen) -> Seen:
    return reduced(seen, range(len(seen.shape)), keep=True, why="")
