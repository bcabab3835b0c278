"""What a cone must know of each operation: how it is run on a part of a map, and which part of its operands it needs.

The problem: an operation of a program is torch's own, for whole maps. On a part of a map it needs another padding, and
not every operation can be run there at all.

The idea: one rule for each kind of operation that keeps positions apart,

    convolution, max_pool, avg_pool    a window of positions
    affine                             a normalization with fixed statistics: a factor and a summand for each channel
    cat, pad                           concatenated channels, padded maps
    pointwise                          whatever works position by position, and on a gate (1 x 1 position) of each map
    mean                               over the whole map: needs all of it
    identity                           the same values under another name

and for all others an `obstacle`: why they cannot be run on a part. Neurons behind these are evaluated in the network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from unitscope.anatomy.operations import functional_twin, is_elementwise, kind, tensors_in
from unitscope.anatomy.program import OVERWRITTEN, Operation, Value, values_in
from unitscope.errors import UnitscopeError
from unitscope.vocabulary import Box, Size


class NoCone(UnitscopeError):
    """A response cannot be evaluated on a part of a picture; the message says why."""


Margins = tuple[int, int, int, int]
"""Positions beyond the top, left, bottom and right edge of a map."""

NO_MARGINS: Margins = (0, 0, 0, 0)


@dataclass(frozen=True)
class Window:
    """Taps, stride, padding and dilation of a window, each as (rows, columns)."""

    taps: Size
    stride: Size
    padding: Size
    dilation: Size

    def inputs(self, axis: int, first: int, last: int) -> tuple[int, int]:
        """The inputs that the outputs `first` to `last` (excluded) need, along one axis."""
        reach = self.dilation[axis] * (self.taps[axis] - 1) + 1
        begin = first * self.stride[axis] - self.padding[axis]
        return begin, (last - 1) * self.stride[axis] - self.padding[axis] + reach


@dataclass(frozen=True)
class Rule:
    """How an operation is run on a part of a map: its `kind`, and the `facts` that this kind needs."""

    kind: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class LocalOperation:
    """An operation of a program, as it is run on parts of maps.

    Attributes:
        name: torch's plain name.
        kind: which of the kinds above.
        reads: the values that it takes, in their order, as often as it takes them.
        value: what it gives.
        dtype: the type of what it gives.
        facts: what it needs besides its operands.
        given: the tensors that it takes besides values: weights and constants.
    """

    name: str
    kind: str
    reads: tuple[Value, ...]
    value: Value
    dtype: torch.dtype
    facts: Mapping[str, Any]
    given: tuple[Tensor, ...]


def local_operation(operation: Operation, stimuli: int) -> LocalOperation:
    """An operation as it is run on parts of maps. Raises NoCone where it cannot be.

    Args:
        operation: of a program.
        stimuli: how many pictures the program was recorded with.
    """
    rule = rule_of(operation, stimuli)
    reads = tuple(values_in((operation.args, dict(operation.kwargs))))
    given = tuple(tensors_in(operation.arguments.values()))
    value = operation.results[0]
    return LocalOperation(operation.name, rule.kind, reads, value, value.dtype, rule.facts, given)


def rule_of(operation: Operation, stimuli: int) -> Rule:
    """The rule of an operation. Raises NoCone where there is none."""
    name = operation.name
    if name == OVERWRITTEN:
        raise NoCone("its result shares memory with another value")
    shapes = [value.shape for value in (*operation.reads, *operation.results[:1])]
    # With other axes, rows and columns would have to be looked for; such operations are left to the network.
    if any(len(shape) != 4 or shape[0] != stimuli for shape in shapes):
        raise NoCone(f"{name} does not keep stimuli, channels, rows and columns apart")
    if kind(name).normalization:
        return normalization_rule(operation)
    if name in RULES:
        return RULES[name](operation)
    if is_elementwise(name, operation.function):
        return pointwise_rule(operation)
    raise NoCone(f"{name} is not known to work position by position")


def convolution_rule(operation: Operation) -> Rule:
    arguments = operation.arguments
    weight, bias = arguments["weight"], arguments["bias"]
    if arguments["transposed"] or len(operation.reads) > 1 or not isinstance(weight, Tensor) or weight.ndim != 4:
        raise NoCone("a transposed convolution, or one whose kernels depend on the picture")
    window = Window(
        (weight.shape[2], weight.shape[3]), *(pair(arguments[n]) for n in ("stride", "padding", "dilation"))
    )
    return Rule("convolution", {"weight": weight, "bias": bias, "window": window, "groups": arguments["groups"]})


def normalization_rule(operation: Operation) -> Rule:
    arguments = operation.arguments
    if arguments.get("training"):
        raise NoCone("normalization by the statistics of the batch")
    facts = {name: arguments[name] for name in ("running_mean", "running_var", "weight", "bias")}
    return Rule("affine", {**facts, "eps": arguments.get("eps", arguments.get("epsilon"))})  # cuDNN's has `epsilon`


def max_pool_rule(operation: Operation) -> Rule:
    arguments = operation.arguments
    taps = pair(arguments["kernel_size"])
    stride = pair(arguments["stride"] or taps)
    window = Window(taps, stride, pair(arguments["padding"]), pair(arguments["dilation"]))
    return Rule("max_pool", {"window": window, "ceil": arguments["ceil_mode"]})


def avg_pool_rule(operation: Operation) -> Rule:
    arguments = operation.arguments
    taps = pair(arguments["kernel_size"])
    window = Window(taps, pair(arguments["stride"] or taps), pair(arguments["padding"]), (1, 1))
    # Else a window at the border is divided by the number of its pixels on the map.
    counts_padding = arguments["count_include_pad"] or window.padding == (0, 0)
    if not counts_padding or arguments["ceil_mode"] or arguments["divisor_override"] is not None:
        raise NoCone("an average whose divisor changes at the border")
    return Rule("avg_pool", {"window": window, "ceil": False})


def mean_rule(operation: Operation) -> Rule:
    arguments = operation.arguments
    if sorted(dim % 4 for dim in arguments["dim"] or ()) != [2, 3] or not arguments["keepdim"]:
        raise NoCone("a mean over something else than the whole map")
    return Rule("mean")


def cat_rule(operation: Operation) -> Rule:
    arguments = operation.arguments
    if arguments["dim"] % 4 != 1 or not all(isinstance(one, Value) for one in arguments["tensors"]):
        raise NoCone("a concatenation of something else than channels")
    return Rule("cat")


def pad_rule(operation: Operation) -> Rule:
    amounts = operation.arguments["pad"]
    if any(amounts[4:]):
        raise NoCone("padding of channels")
    # torch's order begins with the last axis.
    left, right, top, bottom = [*amounts, 0, 0, 0, 0][:4]
    return Rule("pad", {"amounts": (top, left, bottom, right), "value": float(operation.arguments["value"])})


def pointwise_rule(operation: Operation) -> Rule:
    """Operands are maps of the result's size or gates, one position each; constants are numbers or gates."""
    if operation.function is None or not operation.results[0].dtype.is_floating_point:
        raise NoCone(f"{operation.name} gives no real numbers")
    if len(operation.reads) == 1 and operation.name in ("detach", "alias", "contiguous", "dropout"):
        return Rule("identity")
    gate, size = (1, 1), operation.results[0].shape[2:]
    constants = tensors_in(operation.arguments.values())
    # In place, it would write to a value that others still read.
    function = functional_twin(operation.function) if operation.writes else operation.function
    if (
        function is None
        or any(value.shape[2:] not in (gate, size) for value in operation.reads)
        or any(one.ndim != 0 and (one.ndim != 4 or tuple(one.shape[2:]) != gate) for one in constants)
    ):
        raise NoCone(f"{operation.name} is not known to work position by position")
    return Rule("pointwise", {"call": (function, operation.args, operation.kwargs), "constants": constants})


