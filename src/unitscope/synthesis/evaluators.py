"""Preparations: how the response that an objective asks for is heard, on the smallest part of the picture that will do.

Three ways, the first that is possible: on a *cone* (cones.py), only what the neurons depend on; on an *aligned crop* of
the picture, which begins at a multiple of the total stride and contains the field, in the network itself (methods 1.6);
on the *whole picture*. The forward pass ends at the site in all of them. Before it is used, each preparation is tried
against the network on a whole picture of noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from weakref import ReferenceType, WeakKeyDictionary, ref

import torch
from jaxtyping import Float
from torch import Tensor

from unitscope.anatomy.computation import identity_of
from unitscope.anatomy.listening import listening
from unitscope.anatomy.names import NONLINEARITIES
from unitscope.anatomy.sites import sites as sites_of
from unitscope.errors import BadInput
from unitscope.networks import Network
from unitscope.recording.aligned_crops import noise_for
from unitscope.recording.electrode import as_responses
from unitscope.recording.steadiness import check_steadiness
from unitscope.synthesis.circuits import INCREASING, Circuit, circuit_of
from unitscope.synthesis.cones import Cone, Plan, Untold, joined, plan_of
from unitscope.synthesis.objectives import Objective, positions
from unitscope.vocabulary import Box, Site, Size

TOLERANCE = 1e-3
"""How far a preparation may be from the network, relative to the largest response, before it is not used."""

Reading = tuple[str, str | tuple[Size, ...]]
"""A site, and the positions of it that are heard."""


@dataclass(eq=False)
class Subject:
    """A network on the table: its sites, its circuit, and the preparations made so far."""

    holder: ReferenceType[Network]
    identity: dict[str, str]
    device: torch.device
    sites: dict[str, Site]
    circuit: Circuit
    cones: dict[tuple[Plan, tuple[str, ...], bool, bool], Cone] = field(default_factory=dict)
    tried: dict[object, str] = field(default_factory=dict)
    steady: set[str] = field(default_factory=set)
    """Sites whose responses are known to depend on the picture alone."""

    def check_steadiness(self, names: Iterable[str]) -> None:
        """Raises BadInput where a response at one of the sites depends on other pictures, on chance, or on state."""
        wanted = {name: self.sites[name] for name in names if name not in self.steady}
        if wanted:
            network = self.network
            with torch.no_grad():
                x = network.prepare(noise_for(network, count=3))
            check_steadiness(network, wanted, x)
            self.steady.update(wanted)

    @property
    def network(self) -> Network:
        network = self.holder()
        assert network is not None, "whoever works on a subject keeps its network"
        return network


_subjects: WeakKeyDictionary[Network, Subject] = WeakKeyDictionary()


@torch.inference_mode(False)
def subject_of(network: Network) -> Subject:
    """What is known of a network; found out once, and again when its weights or its operations have changed."""
    known, identity = _subjects.get(network), identity_of(network)
    if known is not None and (known.identity, known.device) == (identity, network.device):
        return known
    subject = Subject(ref(network), identity, network.device, sites_of(network), circuit_of(network))
    _subjects[network] = subject
    return subject


@dataclass(frozen=True, eq=False)
class Preparation:
    """How the readings of some objectives are heard: in what way, on which box of the picture, and why not on less.

    Objectives of equal `key` share a batch. `numbers` is how many values one picture's pass keeps.
    """

    way: str
    why: str
    box: Box
    key: object
    numbers: int
    maps: Listener
    places: tuple[str | tuple[Size, ...], ...]

    def hear(
        self, x: Float[Tensor, "stimulus color height width"], channels: Tensor, weights: Tensor
    ) -> Float[Tensor, " stimulus"]:
        """The weighted sum of readings, each the mean over its positions; channels and weights [stimulus term]."""
        every = torch.arange(len(x), device=x.device)
        maps = [heard[every, channels[:, n]] for n, heard in enumerate(self.maps.hear(x))]
        return self.summed(maps, weights)

    def ear(self, channels: Tensor, weights: Tensor) -> Callable[[Tensor], Float[Tensor, " stimulus"]]:
        """`hear` for given channels, which is called many times: no more is computed than these need."""
        if len(self.places) > 1 or not isinstance(self.maps, InCone):
            return lambda x: self.hear(x, channels, weights)
        one = self.maps.cone.one(channels[:, 0])
        return lambda x: self.summed([one(x)[:, 0]], weights)

    def summed(self, maps: Sequence[Tensor], weights: Tensor) -> Float[Tensor, " stimulus"]:
        """The weighted sum of the means of maps [stimulus row col] over their positions."""
        total = None
        for n, (heard, places) in enumerate(zip(maps, self.places, strict=True)):
            if isinstance(places, str):
                one = heard.float().mean((1, 2))
            elif len(places) == 1:
                one = heard[:, places[0][0], places[0][1]].float()
            else:
                one = torch.stack([heard[:, row, col] for row, col in places], 1).float().mean(1)
            one = one * weights[:, n]
            total = one if total is None else total + one
        assert total is not None
        return total


class Listener:
    """Gives the maps [stimulus unit row col] of each reading; abstract."""

    def hear(self, x: Float[Tensor, "stimulus color height width"]) -> list[Tensor]:
        raise NotImplementedError


class InCone(Listener):
    def __init__(self, cone: Cone) -> None:
        self.cone = cone

    def hear(self, x: Float[Tensor, "stimulus color height width"]) -> list[Tensor]:
        return self.cone.hear(x)


@dataclass(frozen=True, eq=False)
class InNetwork(Listener):
    """Listens to the network itself. `sites` are read in a pass that ends at the last; values of `bypassed` sites are
    replaced by those of the sites before them.
    """

    network: Network
    sites: tuple[Site, ...]
    read: tuple[str, ...]
    bypassed: Mapping[str, str]
    half: bool

    def hear(self, x: Float[Tensor, "stimulus color height width"]) -> list[Tensor]:
        x = x.to(self.network.dtype)
        try:
            maps = self.maps(x)
        except Exception:
            if len(x) != 1:
                raise
            maps = [torch.empty(0)]
        if len(x) == 1 and not self.one_each(maps, 1):  # `squeeze()`, for one; two pictures keep their axis
            maps = self.maps(torch.cat([x, x]))
            maps = [m[:1] for m in maps] if self.one_each(maps, 2) else maps
        if not self.one_each(maps, len(x)):
            raise BadInput(
                f"{self.network.name} gives {maps[0].shape[0]} maps at {self.read[0]} for {len(x)} pictures, so that "
                "it cannot be told which response is to which picture."
            )
        return maps

    def one_each(self, maps: Sequence[Tensor], stimuli: int) -> bool:
        """Whether there are maps [stimulus unit row col] of each site, one for each picture."""
        return all(
            one.ndim == 4 and one.shape[:2] == (stimuli, site.channels)
            for one, site in zip(maps, self.sites, strict=False)
        )

    def maps(self, x: Tensor) -> list[Tensor]:
        waiting, kept, found = set(self.read), dict[str, Tensor](), dict[str, Tensor]()
        scripted = any(isinstance(part, torch.jit.ScriptModule) for part in self.network.module.modules())
        wanted = set(self.bypassed.values())

        def heard(name: str, value: Tensor) -> Tensor | None:
            if name in wanted:
                kept[name] = value.clone()
            if name in self.bypassed:
                value = kept[self.bypassed[name]]
            if name in waiting:
                found[name] = value.clone()
                waiting.discard(name)
                if not waiting and not scripted:  # what is raised within a script does not come out of it as it was
                    raise _Enough
            return value if name in self.bypassed else None

        frozen = [p for p in self.network.module.parameters() if p.requires_grad]
        for parameter in frozen:
            parameter.requires_grad_(False)
        try:
            cast = torch.autocast(x.device.type, torch.bfloat16, enabled=self.half)
            with suppress(_Enough), cast, listening(self.network.module, heard):
                self.network.module(x)
        finally:
            for parameter in frozen:
                parameter.requires_grad_(True)
        if waiting:
            raise BadInput(
                f"{self.network.name} did not pass {min(waiting)} with this picture; its path depends on what it sees."
            )
        return [_mapped(found[name], site) for name, site in zip(self.read, self.sites, strict=True)]


class _Enough(Exception):
    """All sites have been heard."""


def _mapped(value: Tensor, site: Site) -> Float[Tensor, "stimulus unit row col"]:
    """The axes of the laboratory, for crops, too, whose lattice is smaller."""
    if value.ndim == 4 and site.channel_axis == 1:
        return value
    return as_responses(value, site) if value.ndim > site.channel_axis else value


def prepare(subject: Subject, objective: Objective, *, after: bool, half: bool) -> Preparation:
    """The preparation for an objective: its cone, else an aligned crop, else the whole picture."""
    readings = [(t.unit.site, positions(t, subject.sites[t.unit.site])) for t in objective.terms]
    why = ""
    try:
        return _cone(subject, readings, after=after, half=half)
    except Untold as untold:
        why = str(untold)
    crop = _crop(subject, readings, after=after, half=half)
    return crop or _whole(subject, readings, why, after=after, half=half)


def _cone(subject: Subject, readings: Sequence[Reading], *, after: bool, half: bool) -> Preparation:
    circuit, targets = subject.circuit, []
    for name, places in readings:
        if name not in circuit.sites:
            raise Untold(f"{name} is not written in the circuit")
        number = circuit.sites[name]
        if not after:
            circuit, number = circuit.before(number)
        targets.append((number, _hull(places, subject.sites[name])))
    plan, box = plan_of(circuit, targets)
    relative = tuple(_relative(places, target) for (_, places), (_, target) in zip(readings, targets, strict=True))
    names = tuple(name for name, _ in readings)
    key = (plan, names, after, half)
    if key not in subject.cones:
        refuse_not_finite(subject, circuit, plan)
        subject.cones[key] = Cone(circuit, plan, dtype=torch.bfloat16 if half else None)
    cone = subject.cones[key]
    why = _why_whole(subject, names) if (box.height, box.width) == subject.network.size else ""
    made = Preparation("cone", why, box, (key, relative), cone.numbers_each, InCone(cone), relative)
    _try(subject, made, readings, targets, after=after, half=half)
    return made


@torch.no_grad()
def refuse_not_finite(subject: Subject, circuit: Circuit, plan: Plan) -> None:
    """Raises BadInput where what the neurons depend on has weights that are NaN or infinite. Others do not matter."""
    makers = {operation.value: operation for operation in circuit.operations}
    for step in plan.steps:
        operation = makers[step.value]
        weighted = operation.kind in ("convolution", "affine")  # a constant may be infinite, as a bound is
        for tensor in operation.given:
            if tensor.is_floating_point() and bool((~tensor.isfinite() if weighted else tensor.isnan()).any()):
                state = subject.network.module.state_dict(keep_vars=True).items()
                names = [name for name, one in state if isinstance(one, Tensor) and one.data_ptr() == tensor.data_ptr()]
                raise BadInput(
                    f"the weights {names[0] if names else f'of {operation.name}'} of {subject.network.name} hold NaN "
                    "or infinity; no picture can be found for what depends on them."
                )


def _why_whole(subject: Subject, names: Sequence[str]) -> str:
    fields = [subject.sites[name].field() for name in names]
    return next((f"{one.status}: {one.cause}" for one in fields if one.cause), "")


def _hull(places: str | tuple[Size, ...], site: Site) -> Box:
    if isinstance(places, str):
        return Box(0, 0, *site.lattice)
    box = None
    for row, col in places:
        box = joined(box, Box(row, col, row + 1, col + 1))
    assert box is not None
    return box


def _relative(places: str | tuple[Size, ...], box: Box) -> str | tuple[Size, ...]:
    return places if isinstance(places, str) else tuple((row - box.top, col - box.left) for row, col in places)


def _try(
    subject: Subject,
    made: Preparation,
    readings: Sequence[Reading],
    targets: Sequence[tuple[int, Box]],
    *,
    after: bool,
    half: bool,
) -> None:
    """Hear a picture of noise on the preparation and in the network; raises Untold where they differ."""
    if made.key not in subject.tried:
        subject.tried[made.key] = _difference(subject, made, readings, targets, after=after, half=half)
    if subject.tried[made.key]:
        raise Untold(subject.tried[made.key])


def _difference(
    subject: Subject,
    made: Preparation,
    readings: Sequence[Reading],
    targets: Sequence[tuple[int, Box]],
    *,
    after: bool,
    half: bool,
) -> str:
    network = subject.network
    noise = torch.rand((1, network.inputs, *network.size), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        x = network.prepare(noise.to(network.device))
        here = made.maps.hear(x[:, :, made.box.top : made.box.bottom, made.box.left : made.box.right])
        there = _in_network(subject, [name for name, _ in readings], after=after, half=False).hear(x)
    for (_, target), got, whole in zip(targets, here, there, strict=True):
        expected = whole[:, :, target.top : target.bottom, target.left : target.right]
        if got.shape != expected.shape:
            return f"its responses have the shape {tuple(got.shape)}, and the network's {tuple(expected.shape)}"
        largest = float((got.float() - expected).abs().max() / expected.abs().max().clamp(min=1e-6))
        if not largest <= (0.1 if half else tolerance(subject.circuit)):
            return f"its responses differ from the network's by {largest:.1g}"
    return ""


def tolerance(circuit: Circuit) -> float:
    """How far a preparation may be from the network, in the coarsest of the network's types."""
    types = [circuit.dtype, *(operation.dtype for operation in circuit.operations)]
    return max(TOLERANCE, *(16 * torch.finfo(dtype).eps for dtype in types if dtype.is_floating_point))


