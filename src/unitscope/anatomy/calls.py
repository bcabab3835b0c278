"""What each operation of torch lets its output see: one rule per operation, none of them guessed.

An operation is a `Call`: its plain name, its arguments by name, its result, and the maps of its tensors before it ran.
Elementwise operations, which torch marks as such, need no rule: they see the hull of their operands. Windows are here,
views and rearrangements in rearrangements.py. Sources: methods of araujo2019 for windows, the operations' own
definitions otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from unitscope.anatomy.maps import (
    Seen,
    hull,
    labeled,
    reduced,
    spread_over,
    squeezed,
    without_rule,
)
from unitscope.anatomy.operations import tensors_in


@dataclass(slots=True)
class Gates:
    """Whether products with gates count (squeeze-and-excitation), and whether there were any.

    `outer_zeros`: a convolution had kernels whose first or last rows or columns are 0 in all channels.
    """

    count: bool = True
    met: bool = False
    outer_zeros: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """One operation as it ran: `arguments` by name, `result`, and `seen`, which gives a tensor's maps or None for a
    constant.
    """

    name: str
    function: Any
    arguments: dict[str, Any]
    result: Any
    seen: Callable[[Any], Seen | None]
    gates: Gates

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.arguments.get(name, default)

    @property
    def subject(self) -> Tensor:
        """The first argument."""
        return next(iter(self.arguments.values()))

    @property
    def maps(self) -> Seen:
        """What the first argument sees; raises Constant where it is one."""
        seen = self.seen(self.subject)
        if seen is None:
            raise Constant
        return seen

    @property
    def all_seen(self) -> list[Seen]:
        """What all tensors among the arguments see, constants left out."""
        return [seen for tensor in tensors_in(self.arguments.values()) if (seen := self.seen(tensor)) is not None]


class Constant(Exception):
    """A rule expects maps where the operation has a constant; the operation is then taken as unknown."""


Rule = Callable[[Call], Any]


RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    def enter(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return enter


def elementwise(call: Call) -> Seen:
    return hull(call.all_seen)


def each_of(value: Any, count: int) -> list[int]:
    """A scalar or a list of one or `count` numbers, as `count` numbers."""
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    return values * count if len(values) == 1 else values


def self_or_none(call: Call, value: Any) -> Seen | None:
    return call.seen(value) if isinstance(value, Tensor) else None


@rule(
    "lstm",
    "gru",
    "rnn_tanh",
    "rnn_relu",
    "_cudnn_rnn",
    "grid_sampler_2d",
    "cudnn_grid_sampler",
    "gather",
    "scatter_add",
    "scatter_reduce",
    "_embedding_bag",
    "_embedding_bag_forward_only",
    "index_add",
    "index_reduce",
    "masked_scatter",
    "max_unpool2d",
    "max_unpool3d",
    "col2im",
    "deform_conv2d",
)
def coarse(call: Call) -> Any:
    """An upper bound: every output sees all that any input of its stimulus sees, or of all stimuli where they cannot
    be told apart.
    """
    seens = call.all_seen
    return coarse_like(seens, call.result, why=call.name)


def coarse_like(seens: Sequence[Seen], result: Any, *, why: str) -> Any:
    whole = hull([squeezed(every(seen), range(len(seen.shape))) for seen in seens])
    whole = without_rule(whole, why)
    whole = replace(whole, bounded=whole.bounded | {why})
    stimulus = next((seen.shape[0] for seen in seens if seen.shape and seen.label(0) == "stimulus"), None)

    def one(value: Any) -> Seen | None:
        if not isinstance(value, Tensor):
            return None
        shape = tuple(value.shape)
        known = next((seen.dims for seen in seens if len(seen.shape) == len(shape)), None)
        dims = labeled(known or ((),) * len(shape), shape)
        if shape and shape[0] == stimulus and not dims[0]:
            dims = ((("stimulus", shape[0]),), *dims[1:])
        return spread_over(whole, shape, dims)

    return tuple(one(value) for value in result) if isinstance(result, (tuple, list)) else one(result)


def every(seen: Seen) -> Seen:
    return reduced(seen, range(len(seen.shape)), keep=True, why="")
