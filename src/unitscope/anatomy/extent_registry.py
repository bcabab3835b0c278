"""The registry of rules by which operations take extents to extents: one rule per operation, none of them guessed.

A rule gets a `Call`: the operation's plain name, its arguments by name, its result, and the extents of its tensors. The
rule gives the extent of the result. Elementwise operations, which torch marks as such, need no rule: they see the hull
of their operands. A rule is entered by its operations' names:

    @rule("flip")
    def flip(call: Call) -> Extent: ...

Rules for windows and products are in window_rules.py, for views and rearrangements in rearrangement_rules.py, for
normalizations in normalization_rules.py. Sources: methods of araujo2019 for windows, the operations' own definitions
otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from unitscope.anatomy.extent_maps import (
    Extent,
    drop_rule,
    hull,
    label_dims,
    reduce_dims,
    spread_over_shape,
    squeeze_dims,
)
from unitscope.anatomy.operations import register_in, tensors_in


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
    """One operation as it ran: `arguments` by name, `result`, and `extent_of`, which gives a tensor's extent, or None
    for a constant.
    """

    name: str
    function: Any
    arguments: dict[str, Any]
    result: Any
    extent_of: Callable[[Any], Extent | None]
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
    def extent(self) -> Extent:
        """What the first argument sees; raises Constant where it is one."""
        extent = self.extent_of(self.subject)
        if extent is None:
            raise Constant
        return extent

    @property
    def extents(self) -> list[Extent]:
        """What all tensors among the arguments see, constants left out."""
        return [
            extent for tensor in tensors_in(self.arguments.values()) if (extent := self.extent_of(tensor)) is not None
        ]


class Constant(Exception):
    """A rule expects maps where the operation has a constant; the operation is then taken as unknown."""


Rule = Callable[[Call], Any]


RULES: dict[str, Rule] = {}


rule = register_in(RULES)


def elementwise(call: Call) -> Extent:
    return hull(call.extents)


def each_of(value: Any, count: int) -> list[int]:
    """A scalar or a list of one or `count` numbers, as `count` numbers."""
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    return values * count if len(values) == 1 else values


def extent_or_none(call: Call, value: Any) -> Extent | None:
    return call.extent_of(value) if isinstance(value, Tensor) else None


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
    extents = call.extents
    return coarse_like(extents, call.result, why=call.name)


def coarse_like(extents: Sequence[Extent], result: Any, *, why: str) -> Any:
    # One element that sees all; it is spread over the result.
    whole = hull([squeeze_dims(reduce_all(extent), range(len(extent.shape))) for extent in extents])
    whole = drop_rule(whole, why)
    whole = replace(whole, bounded=whole.bounded | {why})
    stimulus = next((extent.shape[0] for extent in extents if extent.shape and extent.label(0) == "stimulus"), None)

    def one(value: Any) -> Extent | None:
        if not isinstance(value, Tensor):
            return None
        shape = tuple(value.shape)
        known = next((extent.dims for extent in extents if len(extent.shape) == len(shape)), None)
        dims = label_dims(known or ((),) * len(shape), shape)
        # A first axis of the right length is taken for that of the stimuli.
        if shape and shape[0] == stimulus and not dims[0]:
            dims = ((("stimulus", shape[0]),), *dims[1:])
        return spread_over_shape(whole, shape, dims)

    return tuple(one(value) for value in result) if isinstance(result, (tuple, list)) else one(result)


def reduce_all(extent: Extent) -> Extent:
    return reduce_dims(extent, range(len(extent.shape)), keep=True, why="")