def pair(value: Any) -> Size:
    values = list(value) if isinstance(value, list | tuple) else [value]
    return (values[0], values[-1])


RULES: dict[str, Callable[[Operation], Rule]] = {
    "convolution": convolution_rule,
    "_convolution": convolution_rule,
    "max_pool2d_with_indices": max_pool_rule,
    "max_pool2d": max_pool_rule,
    "avg_pool2d": avg_pool_rule,
    "mean": mean_rule,
    "cat": cat_rule,
    "constant_pad_nd": pad_rule,
}
"""By torch's plain names; normalizations have several."""


# --- which positions of an operand are needed --------------------------------------------------------------------


def operand_need(operation: LocalOperation, read: Value, out: Box) -> tuple[Box, Margins]:
    """The part of an operand that the part `out` of the result needs, and how far it would go beyond the map's edges.

    Raises NoCone where all of it lies beyond.
    """
    lattice, facts = lattice_of(read), operation.facts
    if operation.kind == "mean":
        return whole_lattice(read), NO_MARGINS
    if operation.kind in ("convolution", "max_pool", "avg_pool"):
        window: Window = facts["window"]
        rows, cols = (window.inputs(axis, out[axis], out[axis + 2]) for axis in (0, 1))
        return clip_to_lattice(Box(rows[0], cols[0], rows[1], cols[1]), lattice)
    if operation.kind == "pad":
        top, left, _, _ = facts["amounts"]
        return clip_to_lattice(out.shift(-top, -left), lattice)
    if lattice == (1, 1) and lattice_of(operation.value) != (1, 1):
        return Box(0, 0, 1, 1), NO_MARGINS  # a gate: one number for the whole map
    return out, NO_MARGINS


def clip_to_lattice(box: Box, lattice: Size) -> tuple[Box, Margins]:
    """The part of a box on a lattice, and how much of it lies beyond each edge. Raises NoCone where all of it does."""
    inside = box.clip(lattice)
    if inside.height <= 0 or inside.width <= 0:
        raise NoCone("a neuron that sees nothing but padding")
    return inside, (inside.top - box.top, inside.left - box.left, box.bottom - inside.bottom, box.right - inside.right)


def lattice_of(value: Value) -> Size:
    return (value.shape[2], value.shape[3]) if len(value.shape) == 4 else (1, 1)


def whole_lattice(value: Value) -> Box:
    return Box(0, 0, *lattice_of(value))
