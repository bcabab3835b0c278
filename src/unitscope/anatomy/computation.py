"""What a network computes, as a fingerprint of its operations.

Problem: the same weights make another network where a dilation, the slope of a rectifier or the order of two layers is
another. Weights alone do not distinguish one network from another, nor does the text of a module: two texts may
compute the same, and a patched `forward` shows nowhere.

Idea: for a picture of a given size a network is a straight list of operations. Each is written down with its constants
and with the numbers of the values that it reads; weights are written by name, since `Network.fingerprint` covers their
bytes. Two lists that are equal compute the same. What depends neither on the picture nor on the weights is a constant,
and its content is written down: so it does not matter whether a table is made anew in each pass or kept.

    value 1.0 = convolution(input=value 0.0, weight=weight conv.weight, ..., dilation=[2,2], ...)
    value 2.0 = leaky_relu(self=value 1.0, negative_slope=0.1)

Results that take time are left blank (shape_only.py), so that a fingerprint costs much less than a pass. Where a
network reads values of the picture (to choose its path, or to go on in numpy), its operations are not all that it
computes, and the text of its modules counts, too.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
import textwrap
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import TensorWeakRef, WeakIdKeyDictionary

from unitscope.anatomy.operations import arguments_by_name, kind, plain_name, tensors_in, written_tensors
from unitscope.anatomy.shape_only import blank_result
from unitscope.anatomy.sites import STIMULI, Network, blank
from unitscope.pristine import draw_from, keep_pristine

SCHEME = f"1/torch {'.'.join(torch.__version__.split('.')[:2])}"
"""Fingerprints are compared within one scheme only: another torch may write the same network in other operations."""


class Fingerprinted(Network, Protocol):
    """A network that knows the fingerprint of its weights."""

    @property
    def fingerprint(self) -> str: ...


def computation_of(network: Network) -> str:
    """The fingerprint of what a network computes: the scheme, then a sha256 in hex.

    It covers each operation with its constants and wiring, and the size of the picture; not the bytes of the weights.
    The same on every device and for every memory format. Made anew each time, so that a module edited in between is
    seen. The network is left as it was.
    """
    text = "\n".join(operations_of(network))
    return f"{SCHEME}/{hashlib.sha256(text.encode()).hexdigest()}"


def identity_of(network: Fingerprinted) -> dict[str, str]:
    """What identifies a network in a record: the fingerprint of its weights and preprocessing, and that of what it
    computes.
    """
    return {"fingerprint": network.fingerprint, "computation": computation_of(network)}


def operations_of(network: Network) -> list[str]:
    """The operations, a line each; the text of the modules where no pass succeeds."""
    module = network.module
    for stimuli in (STIMULI, 1):  # a network may be exported for one picture, or refuse two
        for cheaply in (True, False):
            picture = (stimuli, network.inputs, *network.size)
            try:
                return [f"picture {picture}", *operations_on(module, picture, cheaply=cheaply)]
            except Exception:  # whatever a network of a stranger raises; the next way is tried
                continue
    return ["no pass", *text_of(module)]


def operations_on(module: nn.Module, picture: tuple[int, ...], *, cheaply: bool) -> list[str]:
    """The operations, and the text where that counts, of the network as it is after its first pass."""
    with ready(module), keep_pristine(module) as trace:
        lines, text = one_pass(module, picture, cheaply=cheaply)
    if trace.changed_itself:  # it keeps something from its first pass on: what it does then is what counts
        with ready(module), keep_pristine(module):
            one_pass(module, picture, cheaply=cheaply)
            lines, text = one_pass(module, picture, cheaply=cheaply)
    lasting = set(text_of(module)) if text else set()
    return [*lines, *(line for line in text if line in lasting)]


@contextmanager
def ready(module: nn.Module) -> Iterator[None]:
    """The state in which operations are the same wherever and whenever they are asked for."""
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        # A network may draw constants in each pass; they must be the same in each.
        stack.enter_context(draw_from(0, module))
        # In inference mode composed operations are not taken apart, and the list of operations would differ.
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        # Which fused attention torch chooses depends on device and shape; the plain one runs everywhere.
        stack.enter_context(torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH))
        if "torch._dynamo" in sys.modules:  # compiled parts run as they were written
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
            # Else torch may rewrite a script after its first passes, so that a later pass has other operations.
            stack.enter_context(torch.jit.optimized_execution(False))  # type: ignore[attr-defined]
        yield


def one_pass(module: nn.Module, picture: tuple[int, ...], *, cheaply: bool) -> tuple[list[str], list[str]]:
    """The operations of one pass, and the text of the modules where operations are not all that is computed."""
    x = blank(module, picture, value=0.0 if cheaply else 0.5)
    writing = Writing(module, x, cheaply=cheaply)
    with Hands(writing), writing:
        output = module(x)
    return [*writing.lines, f"gives {writing.word(output)}"], text_of(module) if writing.looked else []


@dataclass
class Memory:
    """Memory that known values lie in: the label of the first of them, and all tensors on this memory."""

    owner: str
    storage: StorageWeakRef
    holders: list[TensorWeakRef] = field(default_factory=list)

    def alone(self, tensor: Tensor) -> bool:
        """Whether no other living tensor lies on this memory."""
        return all((other := reference()) is None or other is tensor for reference in self.holders)


class Writing(TorchDispatchMode):
    """Writes down each operation on what depends on the picture or on the weights."""

    def __init__(self, module: nn.Module, x: Tensor, *, cheaply: bool) -> None:
        super().__init__()
        self.cheaply, self.looked = cheaply, False
        self.lines: list[str] = []
        self.labels: WeakIdKeyDictionary = WeakIdKeyDictionary()
        self.seeing: WeakIdKeyDictionary = WeakIdKeyDictionary()  # depends on the picture
        self.memories: dict[int, Memory] = {}
        for name, tensor in module.state_dict(keep_vars=True).items():
            if isinstance(tensor, Tensor):
                self.know(tensor, f"weight {name}")
        self.know(x, "value 0.0")
        self.seeing[x] = True

    def know(self, tensor: Tensor, label: str) -> None:
        self.labels[tensor] = label
        held = self.held(tensor)
        if held is None and (place := memory(tensor)) is not None:
            held = self.memories[place] = Memory(label, StorageWeakRef(tensor.untyped_storage()))
        if held is not None and not any(reference() is tensor for reference in held.holders):
            held.holders.append(TensorWeakRef(tensor))

    def held(self, tensor: Tensor) -> Memory | None:
        """What is known of a tensor's memory."""
        held = self.memories.get(memory(tensor) or 0)
        return None if held is None or held.storage.expired() else held

    def known(self, tensor: Tensor) -> bool:
        return tensor in self.labels or self.held(tensor) is not None

    def sees(self, tensor: Tensor) -> bool:
        return tensor in self.seeing

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        arguments = arguments_by_name(function, args, kwargs)
        name, tensors = plain_name(function), tensors_in(arguments.values())
        name = "convolution" if name == "_convolution" else name  # as traced modules call it
        # Operations that draw random numbers count although they read nothing known: their results are no constants.
        counts = any(self.known(t) for t in tensors) or torch.Tag.nondeterministic_seeded in function.tags
        if not counts:
            return function(*args, **kwargs)
        same = alias(function, name, arguments)
        line = "" if same else self.line(function, name, arguments)
        seeing = any(self.sees(t) for t in tensors)
        self.looked |= seeing and (kind(name).reads_values or kind(name).shaped_by_values)
        result = blank_result(name, function, args, kwargs, arguments) if self.cheaply else None
        result = function(*args, **kwargs) if result is None else result
        made = {id(t): t for t in (*tensors_in([result]), *written_tensors(function, arguments))}
        self.enter(same, line, name, list(made.values()), seeing=seeing)
        return result

    def enter(self, same: Tensor | None, line: str, name: str, made: list[Tensor], *, seeing: bool) -> None:
        """Write a line, and give what it made its label."""
        number = len(self.lines) + 1
        if same is None:
            self.lines.append(f"value {number} = {line}")
        # Besides its result a normalization gives what its gradient needs, which differs from device to device.
        for n, tensor in enumerate(made[:1] if kind(name).normalization else made):
            self.know(tensor, self.word(same) if same is not None else f"value {number}.{n}")
            if seeing:
                self.seeing[tensor] = True

    def line(self, function: Any, name: str, arguments: dict[str, Any]) -> str:
        """An operation in one line."""
        targets = written_tensors(function, arguments)
        if kind(name).normalization:
            name, arguments = "batch_norm", {PLAIN.get(key, key): value for key, value in arguments.items()}
            for left_out in ("momentum", "training") if not arguments.get("training") else ():
                arguments.pop(left_out, None)
        words = {
            key: self.target(value) if any(value is target for target in targets) else self.word(value)
            for key, value in arguments.items()
            if key not in WHERE
        }
        return f"{ALIKE.get(name, name)}({', '.join(f'{key}={words[key]}' for key in sorted(words))})"

    def target(self, tensor: Tensor) -> str:
        """The tensor that is written to. Where others share its memory, with the label of the memory and the place in
        it; of a constant, the content does not count.
        """
        held, label = self.held(tensor), self.labels.get(tensor, "constant")
        if held is None or held.alone(tensor):
            return label if tensor in self.labels else f"{label} {place_of(tensor)}"
        return f"{label} of {held.owner} {place_of(tensor)}"

    def word(self, value: Any) -> str:
        """An argument as it is written."""
        if isinstance(value, Tensor):
            return self.tensor(value)
        if isinstance(value, bool | int | str | type(None) | torch.dtype):
            return str(value)
        if isinstance(value, float):
            return f"{value:.7g}"
        if isinstance(value, list | tuple):
            return f"[{', '.join(self.word(one) for one in value)}]"
        if isinstance(value, Mapping):
            return f"{{{', '.join(f'{key}: {self.word(one)}' for key, one in value.items())}}}"
        if isinstance(value, torch.ScriptObject):
            return f"{type(value).__name__} {self.word(packed(value))}"
        return type(value).__name__

    def tensor(self, tensor: Tensor) -> str:
        if tensor in self.labels:
            return self.labels[tensor]
        held = self.held(tensor)
        return f"memory of {held.owner} {place_of(tensor)}" if held else content(tensor, exactly=not self.looked)


