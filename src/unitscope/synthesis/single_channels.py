"""The last operations of a cone for one channel of each picture, instead of all channels of all pictures.

The problem: pictures of a batch have different channels for their objectives, and the cone computes all channels of the
last convolution for all pictures: of 512 x 128 numbers 128 are used.

The idea: going backward from the target, operations that work channel by channel are run on a single channel of each
picture, and so is the convolution before them, whose kernel then is another one for each picture:

    ... -> relu -> convolution -> normalization -> relu = target
           whole   narrow         narrow           narrow

A convolution with a kernel for each picture is a product with a matrix for each picture (`convolution_matrices`). That
pays for small pieces only (`NARROW`), as at the end of a cone. Where an operation mixes channels, a channel is picked
from the whole value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from unitscope.anatomy.program import Value
from unitscope.synthesis.cone_evaluation import (
    Cone,
    Run,
    count_positions,
    detach_weight,
    make_affine,
    make_slicer,
    take_piece,
)
from unitscope.synthesis.cone_rules import LocalOperation, Window
from unitscope.synthesis.cones import ConeStep, Piece
from unitscope.vocabulary import Size

NARROW = 1 << 14
"""A convolution is run for one channel alone where its matrix has no more numbers than this for a picture."""

NarrowRun = Callable[[list[Any], list[Any]], Tensor]
"""Runs an operation for one channel of each picture, on the values so far: those of all channels, and those of one."""


def bind_channels(
    cone: Cone, channels: Int64[Tensor, " stimulus"]
) -> Callable[[Tensor], Float[Tensor, "stimulus 1 row col"]]:
    """`Cone.evaluate` for one channel of each picture, of a cone with one target. Differentiable."""
    (target, piece) = cone.targets[0]
    plan = plan_channels(cone)
    narrow = {
        cone.places[operation.value]: make_narrow_run(operation, step, run, cone.places_of(operation), channels)
        for run, (operation, step) in zip(cone.runs, cone.operations, strict=True)
        if plan.get(operation.value) == "narrow"
    }
    picked = {cone.places[value] for value, how in plan.items() if how == "picked"}
    whole = {cone.places[value] for value, how in plan.items() if how != "narrow"}
    every = torch.arange(len(channels), device=channels.device)

    def evaluate(x: Tensor) -> Tensor:
        values: list[Any] = [cone.begin(x)]
        single: list[Any] = [None]
        for n, run in enumerate(cone.runs, start=1):
            values.append(run(values) if n in whole else None)
            single.append(narrow[n](values, single) if n in narrow else None)
            if n in picked:
                single[n] = values[n][every, channels][:, None]
        return take_piece(single[target], piece)

    return evaluate


def plan_channels(cone: Cone) -> dict[Value, str]:
    """For each value: "narrow" where one channel of each picture will do, "whole" where all channels are needed, and
    "picked" where a channel is then taken out of all.
    """
    target = cone.plan.targets[0][0]
    whole, single = set[Value](), {target}
    plan: dict[Value, str] = {}
    for operation, step in reversed(cone.operations):
        value = operation.value
        if value in single and value not in whole and can_narrow(operation, step):
            plan[value] = "narrow"
            # One channel of a convolution needs all channels of its operand; of all other narrow operations the same
            # one.
            (whole if operation.kind == "convolution" else single).update(operation.reads)
        else:
            plan[value] = "picked" if value in single else "whole"
            whole.update(operation.reads)
    # Without a convolution on the way the single values go down to the picture, which has no channel of that number.
    if any(cone.places[value] == 0 for value in single):
        return {value: "picked" if value == target else "whole" for value in plan}
    return plan


def can_narrow(operation: LocalOperation, step: ConeStep) -> bool:
    """Whether an operation can be run for one channel alone."""
    if operation.kind == "convolution":
        piece, weight = step.pieces[0], operation.facts["weight"]
        padded = (piece.height + piece.pads[0] + piece.pads[2]) * (piece.width + piece.pads[1] + piece.pads[3])
        return operation.facts["groups"] == 1 and count_positions(operation, step) * padded * weight.shape[1] <= NARROW
    if operation.kind == "pointwise":
        counts = {value.shape[1] for value in (operation.value, *operation.reads)}
        return len(counts) == 1 and all(constant.ndim == 0 for constant in operation.facts["constants"])
    return operation.kind in ("affine", "max_pool", "avg_pool", "identity")


def make_narrow_run(
    operation: LocalOperation, step: ConeStep, run: Run, places: list[int], channels: Int64[Tensor, " stimulus"]
) -> NarrowRun:
    """What runs one operation for one channel of each picture."""
    if operation.kind == "affine":
        normalize = make_affine(operation, channels)
        take = make_slicer(places[0], step.pieces[0])
        return lambda whole, single: normalize(take(single))
    if operation.kind != "convolution":
        return lambda whole, single: run(single)
    return make_narrow_convolution(operation, step, make_slicer(places[0], step.pieces[0]), channels)


def make_narrow_convolution(
    operation: LocalOperation, step: ConeStep, take: Run, channels: Int64[Tensor, " stimulus"]
) -> NarrowRun:
    """A convolution as a matrix for each picture: the rows are its channel's kernel, shifted to each position."""
    facts, dtype = operation.facts, operation.dtype
    weight, bias = detach_weight(facts["weight"]).to(dtype)[channels], facts["bias"]
    matrix, (rows, cols) = convolution_matrices(weight, step.pieces[0], facts["window"])
    added = 0.0 if bias is None else detach_weight(bias).to(dtype)[channels].view(-1, 1, 1)

    def run(whole: list[Any], _: list[Any]) -> Tensor:
        x = take(whole).reshape(len(channels), -1, 1)
        return (torch.bmm(matrix, x) + added).view(-1, 1, rows, cols)

    return run


def convolution_matrices(
    weight: Float[Tensor, "stimulus color height width"], piece: Piece, window: Window
) -> tuple[Float[Tensor, "stimulus place pixel"], Size]:
    """The matrix of a convolution with one kernel for each picture, from the pixels of its piece to its positions."""
    top, left, bottom, right = piece.pads
    sides = (piece.height + top + bottom, piece.width + left + right)
    reach = [d * (k - 1) + 1 for d, k in zip(window.dilation, window.taps, strict=True)]
    rows, cols = ((side - r) // s + 1 for side, r, s in zip(sides, reach, window.stride, strict=True))
    # For each picture and position an empty padded piece, on which the kernel is laid where the window begins.
    matrix = weight.new_zeros((len(weight), rows, cols, weight.shape[1], *sides))
    (down, along), (d, a) = window.stride, window.dilation
    for row in range(rows):
        for col in range(cols):
            y, x = row * down, col * along
            matrix[:, row, col, :, y : y + reach[0] : d, x : x + reach[1] : a] = weight
    matrix = matrix[..., top : top + piece.height, left : left + piece.width]  # padding is 0, and adds nothing
    return matrix.reshape(len(weight), rows * cols, -1).contiguous(), (rows, cols)
