"""Cones: the part of a circuit that given neurons depend on, and nothing else, run on the part of the picture they see.

Ranges of positions are asked for backward from the neurons, operation by operation, and cut at the true borders of each
map; run forward, every operation gets exactly what was asked for, padded only where the whole map would have been. So a
cone's responses are those to the whole picture, at borders and corners, too (methods of araujo2019 for the windows).
Cones that differ only in where they lie on the picture are equal, and their neurons share a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
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


Run = Callable[[list[Any]], Tensor]
"""Runs one operation on the values so far (None where one is not needed)."""


class Cone:
    """A plan made ready: weights folded, in one type, or (without `dtype`) each operation in its own. Nothing in it
    refers to the network.

    Normalizations are folded into the convolution before them where nobody else reads it, and where no digits are lost.
    """

    def __init__(self, circuit: Circuit, plan: Plan, *, dtype: torch.dtype | None = None) -> None:
        self.plan, self.dtype = plan, dtype or circuit.dtype
        makers = {operation.value: operation for operation in circuit.operations}
        if dtype is not None:
            makers = {value: replace(operation, dtype=dtype) for value, operation in makers.items()}
        operations = fold(
            [(makers[step.value], step) for step in plan.steps],
            {n for n, _ in plan.targets},
            everywhere=dtype is not None,
        )
        self.places = {0: 0} | {step.value: n + 1 for n, (_, step) in enumerate(operations)}
        self.operations = operations
        self.channels = {value: shape[1] for value, shape in circuit.shapes.items() if len(shape) == 4}
        self.runs: list[Run] = [run_of(o, s, [self.places[r] for r in o.reads], forced=dtype) for o, s in operations]
        self.targets = [(self.places[number], piece) for number, piece in plan.targets]
        self.numbers_each = sum(
            circuit.shapes[o.value][1] * out_size(o, s) for o, s in operations
        )  # of all values for one picture

    def hear(self, x: Float[Tensor, "stimulus color height width"]) -> list[Tensor]:
        """The responses [stimulus unit row col] of each target to prepared pictures of the plan's size.
        Differentiable.
        """
        values: list[Any] = [x.to(self.dtype, memory_format=torch.channels_last)]
        for run in self.runs:
            values.append(run(values))
        return [values[place][:, :, p.top : p.top + p.height, p.left : p.left + p.width] for place, p in self.targets]

    def one(self, channels: Int64[Tensor, " stimulus"]) -> Callable[[Tensor], Float[Tensor, "stimulus 1 row col"]]:
        """What hears one channel for each picture, of a cone with one target: from the last convolution on, only that
        channel is computed. Differentiable.
        """
        (target, piece) = self.targets[0]
        plan = tail_of(self.operations, self.plan.targets[0][0], self.channels)
        narrow = {
            self.places[o.value]: narrow_run(o, s, self.runs[n], [self.places[r] for r in o.reads], channels)
            for n, (o, s) in enumerate(self.operations)
            if plan.get(o.value) == "narrow"
        }
        picked = {self.places[value] for value, how in plan.items() if how == "picked"}
        needed = {self.places[value] for value, how in plan.items() if how != "narrow"}
        every = torch.arange(len(channels), device=channels.device)

        def hear(x: Tensor) -> Tensor:
            whole: list[Any] = [x.to(self.dtype, memory_format=torch.channels_last)]
            single: list[Any] = [None]
            for n, run in enumerate(self.runs, start=1):
                whole.append(run(whole) if n in needed else None)
                single.append(narrow[n](whole, single) if n in narrow else None)
                if n in picked:
                    single[n] = whole[n][every, channels][:, None]
            return single[target][:, :, piece.top : piece.top + piece.height, piece.left : piece.left + piece.width]

        return hear


NARROW = 1 << 14
"""A convolution is done for one channel alone where its matrix has no more numbers than this for a picture."""


def tail_of(operations: Sequence[tuple[Operation, Step]], target: int, channels: Mapping[int, int]) -> dict[int, str]:
    """Of which values one channel for each picture will do ("narrow"), which must be computed whole ("whole"), and of
    which whole ones a channel is then taken ("picked").
    """
    whole, single = set[int](), {target}
    found: dict[int, str] = {}
    for operation, step in reversed(operations):
        value = operation.value
        narrow = value in single and value not in whole and narrows(operation, step, channels)
        if narrow:
            found[value] = "narrow"
            (whole if operation.kind == "convolution" else single).update(operation.reads)
        else:
            found[value] = "picked" if value in single else "whole"
            whole.update(operation.reads)
    if 0 in single:
        return {value: "picked" if value == target else "whole" for value in found}
    return found


def narrows(operation: Operation, step: Step, channels: Mapping[int, int]) -> bool:
    """Whether an operation can be done for one channel alone."""
    if operation.kind == "convolution":
        piece, weight = step.pieces[0], operation.facts["weight"]
        padded = (piece.height + piece.pads[0] + piece.pads[2]) * (piece.width + piece.pads[1] + piece.pads[3])
        return operation.facts["groups"] == 1 and out_size(operation, step) * padded * weight.shape[1] <= NARROW
    if operation.kind == "pointwise":
        alike = {channels[number] for number in (operation.value, *operation.reads)}
        return len(alike) == 1 and all(constant.ndim == 0 for constant in operation.facts["constants"])
    return operation.kind in ("affine", "max_pool", "avg_pool")


Narrow = Callable[[list[Any], list[Any]], Tensor]


def narrow_run(operation: Operation, step: Step, run: Run, places: list[int], channels: Tensor) -> Narrow:
    """What runs one operation for one channel of each picture, on the values so far, whole and single."""
    if operation.kind == "affine":
        apply = affine_of(operation, channels)
        take = taker(places[0], step.pieces[0])
        return lambda whole, single: apply(take(single))
    if operation.kind != "convolution":
        return lambda whole, single: run(single)
    return narrow_convolution(operation, step, taker(places[0], step.pieces[0]), channels)


def narrow_convolution(operation: Operation, step: Step, take: Run, channels: Tensor) -> Narrow:
    """A convolution as a matrix for each picture: the rows of its own channel's kernel, shifted to each position."""
    facts, piece, dtype = operation.facts, step.pieces[0], operation.dtype
    weight, bias, window = own(facts["weight"]).to(dtype)[channels], facts["bias"], facts["window"]
    matrix, (rows, cols) = matrices(weight, piece, window)
    added = 0.0 if bias is None else own(bias).to(dtype)[channels].view(-1, 1, 1)

    def run(whole: list[Any], _: list[Any]) -> Tensor:
        x = take(whole).reshape(len(channels), -1, 1)
        return (torch.bmm(matrix, x) + added).view(-1, 1, rows, cols)

    return run


