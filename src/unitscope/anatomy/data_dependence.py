"""Networks that read values to decide what to do: which values they read, and which of these can change the path.

Problem: a field describes the path that was run. Whatever runs after a choice made by the picture may be another
network for another picture, and nothing can be claimed of it. But many networks only check their input.

Idea: a mere check is no choice. Where the answer is the same for all finite pictures (`isnan`), there is one path only;
and so it is where the other answer makes the network fail at once. The network is run once more for each yes or no that
it reads, with that answer turned round.

    assert x.min() >= 0          turned round, the network fails: a check
    if x.mean() > 0: x = f(x)    turned round, the network goes on: a choice, and nothing is claimed from here on
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from unitscope.anatomy.operations import kind

OUTSIDE = {"tolist": "Python", "numpy": "numpy", "__array__": "numpy", "__dlpack__": "another library"}
"""To whom methods of a tensor hand all its values; they are no operations of torch's."""

TRIES = 32
"""At most this many answers are turned round, each in a pass of its own; what comes later counts as a choice."""


# A BaseException: `except Exception` in the network must not swallow it.
class NextRead(BaseException):
    """With the answer turned round the network went on and read the next value. Not for the network to catch."""


@dataclass(frozen=True, slots=True)
class ValueRead:
    """A value of the picture that the network looked at: `what` it is, and whether it is a yes or no.

    `settled`: it is the same for all pictures without NaN and infinities.
    """

    what: str
    yes_or_no: bool
    settled: bool


class ValueReads:
    """All values that were read in one pass, in order. The yes or no of number `turned` is answered the other way."""

    def __init__(self, turned: int | None = None, called: Callable[[Tensor], str | None] = lambda _: None) -> None:
        self.turned, self.called = turned, called
        self.all: list[ValueRead] = []
        self.settled: WeakIdKeyDictionary = WeakIdKeyDictionary()

    def follow(self, name: str, arguments: dict[str, Any], seeing: Sequence[Tensor], result: Any) -> Any:
        """Follow one operation, of whose arguments those in `seeing` depend on the picture; returns its result."""
        settled = kind(name).settled or compares_with_itself(name, arguments)
        settled = settled or all(tensor in self.settled for tensor in seeing)
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, Tensor):
                # A tensor that was settled may be written to in place.
                self.settled.pop(tensor, None)
                if settled:
                    self.settled[tensor] = True
        if kind(name).reads_values or kind(name).shaped_by_values or is_masked(name, arguments, seeing):
            made = [word for tensor in seeing if kind(name).reads_values and (word := self.called(tensor))]
            what = made[0] if made else name.strip("_")
            what = f"{what} by {OUTSIDE[name]}" if name in OUTSIDE else what
            return self.enter(ValueRead(what, isinstance(result, bool), settled), result)
        return result

    def enter(self, one: ValueRead, result: Any) -> Any:
        """Note what was read, and give the answer: the other one where this answer is to be turned round."""
        # The network did not fail between the answer that was turned and this one: the answer is a choice.
        if self.turned is not None and len(self.all) > self.turned and not one.settled:
            raise NextRead
        self.all.append(one)
        return (not result) if len(self.all) - 1 == self.turned and one.yes_or_no else result


def compares_with_itself(name: str, arguments: dict[str, Any]) -> bool:
    """`x == x` and `x.abs() != inf`, of which torch makes `isfinite`."""
    other = arguments.get("other")
    return name in ("eq", "ne") and (other is arguments["self"] or (isinstance(other, float) and math.isinf(other)))


def is_masked(name: str, arguments: dict[str, Any], seeing: Sequence[Tensor]) -> bool:
    """`x[mask]` with a mask made of the picture."""
    if name != "index":  # elsewhere `indices` are numbers: unpooling, embedding
        return False
    masks = [i for i in arguments["indices"] if i is not None and i.dtype in (torch.bool, torch.uint8)]
    return any(mask is tensor for mask in masks for tensor in seeing)


def first_choice(value_reads: Sequence[ValueRead], fails: Callable[[int], bool]) -> int | None:
    """The number of the first value read that can change the path; None where all were checks.

    `fails(number)` runs the network with that answer turned round and tells whether it failed before it read the next.
    """
    for number, one in enumerate(value_reads):
        if not one.settled and (not one.yes_or_no or number >= TRIES or not fails(number)):
            return number
    return None
