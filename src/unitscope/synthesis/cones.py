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

That is a reading of the program, `program.back`, with the rules of cone_rules.py. This file plans; `cone_evaluation.py`
runs what is planned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

from unitscope.anatomy.program import Operation, Program, Value
from unitscope.synthesis.cone_rules import (
    NO_MARGINS,
    LocalOperation,
    Margins,
    NoCone,
    local_operation,
    operand_need,
    whole_lattice,
)
from unitscope.vocabulary import Box, Size


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

    value: Value
    pieces: tuple[Piece, ...]
    whole: bool


@dataclass(frozen=True)
class ConePlan:
    """What is run, in order; the same for all neurons that differ in place only.

    `size` is that of the part of the picture; `targets` are the values that are read, and the pieces of them.
    """

    size: Size
    steps: tuple[ConeStep, ...]
    targets: tuple[tuple[Value, Piece], ...]


def plan_cone(program: Program, targets: Sequence[tuple[Value, Box]]) -> tuple[ConePlan, Box]:
    """The plan for boxes of positions of values, and the box of the picture that they need.

    Raises NoCone where they do not depend on the picture, or depend on it by an operation that mixes all positions.
    """
    taken: list[tuple[LocalOperation, list[tuple[Box, Margins]]]] = []

    def operand_needs(operation: Operation, wanted: Sequence[Box | None]) -> dict[Value, Box]:
        # Max-pooling gives values and their places; a cone can give the values only.
        if wanted[0] is None or any(box is not None for box in wanted[1:]):
            raise NoCone(f"{operation.name} gives several results")
        local = local_operation(operation, program.origin.shape[0])
        parts = [operand_need(local, read, wanted[0]) for read in local.reads]
        # `program.back` goes from the last operation to the first; the order is turned round below.
        taken.append((local, parts))
        boxes: dict[Value, list[Box]] = {}
        for read, (box, _) in zip(local.reads, parts, strict=True):
            boxes.setdefault(read, []).append(box)
        return {read: reduce(Box.hull, each) for read, each in boxes.items()}

    wanted = {value: reduce(Box.hull, [box for one, box in targets if one is value]) for value, _ in targets}
    needs = program.back(wanted, operand_needs, Box.hull)
    if program.origin not in needs:
        raise NoCone("it does not depend on the picture")
    # Pieces are cut once all needs are known: a value that several operations read is kept as the hull of their needs.
    steps = tuple(_make_step(operation, parts, needs) for operation, parts in reversed(taken))
    read_pieces = tuple((value, relative_piece(box, needs[value])) for value, box in targets)
    picture = needs[program.origin]
    return ConePlan((picture.height, picture.width), steps, read_pieces), picture


def _make_step(operation: LocalOperation, parts: Sequence[tuple[Box, Margins]], needs: dict[Value, Box]) -> ConeStep:
    reads = list(zip(operation.reads, parts, strict=True))
    pieces = tuple(relative_piece(box, needs[read], pads) for read, (box, pads) in reads)
    boxes = [(operation.value, needs[operation.value]), *((read, box) for read, (box, _) in reads)]
    return ConeStep(operation.value, pieces, all(box == whole_lattice(value) for value, box in boxes))


def relative_piece(box: Box, kept: Box, pads: Margins = NO_MARGINS) -> Piece:
    """A box of a value, relative to the part `kept` of the value that a cone computes."""
    return Piece(box.top - kept.top, box.left - kept.left, box.height, box.width, pads)
