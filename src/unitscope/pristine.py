"""Running a network and leaving it as it was.

Problem: a network may change itself when it runs. It counts pictures, keeps a moving average, sets its scale by the
first batch that it sees, remembers the last map, draws random numbers. To run such a network on a blank picture, only
in order to learn its structure, must not change it.

Idea: what a network can change are the tensors that its modules hold, the Python attributes of its modules, and the
random states of the process. References to attributes and random states are cheap to note beforehand. Tensors are
large, and nearly no network writes to them; so a tensor is copied only when an operation is about to write to its
memory (copy on write), which a TorchDispatchMode sees in advance.

    with keep_pristine(module) as trace:
        module(pictures)
    trace.changes  # ["1.scale", "random state"]: what the network had changed, and what is as before again
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

RANDOM_STATE = "random state"
"""The name of a change that is no change of the network: it drew random numbers."""

DEPTH = 4
"""Attributes are followed through at most this many nested containers and objects."""


@dataclass
class Trace:
    """What a network changed while it was kept pristine; known when the `with` block has ended."""

    changes: list[str] = field(default_factory=list)

    @property
    def drew_random_numbers(self) -> bool:
        return RANDOM_STATE in self.changes

    @property
    def changed_itself(self) -> list[str]:
        """The names of the tensors and attributes that the network changed."""
        return [name for name in self.changes if name != RANDOM_STATE]


@contextmanager
def keep_pristine(module: nn.Module) -> Iterator[Trace]:
    """While open, the network may run; afterwards it is as it was, also after an exception.

    Restored are parameters, buffers and all other tensors that modules hold, attributes of modules (containers and
    objects in them included, four levels deep), training mode, and the random states of torch, numpy and Python. What
    lies outside the modules, such as a global variable, is not restored.

    Args:
        module: The network.

    Yields:
        A trace, which names what the network had changed, once the block has ended.
    """
    trace, held = Trace(), Holdings()
    held.note_module(module)
    states = RandomStates.read(module)
    guard = CopyOnWrite(held.tensors)
    try:
        with guard:
            yield trace
    finally:
        restored = [*held.restore(), *guard.restore()]
        if states.restore():
            restored.append(RANDOM_STATE)
        trace.changes = list(dict.fromkeys(restored))


class CopyOnWrite(TorchDispatchMode):
    """Copies a tensor's memory before the first operation that writes to it."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self.named: dict[int, list[str]] = {}
        self.tensors = tensors
        for name, tensor in tensors.items():
            if (place := memory_of(tensor)) is not None:
                self.named.setdefault(place, []).append(name)
        self.copies: dict[str, Tensor] = {}

    def __torch_dispatch__(self, function: Any, _types: Any, arguments: Any = (), named: Any = None) -> Any:
        named = named or {}
        if function._schema.is_mutable or function._schema.name in UNDECLARED:
            for tensor in written_tensors(function, arguments, named):
                self.copy(tensor)
        return function(*arguments, **named)

    def copy(self, tensor: Tensor) -> None:
        # By memory, not by tensor: a write through one view can change every tensor on it.
        for name in self.named.get(memory_of(tensor) or 0, ()):
            if name not in self.copies:
                self.copies[name] = self.tensors[name].clone()

    def restore(self) -> list[str]:
        """Write the copies back; returns the names of the tensors whose numbers had changed."""
        changed = []
        with torch.no_grad():
            for name, copy in self.copies.items():
                tensor = self.tensors[name]
                if not same_numbers(tensor, copy):
                    changed.append(name)
                    write_back(tensor, copy)
        return changed


Undo = Callable[[], list[str]]
"""Puts something back as it was; returns the names of what had changed."""


