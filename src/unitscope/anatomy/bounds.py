"""How an operation takes bounds to bounds: one sound rule per operation, none of them guessed.

Problem: a bound that is a little too small proves what is not true. Rounding matters, both the network's and that of
the bounds themselves, and so does the order in which a sum is added up.

Idea: a bounded tensor is float32 and holds, along its first axis, the lowest and the highest value that each element
can have, NaN where that is not known. Every rule keeps that axis first, and widens the bounds by more than what float32
arithmetic can differ from exact numbers, in whatever order it adds. An operation without a rule gives NaN.

    x in [-1, 2]        relu(x) in [0, 2]       monotone: the operation itself on both ends
    y = 3 x - 1         y in [-4, 5]            each end from what adds to it and what takes from it
    x - x               in [-3, 3]              sound, and wide: the rules do not know that both are the same
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unitscope.anatomy.operations import arguments_by_name, register_in
from unitscope.anatomy.program import OVERWRITTEN, Value, overwrite
from unitscope.anatomy.program import Operation as Recorded

ROUNDING = 2**-21
"""Eight times the unit roundoff of float32, relative to the magnitude of what is rounded."""


class Unproven(Exception):
    """An operation has no sound rule for these arguments: nothing is proven of its result."""


class Undecided(Exception):
    """The network decides by a value, of which only bounds are known."""


@dataclass(frozen=True)
class Operation:
    """An operation of a program with bounds in the place of values: arguments in order and by name."""

    recorded: Recorded
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    bounded: frozenset[int]
    """The ids of the tensors that are bounds."""

    @classmethod
    def of(cls, recorded: Recorded, bounds: Mapping[Value, Tensor]) -> Operation:
        args, kwargs = recorded.arguments_with(lambda value: bounds[value])
        return cls(recorded, args, kwargs, frozenset(id(bounds[value]) for value in recorded.reads))

    @property
    def name(self) -> str:
        return self.recorded.name

    @property
    def arguments(self) -> dict[str, Any]:
        return arguments_by_name(self.recorded.function, self.args, self.kwargs)

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.arguments.get(name, default)

    def depends(self, value: Any) -> bool:
        """Whether an argument depends on the picture."""
        return id(value) in self.bounded

    def bounds(self, value: Any) -> Tensor:
        """A bounded argument, [lowest highest] along the first axis. Raises Unproven where it is none."""
        if not self.depends(value) or value.dtype != torch.float32 or not value.ndim or value.shape[0] != 2:
            raise Unproven
        return value

    def constant(self, value: Any) -> Tensor:
        """A constant argument. Raises Unproven where it is bounded."""
        if self.depends(value) or not isinstance(value, Tensor) or not value.is_floating_point():
            raise Unproven
        return value.float()

    def run(self, *args: Any) -> Any:
        """The operation itself, on other arguments (those in order) where they are given. Never in place."""
        return self.recorded.call(args or self.args, self.kwargs)


Rule = Callable[[Operation], Any]

RULES: dict[str, Rule] = {}


rule = register_in(RULES)


def bounds_by_rule(recorded: Recorded, bounds: Mapping[Value, Tensor]) -> list[Tensor] | None:
    """The bounds of an operation's results, from those of the values it reads; None where no rule proves any.

    Raises Undecided where the network reads values.
    """
    if recorded.outcome_depends_on_values:
        raise Undecided(recorded.name)
    if recorded.name == OVERWRITTEN:
        whole, part = (bounds[one] if isinstance(one, Value) else one for one in recorded.args)
        return [overwrite(whole, part, **recorded.kwargs)]
    if recorded.name not in RULES:
        return None
    try:
        result = RULES[recorded.name](Operation.of(recorded, bounds))
    except Unproven:
        return None
    found = list(result) if isinstance(result, tuple | list) else [result]
    return found if len(found) == len(recorded.results) else None


def nothing_proven(recorded: Recorded) -> list[Tensor]:
    """NaN for each result, and zeros for what is no floating point number, of which no rule makes use."""
    return [
        torch.full(value.shape, torch.nan, dtype=value.dtype, device=value.device)
        if value.dtype.is_floating_point
        else value.blank()
        for value in recorded.results
    ]


def widen(bounds: Tensor, by: Tensor) -> Tensor:
    """Bounds moved apart; `by` is not negative."""
    return torch.stack([bounds[0] - by, bounds[1] + by])


def widen_by_rounding(bounds: Tensor, *, times: int = 1) -> Tensor:
    """Bounds of a value that was rounded `times` times."""
    return widen(bounds, times * ROUNDING * bounds.abs().amax(0))


def bound_linear(
    bounds: Tensor, weight: Tensor, bias: Tensor | None, apply: Callable[[Tensor, Tensor], Tensor], *, terms: int
) -> Tensor:
    """Bounds of a sum of products with constants: each end from what adds to it and what takes from it.

    A sum of t products, in whatever order, is at most (1 + r t) times what adds and (1 - r t) times what takes, so that
    what nothing adds to stays at or below 0, rounding or not.
    """
    low, high = (end[None] for end in bounds)
    # Four non-negative parts (high = high+ - high-, low = low+ - low-), whose products with non-negative weights only
    # add up.
    parts = torch.cat([high.relu(), low.relu(), (-high).relu(), (-low).relu()])
    up, down = apply(parts, weight.relu()), apply(parts, (-weight).relu())
    # Rows are the lowest and the highest value. To the highest, positive weights add high+ (up[0]) and negative ones
    # low- (down[3]).
    adds = torch.stack([up[1] + down[2], up[0] + down[3]])
    takes = torch.stack([up[3] + down[0], up[2] + down[1]])
    shape = (-1, *(1,) * (adds.ndim - 2))
    offset = torch.zeros(1, device=weight.device) if bias is None else bias.reshape(shape)
    value = adds - takes + offset
    margin = (terms + 2) * ROUNDING * (adds + takes + offset.abs())
    return torch.stack([value[0] - margin[0], value[1] + margin[1]])


# sums of products


@rule("convolution", "_convolution")
def convolution(op: Operation) -> Tensor:
    bounds, weight = op.bounds(op["input"]), op.constant(op["weight"])
    bias = None if op["bias"] is None else op.constant(op["bias"])
    geometry = [op[name] for name in ("stride", "padding", "dilation", "transposed", "output_padding", "groups")]

    def convolved(x: Tensor, kernels: Tensor) -> Tensor:
        return torch.ops.aten.convolution.default(x, kernels, None, *geometry)

    terms = weight.numel() if op["transposed"] else weight[0].numel()
    return bound_linear(bounds, weight, bias, convolved, terms=terms)


@rule("addmm")
def addmm(op: Operation) -> Tensor:
    if op.get("beta", 1) != 1 or op.get("alpha", 1) != 1 or op["self"].ndim != 1:
        raise Unproven
    return bound_product(op, op["mat1"], op.constant(op["self"]))


@rule("mm")
def mm(op: Operation) -> Tensor:
    return bound_product(op, op["self"], None)


def bound_product(op: Operation, first: Tensor, bias: Tensor | None) -> Tensor:
    second = op.constant(op["mat2"])
    return bound_linear(op.bounds(first), second, bias, torch.mm, terms=second.shape[0])


@rule("native_batch_norm", "_native_batch_norm_legit_no_training", "_native_batch_norm_legit", "cudnn_batch_norm",
      "_batch_norm_no_update", "_batch_norm_with_update")  # fmt: skip
def batch_norm(op: Operation) -> tuple[Tensor, ...]:
    if op.get("training", False):
        raise Unproven
    bounds = op.bounds(op["input"])
    mean, variance = op.constant(op["running_mean"]), op.constant(op["running_var"])
    eps = op.get("eps", op.get("epsilon"))
    scale = (variance + eps).rsqrt()
    scale = scale if op["weight"] is None else scale * op.constant(op["weight"])
    offset = torch.zeros_like(mean) if op["bias"] is None else op.constant(op["bias"])
    shape = (-1, *(1,) * (bounds.ndim - 2))
    a, b, m = scale.reshape(shape), offset.reshape(shape), mean.reshape(shape)
    # A negative gain turns the ends round; they are sorted below.
    ends = (bounds - m) * a + b
    margin = 8 * ROUNDING * (bounds.abs().amax(0) * a.abs() + (m * a).abs() + b.abs())
    value = widen(ends.sort(0).values, margin)
    # The other results are for gradients, and nobody reads them.
    empty = value.new_zeros(0)
    return (value, *(empty for _ in range(len(op.recorded.results) - 1)))


# what is monotone as it is


@rule("relu", "clamp_min", "max_pool2d_with_indices", "clone", "detach", "alias", "upsample_nearest2d")
def monotone(op: Operation) -> Any:
    op.bounds(op.args[0])
    if any(isinstance(value, Tensor) for value in op.args[1:]):
        raise Unproven
    return op.run()


@rule("hardtanh", "clamp")
def between_numbers(op: Operation) -> Any:
    op.bounds(op["self"])
    if any(isinstance(value, Tensor) for name, value in op.arguments.items() if name != "self"):
        raise Unproven
    return op.run()


@rule("sigmoid", "tanh", "hardsigmoid", "softplus", "relu6")
def curve(op: Operation) -> Tensor:
    if op.name == "softplus" and op.get("threshold", 20) < 15:  # there it jumps down onto the straight line
        raise Unproven
    op.bounds(op["self"])
    return widen_by_rounding(op.run(), times=8)


@rule("leaky_relu", "elu")
def bent(op: Operation) -> Tensor:
    slopes = [op.get(name, 1) for name in ("negative_slope", "alpha", "scale", "input_scale")]
    # A curve with a negative slope is not monotone.
    if min(slopes) < 0:
        raise Unproven
    op.bounds(op["self"])
    return widen_by_rounding(op.run(), times=8)


LOWEST = -0.4
"""Below the lowest value of SiLU (-0.279), GELU (-0.171), hard swish (-0.375) and Mish (-0.309)."""


@rule("silu", "gelu", "hardswish", "mish")
def dipping(op: Operation) -> Tensor:
    """Curves that fall once and then rise: the highest value is at an end, the lowest may lie between."""
    bounds = op.bounds(op["self"])
    ends = op.run()
    value = widen_by_rounding(torch.stack([ends.amin(0), ends.amax(0)]), times=8)
    return torch.stack([torch.where(bounds.isnan().any(0), torch.nan, value[0].clamp(max=LOWEST)), value[1]])


@rule("avg_pool2d", "_adaptive_avg_pool2d", "adaptive_avg_pool2d", "mean", "sum", "upsample_bilinear2d")
def average(op: Operation) -> Tensor:
    bounds = op.bounds(op["self"])
    dims = op.get("dim")
    if op.name in ("mean", "sum") and (not dims or any(dim % bounds.ndim == 0 for dim in dims) or op.get("dtype")):
        raise Unproven
    size = bounds.abs().amax(0, keepdim=True).expand_as(bounds).contiguous()
    # How many numbers one sum holds at most: those of a channel, or of all channels where these are summed, too.
    across_channels = bounds.ndim < 2 or any(dim % bounds.ndim == 1 for dim in dims or ())
    terms = bounds[0].numel() // (1 if across_channels else max(1, bounds.shape[1]))
    ends = op.run()
    # A negative divisor turns the ends round.
    ends = ends.flip(0) if (op.get("divisor_override") or 1) < 0 else ends
    return widen(ends, (terms + 2) * ROUNDING * op.run(size, *op.args[1:])[0].abs())


# sums and products of what is bounded


def operand_bounds(op: Operation) -> tuple[Any, Any]:
    """Both operands: bounds, or constants that are the same for the lowest and the highest value."""
    pair: list[Any] = []
    reference = next(value for value in (op["self"], op["other"]) if op.depends(value))
    for value in (op["self"], op["other"]):
        if isinstance(value, int | float):
            pair.append(float(value))
        elif op.depends(value):
            pair.append(op.bounds(value))
        else:
            constant = op.constant(value)
            # The first axis of bounds holds the two ends. A constant with several numbers along it has one for each
            # stimulus, and these would be aligned with the ends.
            if constant.ndim > reference.ndim or (constant.ndim == reference.ndim and constant.shape[0] != 1):
                raise Unproven
            pair.append(constant)
    # Where ranks differ, broadcasting would align the axis of ends of one operand with another axis of the other.
    if all(op.depends(value) for value in (op["self"], op["other"])) and op["self"].ndim != op["other"].ndim:
        raise Unproven
    return pair[0], pair[1]


@rule("add", "sub")
def add(op: Operation) -> Tensor:
    first, second = operand_bounds(op)
    factor = op.get("alpha", 1) * (1 if op.name == "add" else -1)
    second = second * factor
    # A difference is largest where what is subtracted is lowest: its ends change places.
    if factor < 0 and op.depends(op["other"]):
        second = second.flip(0)
    value = widen_by_rounding(first + second, times=2)
    if factor in (1, -1):
        return value
    return widen(value, ROUNDING * torch.as_tensor(second).abs().broadcast_to(value.shape).amax(0))


@rule("rsub")
def subtract_from(op: Operation) -> Tensor:
    if not isinstance(op["other"], int | float) or op.get("alpha", 1) != 1:
        raise Unproven
    return widen_by_rounding(op["other"] - op.bounds(op["self"]).flip(0), times=2)


@rule("mul", "div")
def multiply(op: Operation) -> Tensor:
    if op.name == "div":
        if op.depends(op["other"]) or op.get("rounding_mode"):
            raise Unproven
        if not bool(torch.as_tensor(op["other"] != 0).all()):
            raise Unproven
    first, second = operand_bounds(op)
    if op.name == "div":
        second = 1 / second
    # The extremes of a product are at its corners: low low, low high, high low, high high.
    pairs = [
        (first[i] if op.depends(op["self"]) else first, second[k] if op.depends(op["other"]) else second)
        for i in (0, 1) for k in (0, 1)
    ]  # fmt: skip
    # Each corner lacks the first axis, and so must a constant that has one of length 1 there.
    if not op.depends(op["other"]) and isinstance(second, Tensor) and second.ndim == op["self"].ndim:
        pairs = [(a, second[0]) for a, _ in pairs]
    if not op.depends(op["self"]) and isinstance(first, Tensor) and first.ndim == op["other"].ndim:
        pairs = [(first[0], b) for _, b in pairs]
    corners = torch.stack([torch.as_tensor(a * b) for a, b in pairs])
    return widen_by_rounding(torch.stack([corners.amin(0), corners.amax(0)]), times=2)


@rule("neg")
def negate(op: Operation) -> Tensor:
    return -op.bounds(op["self"]).flip(0)


# other views of the same numbers; the first axis stays the first


@rule("view", "_unsafe_view", "reshape", "_reshape_alias")
def view(op: Operation) -> Tensor:
    op.bounds(op["self"])
    if "dtype" in op.arguments:  # the same bits, read otherwise
        raise Unproven
    result = op.run()
    # A view that does not keep the axis of the two ends as its first would mix them.
    if result.shape[:1] != (2,) or (op.name == "_reshape_alias" and not op["self"].is_contiguous()):
        raise Unproven
    return result


@rule("permute", "transpose")
def permute(op: Operation) -> Tensor:
    bounds = op.bounds(op["self"])
    dims = op["dims"] if op.name == "permute" else None
    if dims is not None and dims[0] % bounds.ndim != 0:
        raise Unproven
    if dims is None and 0 in (op["dim0"] % bounds.ndim, op["dim1"] % bounds.ndim):
        raise Unproven
    return op.run()


@rule("slice", "select", "split", "split_with_sizes", "unsqueeze", "squeeze", "narrow")
def take_part(op: Operation) -> Any:
    bounds = op.bounds(op["self"])
    dim = op.get("dim", 0)
    dims = dim if isinstance(dim, list | tuple) else [dim]
    extra = 1 if op.name == "unsqueeze" else 0
    if "dim" not in op.arguments and op.name == "squeeze":
        raise Unproven
    if any(one % (bounds.ndim + extra) == 0 for one in dims):
        raise Unproven
    return op.run()


@rule("cat", "stack")
def concat(op: Operation) -> Tensor:
    parts = [op.bounds(tensor) for tensor in op["tensors"]]
    extra = 1 if op.name == "stack" else 0
    if op.get("dim", 0) % (parts[0].ndim + extra) == 0:
        raise Unproven
    return op.run()


@rule("constant_pad_nd")
def pad(op: Operation) -> Tensor:
    bounds = op.bounds(op["self"])
    # Padding along the first axis would add elements to the axis of the two ends.
    if len(op["pad"]) >= 2 * bounds.ndim:
        raise Unproven
    return op.run()
