"""What a search must know of a network: computed once, and kept as long as the network lives.

Responses are read before the nonlinearity of a site, unless asked for otherwise: a gradient of 0 behind a rectifier
would end the search. So for each value behind a nonlinearity the value before it is looked up. Where a site is the
maximum of a nonlinearity that never turns the order of two numbers round, max(relu(x)) = relu(max(x)), and what stands
before it is max(x). The network does not compute that; the program gets an operation for it:

    1 = conv(0)    2 = relu(1)    3 = max_pool(2)        and added:  4 = max_pool(1)
    entering: 2 -> 1, 3 -> 4
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from weakref import ReferenceType, WeakKeyDictionary, ref

import torch

from unitscope.anatomy.computation import identity_of
from unitscope.anatomy.operations import kind
from unitscope.anatomy.program import Operation, Program, Value
from unitscope.anatomy.sites import sites as sites_of
from unitscope.anatomy.trace import PICTURE, record
from unitscope.networks import Network
from unitscope.recording.aligned_crops import noise_for
from unitscope.recording.steadiness import check_steadiness
from unitscope.synthesis.cone_evaluation import Cone
from unitscope.synthesis.cones import ConePlan
from unitscope.vocabulary import Site


@dataclass(eq=False)
class NetworkCache:
    """What is computed once per network.

    Attributes:
        sites: its sites.
        program: its operations, and those of maxima without nonlinearity (`leave_out_nonlinearities`).
        entering: for each value behind a nonlinearity the value that takes its place before it.
        entered: for each site that reads a single site, that site.
        cones: those made so far.
        tried: by the key of an evaluator, how it differs from the network ("" where it does not).
        steady: the sites whose responses are known to depend on the picture alone.
    """

    reference: ReferenceType[Network]
    identity: dict[str, str]
    device: torch.device
    sites: dict[str, Site]
    program: Program
    entering: Mapping[Value, Value]
    entered: Mapping[str, str]
    cones: dict[tuple[ConePlan, tuple[str, ...], bool, bool], Cone] = field(default_factory=dict)
    tried: dict[object, str] = field(default_factory=dict)
    steady: set[str] = field(default_factory=set)

    def check_steadiness(self, names: Iterable[str]) -> None:
        """Raises BadInput where a response at one of the sites depends on other pictures, on chance, or on state."""
        unchecked = {name: self.sites[name] for name in names if name not in self.steady}
        if unchecked:
            network = self.network
            with torch.no_grad():
                x = network.prepare(noise_for(network, count=3))
            check_steadiness(network, unchecked, x)
            self.steady.update(unchecked)

    @property
    def network(self) -> Network:
        network = self.reference()
        assert network is not None, "who uses a cache keeps its network"
        return network


# The cache holds its network weakly: an entry whose value held its own key would never be dropped.
_caches: WeakKeyDictionary[Network, NetworkCache] = WeakKeyDictionary()


@torch.inference_mode(False)
def cache_of(network: Network) -> NetworkCache:
    """What is known of a network; computed anew when its weights, its operations or its device have changed."""
    known, identity = _caches.get(network), identity_of(network)
    if known is not None and (known.identity, known.device) == (identity, network.device):
        return known
    program, entering = leave_out_nonlinearities(record_gray(network))
    sources = {name: [one for one in named.reads if one != PICTURE] for name, named in program.named.items()}
    entered = {name: read[0] for name, read in sources.items() if len(read) == 1}
    cache = NetworkCache(ref(network), identity, network.device, sites_of(network), program, entering, entered)
    _caches[network] = cache
    return cache


def record_gray(network: Network) -> Program:
    """The program of a network for one gray picture, or for two where it cannot be shown one."""
    try:
        return _record_gray(network, 1)
    except Exception:  # whatever a network of a stranger raises when it is shown one picture alone
        return _record_gray(network, 2)


def _record_gray(network: Network, stimuli: int) -> Program:
    with torch.no_grad():
        x = network.prepare(torch.full((stimuli, network.inputs, *network.size), 0.5))
    return record(network.module, x)


def leave_out_nonlinearities(program: Program) -> tuple[Program, dict[Value, Value]]:
    """For each value behind a nonlinearity the value before it, and the program with the operations that this takes."""
    entering: dict[Value, Value] = {}
    added: list[Operation] = []
    for operation in program.operations:
        facts = kind(operation.name)
        if facts.nonlinear and facts.elementwise and len(operation.reads) == 1:
            entering[operation.results[0]] = operation.reads[0]
        elif facts.word == "max_pool2d":
            maker = program.makers.get(operation.reads[0])
            # Only then is max(f(x)) = f(max(x)).
            if maker is not None and never_decreases(maker):
                pooled = _pool_instead(operation, maker.reads[0], number=len(program.operations) + len(added))
                added.append(pooled)
                entering[operation.results[0]] = pooled.results[0]
    return replace(program, operations=(*program.operations, *added)), entering


def never_decreases(nonlinearity: Operation) -> bool:
    """Whether the operation keeps the order of any two numbers, with the slope that it was given.

    A leaky rectifier of slope -0.5 turns -2 into 1, and 0 into 0.
    """
    slopes = [nonlinearity.arguments.get(name) for name in ("negative_slope", "alpha")]
    return kind(nonlinearity.name).increasing and all(slope is None or slope >= 0 for slope in slopes)


def _pool_instead(operation: Operation, operand: Value, *, number: int) -> Operation:
    """A max-pooling of another operand."""
    args, kwargs = operation.arguments_with(lambda value: operand if value is operation.reads[0] else value)
    result = replace(operation.results[0])  # a value of its own: values are compared by identity
    return replace(operation, number=number, args=args, kwargs=kwargs, result=result, results=(result,))
