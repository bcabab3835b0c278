"""The reading of receptive fields: what the elements of each value of a program can see of the picture.

Problem: the field of a neuron is a question to all operations on the way from the picture, and each operation has its
own answer.

Idea: the fact about a value is its extent (extent_maps.py): for each element the first and the last row and column that
it can see. An operation takes the extents of what it reads to the extents of what it makes, by the rule of its name
(window_rules.py, rearrangement_rules.py, normalization_rules.py); elementwise operations need no rule, they see the
hull of their operands. Nothing is guessed: what has no rule, or whose rule fails, sees everything, and is marked as
unknown.

    row 6 of the picture                      sees rows 6 to 6
    row 6 behind a 3 x 3 convolution          sees what rows 5 to 7 saw: 5 to 7
    row 6 behind a second one                 sees what rows 5 to 7 saw: 4 to 8
    row 3 behind a pooling of 2 rows by 2     sees what rows 6 to 7 saw: 4 to 9

    facts = program.run({program.origin: origin(...)}, Extents())

The rules get tensors without numbers (`Value.blank`), since fields do not depend on values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils._pytree import tree_map

from unitscope.anatomy import normalization_rules, rearrangement_rules, window_rules  # noqa: F401  enter their rules
from unitscope.anatomy.extent_maps import Extent, Factors, Map, condense_map, label_dims, nothing
from unitscope.anatomy.extent_registry import RULES, Call, Constant, Gates, coarse_like, elementwise
from unitscope.anatomy.operations import is_elementwise, kind, tensors_in
from unitscope.anatomy.program import OUTSIDE_TORCH, OVERWRITTEN, Geometry, Operation, Value
from unitscope.anatomy.reshape_extents import expand_extent


@dataclass
class Extents:
    """Evaluates an operation on maps (see `Program.run`). `gates` says whether gates count, and what was found."""

    gates: Gates = field(default_factory=Gates)

    def __call__(self, operation: Operation, facts: Mapping[Value, Extent]) -> list[Extent | None]:
        if operation.name == OVERWRITTEN:
            return [overwritten_maps(operation, facts)]
        if operation.name == OUTSIDE_TORCH:
            return [maps_from_outside(operation, facts)]
        if operation.function is None:
            return []
        call = self.call_of(operation, facts)
        found = maps_of_results(call)
        for value in operation.results[len(found) :]:  # what it wrote to besides its result
            found.append(claim_nothing(replace(call, result=value.blank())))
        if operation.writes:  # it changes the size, or draws numbers: what it saw, it still sees
            found = [facts.get(operation.written[0]) if maps is None else maps for maps in found]
        pairs = zip(operation.results, found, strict=True)
        return [maps if maps is None else replace(maps, shape=value.shape) for value, maps in pairs]

    def call_of(self, operation: Operation, facts: Mapping[Value, Extent]) -> Call:
        """The operation as its rule gets it: with blank tensors in the place of values."""
        # One blank tensor for each value: rules ask for extents by the identity of tensors.
        blanks = {value: value.blank() for value in (*operation.reads, *operation.results)}
        known = {id(blanks[value]): facts[value] for value in operation.reads if value in facts}

        def put(leaf: Any) -> Any:
            return blanks[leaf] if isinstance(leaf, Value) else leaf

        arguments = {name: tree_map(put, value) for name, value in operation.arguments.items()}
        result = tree_map(put, operation.result)
        return Call(
            operation.name, operation.function, arguments, result, lambda tensor: known.get(id(tensor)), self.gates
        )


def maps_of_results(call: Call) -> list[Extent | None]:
    """What each tensor of the result sees, by the operation's rule; where there is none, everything, and marked as
    unknown.

    Where a rule fails, it was not written for these arguments: nothing is claimed of the result.
    """
    try:
        extent = maps_by_rule(call)
    except Exception:
        extent = claim_nothing(call)
    return maps_of_tensors(call.result, extent if fits(call.result, extent) else claim_nothing(call))


def maps_by_rule(call: Call) -> Any:
    own = RULES.get(call.name)
    if own is not None:
        return own(call)
    # `x.copy_(y)`, `x.fill_(0)`: nothing of what was in x is left.
    if call.name == "copy":
        source = call.extent_of(call["src"])
        shape = tuple(call.result.shape)
        return nothing(shape) if source is None else expand_extent(source, shape)
    if call.name in ("fill", "zero") and not (isinstance(call.get("value"), Tensor) and call.extent_of(call["value"])):
        return nothing(tuple(call.result.shape))
    if kind(call.name).ignores_values:
        return None
    if is_elementwise(call.name, call.function):
        return elementwise(call)
    raise Constant


def fits(result: Any, extent: Any) -> bool:
    """Whether maps are those of tensors of these shapes: equal to them, or of length 1, along each dimension."""
    try:
        pairs = list(zip(tensors_in([result]), maps_of_tensors(result, extent), strict=True))
    except ValueError:
        return False
    return all(
        maps is None
        or all(
            array.ndim == 1 + value.ndim and all(n in (1, m) for n, m in zip(array.shape[1:], value.shape, strict=True))
            for array in (*maps.maps, *maps.rules)
        )
        for value, maps in pairs
    )


def claim_nothing(call: Call) -> Any:
    extents = coarse_like(call.extents, call.result, why=call.name)

    def mark(extent: Extent | None) -> Extent | None:
        return (
            None
            if extent is None
            else replace(extent, unknown=extent.unknown | {call.name}, bounded=extent.bounded - {call.name})
        )

    return tuple(mark(extent) for extent in extents) if isinstance(extents, tuple) else mark(extents)


def maps_of_tensors(result: Any, extent: Any) -> list[Extent | None]:
    """One entry of `extent` per tensor of the result."""
    count = len(tensors_in([result]))
    if isinstance(extent, tuple):
        return [maps for value, maps in zip(result, extent, strict=True) if isinstance(value, Tensor)]
    return [extent] * count


# values that share memory, and values from outside


def overwritten_maps(operation: Operation, facts: Mapping[Value, Extent]) -> Extent:
    """The maps of a tensor after a part of its memory was overwritten."""
    whole, part = (facts.get(one) if isinstance(one, Value) else None for one in operation.args)
    whole_lies, part_lies = (operation.kwargs[name] for name in ("whole_lies", "part_lies"))
    old = nothing(whole_lies.shape) if whole is None else whole
    new = nothing(part_lies.shape) if part is None else part
    here, there = places(whole_lies), places(part_lies)
    # For each place in memory the element of the part that lies there, -1 where none does.
    source = np.full(max(int(here.max()), int(there.max())) + 1, -1)
    source[there.ravel()] = np.arange(there.size)
    chosen = source[here]

    def change(array: Map, written: Map) -> Map:
        fresh = np.broadcast_to(written, (2, *new.shape)).reshape(2, -1)
        kept = np.broadcast_to(array, (2, *whole_lies.shape))
        return condense_map(np.where(chosen >= 0, fresh[:, chosen], kept).astype(np.int32))

    # A constant, such as `torch.zeros(...)` that is filled part by part, has dimensions without a meaning.
    dims = old.dims if any(old.dims) else dims_of_whole(whole_lies, part_lies, new)
    doubts = {
        "lost": old.lost | new.lost,
        "bounded": old.bounded | new.bounded,
        "unknown": old.unknown | new.unknown,
    }
    steps = tuple(a if a is not None else b for a, b in zip(old.steps, new.steps, strict=True))
    maps = (change(old.maps[0], new.maps[0]), change(old.maps[1], new.maps[1]))
    rules = (change(old.rules[0], new.rules[0]), change(old.rules[1], new.rules[1]))
    return replace(old, maps=maps, rules=rules, dims=dims, steps=steps, **doubts)  # type: ignore[arg-type]


def places(lies: Geometry) -> np.ndarray:
    """The position in memory of each element."""
    position = np.array(lies.offset)
    for size, stride in zip(lies.shape, lies.stride, strict=True):
        position = position[..., None] + np.arange(size) * stride
    return position


def dims_of_whole(whole: Geometry, part: Geometry, extent: Extent) -> tuple[Factors, ...]:
    """The dimensions of a tensor, as far as they are those of the part that was written into its memory."""
    if len(part.shape) == len(whole.shape):
        return label_dims(extent.dims, whole.shape)
    dims = dict(zip(part.stride, extent.dims, strict=True))
    return label_dims(tuple(dims.get(stride, ()) for stride in whole.stride), whole.shape)


def maps_from_outside(operation: Operation, facts: Mapping[Value, Extent]) -> Extent | None:
    """The maps of a tensor that may be made of values that left torch: of its shape, or one row for each stimulus."""
    (result,), handed = operation.results, [facts[value] for value in operation.reads if value in facts]
    alike = [extent for extent in handed if extent.shape == result.shape]
    count = next((extent.shape[0] for extent in handed if extent.shape and extent.label(0) == "stimulus"), None)
    if not alike and not (len(result.shape) in (2, 4) and result.shape[0] == count):
        return None
    # Nobody knows what was done to the numbers: each number of the tensor may be made of all that left torch.
    extent = coarse_like(handed, result.blank(), why="numpy")
    words = ("stimulus", "channel", "row", "col")[: len(result.shape)]
    dims = alike[0].dims if alike else tuple(((word, n),) for word, n in zip(words, result.shape, strict=True))
    return replace(extent, dims=dims, bounded=frozenset(), unknown=frozenset([OUTSIDE_TORCH]))