class Hands(TorchFunctionMode):
    """Sees values leave torch for lists and numpy arrays, for which torch's dispatcher shows no operation."""

    def __init__(self, writing: Writing) -> None:
        super().__init__()
        self.writing = writing

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if kind(getattr(func, "__name__", "")).leaves_torch and args and self.writing.sees(args[0]):
            self.writing.looked = True
        return func(*args, **(kwargs or {}))


# What cuDNN calls the arguments of a normalization, and what torch's own calls them.
PLAIN = {"epsilon": "eps", "exponential_average_factor": "momentum"}

# Operations that give the same result, under the name that is written.
ALIKE = {"max_pool2d_with_indices": "max_pool2d", "_unsafe_view": "view", "_reshape_alias": "view"}

WHERE = frozenset(
    ["device", "layout", "pin_memory", "non_blocking", "memory_format", "generator", "benchmark", "deterministic",
     "cudnn_enabled", "allow_tf32"]
)  # fmt: skip
"""Arguments that say where and how a value is kept or computed, and not what it is; and the source of chance."""


def alias(function: Any, name: str, arguments: dict[str, Any]) -> Tensor | None:
    """The tensor whose value is given back as it is, in another place or memory format."""
    first = next(iter(arguments.values()), None)
    if not isinstance(first, Tensor) or function._schema.is_mutable:
        return None
    if name in ("detach", "alias", "lift_fresh", "lift_fresh_copy", "contiguous"):
        return first
    if name == "_to_copy":
        return first if arguments.get("dtype") in (None, first.dtype) else None
    return first if name == "clone" and arguments.get("memory_format") is not None else None


