"""The graph of sites: who reads whom, which additions are skips, and what skips carry on.

A node is a value that has a name; its edges are the named values that its operation read. All are questions to the
names of a program.

    maxpool --> conv1 --> relu --> conv2 --> add --> relu_1        the skip of `add` is (identity maxpool, branch conv2)
        `-----------------------------------^                     one stream: maxpool, relu_1, ...
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from unitscope.anatomy.operations import kind
from unitscope.anatomy.program import Program
from unitscope.anatomy.sites import Network, program_of
from unitscope.anatomy.trace import PICTURE


@dataclass(frozen=True, eq=False)
class Node:
    """One named operation: the names of the values it reads, and its module where it is one.

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


def graph_of(network: Network) -> dict[str, Node]:
    """All named operations of one pass, in the order of execution."""
    return graph_of_program(program_of(network))


def graph_of_program(program: Program) -> dict[str, Node]:
    nodes: dict[str, Node] = {}
    for name, named in program.named.items():
        reads = tuple(dict.fromkeys(named.reads)) if named.inner is None else (named.inner,)
        word = named.word if named.inner is None else "identity"  # a container passes on what was made inside it
        depth = 1 + max((nodes[one].depth for one in reads if one != PICTURE), default=0)
        nodes[name] = Node(name, word, reads, named.part, depth)
    return nodes


def skips(graph: Mapping[str, Node]) -> dict[str, Skip]:
    """The additions of two values of which one has come a shorter way, by the site of the sum.

    The shorter way is taken for the skip (an identity, or a projection), the longer one for the branch.
    """
    found = {}
    for each in graph.values():
        if each.operation == "add" and len(each.reads) == 2:
            # Depth counts the longest way from the picture, so that an identity is always the shorter one.
            short, long = sorted(each.reads, key=lambda name: depth_of(graph, name))
            if depth_of(graph, short) < depth_of(graph, long):
                found[each.name] = Skip(each.name, short, long)
    return found


def depth_of(graph: Mapping[str, Node], name: str) -> int:
    """How many operations lie between the picture and a value, on the longest way."""
    return 0 if name == PICTURE else graph[name].depth


@dataclass(frozen=True)
class Stream:
    """What skips carry on unchanged: the sites of one stage in order, and the skips that join them.

    Every site but the first is the sum of the one before and a branch, or that sum rectified.
    """

    sites: tuple[str, ...]
    skips: tuple[Skip, ...]


def streams(graph: Mapping[str, Node]) -> list[Stream]:
    """The streams of a network: a new one begins where a skip is a projection, read by nobody else."""
    found: list[Stream] = []
    for skip in skips(graph).values():
        # The next block reads the rectified sum, and that is what the next skip carries on.
        after = rectified(graph, skip.site)
        if found and found[-1].sites[-1] == skip.identity:
            found[-1] = Stream((*found[-1].sites, after), (*found[-1].skips, skip))
        # The skip is a site that its branch reads, too: the stream begins there. A projection is read by the sum alone.
        elif len(readers(graph, skip.identity)) > 1:
            found.append(Stream((skip.identity, after), (skip,)))
        else:
            found.append(Stream((after,), (skip,)))
    return found


def readers(graph: Mapping[str, Node], name: str) -> list[Node]:
    """The operations that read a value."""
    return [each for each in graph.values() if name in each.reads]


def rectified(graph: Mapping[str, Node], name: str) -> str:
    """What a nonlinearity alone makes of a value; the value itself where others read it, too."""
    reading = readers(graph, name)
    alone = len(reading) == 1 and (kind(reading[0].operation).nonlinear or reading[0].operation == "identity")
    return rectified(graph, reading[0].name) if alone else name


def kernels_at(network: Network, site: str) -> Tensor | None:
    """The weight that the convolution at a site uses, [unit channel row col]; None where it has no constant one.

    It is taken from the operation itself, so that masks, parametrizations and standardized weights count.
    """
    program = program_of(network)
    # The convolution has just run when its site gets its name.
    before = program.operations[: program.named[site].position] if site in program.named else ()
    last = next((operation for operation in reversed(before) if "convolution" in operation.name), None)
    weight = None if last is None else last.args[1]
    return weight.detach().clone() if isinstance(weight, Tensor) else None
