"""Cones: the subgraph of a network that given neurons depend on, run on the part of the picture that they see.

The problem: a search needs the response of one neuron hundreds of times, and the network computes all positions of all
maps.

The idea: ask backward, operation by operation, which positions of its operands a result needs, beginning with the
neuron; then run these positions forward, and nothing else. Drawn for one axis, a neuron behind two convolutions with 3
taps, of stride 2 and 1, at the left border of its map:

    neuron                      x                     position 0
    needs of conv2's operand  p x x                   -1 .. 1; -1 lies off the map: one position of padding, p
    needs of the picture    p x x x x                 -1 .. 3, of which -1 is padding: the picture's columns 0 .. 3

Needs are clipped at the true borders of each map, and an operand is padded only where the whole map would be (windows:
araujo2019). So a cone answers what the network answers to the whole picture, at borders and corners, too. Two neurons
whose needs differ only in where they lie have equal plans, and share a batch.

This file plans; `cone_evaluation.py` runs what is planned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from unitscope.errors import UnitscopeError
from unitscope.synthesis.circuits import Circuit, Operation, Windowed
from unitscope.vocabulary import Box, Size


class NoCone(UnitscopeError):
    """A circuit has an operation that cannot be run on a part of a picture."""


Margins = tuple[int, int, int, int]
"""Positions beyond the top, left, bottom and right edge of a map."""

NO_MARGINS: Margins = (0, 0, 0, 0)


class Piece(NamedTuple):
    """The part of a value that an operation takes: `height` x `width` positions from row `top` and column `left` on,
    with `pads` around them where the map ends.
    """

    top: int
    left: int
    height: int
    width: int
    pads: Margins = NO_MARGINS


@dataclass(frozen=True)
class ConeStep:
    """One operation of a cone, on its pieces. `whole` where it is run on whole maps, as the network itself does."""

    value: int
    pieces: tuple[Piece, ...]
    whole: bool


@dataclass(frozen=True)
class ConePlan:
    """What is run, in order; the same for all neurons that differ in place only.

    `size` is that of the part of the picture; `targets` are the values that are read, and the pieces of them.
    """

    size: Size
    steps: tuple[ConeStep, ...]
    targets: tuple[tuple[int, Piece], ...]


def plan_cone(circuit: Circuit, targets: Sequence[tuple[int, Box]]) -> tuple[ConePlan, Box]:
    """The plan for boxes of positions of values, and the box of the picture that they need.

    Raises NoCone where they do not depend on the picture, or on it by an operation that needs all of it.
    """
    needs: dict[int, Box] = {}
    for value, box in targets:
        needs[value] = needs.get(value, box).hull(box)
    taken: list[tuple[Operation, list[tuple[Box, Margins]]]] = []
    for operation in reversed(circuit.operations):
        if operation.value not in needs:
            continue
        if operation.obstacle:
            raise NoCone(operation.obstacle)
        operands = [operand_need(circuit, operation, read, needs[operation.value]) for read in operation.reads]
        for read, (box, _) in zip(operation.reads, operands, strict=True):
            needs[read] = needs.get(read, box).hull(box)
        taken.append((operation, operands))
    if 0 not in needs:
        raise NoCone("it does not depend on the picture")
    # Pieces are cut once all needs are known: a value that several operations read is kept as the hull of their needs.
    steps = tuple(_make_step(circuit, operation, operands, needs) for operation, operands in reversed(taken))
    read_pieces = tuple((value, relative_piece(box, needs[value])) for value, box in targets)
    picture = needs[0]
    return ConePlan((picture.height, picture.width), steps, read_pieces), picture


def _make_step(
    circuit: Circuit, operation: Operation, operands: Sequence[tuple[Box, Margins]], needs: dict[int, Box]
) -> ConeStep:
    reads = list(zip(operation.reads, operands, strict=True))
    pieces = tuple(relative_piece(box, needs[read], pads) for read, (box, pads) in reads)
    boxes = [(operation.value, needs[operation.value]), *((read, box) for read, (box, _) in reads)]
    return ConeStep(operation.value, pieces, all(box == whole_lattice(circuit, value) for value, box in boxes))


def operand_need(circuit: Circuit, operation: Operation, read: int, out: Box) -> tuple[Box, Margins]:
    """The part of an operand that `out` of the result needs, and how far it would go beyond the map's edges."""
    lattice, facts = circuit.lattice(read), operation.facts
    if operation.kind == "mean":
        return whole_lattice(circuit, read), NO_MARGINS
    if operation.kind in ("convolution", "max_pool", "avg_pool"):
        window: Windowed = facts["window"]
        rows, cols = (window_range(window, axis, out[axis], out[axis + 2]) for axis in (0, 1))
        return clip_to_lattice(Box(rows[0], cols[0], rows[1], cols[1]), lattice)
    if operation.kind == "pad":
        top, left, _, _ = facts["amounts"]
        return clip_to_lattice(out.shift(-top, -left), lattice)
    if lattice == (1, 1) and circuit.lattice(operation.value) != (1, 1):
        return Box(0, 0, 1, 1), NO_MARGINS  # one number for the whole map, as a gate is
    return out, NO_MARGINS


def window_range(window: Windowed, axis: int, first: int, last: int) -> tuple[int, int]:
    """The inputs that the outputs `first` to `last` (excluded) of a window need, along one axis."""
    reach = window.dilation[axis] * (window.taps[axis] - 1) + 1
    begin = first * window.stride[axis] - window.padding[axis]
    return begin, (last - 1) * window.stride[axis] - window.padding[axis] + reach


def clip_to_lattice(box: Box, lattice: Size) -> tuple[Box, Margins]:
    """The part of a box on a lattice, and how much of it lies beyond each edge. Raises NoCone where all of it does."""
    inside = box.clip(lattice)
    if inside.height <= 0 or inside.width <= 0:
        raise NoCone("a neuron that sees nothing but padding")
    pads = (inside.top - box.top, inside.left - box.left, box.bottom - inside.bottom, box.right - inside.right)
    return inside, pads


def whole_lattice(circuit: Circuit, value: int) -> Box:
    return Box(0, 0, *circuit.lattice(value))


def relative_piece(box: Box, kept: Box, pads: Margins = NO_MARGINS) -> Piece:
    """A box of a value of which the box `kept` is at hand."""
    return Piece(box.top - kept.top, box.left - kept.left, box.height, box.width, pads)
