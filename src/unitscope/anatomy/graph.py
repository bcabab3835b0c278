"""The graph of a network's operations: who reads whom, and which additions are skips."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from unitscope.anatomy.listening import listening
from unitscope.anatomy.operations import kind
from unitscope.anatomy.sites import Network, blank, show

PICTURE = ""
"""The name of the network's input in a graph."""


@dataclass(frozen=True, eq=False)
class Operation:
    """One operation as it ran: the names of the values it reads, and its module where it is one.

    `depth` counts the operations on the longest way from the picture, this one included.
    """

    name: str
    operation: str
    reads: tuple[str, ...]
    module: nn.Module | None
    depth: int


@dataclass(frozen=True)
class Skip:
    """An addition that joins a branch to what skipped it: the sites of the sum, the skip and the branch."""

    site: str
    identity: str
    branch: str


def graph_of(network: Network) -> dict[str, Operation]:
    """All named operations of one pass over a blank picture, in the order of execution."""
    makers = WeakIdKeyDictionary()
    operations: dict[str, Operation] = {}

    def noted(name: str, operation: str, read: tuple[Tensor, ...], value: Tensor) -> None:
        inner = makers.get(value) if not any(tensor is value for tensor in read) else None
        if inner is not None:  # a container that only passes on what was made inside it
            operation, read = "identity", (value,)
        reads = tuple(dict.fromkeys(makers[tensor] for tensor in read if tensor in makers))
        depth = 1 + max((operations[one].depth for one in reads if one != PICTURE), default=0)
        operations[name] = Operation(name, operation, reads, ear.part, depth)
        makers[value] = name

    picture = blank(network.module, (1, network.inputs, *network.size), value=0.5)
    makers[picture] = PICTURE
    with torch.no_grad(), listening(network.module, lambda _name, _value: None, noted=noted) as ear:
        show(network.module, picture)
    return operations


def skips(graph: Mapping[str, Operation]) -> dict[str, Skip]:
    """The additions of two values of which one has come a shorter way, by the site of the sum.

    The shorter way is taken for the skip (an identity, or a projection), the longer one for the branch.
    """
    found = {}
    for each in graph.values():
        if each.operation == "add" and len(each.reads) == 2:
            short, long = sorted(each.reads, key=lambda name: depth_of(graph, name))
            if depth_of(graph, short) < depth_of(graph, long):
                found[each.name] = Skip(each.name, short, long)
    return found


def depth_of(graph: Mapping[str, Operation], name: str) -> int:
    """How many operations lie between the picture and a value, on the longest way."""
    return 0 if name == PICTURE else graph[name].depth


@dataclass(frozen=True)
class Stream:
    """What skips carry on unchanged: the sites of one stage in order, and the skips that join them.

    Every site but the first is the sum of the one before and a branch, or that sum rectified.
    """

    sites: tuple[str, ...]
    skips: tuple[Skip, ...]


def streams(graph: Mapping[str, Operation]) -> list[Stream]:
    """The streams of a network: a new one begins where a skip is a projection, read by nobody else."""
    found: list[Stream] = []
    for skip in skips(graph).values():
        after = rectified(graph, skip.site)
        if found and found[-1].sites[-1] == skip.identity:
            found[-1] = Stream((*found[-1].sites, after), (*found[-1].skips, skip))
        elif len(readers(graph, skip.identity)) > 1:
            found.append(Stream((skip.identity, after), (skip,)))
        else:
            found.append(Stream((after,), (skip,)))
    return found


def readers(graph: Mapping[str, Operation], name: str) -> list[Operation]:
    """The operations that read a value."""
    return [each for each in graph.values() if name in each.reads]


def rectified(graph: Mapping[str, Operation], name: str) -> str:
    """What a nonlinearity alone makes of a value; the value itself where others read it, too."""
    reading = readers(graph, name)
    alone = len(reading) == 1 and (kind(reading[0].operation).nonlinear or reading[0].operation == "identity")
    return rectified(graph, reading[0].name) if alone else name


class Reached(Exception):
    """The site was reached; nothing behind it is needed."""


class Kernels(TorchDispatchMode):
    """Keeps the weight of the last convolution that ran."""

    def __init__(self) -> None:
        super().__init__()
        self.last: Tensor | None = None

    def __torch_dispatch__(self, function: Any, _types: Any, arguments: Any = (), named: Any = None) -> Any:
        if "convolution" in function._schema.name:
            self.last = arguments[1].detach().clone()
        return function(*arguments, **(named or {}))


def kernels_at(network: Network, site: str) -> Tensor | None:
    """The weight that the convolution at a site uses, [unit channel row col]; None where it has no constant one.

    It is taken from the operation itself, so that masks, parametrizations and standardized weights count.
    """
    weights = [_kernels_shown(network, site, value=value) for value in (0.25, 0.5)]
    first, second = weights
    return first if first is not None and second is not None and torch.equal(first, second) else None


def _kernels_shown(network: Network, site: str, *, value: float) -> Tensor | None:
    kernels = Kernels()

    def heard(name: str, _: Tensor) -> None:
        if name == site:
            raise Reached

    picture = blank(network.module, (1, network.inputs, *network.size), value=value)
    with suppress(Reached), torch.no_grad(), listening(network.module, heard), kernels:
        show(network.module, picture)
    return kernels.last
