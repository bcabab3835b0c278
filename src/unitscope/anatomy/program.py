"""Programs: what a network computes, written down once, for many readings.

Problem: receptive fields, bounds, altered responses, subgraphs and the graph of sites are all questions to the same
forward pass. If each runs the network and follows the operations itself, each has to understand again what torch hides:
that `x += y` makes another value of `x`, and of every view of `x`.

Idea: a program is a list of operations in *value form*. A value is made once and never changes. An operation that
writes in place makes a new value; every other tensor on the same memory then gets a new value, too, by an operation
"overwritten", which knows where both lie in that memory. Nothing behind has to think about shared memory.

    y = conv(x)                  1 = convolution(0, weight, ...)
    half = y[:, :2]              2 = slice(1, 1, 0, 2)
    half.relu_()                 3 = relu(2)
                                 4 = overwritten(whole=1, part=3)     what `y` is from here on
    z = y + x                    5 = add(4, 0)

A reading is a domain of facts and a rule per operation, `evaluate(operation, facts)`, which gives a fact for each
result. `Program.run` is the one interpreter:

    values  = program.run({picture: tensor}, compute)                       what the network computes
    altered = program.run({**kept, site: other}, compute, operations=program.behind(site))
    fields  = program.run({picture: origin(...)}, Extents())                what each value can see (extents.py)

A program is valid for one path: where a network reads values (`kind(operation.name).reads_values`), another picture may
take another path.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar
from weakref import ReferenceType

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from unitscope.anatomy.operations import (
    arguments_by_name,
    functional_twin,
    kind,
    tensors_in,
    written_names,
    written_tensors,
)

OVERWRITTEN = "overwritten"
"""The operation by which a tensor gets a new value after another one, on the same memory, was written to."""

OUTSIDE_TORCH = "what is done outside torch"
"""The operation that makes a value of values that left torch, as a numpy array or a list."""

Fact = TypeVar("Fact")


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where the elements of a tensor lie in its memory, counted in elements."""

    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @classmethod
    def of(cls, tensor: Tensor) -> Geometry:
        return cls(int(tensor.storage_offset()), tuple(tensor.shape), tuple(tensor.stride()))

    @property
    def end(self) -> int:
        """One more than the last element in use; 0 where there is none."""
        if 0 in self.shape:
            return 0
        return self.offset + 1 + sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))


# eq=False: values are compared by identity. Two values of the same shape are two keys of a dictionary of facts.
@dataclass(frozen=True, eq=False, slots=True)
class Value:
    """A tensor that depends on the picture, at one moment. Values with the same `memory` shared their memory."""

    number: int
    geometry: Geometry
    dtype: torch.dtype
    device: torch.device
    memory: int

    @property
    def shape(self) -> tuple[int, ...]:
        return self.geometry.shape

    @property
    def stride(self) -> tuple[int, ...]:
        return self.geometry.stride

    def blank(self) -> Tensor:
        """Zeros of this shape that take no memory; not to be written to."""
        return torch.zeros((), dtype=self.dtype, device=self.device).expand(self.shape)


@dataclass(frozen=True, eq=False)
class Operation:
    """One operation as it ran, in value form.

    `name` is torch's plain name (`aten::add_.Tensor` is "add"), `function` the operation of the dispatcher, None for
    OVERWRITTEN, OUTSIDE_TORCH and functions that hand values to something else (`numpy`). `args` and `kwargs` hold
    Values where an argument depends on the picture, and tensors where it is a constant; `result` holds Values, nested
    as torch nests the result. `results` are all values that the operation makes: first those of the result, then those
    of other tensors that it wrote to.
    """

    number: int
    name: str
    function: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    result: Any
    results: tuple[Value, ...]
    is_view: bool = False
    """Whether its result lies in the memory of an operand, which it does not change."""

    @cached_property
    def reads(self) -> tuple[Value, ...]:
        """The values among the arguments, each once, in their order."""
        return tuple(dict.fromkeys(values_in((self.args, dict(self.kwargs)))))

    @cached_property
    def arguments(self) -> dict[str, Any]:
        """The arguments by name, with the defaults that were left out."""
        if self.function is None:
            return dict(self.kwargs)
        return arguments_by_name(self.function, self.args, self.kwargs)

    @property
    def writes(self) -> bool:
        """Whether it wrote in place when it was recorded."""
        return self.function is not None and self.function._schema.is_mutable

    @property
    def written(self) -> list[Value]:
        """The values that were overwritten, as they were before."""
        return values_in([self.arguments.get(name) for name in written_names(self.function)]) if self.writes else []

    def arguments_with(self, replacement: Callable[[Value], Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Args and kwargs with something else in the place of each value."""
        args, kwargs = tree_map(
            lambda leaf: replacement(leaf) if isinstance(leaf, Value) else leaf, (self.args, dict(self.kwargs))
        )
        return args, kwargs

    def call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run the operation on other arguments, which stay as they are: in place of an in-place operation runs its
        functional twin, or the operation itself on a copy.
        """
        if not self.writes:
            return self.function(*args, **kwargs)
        twin = functional_twin(self.function)
        if twin is not None:
            return twin(*args, **kwargs)
        targets = written_tensors(self.function, arguments_by_name(self.function, args, kwargs))
        args, kwargs = tree_map(
            lambda leaf: copy_of(leaf) if any(leaf is target for target in targets) else leaf, (args, dict(kwargs))
        )
        return self.function(*args, **kwargs)

    @property
    def outcome_depends_on_values(self) -> bool:
        """Whether the network reads values here, or gets a shape by them: another picture may take another path."""
        return kind(self.name).reads_values or kind(self.name).shaped_by_values


def values_in(values: Any) -> list[Value]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Value)]