def _in_network(subject: Subject, names: Sequence[str], *, after: bool, half: bool) -> InNetwork:
    bypassed = {} if after else _bypassed(subject, names)
    return InNetwork(subject.network, tuple(subject.sites[n] for n in names), tuple(names), bypassed, half)


def _bypassed(subject: Subject, names: Sequence[str]) -> dict[str, str]:
    """The nonlinearities to be passed by, and the sites whose values take their place: those of the sites themselves,
    and those whose maximum they are.
    """
    entered, sites = subject.circuit.entered, subject.sites
    found = {}
    for name in names:
        at = entered.get(name, "") if sites[name].operation == "max_pool2d" else name
        bent = NONLINEARITIES if at == name else INCREASING
        if at in sites and sites[at].operation in bent and entered.get(at) in sites:
            found[at] = entered[at]
    return found


def _crop(subject: Subject, readings: Sequence[Reading], *, after: bool, half: bool) -> Preparation | None:
    """A crop that begins at a multiple of the total stride, in the network itself; None where that is not exact."""
    sites, size = subject.sites, subject.network.size
    fields = [sites[name].field() for name, _ in readings]
    if any(
        field.status != "exact" or 0 in field.stride or sites[n].channel_axis != 1
        for field, (n, _) in zip(fields, readings, strict=True)
    ):
        return None
    stride = tuple(max(field.stride[axis] for field in fields) for axis in (0, 1))
    box = None
    targets = [(0, _hull(places, sites[name])) for name, places in readings]
    for one, (_, target) in zip(fields, targets, strict=True):
        box = joined(box, joined(one.box(target.top, target.left), one.box(target.bottom - 1, target.right - 1)))
    assert box is not None
    seen = box.clip(size)
    top, left = (seen[axis] // stride[axis] * stride[axis] for axis in (0, 1))
    seen = Box(top, left, seen.bottom, seen.right)
    if (seen.height, seen.width) == size:
        return None
    shifted = []
    for one, (_, target) in zip(fields, targets, strict=True):
        shifted.append(target.shift(-(top // one.stride[0]), -(left // one.stride[1])))
    names = [name for name, _ in readings]
    listener = Shifted(_in_network(subject, names, after=after, half=half), tuple(shifted))
    relative = tuple(_relative(places, target) for (_, places), (_, target) in zip(readings, targets, strict=True))
    key = ("crop", tuple(names), seen.height, seen.width, tuple(shifted), relative, after, half)
    made = Preparation("aligned crop", "", seen, key, _numbers(subject, names, seen), listener, relative)
    try:
        _try(subject, made, readings, targets, after=after, half=half)
    except (Untold, BadInput, RuntimeError):
        return None
    return made


@dataclass(frozen=True, eq=False)
class Shifted(Listener):
    """Cuts the wanted lattice boxes out of what is heard."""

    listener: Listener
    boxes: tuple[Box, ...]

    def hear(self, x: Float[Tensor, "stimulus color height width"]) -> list[Tensor]:
        maps = self.listener.hear(x)
        return [m[:, :, b.top : b.bottom, b.left : b.right] for m, b in zip(maps, self.boxes, strict=True)]


def _whole(subject: Subject, readings: Sequence[Reading], why: str, *, after: bool, half: bool) -> Preparation:
    names = [name for name, _ in readings]
    targets = tuple(_hull(places, subject.sites[name]) for name, places in readings)
    relative = tuple(_relative(places, target) for (_, places), target in zip(readings, targets, strict=True))
    listener = Shifted(_in_network(subject, names, after=after, half=half), targets)
    box = Box(0, 0, *subject.network.size)
    key = ("whole", tuple(readings), after, half)
    made = Preparation("whole picture", why, box, key, _numbers(subject, names, box), listener, relative)
    if key not in subject.tried:
        refuse_no_number(subject, made, names)
        subject.tried[key] = ""
    return made


def refuse_no_number(subject: Subject, made: Preparation, names: Sequence[str]) -> None:
    """Raises BadInput where not even a picture of the mean color has finite responses."""
    network = subject.network
    with torch.no_grad():
        blank = torch.zeros((1, network.inputs, *network.size), device=network.device)
        heard = made.maps.hear(blank)
    for name, one in zip(names, heard, strict=True):
        if not bool(one.isfinite().any()):
            raise BadInput(
                f"{name} of {network.name} is NaN or infinite even for a picture of the mean color, as it is where "
                "weights are; no picture can be found for it."
            )


def _numbers(subject: Subject, names: Sequence[str], box: Box) -> int:
    """How many values the pass up to the last of the sites keeps for a picture of the box's size."""
    total = 0
    share = box.height * box.width / (subject.network.size[0] * subject.network.size[1])
    last = max(list(subject.sites).index(name) for name in names)
    for site in list(subject.sites.values())[: last + 1]:
        total += int(site.channels * site.lattice[0] * site.lattice[1] * share)
    return total
