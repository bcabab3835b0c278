"""Cones: the part of a circuit that given neurons depend on, and nothing else, run on the part of the picture they see.

Ranges of positions are asked for backward from the neurons, operation by operation, and cut at the true borders of each
map; run forward, every operation gets exactly what was asked for, padded only where the whole map would have been. So a
cone's responses are those to the whole picture, at borders and corners, too (methods of araujo2019 for the windows).
Cones that differ only in where they lie on the picture are equal, and their neurons share a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from unitscope.errors import UnitscopeError
from unitscope.synthesis.circuits import Circuit, Operation, Ref, Windowed
from unitscope.vocabulary import Box, Size


class Untold(UnitscopeError):
    """A circuit has an operation that cannot be run on a part of a picture."""


class Piece(NamedTuple):
    """What an operation takes of a value at hand: from row `top` and column `left` on, `height` x `width` positions,
    with `pads` (top, left, bottom, right) around them where the map ends.
    """

    top: int
    left: int
    height: int
    width: int
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)


@dataclass(frozen=True)
class Step:
    """One operation of a cone, on its pieces. `whole` where it is run on whole maps, as the network itself does."""

    value: int
    pieces: tuple[Piece, ...]
    whole: bool


@dataclass(frozen=True)
class Plan:
    """What is run, in order, of the circuit; the same for all neurons that differ in place only. `targets` are values
    and the pieces of them that are heard.
    """

    size: Size
    steps: tuple[Step, ...]
    targets: tuple[tuple[int, Piece], ...]


def plan_of(circuit: Circuit, targets: Sequence[tuple[int, Box]]) -> tuple[Plan, Box]:
    """The plan for lattice boxes of values, and the box of the picture that is needed. Raises Untold."""
    wanted: dict[int, Box] = {}
    for number, box in targets:
        wanted[number] = joined(wanted.get(number), box)
    kept: list[tuple[Operation, list[tuple[Box, tuple[int, int, int, int]]]]] = []
    for operation in reversed(circuit.operations):
        if operation.value not in wanted:
            continue
        if operation.untold:
            raise Untold(operation.untold)
        taken = [needed(circuit, operation, read, wanted[operation.value]) for read in operation.reads]
        for read, (box, _) in zip(operation.reads, taken, strict=True):
            wanted[read] = joined(wanted.get(read), box)
        kept.append((operation, taken))
    if 0 not in wanted:
        raise Untold("it does not depend on the picture")
    steps = []
    for operation, taken in reversed(kept):
        pieces = tuple(
            piece_of(box, wanted[read], pads) for read, (box, pads) in zip(operation.reads, taken, strict=True)
        )
        entire = wanted[operation.value] == all_of(circuit, operation.value)
        whole = entire and all(box == all_of(circuit, r) for r, (box, _) in zip(operation.reads, taken, strict=True))
        steps.append(Step(operation.value, pieces, whole))
    heard = tuple((number, piece_of(box, wanted[number], (0, 0, 0, 0))) for number, box in targets)
    picture = wanted[0]
    return Plan((picture.height, picture.width), tuple(steps), heard), picture


def needed(circuit: Circuit, operation: Operation, read: int, out: Box) -> tuple[Box, tuple[int, int, int, int]]:
    """The part of an operand that `out` of the result needs, and how far it would go beyond the map's edges."""
    lattice, facts = circuit.lattice(read), operation.facts
    if operation.kind == "mean":
        return all_of(circuit, read), (0, 0, 0, 0)
    if operation.kind in ("convolution", "max_pool", "avg_pool"):
        window: Windowed = facts["window"]
        rows, cols = (window_range(window, axis, out[axis], out[axis + 2]) for axis in (0, 1))
        return cut(Box(rows[0], cols[0], rows[1], cols[1]), lattice)
    if operation.kind == "pad":
        top, left, _, _ = facts["amounts"]
        return cut(out.shift(-top, -left), lattice)
    if lattice == (1, 1) and circuit.lattice(operation.value) != (1, 1):
        return Box(0, 0, 1, 1), (0, 0, 0, 0)
    return out, (0, 0, 0, 0)


def window_range(window: Windowed, axis: int, first: int, last: int) -> tuple[int, int]:
    """The inputs that the outputs `first` to `last` (excluded) of a window need, along one axis."""
    reach = window.dilation[axis] * (window.taps[axis] - 1) + 1
    begin = first * window.stride[axis] - window.padding[axis]
    return begin, (last - 1) * window.stride[axis] - window.padding[axis] + reach