@dataclass(frozen=True, eq=False)
class NamedValue:
    """A value that has a name: a site, or would be one if its shape were that of a site.

    `word` is the plain word of the operation, `reads` the names of the values it reads ("" for the picture, each as
    often as it is read), `part` the module whose output it is (None for a function's result) and `module` its path.
    `inner` is the name of the value that a container only passes on. `value` is None for what does not depend on the
    picture. Before the value had its name, `position` operations ran, and the network had read `choices` values.
    """

    name: str
    word: str
    value: Value | None
    reads: tuple[str, ...]
    inner: str | None
    # Weak: a program is kept beside its network (program_cache.py), and must not keep the network alive.
    part_reference: ReferenceType[nn.Module] | None
    module: str
    position: int
    choices: int

    @property
    def part(self) -> nn.Module | None:
        return None if self.part_reference is None else self.part_reference()


Evaluate = Callable[[Operation, Mapping[Value, Fact]], Sequence[Fact | None]]
"""Gives the facts of an operation's results; `facts` holds those of the values it reads, as far as they are known."""

Needs = Callable[[Operation, Sequence[Fact | None]], Mapping[Value, Fact]]
"""Gives what an operation needs of the values it reads, from what is needed of its results."""


@dataclass(frozen=True, eq=False)
class Program:
    """All operations that depend on the picture, in the order of execution, and the values that have names.

    `origin` is the value that all others depend on: the picture, or the site from which the program was recorded.
    `output` is what the module returned, with Values in the place of tensors that depend on the origin.
    """

    origin: Value
    operations: tuple[Operation, ...]
    named: Mapping[str, NamedValue]
    output: Any = None
    choices: tuple[Any, ...] = field(default=())
    """All values of the picture that the network read (`data_dependence.ValueRead`), in their order."""
    origin_tensor: Tensor | None = None
    """A copy of what the origin was, where the program begins at a site; not to be changed."""

    @cached_property
    def names(self) -> Mapping[Value, tuple[str, ...]]:
        """The names of each value that has one; a value that a module only passes on has several."""
        found: dict[Value, list[str]] = {}
        for name, named in self.named.items():
            if named.value is not None:
                found.setdefault(named.value, []).append(name)
        return {value: tuple(names) for value, names in found.items()}

    @cached_property
    def makers(self) -> Mapping[Value, Operation]:
        """The operation that made each value; the origin has none."""
        return {value: operation for operation in self.operations for value in operation.results}

    @cached_property
    def readers(self) -> Mapping[Value, tuple[Operation, ...]]:
        """The operations that read each value, in their order."""
        found: dict[Value, list[Operation]] = {}
        for operation in self.operations:
            for value in operation.reads:
                found.setdefault(value, []).append(operation)
        return {value: tuple(operations) for value, operations in found.items()}

    def behind(self, *values: Value, since: int = 0) -> tuple[Operation, ...]:
        """The operations that depend on one of the values, in their order; with `since` without the first ones."""
        # One pass over the operations is enough here, and in `before` and `back`: they stand in the order of execution,
        # so that a value is always made before it is read.
        reached, found = set(values), []
        for operation in self.operations[since:]:
            if any(value in reached for value in operation.reads):
                found.append(operation)
                reached.update(operation.results)
        return tuple(found)

    def before(self, *values: Value) -> tuple[Operation, ...]:
        """The operations that the values depend on, in their order."""
        needed, found = set(values), []
        for operation in reversed(self.operations):
            if any(value in needed for value in operation.results):
                found.append(operation)
                needed.update(operation.reads)
        return tuple(reversed(found))

    def run(
        self,
        known: Mapping[Value, Fact],
        evaluate: Evaluate[Fact],
        *,
        operations: Sequence[Operation] | None = None,
        keep: Collection[Value] | None = None,
    ) -> dict[Value, Fact]:
        """The facts of all values, from those of some. With `keep` only the facts of these values are kept; others are
        dropped as soon as no operation reads their values any more.

        Operations of whose operands no fact is known are left out.
        """
        facts = dict(known)
        for _ in self.steps(facts, evaluate, operations=operations, keep=keep):
            pass
        return facts

    def steps(
        self,
        facts: dict[Value, Fact],
        evaluate: Evaluate[Fact],
        *,
        operations: Sequence[Operation] | None = None,
        keep: Collection[Value] | None = None,
    ) -> Iterator[Operation]:
        """Run step by step: each operation when its results have been entered in `facts`, which is changed."""
        operations = self.operations if operations is None else operations
        last = {} if keep is None else last_reads(operations)
        for operation in operations:
            if any(value in facts for value in operation.reads):
                found = evaluate(operation, facts)
                pairs = zip(operation.results, found, strict=True)
                facts.update({value: fact for value, fact in pairs if fact is not None})
            # The caller reads the facts now; they are dropped only when the caller asks for the next operation.
            yield operation
            if keep is not None:
                for value in (*operation.reads, *operation.results):
                    # -1: a result that nobody reads is dropped at once.
                    if last.get(value, -1) <= operation.number and value not in keep:
                        facts.pop(value, None)

    def back(
        self, wanted: Mapping[Value, Fact], needs: Needs[Fact], join: Callable[[Fact, Fact], Fact]
    ) -> dict[Value, Fact]:
        """What is needed of each value for what is wanted of some: the operations in reverse, `join` where several
        operations need the same value.
        """
        asked = dict(wanted)
        # In reverse, all readers of a value come before its maker: when the maker's turn comes, the needs of its
        # results are complete.
        for operation in reversed(self.operations):
            if any(value in asked for value in operation.results):
                for value, need in needs(operation, [asked.get(value) for value in operation.results]).items():
                    asked[value] = join(asked[value], need) if value in asked else need
        return asked


