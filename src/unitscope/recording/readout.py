"""The readout: what is read of response maps and blocks in one pass over memory, compiled where there is a compiler.

`readout.cc` is compiled on first use and kept in the user's cache (see compilation.py), under a name made of all that
it depends on, so that a cache may be shared by different machines; it runs in PyTorch's own threads. It is an
acceleration and nothing else: wherever `library()` is None, its callers do the same in numpy or torch, with the same
bits. UNITSCOPE_COMPILE=0 in the environment does without; CXX names another compiler.
"""

from __future__ import annotations

import ctypes
import logging
import os
import subprocess
import sys
from functools import cache

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int32, Int64, UInt8
from torch import Tensor

from unitscope.recording.compilation import compiled, find_compiler
from unitscope.recording.interface import Ear, address, check_arrays, declared
from unitscope.recording.verification import find_fault
from unitscope.vocabulary import Box, Size

__all__ = ["Ear", "called", "insert", "library", "moments", "shrink", "shrunk", "tint"]

OTHERWISE = "responses are read by PyTorch, with the same results, which takes longer."

log = logging.getLogger(__name__)


@cache
def library() -> ctypes.CDLL | None:
    """The compiled readout; None where it is not wanted, cannot be had, or gives a wrong number when it is tried."""
    if os.environ.get("UNITSCOPE_COMPILE", "1") == "0" or sys.platform != "linux":
        return None
    compiler = find_compiler()
    if compiler is None:
        log.warning("There is no C++ compiler: %s", OTHERWISE)
        return None
    try:
        found = declared(ctypes.CDLL(str(compiled(compiler))))
    except (OSError, AttributeError, subprocess.SubprocessError) as error:
        told = (getattr(error, "stderr", None) or str(error).encode()).decode(errors="replace").strip().splitlines()
        log.warning("The readout could not be compiled (%s): %s", told[0] if told else error, OTHERWISE)
        return None
    if fault := find_fault(found):
        log.warning("The compiled readout gives wrong numbers (%s), and is not used: %s", fault, OTHERWISE)
        return None
    return found


def called(name: str, *arguments: int, reads: tuple[np.ndarray, ...], writes: tuple[np.ndarray, ...]) -> None:
    """Call the compiled function: numbers first, then the arrays that it reads, then those that it changes.

    Raises ValueError where an array is not what the function takes.
    """
    found = library()
    assert found is not None
    check_arrays(name, arguments, (*reads, *writes))
    places = [*(address(array) for array in reads), *(address(array, written=True) for array in writes)]
    getattr(found, name)(*arguments, *places)


def insert(
    sign: int,
    value: Float32[np.ndarray, "unit rank"],
    image: Int64[np.ndarray, "unit rank"],
    row: Int32[np.ndarray, "unit rank"],
    col: Int32[np.ndarray, "unit rank"],
    responses: Float32[np.ndarray, "stimulus unit"],
    places: Int32[np.ndarray, "stimulus unit"],
    *,
    first: int,
    cols: int,
) -> None:
    """Let a block's responses at the flat `places` (-1: none) of a lattice of `cols` contend; images from `first` on,
    later than those held.
    """
    found, (units, k) = library(), value.shape
    assert found is not None
    check_arrays("insert", (units, k, len(responses)), (value, image, row, col, responses, places))
    if min(k, cols) < 1:
        raise ValueError(f"the readout's insert was given {k} ranks, {cols} columns")
    held = [address(column, written=True) for column in (value, image, row, col)]
    found.insert(units, k, sign, *held, len(responses), address(responses), address(places), first, cols)


def moments(
    values: Float32[np.ndarray, "stimulus unit"], counted: Bool[np.ndarray, "stimulus unit"]
) -> tuple[Int64[np.ndarray, " unit"], Float64[np.ndarray, " unit"], Float64[np.ndarray, " unit"]]:
    """Number, mean and sum of squared deviations of the counted responses of each unit."""
    stimuli, units = values.shape
    n, mean, m2 = np.empty(units, np.int64), np.empty(units), np.empty(units)
    called("moments", units, stimuli, reads=(values, counted), writes=(n, mean, m2))
    return n, mean, m2


def tint(
    pictures: UInt8[Tensor, "stimulus color height width"], table: Float32[Tensor, "level color"], *, reverse: bool
) -> Float32[Tensor, "stimulus color height width"]:
    """Each pixel's entry in `table`; with `reverse` the colors in reverse order. Channels lie side by side."""
    found = library()
    assert found is not None
    pictures = pictures.contiguous(memory_format=torch.channels_last)
    given = torch.empty_like(pictures, dtype=torch.float32)
    colors, table = pictures.shape[1], table.contiguous()
    if (pictures.dtype, table.dtype, *table.shape) != (torch.uint8, torch.float32, 256, colors):
        raise ValueError(f"the readout's tint was given {pictures.dtype}, and a table of {tuple(table.shape)}")
    places = (pictures.data_ptr(), table.data_ptr(), given.data_ptr())
    found.tint(pictures.numel() // colors, colors, reverse, *places)
    return given


def shrink(
    pictures: UInt8[np.ndarray, "stimulus height width color"], box: Box, shape: Size
) -> UInt8[np.ndarray, "stimulus color row col"]:
    """A part of each picture at another size, by averaging areas (as adaptive pooling cuts them; halves are rounded
    up).
    """
    stimuli, height, width, colors = pictures.shape
    if (
        pictures.dtype != np.uint8
        or min(shape) < 1
        or box.clip((height, width)) != box
        or min(box.height, box.width) < 1
    ):
        raise ValueError(f"{box} of {pictures.dtype} of shape {pictures.shape} cannot be made {shape}")
    small = np.empty((stimuli, colors, *shape), dtype=np.uint8)
    found = library()
    if found is None:
        for i in range(0, stimuli, 16):
            small[i : i + 16] = shrunk(pictures[i : i + 16, box.top : box.bottom, box.left : box.right], shape)
    else:
        sizes = (stimuli, height, width, colors, box.top, box.left, box.bottom, box.right, *shape)
        found.shrink(address(pictures), *sizes, address(small, written=True))
    return small


def shrunk(
    part: UInt8[np.ndarray, "stimulus height width color"], shape: Size
) -> UInt8[np.ndarray, "stimulus color row col"]:
    """`shrink` without the compiled readout, by way of the sums of all upper left corners."""
    if part.shape[1:3] == shape:
        return part.transpose(0, 3, 1, 2)
    corners = np.zeros((len(part), part.shape[1] + 1, part.shape[2] + 1, part.shape[3]), dtype=np.int64)
    corners[:, 1:, 1:] = part.cumsum(1, dtype=np.int64).cumsum(2)
    (top, bottom), (left, right) = (
        (steps[:-1] * side // n, (steps[1:] * side + n - 1) // n)
        for side, n, steps in ((part.shape[axis], n, np.arange(n + 1)) for axis, n in zip((1, 2), shape, strict=True))
    )
    rows = corners[:, bottom] - corners[:, top]
    sums = rows[:, :, right] - rows[:, :, left]
    area = ((bottom - top)[:, None] * (right - left))[:, :, None]
    return ((2 * sums + area) // (2 * area)).astype(np.uint8).transpose(0, 3, 1, 2)
