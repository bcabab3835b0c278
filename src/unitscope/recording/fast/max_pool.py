"""Max-pooling without noting where each maximum was: the same maxima as PyTorch's, in less time.

On a CPU, PyTorch's max-pooling also computes the position of each maximum, which only training needs.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from unitscope.recording.fast.fused_ops import replace_forward
from unitscope.recording.fast.library import library


@contextmanager
def replace_max_pools(module: nn.Module) -> Iterator[None]:
    """While open, the network's max-poolings are done by the compiled library where they can be."""
    with ExitStack() as stack:
        for part in module.modules():
            # Not isinstance: the forward of a subclass may do something else.
            if type(part) is nn.MaxPool2d and not part.return_indices and "forward" not in vars(part):
                stack.callback(replace_forward(part, partial(max_pool, part)))
        yield


def max_pool(part: nn.MaxPool2d, input: Tensor) -> Tensor:
    """What the module gives, bit for bit. (The name of the argument is that of the module's own.)"""
    x = input
    found = library()
    last = torch.channels_last
    if found is None or not (
        x.is_cpu and x.dtype == torch.float32 and x.ndim == 4 and x.is_contiguous(memory_format=last)
    ):
        return nn.MaxPool2d.forward(part, x)
    # On the device "meta" only shapes are computed: this is PyTorch's own rule, ceil_mode included.
    shape = nn.MaxPool2d.forward(part, x.to("meta")).shape
    maxima = torch.empty(shape, memory_format=last)
    pairs = [make_pair(value) for value in (part.kernel_size, part.stride, part.padding, part.dilation)]
    maps, units, height, width = x.shape
    found.pool(x.data_ptr(), maps, height, width, units, *shape[2:], *pairs, maxima.data_ptr())
    return maxima


def make_pair(value: int | tuple[int, ...]) -> ctypes.Array[ctypes.c_long]:
    """A number for rows and one for columns, as the compiled function takes them."""
    both = (value, value) if isinstance(value, int) else value
    return (ctypes.c_long * 2)(*both)