class Holdings:
    """What modules hold: the tensors by name, and how to put back each attribute, container and reference."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.undo: list[Undo] = []
        self.seen: set[int] = set()

    def note_module(self, module: nn.Module, prefix: str = "") -> None:
        """Note all that a module and its parts hold."""
        for path, part in module.named_modules():
            # A part that stands at several places is noted once.
            if id(part) in self.seen:
                continue
            self.seen.add(id(part))
            inside = prefix + (f"{path}." if path else "")
            for tensors in (part.named_parameters(recurse=False), part.named_buffers(recurse=False)):
                for name, tensor in tensors:
                    self.note(inside + name, tensor, DEPTH)
            if not isinstance(part, torch.jit.ScriptModule):  # else it is not Python's
                self.note_dictionary(inside, vars(part), DEPTH)

    def note_dictionary(self, prefix: str, held: dict[Any, Any], depth: int) -> None:
        self.undo.append(dictionary_undo(prefix, held))
        for key, value in list(held.items()):
            if isinstance(value, PLAIN) or key in HOOKS:
                continue
            own = prefix if key in REGISTRIES else f"{prefix}{key}"
            self.note(own, value, depth)

    def note(self, name: str, value: Any, depth: int) -> None:
        """Note one value, and what it holds."""
        if id(value) in self.seen or isinstance(value, PLAIN):
            return
        self.seen.add(id(value))
        if isinstance(value, Tensor):
            self.note_tensor(name, value)
        elif isinstance(value, nn.Module):
            # `note_module` asks `seen` itself.
            self.seen.discard(id(value))
            self.note_module(value, f"{name}.")
        elif isinstance(value, torch.Generator):
            self.undo.append(generator_undo(value))
        elif isinstance(value, np.ndarray):
            self.undo.append(array_undo(name, value))
        elif depth and isinstance(value, dict):
            self.note_dictionary(name if name.endswith(".") or not name else f"{name}.", value, depth - 1)
        elif depth and isinstance(value, (list, tuple, set, deque)):
            # A tuple cannot change, but what it holds can.
            if not isinstance(value, tuple):
                self.undo.append(container_undo(name, value))
            for number, part in enumerate(list(value)):
                self.note(f"{name}[{number}]", part, depth - 1)
        elif depth and holds_attributes(value):
            self.note_dictionary(f"{name}.", vars(value), depth - 1)

    def note_tensor(self, name: str, tensor: Tensor) -> None:
        if memory_of(tensor) is not None:
            alias = tensor.detach()  # it keeps the memory, also where `tensor.data = ...` gives the tensor another
            self.tensors[name] = alias
            self.undo.append(data_undo(name, tensor, alias))

    def restore(self) -> list[str]:
        """Put everything back; returns the names of what had changed."""
        return [name for undo in self.undo for name in undo()]


REGISTRIES = ("_parameters", "_buffers", "_modules")
"""Attributes in which a module keeps what it holds under the names that users give."""

HOOKS = frozenset(key for key in vars(nn.Module()) if "hooks" in key)
"""Attributes in which a module keeps its hooks, which networks do not change when they run."""

PLAIN = (type(None), bool, int, float, complex, str, bytes, type, torch.dtype, torch.device, torch.Size)
"""Values that cannot be changed, only replaced."""


def holds_attributes(value: Any) -> bool:
    """Whether a value is an object of somebody's own class, which may hold what a network remembers."""
    home = type(value).__module__.split(".")[0]
    return hasattr(value, "__dict__") and home not in NOT_FOLLOWED and not callable(getattr(value, "__next__", None))


NOT_FOLLOWED = frozenset({"torch", "numpy", "builtins", "functools", "types", "weakref", "logging", "threading"})
"""Homes of classes whose objects hold no state of a network, or state that has ways of its own."""


def dictionary_undo(prefix: str, held: dict[Any, Any]) -> Undo:
    before = dict(held)

    def undo() -> list[str]:
        keys = [key for key in {**before, **held} if not same(held, before, key)]
        # The order counts, too: nn.Sequential runs its parts in that of its dictionary. The dictionary itself stays,
        # since others may refer to it.
        if keys or list(held) != list(before):
            held.clear()
            held.update(before)
        return [f"{prefix}{key}" for key in keys]

    return undo


def same(held: dict[Any, Any], before: dict[Any, Any], key: Any) -> bool:
    return key in held and key in before and held[key] is before[key]


def container_undo(name: str, held: Any) -> Undo:
    before = list(held)

    def undo() -> list[str]:
        now = list(held)
        if len(now) == len(before) and all(a is b for a, b in zip(now, before, strict=True)):
            return []
        held.clear()
        held.update(before) if isinstance(held, set) else held.extend(before)
        return [name]

    return undo


def array_undo(name: str, held: np.ndarray) -> Undo:
    before = held.copy()

    def undo() -> list[str]:
        if held.tobytes() == before.tobytes():
            return []
        held[...] = before
        return [name]

    return undo


