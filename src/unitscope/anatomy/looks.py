"""Networks that look at values to decide what to do: what was read, and which of it can change the path.

A field describes the path that was run. Whatever runs after a choice made by the picture may be another network for
another picture, and nothing is claimed of it. A mere check is no choice: where the other answer makes the network fail
at once (an assertion), or where the answer is the same for all finite pictures (`isnan`), there is one path only.
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
"""So many answers are turned round, in full passes up to the failure; what comes later counts as a choice."""


class Answered(BaseException):
    """With the answer turned round the network went on to look at the next value. Not for the network to catch."""


@dataclass(frozen=True, slots=True)
class Look:
    """A value of the picture that the network looked at: `what` it is, and whether it is a yes or no.

    `settled`: it is the same for all pictures without NaN and infinities.
    """

    what: str
    yes_or_no: bool
    settled: bool


class Looks:
    """All looks of one pass, in order. The yes or no of look number `turned` is answered the other way."""

    def __init__(self, turned: int | None = None, called: Callable[[Tensor], str | None] = lambda _: None) -> None:
        self.turned, self.called = turned, called
        self.all: list[Look] = []
        self.settled: WeakIdKeyDictionary = WeakIdKeyDictionary()

    def through(self, name: str, arguments: dict[str, Any], seeing: Sequence[Tensor], result: Any) -> Any:
        """Follow one operation, of whose arguments those in `seeing` depend on the picture; returns its result."""
        settled = kind(name).settled or compares_with_itself(name, arguments)
        settled = settled or all(tensor in self.settled for tensor in seeing)
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, Tensor):
                self.settled.pop(tensor, None)
                if settled:
                    self.settled[tensor] = True
        if kind(name).reads_values or kind(name).shaped_by_values or masked(name, arguments, seeing):
            made = [word for tensor in seeing if kind(name).reads_values and (word := self.called(tensor))]
            what = made[0] if made else name.strip("_")
            what = f"{what} by {OUTSIDE[name]}" if name in OUTSIDE else what
            return self.look(Look(what, isinstance(result, bool), settled), result)
        return result

    def look(self, look: Look, result: Any) -> Any:
        if self.turned is not None and len(self.all) > self.turned and not look.settled:
            raise Answered
        self.all.append(look)
        return (not result) if len(self.all) - 1 == self.turned and look.yes_or_no else result


def compares_with_itself(name: str, arguments: dict[str, Any]) -> bool:
    """`x == x` and `x.abs() != inf`, of which torch makes `isfinite`."""
    other = arguments.get("other")
    return name in ("eq", "ne") and (other is arguments["self"] or (isinstance(other, float) and math.isinf(other)))


def masked(name: str, arguments: dict[str, Any], seeing: Sequence[Tensor]) -> bool:
    """`x[mask]` with a mask made of the picture."""
    if name != "index":  # elsewhere `indices` are numbers: unpooling, embedding
        return False
    masks = [i for i in arguments["indices"] if i is not None and i.dtype in (torch.bool, torch.uint8)]
    return any(mask is tensor for mask in masks for tensor in seeing)


def first_choice(looks: Sequence[Look], fails: Callable[[int], bool]) -> int | None:
    """The number of the first look that can change the path; None where all were checks.

    `fails(number)` runs the network with that answer turned round and tells whether it failed before it looked again.
    """
    for number, look in enumerate(looks):
        if not look.settled and (not look.yes_or_no or number >= TRIES or not fails(number)):
            return number
    return None
