"""The recorder of a forward pass: runs a network once and writes down its program.

Problem: torch's dispatcher shows every operation, but as it runs, on tensors that are overwritten, seen through several
views, and thrown away. A program (program.py) wants values that never change.

Idea: a TorchDispatchMode gives each tensor that depends on the picture a Value. The recorder remembers who shares
memory with whom. When an operation writes to a tensor, the tensor gets a new Value, and each living tensor on the same
memory gets one, too. A constant that is about to be written to by what depends on the picture is copied first, and
taken into the program as it was. What does not depend on the picture is run, and not recorded.

Names come from value_hooks.py, through the same pass. With `shape_only`, results that cost time are left blank
(shape_only.py): shapes, strides and names are right, and numbers are not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_map
from torch.utils.weak import WeakIdKeyDictionary

from unitscope.anatomy.data_dependence import ValueReads
from unitscope.anatomy.operations import arguments_by_name, kind, plain_name, tensors_in, written_tensors
from unitscope.anatomy.program import (
    OUTSIDE_TORCH,
    OVERWRITTEN,
    Geometry,
    NamedValue,
    Operation,
    Program,
    Value,
    copy_of,
)
from unitscope.anatomy.shape_only import blank_result
from unitscope.anatomy.value_hooks import hook_values
from unitscope.errors import BadInput

PICTURE = ""
"""The name of the network's input."""


def call(module: nn.Module, pictures: Tensor) -> Any:
    return module(pictures)


def record(
    module: nn.Module,
    pictures: Tensor,
    *,
    start: str | None = None,
    shape_only: bool = False,
    value_reads: ValueReads | None = None,
    show: Callable[[nn.Module, Tensor], Any] = call,
) -> Program:
    """Show prepared pictures to a module once, and write down what it computes. The module is left as it was.

    Args:
        module: The network.
        pictures: What the module is shown, [stimulus color height width].
        start: The name of a site. What depends on the site is then recorded, and all else is a constant.
        shape_only: Leave results that cost time blank. Numbers are then wrong, shapes right.
        value_reads: Follows the values that the network reads, and may turn answers round (data_dependence.py).
        show: Runs the module; it may raise errors of its own in place of torch's.

    Raises:
        BadInput: The network does not pass `start`, or cannot be recorded (see `hook_values`).
    """
    recorder = Recorder(start, value_reads, shape_only=shape_only)
    with torch.no_grad(), hook_values(module, recorder.enter_name, note_reads=recorder.note_reads) as hooks:
        recorder.hooks = hooks
        recorder.begin(pictures)
        with HandingOut(recorder), recorder:
            output = show(module, pictures)
    return recorder.program(output)


@dataclass(eq=False, slots=True)
class Constant:
    """A tensor that does not depend on the origin, as it was when an operation read it."""

    tensor: Tensor


class Memories:
    """Gives each memory a number. Weak references keep a number from being given twice."""

    def __init__(self) -> None:
        self.numbers: dict[int, tuple[StorageWeakRef, int]] = {}

    def number(self, tensor: Tensor) -> int:
        """The number of a tensor's memory; -1 where it has none of its own (sparse tensors)."""
        if tensor.layout is not torch.strided:
            return -1
        storage = tensor.untyped_storage()
        # `_cdata` is the address of the storage's record. The weak reference keeps that record (not the numbers)
        # allocated, so that no other storage gets the same address.
        known = self.numbers.get(storage._cdata)
        if known is None:
            known = self.numbers[storage._cdata] = StorageWeakRef(storage), len(self.numbers)
        return known[1]


