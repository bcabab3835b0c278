"""Operations that read through windows or sum over channels: convolution, pooling, interpolation, products.

Examples:
    convolution of 3 rows, stride 2, padding 1      row 4 reads rows 7 to 9
    adaptive pooling of 7 rows to 3                 rows 0 to 2, 2 to 4 and 4 to 6
    bilinear interpolation to twice the size        row 3 reads rows 1 and 2
    product with a matrix of weights                each position reads all of its own channels
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from unitscope.anatomy.extent_maps import (
    NO_RULE,
    Extent,
    hull,
    reduce_dims,
    relabel_dim,
    spread_over_shape,
)
from unitscope.anatomy.extent_registry import (
    Call,
    Constant,
    coarse,
    each_of,
    extent_or_none,
    rule,
)
from unitscope.anatomy.window_extents import (
    Window,
    mix_channels,
    slide_window,
    take_ranges,
)


@rule("mul")
def multiply_extents(call: Call) -> Extent:
    """Elementwise; but what one number per channel, taken from the whole image, does to a map is called gating."""
    extents = call.extents
    gates = [is_gate(extent) for extent in extents]
    # Squeeze-and-excitation: a map times one number per channel that was taken from the whole map. With the gate all
    # neurons see the whole picture; without, the map's own field remains.
    if len(extents) == 2 and gates[0] != gates[1]:
        gated = extents[gates.index(False)]
        if any((rule != NO_RULE).all() for rule in gated.rules):
            call.gates.met = True
            if not call.gates.count:
                return hull([gated])
    return hull(extents)


def is_gate(extent: Extent) -> bool:
    """Whether a value is the same at all positions because it was taken from all of them."""
    spatial = [dim for dim in range(len(extent.shape)) if extent.label(dim) not in ("stimulus", "channel")]
    flat_maps = all(array.shape[dim + 1] == 1 for array in extent.maps for dim in spatial)
    return flat_maps and bool(extent.lost) and all((rule == NO_RULE).all() for rule in extent.rules)


@rule(
    "convolution",
    "_convolution",
    "convolution_overrideable",
    "cudnn_convolution",
    "mkldnn_convolution",
    "miopen_convolution",
)
def convolution(call: Call) -> Extent:
    weight: Tensor = call["weight"]
    nd = weight.ndim - 2
    extent = call.extent
    # A picture without an axis of stimuli.
    if len(extent.shape) == nd + 1:
        raise Constant
    # Kernels that depend on the picture.
    if call.extent_of(weight) is not None:
        return coarse(call)
    call.gates.outer_zeros |= has_outer_zeros(weight)
    stride, padding = each_of(call.get("stride", 1), nd), each_of(call.get("padding", 0), nd)
    dilation, groups = each_of(call.get("dilation", 1), nd), call.get("groups", 1)
    extent = mix_channels(extent, 1, groups=groups, out=call.result.shape[1])
    for axis in range(nd):
        taps, out = weight.shape[2 + axis], call.result.shape[2 + axis]
        if call.get("transposed", False):
            extent = transpose_window(extent, 2 + axis, taps, stride[axis], padding[axis], dilation[axis], out)
        else:
            extent = slide_window(
                extent, 2 + axis, Window(taps, stride[axis], padding[axis], dilation[axis], out), why="convolution"
            )
    return extent


def has_outer_zeros(weight: Tensor) -> bool:
    """Whether the first or last row or column of all kernels is 0 (masked and causal convolutions)."""
    ends = [weight.select(axis, end) for axis in range(2, weight.ndim) for end in (0, -1) if weight.shape[axis] > 1]
    return any(not bool(end.any()) for end in ends)


def transpose_window(extent: Extent, dim: int, taps: int, stride: int, padding: int, dilation: int, out: int) -> Extent:
    """Transposed convolution along one dimension: output o reads the inputs i with o = i stride - padding + tap
    dilation.
    """
    if stride == 1:
        return slide_window(
            extent, dim, Window(taps, 1, dilation * (taps - 1) - padding, dilation, out), why="conv_transpose"
        )
    size = extent.shape[dim]
    offsets = np.arange(out)[:, None] + padding - np.arange(taps)[None, :] * dilation
    sources, whole = offsets // stride, offsets % stride == 0
    inside = whole & (sources >= 0) & (sources < size)
    first = np.where(inside, sources, size).min(1)
    last = np.where(inside, sources, -1).max(1)
    return take_ranges(extent, dim, first, last, why="conv_transpose", step=finer(extent, dim, stride))


def finer(extent: Extent, dim: int, factor: float) -> int | None:
    """The step on a lattice that is finer by `factor`, where it is a whole number of pixels."""
    label = extent.label(dim)
    step = extent.steps[("row", "col").index(label)] if label in ("row", "col") else None
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
    extent = call.extent
    result = call.result[0] if isinstance(call.result, tuple) else call.result
    nd = int(call.name.split("pool")[1][0])
    taps = each_of(call["kernel_size"], nd)
    stride = each_of(call.get("stride") or taps, nd)
    padding, dilation = each_of(call.get("padding", 0), nd), each_of(call.get("dilation", 1), nd)
    for axis in range(nd):
        window = Window(taps[axis], stride[axis], padding[axis], dilation[axis], result.shape[axis - nd])
        extent = slide_window(extent, len(extent.shape) + axis - nd, window, why="pooling")
    return (extent, extent) if isinstance(call.result, tuple) else extent


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
    extent = call.extent
    nd = len(each_of(call["output_size"], 1)) if isinstance(call["output_size"], (list, tuple)) else 1
    result = call.result[0] if isinstance(call.result, tuple) else call.result
    for axis in range(-nd, 0):
        dim = len(extent.shape) + axis
        size, out = extent.shape[dim], result.shape[dim]
        if out == 1 and size > 1:
            extent = reduce_dims(extent, [dim], keep=True, why="adaptive pooling")
        # Windows of one size at one distance: an ordinary pooling, which keeps the rule.
        elif size % out == 0:
            extent = slide_window(extent, dim, Window(size // out, size // out, 0, 1, out), why="adaptive pooling")
        else:
            o = np.arange(out)
            # -(-a // b) is a / b rounded up.
            first, last = o * size // out, -((-(o + 1) * size) // out) - 1
            extent = take_ranges(extent, dim, first, last, why="adaptive pooling")
    return (extent, extent) if isinstance(call.result, tuple) else extent


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
def upsampling(call: Call) -> Extent:
    extent = call.extent
    nd = len(extent.shape) - 2
    for axis in range(nd):
        dim, size, out = 2 + axis, call.subject.shape[2 + axis], call.result.shape[2 + axis]
        if size == out and "cubic" not in call.name and "_aa" not in call.name and not call.get("align_corners"):
            continue
        first, last = sources(call, axis, size, out)
        extent = take_ranges(extent, dim, first, last, why="upsampling", step=finer(extent, dim, out / size))
    return extent


def sources(call: Call, axis: int, size: int, out: int) -> tuple[np.ndarray, np.ndarray]:
    """First and last input position that each output position of an interpolation reads."""
    given = scale_of(call, axis)
    scale = 1 / given if given else size / out
    if call.get("align_corners"):
        scale = (size - 1) / (out - 1) if out > 1 else 0.0
    at = np.arange(out)
    if "nearest" in call.name:
        half = 0.5 if "exact" in call.name else 0.0
        # In float32, as torch computes it: its rounding decides which pixel is the nearest.
        place = np.minimum(np.floor(np.float32(scale) * (at + half).astype(np.float32)), size - 1).astype(np.int64)
        return place, place
    # Pixels are squares: the middle of pixel 0 lies at 0.5. With align_corners the first and the last pixels lie upon
    # each other.
    center = at * scale if call.get("align_corners") else (at + 0.5) * scale - 0.5
    if "_aa" in call.name:
        reach = (2.0 if "cubic" in call.name else 1.0) * max(scale, 1.0)
        low = np.floor(center + 0.5 - reach + 0.5).astype(np.int64)
        high = np.floor(center + 0.5 + reach + 0.5).astype(np.int64) - 1
    elif "cubic" in call.name:
        low, high = np.floor(center).astype(np.int64) - 1, np.floor(center).astype(np.int64) + 2
    else:
        # Before the middle of pixel 0 there is nothing to interpolate: it is taken as it is.
        center = np.maximum(center, 0)
        low, high = np.floor(center).astype(np.int64), np.floor(center).astype(np.int64) + 1
    return np.clip(low, 0, size - 1), np.clip(high, 0, size - 1)


def scale_of(call: Call, axis: int) -> float | None:
    factors = call.get("scale_factors")
    if factors:
        return float(factors[axis])
    given = call.get(("scales_h", "scales_w")[axis]) if "2d" in call.name else call.get("scales")
    return float(given) if given else None


@rule("mm", "bmm", "matmul", "addmm", "addbmm", "baddbmm", "linear", "mv", "dot", "addmv")
def product(call: Call) -> Extent:
    """Matrix products: rows of the first, columns of the second factor, and all that they are summed over."""
    factors = [value for key, value in call.arguments.items() if isinstance(value, Tensor) and key not in ("bias",)]
    # addmm(added, first, second): the last two are multiplied.
    extra = factors[:-2] if call.name.startswith(("add", "badd")) else []
    first, second = factors[-2:] if call.name != "linear" else (call["input"], call["weight"])
    if first.ndim < 2 or second.ndim < 2:
        return coarse(call)
    extent = [at for at in (extent_or_none(call, value) for value in extra) if at is not None]
    left, right = call.extent_of(first), call.extent_of(second)
    if right is not None and call.name == "linear":
        return coarse(call)
    shape = tuple(call.result.shape)
    if left is not None:
        left = reduce_dims(left, [-1], keep=True, why=call.name)
        left = replace(left, dims=(*left.dims[:-1], right.dims[-1] if right is not None else (("channel", 1),)))
        extent.append(replace(left, shape=(*left.shape[:-1], shape[-1])))
    if right is not None:
        right = reduce_dims(right, [-2], keep=True, why=call.name)
        dims = right.dims if left is None else (*right.dims[:-2], left.dims[-2], right.dims[-1])
        extent.append(replace(right, shape=(*right.shape[:-2], *shape[-2:]), dims=dims))
    result = hull(extent)
    result = replace(result, shape=shape)
    # A product with constant weights makes channels.
    return relabel_dim(result, -1, "channel") if right is None else result


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
    # A position of the result asks with all channels of its own query, compares with all channels of all keys, and
    # takes its own channel of all values.
    for name, dims in (("query", [-1]), ("key", [-1, -2]), ("value", [-2])):
        extent = call.extent_of(call[name])
        if extent is not None:
            parts.append(reduce_dims(extent, dims, keep=True, why="attention"))
    masks = [extent_or_none(call, call.get(name)) for name in ("attn_mask", "attn_bias")]
    parts += [reduce_dims(mask, [-1], keep=True, why="attention") for mask in masks if mask is not None]
    result = call.result[0] if isinstance(call.result, tuple) else call.result
    extent = hull(parts)
    extent = spread_over_shape(extent, tuple(result.shape), extent.dims)
    like = call.extent_of(call["query"])
    if like is not None:
        extent = replace(extent, dims=like.dims)
    if call.get("is_causal"):
        extent = replace(extent, bounded=extent.bounded | {"causal attention"})
    return (extent, *(None for _ in call.result[1:])) if isinstance(call.result, tuple) else extent


@rule("_native_multi_head_attention", "_transformer_encoder_layer_fwd")
def encoder(call: Call) -> Any:
    """torch's fused attention: all positions of a sequence (second dimension), all channels."""
    extent = hull(
        [reduce_dims(extent, [1, 2], keep=True, why="attention") for extent in call.extents if len(extent.shape) == 3]
    )
    like = call.extent
    result = call.result[0] if isinstance(call.result, tuple) else call.result
    extent = spread_over_shape(extent, tuple(result.shape), like.dims)
    return (extent, *(None for _ in call.result[1:])) if isinstance(call.result, tuple) else extent