def memory(tensor: Tensor) -> int | None:
    """The memory that the numbers of a tensor lie in; None where torch does not give it."""
    if tensor.layout is not torch.strided or not tensor.numel():
        return None
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):
        return None


def place_of(tensor: Tensor) -> str:
    if tensor.layout is not torch.strided:
        return str(tuple(tensor.shape))
    return f"{tensor.storage_offset()} {tuple(tensor.shape)} {tensor.stride()}"


SMALL = 64
"""Constants of at most this many numbers are written down in full."""


def content(tensor: Tensor, *, exactly: bool) -> str:
    """A constant as it is written: whole numbers and few numbers exactly; of many, which may differ in their last digit
    from machine to machine, shape and sums to six digits. Not `exactly`: shape and type alone, since it may have been
    made of values of the picture.
    """
    about = f"constant {tuple(tensor.shape)} {tensor.dtype}"
    if not exactly:
        return about
    if tensor.is_quantized:
        return f"{about} {content(tensor.int_repr(), exactly=True)} {tensor.q_scale():.7g} {tensor.q_zero_point()}"
    if tensor.layout is not torch.strided or tensor.device.type == "meta":
        return about
    plain = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
    plain = plain.detach().cpu().reshape(-1)
    if plain.numel() == 1:
        return f"{plain.item():.7g}" if plain.is_floating_point() else str(plain.item())
    if not plain.is_floating_point():
        return f"{about} {hashlib.sha256(plain.contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()}"
    if plain.numel() <= SMALL:
        return f"{about} {[f'{number:.7g}' for number in plain.tolist()]}"
    return f"{about} {sums(plain.double())}"