def cut(box: Box, lattice: Size) -> tuple[Box, tuple[int, int, int, int]]:
    """The part of a box on a lattice, and what of it lies beyond each edge."""
    inside = box.clip(lattice)
    if inside.height <= 0 or inside.width <= 0:
        raise Untold("a neuron that sees nothing but padding")
    pads = (inside.top - box.top, inside.left - box.left, box.bottom - inside.bottom, box.right - inside.right)
    return inside, pads


def all_of(circuit: Circuit, number: int) -> Box:
    return Box(0, 0, *circuit.lattice(number))


def joined(box: Box | None, other: Box) -> Box:
    """The smallest box that holds both."""
    if box is None:
        return other
    return Box(
        min(box.top, other.top), min(box.left, other.left), max(box.bottom, other.bottom), max(box.right, other.right)
    )


def piece_of(box: Box, within: Box, pads: tuple[int, int, int, int]) -> Piece:
    return Piece(box.top - within.top, box.left - within.left, box.height, box.width, pads)


Run = Callable[[list[Tensor]], Tensor]


class Cone:
    """A plan made ready: weights folded, in the wanted precision. Nothing in it refers to the network.

    Normalizations are folded into the convolution before them where nobody else reads it.
    """

    def __init__(self, circuit: Circuit, plan: Plan, *, dtype: torch.dtype = torch.float32) -> None:
        self.plan, self.dtype = plan, dtype
        makers = {operation.value: operation for operation in circuit.operations}
        operations = fold([(makers[step.value], step) for step in plan.steps], {n for n, _ in plan.targets})
        self.places = {0: 0} | {step.value: n + 1 for n, (_, step) in enumerate(operations)}
        self.runs: list[Run] = [run_of(o, s, [self.places[r] for r in o.reads], dtype) for o, s in operations]
        self.targets = [(self.places[number], piece) for number, piece in plan.targets]
        self.numbers_each = sum(
            circuit.shapes[o.value][1] * out_size(o, s) for o, s in operations
        )  # of all values for one picture

    def hear(self, x: Float[Tensor, "stimulus color height width"]) -> list[Tensor]:
        """The responses [stimulus unit row col] of each target to prepared pictures of the plan's size.
        Differentiable.
        """
        values = [x.to(self.dtype, memory_format=torch.channels_last)]
        for run in self.runs:
            values.append(run(values))
        return [values[place][:, :, p.top : p.top + p.height, p.left : p.left + p.width] for place, p in self.targets]


