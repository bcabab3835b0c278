"""Results that need not be computed: shapes and strides without numbers.

Problem: fields depend on shapes alone, and a forward pass spends nearly all its time on numbers.

Idea: convolutions, products and other costly operations give zeros of the right shape. The zeros come from memory that
the system hands out page by page when it is written to, which nobody does: a blank of 500 MB takes no time and no room.

    conv2d(x [2 3 224 224], 64 kernels of 7 x 7, stride 2)      zeros [2 64 112 112], at once
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from unitscope.anatomy.operations import kind

LARGE = 1 << 15
"""Elements of a tensor from which on it is quicker to ask for a result's shape alone than to compute it."""


def blank_result(name: str, function: Any, args: Any, kwargs: Any, arguments: dict[str, Any]) -> Any:
    """A result that nobody computed; None where it has to be.

    Only for operations on what depends on the picture. All else may be needed: tables of positions, masks, weights that
    are made of other weights.
    """
    if name in CHEAP:
        return CHEAP[name](arguments)
    if not (kind(name).costly or torch.Tag.pointwise in function.tags):
        return None
    first = args[0] if args else None
    if function._schema.is_mutable:
        # An operation in place has its result already, with other numbers.
        skipped = isinstance(first, Tensor) and first.is_floating_point() and first.numel() >= LARGE
        return first if skipped and function._schema.name.endswith("_") else None
    if not any(isinstance(value, Tensor) and value.numel() >= LARGE for value in leaves(args)):
        return None
    shapes = tree_map_only(Tensor, on_meta, (args, kwargs))
    try:
        shaped = function(*shapes[0], **shapes[1])
    except (NotImplementedError, RuntimeError):  # torch cannot give its shape alone, or it fails, and does so when run
        return None
    device = next(value.device for value in leaves(args) if isinstance(value, Tensor))
    return tree_map_only(Tensor, lambda value: zeros(value.shape, value.stride(), value.dtype, device), shaped)


def leaves(values: Any) -> list[Any]:
    return [leaf for value in values for leaf in (value if isinstance(value, (list, tuple)) else [value])]


def on_meta(tensor: Tensor) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


def zeros(shape: Any, stride: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros that take memory only where they are written to."""
    count = 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True)) if prod(shape) else 0
    if device.type != "cpu" or count < LARGE:
        return torch.empty_strided(shape, stride, dtype=dtype, device=device).zero_()
    # Not torch.zeros, which writes to the memory.
    memory = torch.from_numpy(np.zeros(count * dtype.itemsize, np.uint8)).view(dtype)
    return memory.as_strided(shape, stride)


def zeros_like(tensor: Tensor, shape: Any) -> Tensor:
    """Zeros of another shape, in row-major order, of the same kind and on the same device."""
    stride = [prod(shape[axis + 1 :]) for axis in range(len(shape))]
    return zeros(tuple(shape), stride, tensor.dtype, tensor.device)


def convolution(arguments: dict[str, Any]) -> Tensor:
    x, weight = arguments["input"], arguments["weight"]
    nd = weight.ndim - 2
    channels = weight.shape[0]
    spatial = []
    for axis in range(nd):
        n, k = x.shape[axis - nd], weight.shape[2 + axis]
        s, p, d = (picked(arguments[name], axis) for name in ("stride", "padding", "dilation"))
        if arguments["transposed"]:
            # The formulas of torch's own documentation (Conv2d, ConvTranspose2d).
            spatial.append((n - 1) * s - 2 * p + d * (k - 1) + picked(arguments["output_padding"], axis) + 1)
        else:
            spatial.append((n + 2 * p - d * (k - 1) - 1) // s + 1)
    # Where torch's own operation fails, this must fail, too: the network cannot be shown such a picture.
    if min(spatial) < 1:
        raise RuntimeError(f"Calculated output size {spatial} is too small")
    if x.shape[1] != (channels if arguments["transposed"] else weight.shape[1] * arguments["groups"]):
        raise RuntimeError(
            f"expected input to have {weight.shape[1] * arguments['groups']} channels, but got {x.shape[1]}"
        )
    if arguments["transposed"]:
        channels = weight.shape[1] * arguments["groups"]
    shape = (x.shape[0], channels, *spatial)
    # The result lies in memory as torch's own would: channels last where the operand lies so.
    if nd == 2 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous():
        return zeros_like(x, (shape[0], *spatial, channels)).permute(0, 3, 1, 2)
    return zeros_like(x, shape)


def picked(value: Any, axis: int) -> int:
    return value[axis] if len(value) > 1 else value[0]


def product(arguments: dict[str, Any]) -> Tensor:
    first: Tensor = arguments["mat1"] if "mat1" in arguments else arguments["self"]
    second: Tensor = arguments["mat2"]
    if first.shape[-1] != second.shape[-2]:
        raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({first.shape} and {second.shape})")
    return zeros_like(first, (*first.shape[:-1], second.shape[-1]))


def softmax(arguments: dict[str, Any]) -> Tensor:
    return zeros_like(arguments["self"], arguments["self"].shape)


def normalization(arguments: dict[str, Any]) -> tuple[Tensor, ...] | None:
    """With known statistics. To ask torch for the shape takes long."""
    x = arguments["input"]
    if arguments.get("training"):
        return None
    empty = x.new_empty(0)
    return zeros(x.shape, x.stride(), x.dtype, x.device), empty, empty


CHEAP: dict[str, Callable[[dict[str, Any]], Any]] = {
    "native_batch_norm": normalization,
    "_native_batch_norm_legit_no_training": normalization,
    "_softmax": softmax,
    "convolution": convolution,
    "addmm": product,
    "mm": product,
    "bmm": product,
}
"""Operations whose results are always left blank."""