def sums(numbers: Tensor) -> str:
    """Sums of many numbers, which change when a number changes, or when two are exchanged."""
    # NaN and infinities count as numbers, so that sums stay finite, and still change with them.
    finite = numbers.nan_to_num(nan=0.5, posinf=0.25, neginf=-0.25)
    scale = float(finite.abs().sum())
    steps = torch.arange(len(numbers), dtype=torch.float64)
    weights = [torch.ones_like(steps), torch.cos(steps), torch.cos(0.7 * steps)]
    found = [float((finite * weight).sum()) / (scale or 1.0) for weight in weights]
    # + 0.0 makes 0.0 of -0.0, which is written otherwise.
    return " ".join([f"{scale:.6g}", *(f"{round(one, 6) + 0.0:.6f}" for one in found)])


def packed(value: Any) -> Any:
    """What an object of compiled code holds, such as the weights of a quantized layer."""
    try:
        return value.__getstate__()
    except Exception:  # not every class can be asked
        return None


def text_of(module: nn.Module) -> list[str]:
    """The modules as they were written: class, constants, code of `forward`; of torch's own no code."""
    lines = []
    for path, part in module.named_modules():
        kind = type(part)
        plain = {key: value for key, value in vars(part).items() if type(value) in (bool, int, float, str, tuple)}
        lines.append(f"{path} {kind.__module__}.{kind.__qualname__} {part.extra_repr()}")
        lines += [f"{path}.{key} = {value}" for key, value in sorted(plain.items())]
        # A `forward` that was patched onto this one module.
        own = vars(part).get("forward")
        if isinstance(part, torch.jit.ScriptModule | torch.fx.GraphModule):
            lines.append(str(getattr(part, "code", "")))
        elif own is not None or not kind.__module__.startswith("torch."):
            lines.append(code_of(own or kind))
    return lines


def code_of(thing: Any) -> str:
    """The source of a class or function without comments and layout; its compiled code where there is no source."""
    try:
        return ast.unparse(ast.parse(textwrap.dedent(inspect.getsource(thing))))
    except (OSError, TypeError, SyntaxError, ValueError):
        function = getattr(thing, "forward", thing)
        code = getattr(getattr(function, "__func__", function), "__code__", None)
        return f"{code.co_code.hex()} {code.co_consts} {code.co_names}" if code else type(thing).__name__
