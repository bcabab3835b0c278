"""The type of numbers in which a network is shown pictures."""

from __future__ import annotations

import torch
from torch import nn

from unitscope.pristine import keep_pristine

FLOATING = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
"""Types of weights in which pictures can be shown."""


def types_of(module: nn.Module) -> tuple[torch.dtype, ...]:
    """The floating point types of a module's parameters and buffers, in their order."""
    tensors = [*module.parameters(), *module.buffers()]
    return tuple(dict.fromkeys(tensor.dtype for tensor in tensors if tensor.dtype in FLOATING))


def picture_type(module: nn.Module, picture: tuple[int, ...]) -> torch.dtype | None:
    """The type of a module's weights; where these are of several types, the first in which it can be shown pictures of
    this shape [color height width]. None for a module without weights of floating point.
    """
    types = types_of(module)
    if len(types) < 2:
        return next(iter(types), None)
    return next((dtype for dtype in types if runs_in(module, picture, dtype)), types[0])


def runs_in(module: nn.Module, picture: tuple[int, ...], dtype: torch.dtype) -> bool:
    """Whether a module can be shown pictures of a type. The module is left as it was."""
    device = next(module.parameters(), torch.empty(0)).device
    with keep_pristine(module), torch.no_grad():
        for stimuli in (2, 1):  # a network may be exported for one picture
            try:
                module(torch.zeros((stimuli, *picture), dtype=dtype, device=device))
            except Exception:  # whatever a network of a stranger raises
                continue
            return True
    return False