def last_reads(operations: Sequence[Operation]) -> dict[Value, int]:
    """For each value the number of the last operation that reads it."""
    return {value: operation.number for operation in operations for value in operation.reads}


# the values themselves


def compute(operation: Operation, facts: Mapping[Value, Tensor]) -> list[Tensor]:
    """The reading of values themselves: the tensors that an operation makes of tensors.

    With tensors of the recorded shapes and strides the results have the recorded strides, so that every operation
    behind gives the very same bits. Raises ValueError for what is done outside torch.
    """
    if operation.name == OVERWRITTEN:
        whole, part = (facts[one] if isinstance(one, Value) else one for one in operation.args)
        return [overwrite(whole, part, **operation.kwargs)]
    if operation.function is None:
        if not operation.results:
            return []
        raise ValueError(f"{operation.name} cannot be run again.")
    args, kwargs = operation.arguments_with(lambda value: facts[value])
    found = tensors_in([operation.call(args, kwargs)])
    # The result does not show the new numbers of a tensor that was only written to.
    if len(found) < len(operation.results):
        raise ValueError(f"{operation.name} writes to what it does not return, and cannot be run again.")
    if not operation.writes:
        return found
    # The network wrote into memory that was there, in its strides; the functional twin chose strides of its own.
    return [laid_out_as(tensor, value.geometry) for tensor, value in zip(found, operation.results, strict=True)]


def overwrite(whole: Tensor, part: Tensor, *, whole_lies: Geometry, part_lies: Geometry) -> Tensor:
    """A tensor after another one on the same memory was written to: `whole` as it was, with `part` where both lie."""
    # Both tensors are laid into one row of memory, each where it lay in the network's memory. What neither covers stays
    # uninitialized, and nobody reads it.
    row = torch.empty(max(whole_lies.end, part_lies.end), dtype=whole.dtype, device=whole.device)
    lies = row.as_strided(whole_lies.shape, whole_lies.stride, whole_lies.offset)
    lies.copy_(whole)
    row.as_strided(part_lies.shape, part_lies.stride, part_lies.offset).copy_(part)
    return lies


def laid_out_as(tensor: Tensor, geometry: Geometry) -> Tensor:
    """A tensor with the strides that it had when it was recorded, if its shape is the recorded one."""
    if tuple(tensor.shape) != geometry.shape or tensor.stride() == geometry.stride:
        return tensor
    row = torch.empty(geometry.end - geometry.offset, dtype=tensor.dtype, device=tensor.device)
    return row.as_strided(geometry.shape, geometry.stride).copy_(tensor)


def copy_of(tensor: Tensor) -> Tensor:
    """A copy with the same strides."""
    geometry = Geometry.of(tensor)
    row = torch.empty(geometry.end - geometry.offset, dtype=tensor.dtype, device=tensor.device)
    return row.as_strided(geometry.shape, geometry.stride).copy_(tensor)