class Recorder(TorchDispatchMode):
    """Writes down each operation on what depends on the origin, and keeps the value of each living tensor."""

    def __init__(self, start: str | None, value_reads: ValueReads | None, *, shape_only: bool) -> None:
        super().__init__()
        self.start, self.shape_only = start, shape_only
        self.makers: WeakIdKeyDictionary = WeakIdKeyDictionary()  # the last name of each tensor
        self.value_reads = value_reads or ValueReads()
        self.value_reads.called = self.makers.get
        self.hooks: Any = None
        self.origin: Value | None = None
        self.origin_tensor: Tensor | None = None
        self.count = 0
        self.values: WeakIdKeyDictionary = WeakIdKeyDictionary()
        self.memory = Memories().number
        self.holders: dict[int, WeakIdKeyDictionary] = {}  # the living tensors on each memory
        self.made: set[int] = set()  # the memories that operations made
        self.constants: dict[int, list[Constant]] = {}
        self.operations: list[dict[str, Any]] = []
        self.named: dict[str, NamedValue] = {}
        self.noted: tuple[str, tuple[str, ...], str | None] = ("", (), None)
        self.handed: list[Value] = []  # what left torch; what comes from nowhere afterwards may be made of it

    def begin(self, pictures: Tensor) -> None:
        self.makers[pictures] = PICTURE
        self.hold(pictures)
        if self.start is None:
            self.origin = self.values[pictures] = self.new_value(pictures)

    def program(self, output: Any) -> Program:
        """What was recorded, when the pass has ended."""
        if self.origin is None:
            raise BadInput(f"the network did not pass {self.start} with these pictures.")

        # Constants are put in only now, because `prepare_writing` may have replaced their tensors by copies until the
        # end.
        def finished(leaf: Any) -> Any:
            if isinstance(leaf, Constant):
                return leaf.tensor
            return self.values.get(leaf, leaf) if isinstance(leaf, Tensor) else leaf

        operations = (
            {**one, "args": tree_map(finished, one["args"]), "kwargs": tree_map(finished, one["kwargs"])}
            for one in self.operations
        )
        return Program(
            self.origin,
            tuple(Operation(number=number, **one) for number, one in enumerate(operations)),
            self.named,
            tree_map(finished, output),
            tuple(self.value_reads.all),
            self.origin_tensor,
        )

    # names

    def note_reads(self, _: str, word: str, read: tuple[Tensor, ...], value: Tensor) -> None:
        # A module that returns what a part of it made: the value had a name before. (An operation in place returns what
        # it read; that is a new value, and no inner one.)
        inner = self.makers.get(value) if not any(tensor is value for tensor in read) else None
        self.noted = word, tuple(self.makers[tensor] for tensor in read if tensor in self.makers), inner

    def enter_name(self, name: str, tensor: Tensor) -> None:
        self.makers[tensor] = name
        if name == self.start and self.origin is None:
            self.origin = self.new_value(tensor)
            self.origin_tensor = unrecorded_copy(tensor)
            # Views of the start that were made before it had its name depend on it, too.
            self.overwrite(tensor, self.origin, self.views_of(tensor))
        word, reads, inner = self.noted
        self.named[name] = NamedValue(
            name=name,
            word=word,
            value=self.values.get(tensor),
            reads=reads,
            inner=inner,
            part_reference=None if self.hooks.part is None else ref(self.hooks.part),
            module=self.hooks.part_path,
            position=len(self.operations),
            choices=len(self.value_reads.all),
        )

    # operations

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        arguments = arguments_by_name(func, args, kwargs)
        read, name = tensors_in(arguments.values()), plain_name(func)
        for tensor in read if self.handed else []:
            self.take_from_outside(tensor)
        seeing = [tensor for tensor in read if tensor in self.values]
        targets = written_tensors(func, arguments)
        # Before the operation runs: an operation in place gives its target another value, and the old numbers are gone.
        slots = tree_map(self.slot, (args, kwargs)) if seeing else None
        before = self.prepare_writing(targets, depends=bool(seeing))
        result = blank_result(name, func, args, kwargs, arguments) if seeing and self.shape_only else None
        result = func(*args, **kwargs) if result is None else result
        if seeing:
            result = self.value_reads.follow(name, arguments, seeing, result)
            self.write(name, func, slots, read, targets, before, result)
        for tensor in tensors_in([result]):
            self.hold(tensor)
            self.made.add(self.memory(tensor))
        return result

    def write(
        self, name: str, func: Any, slots: Any, read: list[Tensor], targets: list[Tensor], before: Any, result: Any
    ) -> None:
        """Enter an operation, and give each tensor that it made or wrote to its value."""
        returned = tensors_in([result])
        if kind(name).ignores_values and not targets and returned:
            return  # zeros of the same shape are a constant
        made = [*returned, *(target for target in targets if not any(target is one for one in returned))]
        values = {id(tensor): self.new_value(tensor) for tensor in made}
        nested = tree_map(lambda leaf: values.get(id(leaf), leaf) if isinstance(leaf, Tensor) else leaf, result)
        memories = {self.memory(tensor) for tensor in read}
        is_view = not targets and bool(made) and all(self.memory(tensor) in memories for tensor in made)
        self.enter(name, func, slots, nested, tuple(values[id(tensor)] for tensor in made), is_view=is_view)
        for tensor in made:
            if any(tensor is target for target in targets):
                self.overwrite(tensor, values[id(tensor)], before.get(id(tensor), []))
            else:
                self.values[tensor] = values[id(tensor)]

    def enter(
        self, name: str, func: Any, slots: Any, result: Any, results: tuple[Value, ...], *, is_view: bool = False
    ) -> None:
        args, kwargs = slots
        self.operations.append(
            {"name": name, "function": func, "args": args, "kwargs": kwargs, "result": result, "results": results}
            | {"is_view": is_view}
        )

    def slot(self, leaf: Any) -> Any:
        """What stands for an argument in the program."""
        if not isinstance(leaf, Tensor):
            return leaf
        if leaf in self.values:
            return self.values[leaf]
        constant = Constant(leaf)
        self.constants.setdefault(self.memory(leaf), []).append(constant)
        self.hold(leaf)
        return constant

    def new_value(self, tensor: Tensor) -> Value:
        number, self.count = self.count, self.count + 1
        lies = Geometry.of(tensor) if tensor.layout is torch.strided else Geometry(0, tuple(tensor.shape), ())
        return Value(number, lies, tensor.dtype, tensor.device, self.memory(tensor))

    # tensors that share their memory

    def hold(self, tensor: Tensor) -> None:
        """Remember who shares memory with whom."""
        if tensor.layout is torch.strided and tensor.numel():
            self.holders.setdefault(self.memory(tensor), WeakIdKeyDictionary())[tensor] = True

    def views_of(self, tensor: Tensor) -> list[tuple[Tensor, Any]]:
        """The other living tensors on the same memory, each with its value, or, for a constant, a copy of it."""
        place = self.memory(tensor)
        # The memory is asked again: `x.data = y` may have given a tensor another one.
        others = [one for one in list(self.holders.get(place, ())) if one is not tensor and self.memory(one) == place]
        return [(other, self.values.get(other) or Constant(unrecorded_copy(other))) for other in others]

    def prepare_writing(self, targets: list[Tensor], *, depends: bool) -> dict[int, list[tuple[Tensor, Any]]]:
        """Before an operation writes: keep constants that were read as they are, and find out who will see it."""
        for target in targets:
            for constant in self.constants.pop(self.memory(target), []):
                constant.tensor = unrecorded_copy(constant.tensor)
        return {id(target): self.views_of(target) for target in targets} if depends else {}

    def overwrite(self, tensor: Tensor, value: Value, views: list[tuple[Tensor, Any]]) -> None:
        """`tensor` was overwritten and has a new value, and so has each tensor that shares its memory."""
        self.values[tensor] = value
        for other, old in views:
            lies = Geometry.of(other)
            # Exactly the same elements, as those of `x.detach()`: the very same value.
            if lies == value.geometry:
                self.values[other] = value
                continue
            new = self.values[other] = self.new_value(other)
            self.enter(
                OVERWRITTEN, None, ((old, value), {"whole_lies": lies, "part_lies": value.geometry}), new, (new,)
            )

    # values that leave torch

    def hand_out(self, name: str, tensor: Tensor, result: Any) -> Any:
        """All values of a tensor go to Python or to another library."""
        value = self.values[tensor]
        self.handed.append(value)
        self.enter(name, None, ((value,), {}), None, ())
        return self.value_reads.follow(name, {"self": tensor}, [tensor], result)

    def take_from_outside(self, tensor: Tensor) -> None:
        """Take a tensor that no operation made for one made of the values that left torch."""
        if tensor in self.values or isinstance(tensor, nn.Parameter) or self.memory(tensor) in self.made:
            return
        # Numbers cannot be followed through numpy. A tensor that no operation made is taken to be made of what left
        # torch where it has the shape of a value that left, or one row for each stimulus.
        alike = any(value.shape == tuple(tensor.shape) for value in self.handed)
        counts = {value.shape[0] for value in self.handed if value.shape}
        if alike or (tensor.ndim in (2, 4) and tensor.shape[0] in counts):
            value = self.values[tensor] = self.new_value(tensor)
            self.enter(OUTSIDE_TORCH, None, (tuple(self.handed), {}), value, (value,))


class HandingOut(TorchFunctionMode):
    """Sees values leave torch for lists and numpy arrays, for which torch's dispatcher shows no operation."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if kind(name).leaves_torch and args and args[0] in self.recorder.values:
            return self.recorder.hand_out(name, args[0], result)
        return result


@contextmanager
def unrecorded() -> Iterator[None]:
    """While open, operations are no part of what is recorded."""
    with torch._C.DisableTorchFunction(), _disable_current_modes():
        yield


def unrecorded_copy(tensor: Tensor) -> Tensor:
    with unrecorded():
        return copy_of(tensor)