def data_undo(name: str, tensor: Tensor, alias: Tensor) -> Undo:
    """Give a tensor its own memory back where it was given another."""

    def undo() -> list[str]:
        if geometry_of(tensor) == geometry_of(alias):
            return []
        tensor.data = alias
        return [name]

    return undo


def generator_undo(generator: torch.Generator) -> Undo:
    before = generator.get_state()

    def undo() -> list[str]:
        if torch.equal(generator.get_state(), before):
            return []
        generator.set_state(before)
        return [RANDOM_STATE]

    return undo


def geometry_of(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, tensor.device


def memory_of(tensor: Tensor) -> int | None:
    """The place of a tensor's memory, None where it has none."""
    # A subclass of Tensor may be a wrapper without memory of its own.
    if tensor.layout is not torch.strided or tensor.device.type == "meta" or type(tensor) not in (Tensor, nn.Parameter):
        return None
    return tensor.untyped_storage().data_ptr() or None


def written_tensors(function: Any, arguments: Any, named: dict[str, Any]) -> Iterator[Tensor]:
    """The tensors that an operation writes to."""
    undeclared = UNDECLARED.get(function._schema.name, ())
    for number, argument in enumerate(function._schema.arguments):
        declared = argument.alias_info is not None and argument.alias_info.is_write
        if not declared and argument.name not in undeclared:
            continue
        value = arguments[number] if number < len(arguments) else named.get(argument.name)
        for tensor in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(tensor, Tensor):
                yield tensor


UNDECLARED = dict.fromkeys(
    [
        f"aten::{name}"
        for name in ("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm", "_batch_norm_impl_index")
    ],
    ("running_mean", "running_var"),
)
"""Arguments that an operation writes to although its schema does not say so (in training mode)."""


def write_back(tensor: Tensor, copy: Tensor) -> None:
    """Write numbers into a tensor's memory without a trace in what autograd counts."""
    # Tensors of inference mode can be written to in that mode only; `.data` leaves the version as it is.
    with torch.inference_mode(tensor.is_inference()), torch.no_grad():
        tensor.data.copy_(copy)


def same_numbers(tensor: Tensor, copy: Tensor) -> bool:
    """Whether the bits are the same: zero is not minus zero, and NaN is itself."""
    if tensor.shape != copy.shape or tensor.dtype != copy.dtype:
        return False
    one, other = (part.contiguous().reshape(-1).view(torch.uint8) for part in (tensor, copy))
    return torch.equal(one, other)


@dataclass(frozen=True)
class RandomStates:
    """The random states of torch (CPU, and the devices of a module), numpy and Python."""

    cpu: Tensor
    devices: dict[torch.device, Tensor]
    numpy: Any
    python: Any

    @classmethod
    def read(cls, module: nn.Module) -> RandomStates:
        devices = {tensor.device for tensor in module.parameters() if tensor.device.type == "cuda"}
        states = {device: torch.cuda.get_rng_state(device) for device in devices}
        return cls(torch.get_rng_state(), states, np.random.get_state(), random.getstate())  # noqa: NPY002

    def restore(self) -> bool:
        """Put the states back; returns whether one had changed."""
        changed = not torch.equal(torch.get_rng_state(), self.cpu)
        torch.set_rng_state(self.cpu)
        for device, state in self.devices.items():
            changed |= not torch.equal(torch.cuda.get_rng_state(device), state)
            torch.cuda.set_rng_state(state, device)
        random.setstate(self.python)  # not reported: whatever checks types at run time draws from it, too
        now: Any = np.random.get_state()  # noqa: NPY002
        if repr(now) != repr(self.numpy) or not np.array_equal(now[1], self.numpy[1]):
            changed = True
            np.random.set_state(self.numpy)  # noqa: NPY002
        return changed


@contextmanager
def draw_from(seed: int, module: nn.Module) -> Iterator[None]:
    """While open, torch, numpy and Python draw random numbers from `seed`; afterwards from where they were before.

    Args:
        seed: A whole number.
        module: The network, whose devices' random states are kept, too.
    """
    states = RandomStates.read(module)
    try:
        torch.manual_seed(seed)
        np.random.seed(seed % (1 << 32))  # noqa: NPY002
        random.seed(seed)
        yield
    finally:
        states.restore()