def matrices(
    weight: Float[Tensor, "stimulus color height width"], piece: Piece, window: Windowed
) -> tuple[Float[Tensor, "stimulus place pixel"], Size]:
    """The matrix of a convolution with one kernel for each picture, from the pixels of its piece to its positions."""
    top, left, bottom, right = piece.pads
    sides = (piece.height + top + bottom, piece.width + left + right)
    reach = [d * (k - 1) + 1 for d, k in zip(window.dilation, window.taps, strict=True)]
    rows, cols = ((side - r) // s + 1 for side, r, s in zip(sides, reach, window.stride, strict=True))
    matrix = weight.new_zeros((len(weight), rows, cols, weight.shape[1], *sides))
    (down, along), (d, a) = window.stride, window.dilation
    for row in range(rows):
        for col in range(cols):
            y, x = row * down, col * along
            matrix[:, row, col, :, y : y + reach[0] : d, x : x + reach[1] : a] = weight
    matrix = matrix[..., top : top + piece.height, left : left + piece.width]
    return matrix.reshape(len(weight), rows * cols, -1).contiguous(), (rows, cols)


def out_size(operation: Operation, step: Step) -> int:
    """Positions of a result, from the size of its piece."""
    piece = step.pieces[0]
    if operation.kind in ("convolution", "max_pool", "avg_pool"):
        window: Windowed = operation.facts["window"]
        return (piece.height // window.stride[0] + 1) * (piece.width // window.stride[1] + 1)
    return 1 if operation.kind == "mean" else max(p.height * p.width for p in step.pieces)


def fold(steps: list[tuple[Operation, Step]], heard: set[int], *, everywhere: bool) -> list[tuple[Operation, Step]]:
    """Fold each normalization into the convolution whose only reader it is; `everywhere`, though digits are lost."""
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
            and (everywhere or operation.dtype not in COARSE)
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


def run_of(operation: Operation, step: Step, places: list[int], *, forced: torch.dtype | None) -> Run:
    """What runs one operation on the values so far, in its own type; `forced` where all are run in one."""
    pieces, facts = step.pieces, operation.facts
    takes = [taker(place, piece) for place, piece in zip(places, pieces, strict=True)]
    take = takes[0]
    if operation.kind == "convolution":
        return convolving(facts, step, take, operation.dtype)
    if operation.kind == "affine":
        apply = affine_of(operation)
        return lambda values: apply(take(values))
    if operation.kind in ("max_pool", "avg_pool"):
        return pooling(operation, step, take)
    if operation.kind == "mean":
        return lambda values: take(values).mean((2, 3), keepdim=True)
    if operation.kind == "cat":
        return lambda values: torch.cat([one(values) for one in takes], 1)
    if operation.kind == "pad":
        pads, value = torch_pads(pieces[0].pads), facts["value"]
        return lambda values: F.pad(take(values), pads, value=value)
    return pointwise(operation, takes, forced)


COARSE = (torch.bfloat16, torch.float16)
"""Types of so few digits that a normalization is computed in float32 and rounded once, as torch does it."""


def affine_of(operation: Operation, channels: Tensor | None = None) -> Callable[[Tensor], Tensor]:
    """What normalizes, all channels or one for each picture."""
    dtype = operation.dtype
    inner = torch.float32 if dtype in COARSE else dtype
    scale, shift = (operation.facts[name].to(inner) for name in ("scale", "shift"))
    if channels is None:
        scale, shift = (each[None, :, None, None] for each in (scale, shift))
    else:
        scale, shift = (each[channels].view(-1, 1, 1, 1) for each in (scale, shift))
    if inner == dtype:
        return lambda x: torch.addcmul(shift, x, scale)
    return lambda x: torch.addcmul(shift, x.to(inner), scale).to(dtype)


def taker(place: int, piece: Piece) -> Run:
    """What cuts a piece out of a value."""
    rows, cols = slice(piece.top, piece.top + piece.height), slice(piece.left, piece.left + piece.width)

    def take(values: list[Any]) -> Tensor:
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
    weight = own(facts["weight"]).to(dtype, memory_format=torch.channels_last)
    bias = None if facts["bias"] is None else own(facts["bias"]).to(dtype)
    padding, pads = padding_of(step, window)
    stride, dilation, groups = window.stride, window.dilation, facts["groups"]
    if groups == 1 and stride[0] == stride[1] > 1 and dilation == (1, 1) and weight.shape[1] <= FEW:
        around = torch_pads(step.pieces[0].pads) if pads is None and not step.whole else pads
        if around is None:
            around = [window.padding[1], window.padding[1], window.padding[0], window.padding[0]]
        return unshuffled(weight, bias, take, stride=stride[0], pads=around)
    if pads is None:
        return lambda values: F.conv2d(take(values), weight, bias, stride, padding, dilation, groups)
    return lambda values: F.conv2d(F.pad(take(values), pads), weight, bias, stride, padding, dilation, groups)


FEW = 4
"""A strided convolution of no more channels than this looks at stride x stride pixels at a time."""


def unshuffled(weight: Tensor, bias: Tensor | None, take: Run, *, stride: int, pads: list[int]) -> Run:
    """A strided convolution of few channels as one without stride, of stride x stride as many: twice as fast, above all
    backward.
    """
    taps = (weight.shape[2], weight.shape[3])
    more = [-n % stride for n in taps]
    kernel = F.pixel_unshuffle(F.pad(weight.double(), (0, more[1], 0, more[0])), stride)
    kernel = kernel.to(weight.dtype, memory_format=torch.channels_last)

    def run(values: list[Any]) -> Tensor:
        x = take(values)
        height, width = x.shape[2] + pads[2] + pads[3], x.shape[3] + pads[0] + pads[1]
        rows, cols = (height - taps[0]) // stride + 1, (width - taps[1]) // stride + 1
        padded = F.pad(x, (pads[0], pads[1] + -width % stride, pads[2], pads[3] + -height % stride))
        blocks = F.pixel_unshuffle(padded, stride).contiguous(memory_format=torch.channels_last)
        return F.conv2d(blocks, kernel, bias)[:, :, :rows, :cols]

    return run


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


def own(tensor: Tensor) -> Tensor:
    """A weight for computing with gradients of the picture: without its own, and not of inference mode."""
    return tensor.detach().clone() if tensor.is_inference() else tensor.detach()


def pointwise(operation: Operation, takes: list[Run], forced: torch.dtype | None) -> Run:
    function, args, kwargs = operation.facts["call"]
    if forced is not None and isinstance(kwargs.get("dtype"), torch.dtype):
        kwargs = {**kwargs, "dtype": forced}
    order = {read: n for n, read in enumerate(operation.reads)}
    if operation.name == "relu":
        return lambda values: torch.relu(takes[0](values))

    def filled(value: Any, values: list[Any]) -> Any:
        if isinstance(value, Ref):
            return takes[order[value.number]](values)
        if isinstance(value, Tensor):
            return own(value) if forced is None or not value.is_floating_point() else value.to(forced)
        return [filled(one, values) for one in value] if isinstance(value, list | tuple) else value

    return lambda values: function(
        *[filled(one, values) for one in args], **{key: filled(one, values) for key, one in kwargs.items()}
    )
