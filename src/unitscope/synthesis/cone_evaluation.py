"""A planned cone made ready to run: functions of the values so far, weights folded and of one type.

A cone is run hundreds of times forward and backward, so that its operations are made fast where the answer stays the
same but for rounding:

    convolution -> normalization       one convolution, with the normalization's factors folded into its weights:
                                       s (w x + b) + t = (s w) x + (s b + t)
    strided convolution of few colors  a convolution without stride on stride x stride blocks of pixels
    the last operations                for one channel of each picture only (single_channels.py)

Each is used only where it is exact to rounding; the evaluator compares the whole cone with the network (evaluators.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn import functional as F

from unitscope.anatomy.program import Program, Value
from unitscope.synthesis.cone_rules import LocalOperation, Margins, Window, local_operation
from unitscope.synthesis.cones import ConePlan, ConeStep, Piece
from unitscope.vocabulary import Size

Run = Callable[[list[Any]], Tensor]
"""Runs one operation on the values so far (None where one is not needed)."""

PlannedOperation = tuple[LocalOperation, ConeStep]

COARSE = (torch.bfloat16, torch.float16)
"""Types of so few digits that a normalization is computed in float32 and rounded once, as torch does it."""

FEW = 4
"""A strided convolution of no more channels than this takes blocks of stride x stride pixels."""


class Cone:
    """A plan made ready to run. Nothing in it refers to the network, which may change or be dropped meanwhile.

    Args:
        program: the operations.
        plan: which of them are run, on which pieces.
        dtype: one type for all operations; by default each has the type that it has in the network.
    """

    def __init__(self, program: Program, plan: ConePlan, *, dtype: torch.dtype | None = None) -> None:
        self.plan, self.dtype = plan, dtype or program.origin.dtype
        self.operations = fold_normalizations(
            list(zip(operations_of(plan, program, dtype=dtype), plan.steps, strict=True)),
            {value for value, _ in plan.targets},
            everywhere=dtype is not None,
        )
        self.places = {program.origin: 0} | {step.value: n + 1 for n, (_, step) in enumerate(self.operations)}
        self.runs: list[Run] = [
            make_run(operation, step, self.places_of(operation), one_dtype=dtype) for operation, step in self.operations
        ]
        self.targets = [(self.places[value], piece) for value, piece in plan.targets]
        self.values_per_picture = sum(
            operation.value.shape[1] * count_positions(operation, step) for operation, step in self.operations
        )

    def places_of(self, operation: LocalOperation) -> list[int]:
        """Where the operands of an operation are in the list of values."""
        return [self.places[read] for read in operation.reads]

    def begin(self, x: Float[Tensor, "stimulus color height width"]) -> Tensor:
        """The pictures as the first value."""
        return x.to(self.dtype, memory_format=torch.channels_last)

    def evaluate(self, x: Float[Tensor, "stimulus color height width"]) -> list[Tensor]:
        """The responses [stimulus unit row col] of each target to whitened pictures of the plan's size.
        Differentiable.
        """
        values: list[Any] = [self.begin(x)]
        for run in self.runs:
            values.append(run(values))
        return [take_piece(values[place], piece) for place, piece in self.targets]


def operations_of(plan: ConePlan, program: Program, *, dtype: torch.dtype | None = None) -> list[LocalOperation]:
    """The operations of a plan, in their own types or in `dtype`."""
    operations = [local_operation(program.makers[step.value], program.origin.shape[0]) for step in plan.steps]
    return operations if dtype is None else [replace(operation, dtype=dtype) for operation in operations]


def take_piece(value: Tensor, piece: Piece) -> Tensor:
    return value[:, :, piece.top : piece.top + piece.height, piece.left : piece.left + piece.width]


def count_positions(operation: LocalOperation, step: ConeStep) -> int:
    """About how many positions a result has, from the size of its operand's piece."""
    piece = step.pieces[0]
    if operation.kind in ("convolution", "max_pool", "avg_pool"):
        window: Window = operation.facts["window"]
        return (piece.height // window.stride[0] + 1) * (piece.width // window.stride[1] + 1)
    return 1 if operation.kind == "mean" else max(p.height * p.width for p in step.pieces)


# --- folding ---------------------------------------------------------------------------------------------------------


def fold_normalizations(
    steps: list[PlannedOperation], targets: Collection[Value], *, everywhere: bool
) -> list[PlannedOperation]:
    """Fold each normalization into the convolution whose only reader it is.

    Args:
        steps: operations in their order.
        targets: values that are read, and must stay.
        everywhere: fold in types of few digits, too, where rounding then differs from the network's.
    """
    readers = Counter(read for operation, _ in steps for read in operation.reads)
    folded: list[PlannedOperation] = []
    places: dict[Value, int] = {}  # of each value in `folded`
    for operation, step in steps:
        source = operation.reads[0]
        place = places.get(source)
        if (
            operation.kind == "affine"
            and (everywhere or operation.dtype not in COARSE)
            and place is not None
            and folded[place][0].kind == "convolution"
            # Another reader, or the search itself, needs the value before the normalization.
            and readers[source] == 1
            and source not in targets
            and step.pieces[0].top == step.pieces[0].left == 0
        ):
            convolution, convolution_step = folded[place]
            folded[place] = (fold_pair(convolution, operation), replace(convolution_step, value=step.value))
            places[operation.value] = place
        else:
            places[operation.value] = len(folded)
            folded.append((operation, step))
    return folded


def fold_pair(convolution: LocalOperation, affine: LocalOperation) -> LocalOperation:
    """A convolution and the normalization after it as one convolution. In float64, rounded when it is made ready."""
    scale, shift = scale_and_shift(affine)
    weight = convolution.facts["weight"].double() * scale[:, None, None, None]
    bias = convolution.facts["bias"]
    bias = shift if bias is None else shift + bias.double() * scale
    return replace(convolution, value=affine.value, facts={**convolution.facts, "weight": weight, "bias": bias})


def scale_and_shift(affine: LocalOperation) -> tuple[Float64[Tensor, " unit"], Float64[Tensor, " unit"]]:
    """A normalization with fixed statistics as a factor and a summand for each channel."""
    facts = affine.facts
    scale = (facts["running_var"].double() + facts["eps"]).rsqrt()
    scale = scale if facts["weight"] is None else scale * facts["weight"].double()
    shift = -facts["running_mean"].double() * scale
    return scale, shift if facts["bias"] is None else shift + facts["bias"].double()


# --- operations as functions of the values so far --------------------------------------------------------------------


def make_run(operation: LocalOperation, step: ConeStep, places: list[int], *, one_dtype: torch.dtype | None) -> Run:
    """What runs one operation, in its own type or in `one_dtype`; `places` are those of its operands."""
    pieces, facts = step.pieces, operation.facts
    takes = [make_slicer(place, piece) for place, piece in zip(places, pieces, strict=True)]
    take = takes[0]
    if operation.kind == "convolution":
        return make_convolution(facts, step, take, operation.dtype)
    if operation.kind == "affine":
        normalize = make_affine(operation)
        return lambda values: normalize(take(values))
    if operation.kind in ("max_pool", "avg_pool"):
        return make_pooling(operation, step, take)
    if operation.kind == "identity":
        return take
    if operation.kind == "mean":
        return lambda values: take(values).mean((2, 3), keepdim=True)
    if operation.kind == "cat":
        return lambda values: torch.cat([one(values) for one in takes], 1)
    if operation.kind == "pad":
        pads, value = torch_pads(pieces[0].pads), facts["value"]
        return lambda values: F.pad(take(values), pads, value=value)
    return make_pointwise(operation, takes, one_dtype)


def make_slicer(place: int, piece: Piece) -> Run:
    """What cuts a piece out of the value at a place."""

    def take(values: list[Any]) -> Tensor:
        value = values[place]
        # A slice of a whole value costs a node of the graph of gradients, forward and backward.
        if value.shape[2] == piece.height and value.shape[3] == piece.width:
            return value
        return take_piece(value, piece)

    return take


def torch_pads(pads: Margins) -> list[int]:
    """Margins in torch's order: the last axis first."""
    top, left, bottom, right = pads
    return [left, right, top, bottom]


def make_affine(operation: LocalOperation, channels: Tensor | None = None) -> Callable[[Tensor], Tensor]:
    """What normalizes, all channels or one for each picture."""
    dtype = operation.dtype
    inner = torch.float32 if dtype in COARSE else dtype
    scale, shift = (each.to(inner) for each in scale_and_shift(operation))
    if channels is None:
        scale, shift = (each[None, :, None, None] for each in (scale, shift))
    else:
        scale, shift = (each[channels].view(-1, 1, 1, 1) for each in (scale, shift))
    if inner == dtype:
        return lambda x: torch.addcmul(shift, x, scale)
    return lambda x: torch.addcmul(shift, x.to(inner), scale).to(dtype)


def make_convolution(facts: Any, step: ConeStep, take: Run, dtype: torch.dtype) -> Run:
    window: Window = facts["window"]
    weight = detach_weight(facts["weight"]).to(dtype, memory_format=torch.channels_last)
    bias = None if facts["bias"] is None else detach_weight(facts["bias"]).to(dtype)
    padding, pads = padding_of(step, window)
    stride, dilation, groups = window.stride, window.dilation, facts["groups"]
    if groups == 1 and stride[0] == stride[1] > 1 and dilation == (1, 1) and weight.shape[1] <= FEW:
        # Blocks of pixels are made of the padded picture: all padding is done before the convolution.
        around = torch_pads(step.pieces[0].pads) if pads is None and not step.whole else pads
        if around is None:
            around = [window.padding[1], window.padding[1], window.padding[0], window.padding[0]]
        return make_unshuffled_convolution(weight, bias, take, stride=stride[0], pads=around)
    if pads is None:
        return lambda values: F.conv2d(take(values), weight, bias, stride, padding, dilation, groups)
    return lambda values: F.conv2d(F.pad(take(values), pads), weight, bias, stride, padding, dilation, groups)


def make_unshuffled_convolution(weight: Tensor, bias: Tensor | None, take: Run, *, stride: int, pads: list[int]) -> Run:
    """A strided convolution of few channels as one without stride, of stride x stride as many channels: twice as fast,
    above all backward.
    """
    taps = (weight.shape[2], weight.shape[3])
    # 7 taps with stride 2 are 4 blocks of 2: the kernel gets one row and one column of zeros at its end.
    more = [-n % stride for n in taps]
    kernel = F.pixel_unshuffle(F.pad(weight.double(), (0, more[1], 0, more[0])), stride)
    kernel = kernel.to(weight.dtype, memory_format=torch.channels_last)

    def run(values: list[Any]) -> Tensor:
        x = take(values)
        height, width = x.shape[2] + pads[2] + pads[3], x.shape[3] + pads[0] + pads[1]
        rows, cols = (height - taps[0]) // stride + 1, (width - taps[1]) // stride + 1
        padded = F.pad(x, (pads[0], pads[1] + -width % stride, pads[2], pads[3] + -height % stride))
        # Filled up to whole blocks the picture may give further positions at the end; these are cut off.
        blocks = F.pixel_unshuffle(padded, stride).contiguous(memory_format=torch.channels_last)
        return F.conv2d(blocks, kernel, bias)[:, :, :rows, :cols]

    return run


def padding_of(step: ConeStep, window: Window) -> tuple[Size, list[int] | None]:
    """The padding that the operation does by itself, and what must be added to its operand (None: nothing)."""
    top, left, bottom, right = step.pieces[0].pads
    if step.whole:
        return window.padding, None
    # torch's convolution pads both sides alike by itself. Sides differ where a piece ends at one border of the map.
    if top == bottom and left == right:
        return (top, left), None
    return (0, 0), [left, right, top, bottom]


def make_pooling(operation: LocalOperation, step: ConeStep, take: Run) -> Run:
    window: Window = operation.facts["window"]
    # A piece ends where its last window ends, so that nothing is left to be rounded up.
    ceil = operation.facts["ceil"] and step.whole
    padding, pads = (window.padding, None) if step.whole else ((0, 0), torch_pads(step.pieces[0].pads))
    pads = pads if pads and any(pads) else None
    if operation.kind == "max_pool":
        # Padding must never be the maximum.
        lowest = float("-inf")

        def pool(x: Tensor) -> Tensor:
            return F.max_pool2d(x, window.taps, window.stride, padding, window.dilation, ceil)
    else:
        # Only averages that count the padding get here (`avg_pool_rule`).
        lowest = 0.0

        def pool(x: Tensor) -> Tensor:
            return F.avg_pool2d(x, window.taps, window.stride, padding)

    if pads is None:
        return lambda values: pool(take(values))
    return lambda values: pool(F.pad(take(values), pads, value=lowest))


def make_pointwise(operation: LocalOperation, takes: list[Run], one_dtype: torch.dtype | None) -> Run:
    """What calls an operation that works position by position, with tensors in the places of its Values."""
    function, args, kwargs = operation.facts["call"]
    if one_dtype is not None and isinstance(kwargs.get("dtype"), torch.dtype):
        kwargs = {**kwargs, "dtype": one_dtype}
    order = {read: n for n, read in enumerate(operation.reads)}
    if operation.name == "relu":  # by far the most frequent: no search for Values
        return lambda values: torch.relu(takes[0](values))

    def fill(argument: Any, values: list[Any]) -> Any:
        if isinstance(argument, Value):
            return takes[order[argument]](values)
        if isinstance(argument, Tensor):
            own_dtype = one_dtype is None or not argument.is_floating_point()
            return detach_weight(argument) if own_dtype else argument.to(one_dtype)
        return [fill(one, values) for one in argument] if isinstance(argument, list | tuple) else argument

    return lambda values: function(
        *[fill(one, values) for one in args], **{key: fill(one, values) for key, one in kwargs.items()}
    )


def detach_weight(tensor: Tensor) -> Tensor:
    """A weight for gradients of the picture: without gradients of its own, and no tensor of inference mode, which no
    gradient may pass.
    """
    return tensor.detach().clone() if tensor.is_inference() else tensor.detach()