def out_size(operation: Operation, step: Step) -> int:
    """Positions of a result, from the size of its piece."""
    piece = step.pieces[0]
    if operation.kind in ("convolution", "max_pool", "avg_pool"):
        window: Windowed = operation.facts["window"]
        return (piece.height // window.stride[0] + 1) * (piece.width // window.stride[1] + 1)
    return 1 if operation.kind == "mean" else max(p.height * p.width for p in step.pieces)


def fold(steps: list[tuple[Operation, Step]], heard: set[int]) -> list[tuple[Operation, Step]]:
    """Fold each normalization into the convolution whose only reader it is."""
    readers: dict[int, int] = {}
    for operation, _ in steps:
        for read in operation.reads:
            readers[read] = readers.get(read, 0) + 1
    found: list[tuple[Operation, Step]] = []
    at: dict[int, int] = {}
    for operation, step in steps:
        source = at.get(operation.reads[0])
        if (
            operation.kind == "affine"
            and source is not None
            and found[source][0].kind == "convolution"
            and readers[operation.reads[0]] == 1
            and operation.reads[0] not in heard
        ):
            convolution, convolved = found[source]
            if step.pieces[0].top == step.pieces[0].left == 0:
                found[source] = (folded(convolution, operation), replace(convolved, value=step.value))
                at[operation.value] = source
                continue
        at[operation.value] = len(found)
        found.append((operation, step))
    return found


def folded(convolution: Operation, affine: Operation) -> Operation:
    """A convolution and the normalization after it as one convolution."""
    scale, shift = affine.facts["scale"], affine.facts["shift"]
    weight = convolution.facts["weight"].double() * scale[:, None, None, None]
    bias = convolution.facts["bias"]
    bias = shift if bias is None else shift + bias.double() * scale
    return replace(convolution, value=affine.value, facts={**convolution.facts, "weight": weight, "bias": bias})


def run_of(operation: Operation, step: Step, places: list[int], dtype: torch.dtype) -> Run:
    """What runs one operation on the values so far."""
    pieces, facts = step.pieces, operation.facts
    takes = [taker(place, piece) for place, piece in zip(places, pieces, strict=True)]
    take = takes[0]
    if operation.kind == "convolution":
        return convolving(facts, step, take, dtype)
    if operation.kind == "affine":
        scale, shift = (facts[n].to(dtype)[None, :, None, None] for n in ("scale", "shift"))
        return lambda values: torch.addcmul(shift, take(values), scale)
    if operation.kind in ("max_pool", "avg_pool"):
        return pooling(operation, step, take)
    if operation.kind == "mean":
        return lambda values: take(values).mean((2, 3), keepdim=True)
    if operation.kind == "cat":
        return lambda values: torch.cat([one(values) for one in takes], 1)
    if operation.kind == "pad":
        pads, value = torch_pads(pieces[0].pads), facts["value"]
        return lambda values: F.pad(take(values), pads, value=value)
    return pointwise(operation, takes, dtype)


def taker(place: int, piece: Piece) -> Run:
    """What cuts a piece out of a value."""
    rows, cols = slice(piece.top, piece.top + piece.height), slice(piece.left, piece.left + piece.width)

    def take(values: list[Tensor]) -> Tensor:
        value = values[place]
        if value.shape[2] == piece.height and value.shape[3] == piece.width:
            return value
        return value[:, :, rows, cols]

    return take


def torch_pads(pads: tuple[int, int, int, int]) -> list[int]:
    top, left, bottom, right = pads
    return [left, right, top, bottom]


def convolving(facts: Any, step: Step, take: Run, dtype: torch.dtype) -> Run:
    window: Windowed = facts["window"]
    weight = facts["weight"].detach().to(dtype, memory_format=torch.channels_last)
    bias = None if facts["bias"] is None else facts["bias"].detach().to(dtype)
    padding, pads = padding_of(step, window)
    stride, dilation, groups = window.stride, window.dilation, facts["groups"]
    if pads is None:
        return lambda values: F.conv2d(take(values), weight, bias, stride, padding, dilation, groups)
    return lambda values: F.conv2d(F.pad(take(values), pads), weight, bias, stride, padding, dilation, groups)


def padding_of(step: Step, window: Windowed) -> tuple[Size, list[int] | None]:
    """The padding that the operation does by itself, and what must be added to its operand."""
    top, left, bottom, right = step.pieces[0].pads
    if step.whole:
        return window.padding, None
    if top == bottom and left == right:
        return (top, left), None
    return (0, 0), [left, right, top, bottom]


def pooling(operation: Operation, step: Step, take: Run) -> Run:
    window: Windowed = operation.facts["window"]
    ceil = operation.facts["ceil"] and step.whole
    padding, pads = (window.padding, None) if step.whole else ((0, 0), torch_pads(step.pieces[0].pads))
    pads = pads if pads and any(pads) else None
    if operation.kind == "max_pool":
        lowest = float("-inf")

        def pool(x: Tensor) -> Tensor:
            return F.max_pool2d(x, window.taps, window.stride, padding, window.dilation, ceil)
    else:
        lowest = 0.0

        def pool(x: Tensor) -> Tensor:
            return F.avg_pool2d(x, window.taps, window.stride, padding)

    if pads is None:
        return lambda values: pool(take(values))
    return lambda values: pool(F.pad(take(values), pads, value=lowest))


def pointwise(operation: Operation, takes: list[Run], dtype: torch.dtype) -> Run:
    function, args, kwargs = operation.facts["call"]
    order = {read: n for n, read in enumerate(operation.reads)}
    if operation.name == "relu":
        return lambda values: torch.relu(takes[0](values))

    def filled(value: Any, values: list[Tensor]) -> Any:
        if isinstance(value, Ref):
            return takes[order[value.number]](values)
        if isinstance(value, Tensor):
            return value.to(dtype) if value.is_floating_point() else value
        return [filled(one, values) for one in value] if isinstance(value, list | tuple) else value

    return lambda values: function(
        *[filled(one, values) for one in args], **{key: filled(one, values) for key, one in kwargs.items()}
    )
