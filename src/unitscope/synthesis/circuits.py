"""The circuit of a network: the operations between the picture and its sites, recorded once.

A circuit is what a cone (cones.py) is cut from. It describes operations that keep positions apart: convolutions,
normalizations with fixed statistics, poolings, concatenations of channels, and whatever works position by position.
Of any other operation it says why it cannot be run on a part of a picture (`Operation.obstacle`); neurons behind that
are evaluated in the network itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from unitscope.anatomy.calls import ELEMENTWISE, flat
from unitscope.anatomy.listening import listening
from unitscope.anatomy.watching import named, plain_name, written
from unitscope.networks import Network
from unitscope.pristine import keep_pristine
from unitscope.vocabulary import Size

INCREASING = frozenset(["relu", "hardtanh", "relu6", "clamp_min", "leaky_relu", "sigmoid", "tanh", "elu", "softplus"])
"""Nonlinearities that never turn the order of two numbers round: a maximum may be taken before them."""

NONLINEAR = INCREASING | {"silu", "gelu", "mish", "hardswish", "hardsigmoid", "_prelu_kernel", "clamp", "celu", "selu"}
"""Operations whose input is a pre-activation."""


@dataclass(frozen=True)
class Ref:
    """Stands among the arguments of an operation for a value that depends on the picture."""

    number: int


@dataclass(frozen=True, eq=False)
class Operation:
    """One operation: `reads` are the numbers of the values it takes, `value` that of what it gives.

    `kind` is "convolution", "affine", "max_pool", "avg_pool", "mean", "cat", "pad" or "pointwise"; `facts` what it
    needs beside its operands. `obstacle` says why it cannot be run on a part of a picture, and is empty where it can.
    `dtype` is the type of its result, and `given` are the tensors that it takes beside values: weights and constants.
    """

    kind: str
    name: str
    reads: tuple[int, ...]
    value: int
    facts: Mapping[str, Any] = field(default_factory=dict)
    obstacle: str = ""
    dtype: torch.dtype = torch.float32
    given: tuple[Tensor, ...] = ()


@dataclass(frozen=True, eq=False)
class Circuit:
    """All operations in their order; channels and lattice of each value (0 is the picture); values of sites by name.

    `dtype` is the type of the picture.
    """

    operations: tuple[Operation, ...]
    shapes: Mapping[int, tuple[int, ...]]
    sites: Mapping[str, int]
    entered: Mapping[str, str]
    """For each site that is the output of a nonlinearity the site that enters it."""
    dtype: torch.dtype = torch.float32

    def lattice(self, number: int) -> Size:
        shape = self.shapes[number]
        return (shape[2], shape[3]) if len(shape) == 4 else (1, 1)

    def maker(self, number: int) -> Operation | None:
        return next((operation for operation in self.operations if operation.value == number), None)

    def before(self, number: int) -> tuple[Circuit, int]:
        """The value before the nonlinearity that made this one; of a maximum of such values, the maximum of those
        before it.
        """
        maker = self.maker(number)
        if maker is not None and maker.name in NONLINEAR and len(maker.reads) == 1:
            return self, maker.reads[0]
        if maker is None or maker.kind != "max_pool":
            return self, number
        entering = self.maker(maker.reads[0])
        if entering is None or entering.name not in INCREASING:
            return self, number
        new = max(self.shapes) + 1
        pooled = replace(maker, reads=entering.reads[:1], value=new)
        shapes = {**self.shapes, new: self.shapes[number]}
        return replace(self, operations=(*self.operations, pooled), shapes=shapes), new


def circuit_of(network: Network) -> Circuit:
    """Write a network's operations down while it sees one blank picture, or two where it cannot be shown one. The
    network is left as it was.
    """
    try:
        return circuit_on(network, 1)
    except Exception:  # whatever a network of a stranger raises when it is shown one picture alone
        return circuit_on(network, 2)


def circuit_on(network: Network, stimuli: int) -> Circuit:
    writing = Writing(stimuli)
    picture = torch.full((stimuli, network.inputs, *network.size), 0.5)
    with keep_pristine(network.module), torch.no_grad():
        x = network.prepare(picture)
        writing.number_value(x)
        with listening(network.module, writing.name_site, noted=writing.note_source), writing:
            network.module(x)
    return Circuit(tuple(writing.operations), writing.shapes, writing.sites, writing.entered, x.dtype)


class Writing(TorchDispatchMode):
    """Writes down each operation on what depends on the picture."""

    def __init__(self, stimuli: int) -> None:
        super().__init__()
        self.stimuli = stimuli
        self.numbers: WeakIdKeyDictionary = WeakIdKeyDictionary()
        self.makers: WeakIdKeyDictionary = WeakIdKeyDictionary()
        self.operations: list[Operation] = []
        self.shapes: dict[int, tuple[int, ...]] = {}
        self.sites: dict[str, int] = {}
        self.entered: dict[str, str] = {}

    def number_value(self, tensor: Tensor) -> int:
        """Give a new value its number."""
        number = len(self.shapes)
        self.shapes[number] = tuple(tensor.shape)
        self.numbers[tensor] = number
        return number

    def note_source(self, name: str, _: str, read: tuple[Tensor, ...], __: Tensor) -> None:
        sources = [self.makers[tensor] for tensor in read if tensor in self.makers]
        if len(sources) == 1:
            self.entered[name] = sources[0]

    def name_site(self, name: str, value: Tensor) -> None:
        self.makers[value] = name
        if value in self.numbers:
            self.sites[name] = self.numbers[value]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        arguments = named(func, args, kwargs)
        known = {id(t): self.numbers[t] for t in flat(arguments.values()) if t in self.numbers}
        result = func(*args, **kwargs)
        if known:
            self.write(func, args, kwargs, arguments, known, result)
        return result

    def write(
        self, func: Any, args: Any, kwargs: Any, arguments: dict[str, Any], known: dict[int, int], result: Any
    ) -> None:
        name = plain_name(func)
        results = [value for value in flat([result]) if value.is_floating_point()]
        if not results:
            return
        if name in ("detach", "alias", "contiguous", "dropout") and results[0].shape == flat([args])[0].shape:
            self.numbers[results[0]] = known[id(flat([args])[0])]
            return
        reads = tuple(known[id(tensor)] for tensor in flat(arguments.values()) if id(tensor) in known)
        description = (
            Description("", {}, "its result shares memory with another value")
            if self.shares_memory(func, arguments)
            else None
        )
        shapes = [self.shapes[read] for read in reads]
        if any(not shape or shape[0] != self.stimuli for shape in (*shapes, tuple(results[0].shape))):
            description = Description("", {}, f"{name} does not keep stimuli, channels, rows and columns apart")
        description = description or describe_operation(name, func, args, kwargs, arguments, known, shapes, results)
        given = tuple(tensor for tensor in flat(arguments.values()) if id(tensor) not in known)
        for n, value in enumerate(results[:1] if description.kind == "affine" else results):
            obstacle = f"{name} gives several results" if n else description.obstacle
            number = self.number_value(value)
            self.operations.append(
                Operation(description.kind, name, reads, number, description.facts, obstacle, value.dtype, given)
            )

    def shares_memory(self, func: Any, arguments: dict[str, Any]) -> bool:
        """Whether an operation writes to memory that another living value looks at, too."""
        for target in written(func, arguments):
            place = target.untyped_storage()._cdata
            for other in list(self.numbers.keys()):
                if other is not target and other.untyped_storage()._cdata == place:
                    return True
        return False


@dataclass(frozen=True)
class Description:
    """What is to be written down of an operation."""

    kind: str
    facts: Mapping[str, Any]
    obstacle: str = ""


def describe_operation(
    name: str,
    func: Any,
    args: Any,
    kwargs: Any,
    arguments: dict[str, Any],
    known: dict[int, int],
    shapes: list[tuple[int, ...]],
    results: list[Tensor],
) -> Description:
    """Understand one operation, or say why not."""
    out = tuple(results[0].shape)
    if any(len(shape) != 4 for shape in (*shapes, out)):
        return Description("", {}, f"{name} does not keep stimuli, channels, rows and columns apart")
    given = [t for t in flat(arguments.values()) if id(t) not in known]
    if name in DESCRIBERS:
        return DESCRIBERS[name](arguments, known)
    if torch.Tag.pointwise in func.tags or name in ELEMENTWISE:
        spread = all(tuple(shape[2:]) in ((1, 1), out[2:]) for shape in shapes)
        constant = all(t.ndim == 0 or (t.ndim == 4 and tuple(t.shape[2:]) == (1, 1)) for t in given)
        if spread and constant:
            return Description("pointwise", {"call": functional_call(func, args, kwargs, known), "constants": given})
    return Description("", {}, f"{name} is not known to work position by position")


def functional_call(func: Any, args: Any, kwargs: Any, known: dict[int, int]) -> tuple[Any, Any, Any]:
    """The operation with its arguments, values replaced by their numbers; never one that overwrites its operand."""
    name = func._schema.name.split("::")[1]
    if func._schema.is_mutable and name.endswith("_"):
        func = getattr(getattr(torch.ops.aten, name[:-1]), func._overloadname)

    def replaced(value: Any) -> Any:
        if isinstance(value, Tensor):
            return Ref(known[id(value)]) if id(value) in known else value
        return type(value)(replaced(one) for one in value) if isinstance(value, list | tuple) else value

    return func, replaced(tuple(args)), {key: replaced(value) for key, value in kwargs.items()}


def describe_convolution(arguments: dict[str, Any], known: dict[int, int]) -> Description:
    weight, bias = arguments["weight"], arguments["bias"]
    if arguments["transposed"] or id(weight) in known or weight.ndim != 4:
        return Description("", {}, "a transposed convolution, or one whose kernels depend on the picture")
    window = Windowed(tuple(weight.shape[2:]), *(pair(arguments[n]) for n in ("stride", "padding", "dilation")))
    return Description("convolution", {"weight": weight, "bias": bias, "window": window, "groups": arguments["groups"]})


def describe_normalization(arguments: dict[str, Any], _: dict[int, int]) -> Description:
    if arguments.get("training"):
        return Description("", {}, "normalization by the statistics of the batch")
    mean, variance = arguments["running_mean"].double(), arguments["running_var"].double()
    scale = (variance + arguments.get("eps", arguments.get("epsilon"))).rsqrt()
    scale = scale if arguments["weight"] is None else scale * arguments["weight"].double()
    shift = -mean * scale
    shift = shift if arguments["bias"] is None else shift + arguments["bias"].double()
    return Description("affine", {"scale": scale, "shift": shift})


def describe_max_pool(arguments: dict[str, Any], _: dict[int, int]) -> Description:
    taps = pair(arguments["kernel_size"])
    stride = pair(arguments["stride"] or taps)
    window = Windowed(taps, stride, pair(arguments["padding"]), pair(arguments["dilation"]))
    return Description("max_pool", {"window": window, "ceil": arguments["ceil_mode"]})


def describe_avg_pool(arguments: dict[str, Any], _: dict[int, int]) -> Description:
    taps = pair(arguments["kernel_size"])
    window = Windowed(taps, pair(arguments["stride"] or taps), pair(arguments["padding"]), (1, 1))
    counted = arguments["count_include_pad"] or window.padding == (0, 0)
    if not counted or arguments["ceil_mode"] or arguments["divisor_override"] is not None:
        return Description("", {}, "an average whose divisor changes at the border")
    return Description("avg_pool", {"window": window, "ceil": False})


def describe_mean(arguments: dict[str, Any], _: dict[int, int]) -> Description:
    if sorted(dim % 4 for dim in arguments["dim"] or ()) != [2, 3] or not arguments["keepdim"]:
        return Description("", {}, "a mean over something else than the whole map")
    return Description("mean", {})


def describe_cat(arguments: dict[str, Any], known: dict[int, int]) -> Description:
    if arguments["dim"] % 4 != 1 or any(id(t) not in known for t in arguments["tensors"]):
        return Description("", {}, "a concatenation of something else than channels")
    return Description("cat", {})


def describe_pad(arguments: dict[str, Any], _: dict[int, int]) -> Description:
    amounts = [*arguments["pad"], 0, 0, 0, 0][:4]
    if len(arguments["pad"]) > 4 and any(arguments["pad"][4:]):
        return Description("", {}, "padding of channels")
    left, right, top, bottom = amounts
    return Description("pad", {"amounts": (top, left, bottom, right), "value": float(arguments["value"])})


@dataclass(frozen=True)
class Windowed:
    """Taps, stride, padding and dilation of a window, each as (rows, columns)."""

    taps: Size
    stride: Size
    padding: Size
    dilation: Size


def pair(value: Any) -> Size:
    values = list(value) if isinstance(value, list | tuple) else [value]
    return (values[0], values[-1])


DESCRIBERS: dict[str, Callable[[dict[str, Any], dict[int, int]], Description]] = {
    "convolution": describe_convolution,
    "_convolution": describe_convolution,
    "native_batch_norm": describe_normalization,
    "_native_batch_norm_legit_no_training": describe_normalization,
    "cudnn_batch_norm": describe_normalization,
    "miopen_batch_norm": describe_normalization,
    "_batch_norm_no_update": describe_normalization,
    "max_pool2d_with_indices": describe_max_pool,
    "max_pool2d": describe_max_pool,
    "avg_pool2d": describe_avg_pool,
    "mean": describe_mean,
    "cat": describe_cat,
    "constant_pad_nd": describe_pad,
}
