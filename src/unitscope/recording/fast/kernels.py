"""Compiled twins of functions of the plain path: same name, same arguments, same bits.

`acceleration.accelerated` calls a function of this module in place of the plain function of the same name, whenever the
compiled library is there. A twin that cannot do a case returns NotImplemented; then the plain function does it.
"""

from __future__ import annotations

from types import NotImplementedType
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int32, Int64, Integer, UInt8
from torch import Tensor

from unitscope.recording.fast.library import call, library
from unitscope.recording.fast.signatures import address, check_arrays
from unitscope.vocabulary import Box, Size

if TYPE_CHECKING:
    from unitscope.networks import Network

MomentArrays = tuple[Int64[np.ndarray, " unit"], Float64[np.ndarray, " unit"], Float64[np.ndarray, " unit"]]
"""Number, mean and sum of squared deviations of each unit."""


def count_responses(
    peak: Float32[np.ndarray, "stimulus unit"],
    trough: Float32[np.ndarray, "stimulus unit"],
    positive_positions: Float32[np.ndarray, "stimulus unit"],
    counted: Bool[np.ndarray, "stimulus unit"],
    *,
    seen: Int64[np.ndarray, " unit"],
    positive: Int64[np.ndarray, " unit"],
    positions: Int64[np.ndarray, " unit"],
    highest: Float32[np.ndarray, " unit"],
    lowest: Float32[np.ndarray, " unit"],
) -> None:
    # The compiled functions take the number of units before that of stimuli, hence shape[::-1].
    reads = (peak, trough, positive_positions, counted)
    call("counts", *peak.shape[::-1], reads=reads, writes=(seen, positive, positions, highest, lowest))


def compute_moments(
    values: Float[np.ndarray, "stimulus unit"], counted: Bool[np.ndarray, "stimulus unit"]
) -> MomentArrays | NotImplementedType:
    if values.dtype != np.float32:
        return NotImplemented
    stimuli, units = values.shape
    n, mean, m2 = np.empty(units, np.int64), np.empty(units), np.empty(units)
    reads = (np.ascontiguousarray(values), np.ascontiguousarray(counted))
    call("moments", units, stimuli, reads=reads, writes=(n, mean, m2))
    return n, mean, m2


def count_in_bins(
    values: Float32[np.ndarray, "stimulus unit"],
    counted: Bool[np.ndarray, "stimulus unit"],
    count: Int64[np.ndarray, "unit bin"],
) -> None:
    call("histogram", *values.shape[::-1], reads=(values, counted), writes=(count,))


def sum_by_label(
    peak: Float32[np.ndarray, "stimulus unit"],
    trough: Float32[np.ndarray, "stimulus unit"],
    counted: Bool[np.ndarray, "stimulus unit"],
    label: Int64[np.ndarray, " stimulus"],
    *,
    peaks: Int64[np.ndarray, "label unit"],
    troughs: Int64[np.ndarray, "label unit"],
    rectified: Int64[np.ndarray, "label unit"],
    positive: Int32[np.ndarray, "label unit"],
) -> None:
    reads, writes = (peak, trough, counted, label), (peaks, troughs, rectified, positive)
    call("labels", *peak.shape[::-1], reads=reads, writes=writes)


def add_fixed(values: Float32[np.ndarray, "unit row col"], total: Int64[np.ndarray, "unit row col"]) -> None:
    # After channels last, `values` is a transposed view of [row col unit]: transposing it back gives contiguous memory
    # without a copy.
    channels_last = not values.flags.c_contiguous
    in_memory = np.ascontiguousarray(values.transpose(1, 2, 0) if channels_last else values)
    call("add_map", len(values), values[0].size, channels_last, reads=(in_memory,), writes=(total,))


def insert_located(
    sign: int,
    responses: Float32[np.ndarray, "stimulus unit"],
    positions: Int32[np.ndarray, "stimulus unit"],
    *,
    first: int,
    cols: int,
    value: Float32[np.ndarray, "unit rank"],
    image: Int64[np.ndarray, "unit rank"],
    row: Int32[np.ndarray, "unit rank"],
    col: Int32[np.ndarray, "unit rank"],
) -> None:
    found, (units, k) = library(), value.shape
    assert found is not None
    check_arrays("insert", (units, k, len(responses)), (value, image, row, col, responses, positions))
    if min(k, cols) < 1:
        raise ValueError(f"the readout's insert was given {k} ranks, {cols} columns")
    held = [address(column, written=True) for column in (value, image, row, col)]
    found.insert(units, k, sign, *held, len(responses), address(responses), address(positions), first, cols)


def add_pixels(
    less: Int32[np.ndarray, "unit pixel"],
    n: Int32[np.ndarray, " unit"],
    total: Integer[np.ndarray, "unit color row col"],
) -> NotImplementedType | None:
    if total.dtype != np.int32:
        return NotImplemented
    call("add_pixels", *less.shape, reads=(less, n), writes=(total,))
    return None


def shrink(
    pictures: UInt8[np.ndarray, "stimulus height width color"], box: Box, shape: Size
) -> UInt8[np.ndarray, "stimulus color row col"]:
    stimuli, height, width, colors = pictures.shape
    small = np.empty((stimuli, colors, *shape), dtype=np.uint8)
    found = library()
    assert found is not None
    if (
        pictures.dtype != np.uint8
        or min(shape) < 1
        or box.clip((height, width)) != box
        or min(box.height, box.width) < 1
    ):
        raise ValueError(f"{box} of {pictures.dtype} of shape {pictures.shape} cannot be made {shape}")
    sizes = (stimuli, height, width, colors, box.top, box.left, box.bottom, box.right, *shape)
    found.shrink(address(pictures), *sizes, address(small, written=True))
    return small


def prepare_pictures(
    network: Network, pictures: UInt8[Tensor, "stimulus color height width"], *, memory_format: torch.memory_format
) -> Float[Tensor, "stimulus color height width"] | NotImplementedType:
    """The 256 levels of each color are prepared, and looked up: the same numbers as by preparing each pixel."""
    if network.device.type != "cpu":
        return NotImplemented
    levels = torch.arange(256).view(-1, 1, 1, 1).expand(-1, network.inputs, 1, 1)
    table = network.prepare(levels.float().div_(255)).flatten(1)
    if table.dtype != torch.float32:
        return NotImplemented
    return look_up_levels(pictures, table, reverse=network.order == "BGR").contiguous(memory_format=memory_format)


def look_up_levels(
    pictures: UInt8[Tensor, "stimulus color height width"], table: Float32[Tensor, "level color"], *, reverse: bool
) -> Float32[Tensor, "stimulus color height width"]:
    """Each pixel's entry in `table`, channels last; with `reverse` the colors in reverse order."""
    found = library()
    assert found is not None
    pictures = pictures.contiguous(memory_format=torch.channels_last)
    entries = torch.empty_like(pictures, dtype=torch.float32)
    colors, table = pictures.shape[1], table.contiguous()
    if (pictures.dtype, table.dtype, *table.shape) != (torch.uint8, torch.float32, 256, colors):
        raise ValueError(f"the readout's tint was given {pictures.dtype}, and a table of {tuple(table.shape)}")
    addresses = (pictures.data_ptr(), table.data_ptr(), entries.data_ptr())
    found.tint(pictures.numel() // colors, colors, reverse, *addresses)
    return entries
