"""Evaluators: how the response that an objective asks for is computed, on the smallest sufficient part of the picture.

The problem: a search takes tens to thousands of forward and backward passes, and most neurons see a small part of the
picture only. The idea: three ways, from the cheapest to the one that is always right; the first that works is taken.

    cone             the operations and positions that the neurons depend on, cut out of the network (cones.py)
    aligned crop     the network itself, on a crop of the picture that begins at a multiple of the total stride and
                     contains the field (methods 1.6; recording/aligned_crops.py)
    whole picture    the network itself, on the whole picture

Example, ResNet34: the neuron layer1.2.add:0@28,28 sees 59 x 59 of 224 x 224 pixels. Its cone is evaluated on these
pixels. A neuron behind an operation that mixes all positions, as squeeze-and-excitation does, needs the whole picture.

The forward pass ends at the site in all three. A cone or a crop is used only where it answers to a picture of noise as
the network does. All objectives whose evaluators have the same key share a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from unitscope.anatomy.program import Program
from unitscope.errors import BadInput
from unitscope.recording.aligned_crops import align_box, noise_for
from unitscope.synthesis.cone_evaluation import Cone, operations_of
from unitscope.synthesis.cone_rules import NoCone
from unitscope.synthesis.cones import ConePlan, plan_cone
from unitscope.synthesis.map_readers import BoxReader, ConeReader, MapReader, network_reader
from unitscope.synthesis.network_cache import NetworkCache
from unitscope.synthesis.objectives import Objective, positions_of
from unitscope.synthesis.single_channels import bind_channels
from unitscope.vocabulary import Box, Site, Size

TOLERANCE = 1e-3
"""How far an evaluator may be from the network, relative to the largest response, before it is not used."""

Positions = str | tuple[Size, ...]
"""Positions (row, col) on a lattice, or "all"."""


# --- evaluators ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Evaluator:
    """How the terms of some objectives are computed.

    Attributes:
        evaluated_on: "cone", "aligned crop" or "whole picture".
        reason: why it is not less than that.
        box: the part of the picture that it takes.
        key: objectives whose evaluators have equal keys share a batch.
        values_per_picture: how many values the pass of one picture keeps in memory.
        reader: gives the map of each term.
        positions: of each term, relative to that map.
    """

    evaluated_on: str
    reason: str
    box: Box
    key: object
    values_per_picture: int
    reader: MapReader
    positions: tuple[Positions, ...]

    def evaluate(
        self,
        x: Float[Tensor, "stimulus color height width"],
        channels: Int64[Tensor, "stimulus term"],
        weights: Float[Tensor, "stimulus term"],
    ) -> Float[Tensor, " stimulus"]:
        """The weighted sum of the terms, each the mean of a channel over its positions. Differentiable.

        Args:
            x: whitened pictures of the size of `box`.
            channels: the channel of each term, for each picture.
            weights: the weight of each term, for each picture.
        """
        every = torch.arange(len(x), device=x.device)
        # Each picture has a channel of its own.
        maps = [values[every, channels[:, n]] for n, values in enumerate(self.reader.read_maps(x))]
        return self.weighted_sum(maps, weights)

    def bind_channels(
        self, channels: Int64[Tensor, "stimulus term"], weights: Float[Tensor, "stimulus term"]
    ) -> Callable[[Tensor], Float[Tensor, " stimulus"]]:
        """`evaluate` for given channels, to be called many times: no more is computed than these channels need."""
        if len(self.positions) > 1 or not isinstance(self.reader, ConeReader):
            return lambda x: self.evaluate(x, channels, weights)
        read_channel = bind_channels(self.reader.cone, channels[:, 0])
        return lambda x: self.weighted_sum([read_channel(x)[:, 0]], weights)

    def weighted_sum(
        self, maps: Sequence[Float[Tensor, "stimulus row col"]], weights: Float[Tensor, "stimulus term"]
    ) -> Float[Tensor, " stimulus"]:
        """The weighted sum of the means of maps over their positions."""
        means = [mean_over(values, positions) for values, positions in zip(maps, self.positions, strict=True)]
        return reduce(torch.add, [mean * weights[:, n] for n, mean in enumerate(means)])


def mean_over(values: Float[Tensor, "stimulus row col"], positions: Positions) -> Float[Tensor, " stimulus"]:
    """The mean of a map over some of its positions, in float32."""
    if isinstance(positions, str):
        return values.float().mean((1, 2))
    if len(positions) == 1:
        return values[:, positions[0][0], positions[0][1]].float()
    return torch.stack([values[:, row, col] for row, col in positions], 1).float().mean(1)


@dataclass(frozen=True)
class SiteReading:
    """A site, the positions that are read there, and the box of the lattice that holds these."""

    site: str
    positions: Positions
    box: Box

    @classmethod
    def of(cls, name: str, positions: Positions, site: Site) -> SiteReading:
        if isinstance(positions, str):
            return cls(name, positions, Box(0, 0, *site.lattice))
        return cls(name, positions, reduce(Box.hull, (Box(row, col, row + 1, col + 1) for row, col in positions)))

    @property
    def relative_positions(self) -> Positions:
        """The positions, counted from the corner of the box."""
        if isinstance(self.positions, str):
            return self.positions
        return tuple((row - self.box.top, col - self.box.left) for row, col in self.positions)


def make_evaluator(cache: NetworkCache, objective: Objective, *, post_activation: bool, half: bool) -> Evaluator:
    """The evaluator of an objective: on its cone, else on an aligned crop, else on the whole picture.

    Args:
        cache: what is known of the network.
        objective: what is evaluated.
        post_activation: read what comes out of the nonlinearity of a site, not what enters it.
        half: compute in bfloat16.

    Raises:
        BadInput: the response depends on weights that are NaN or infinite.
    """
    readings = []
    for term in objective.terms:
        site = cache.sites[term.unit.site]
        readings.append(SiteReading.of(site.name, positions_of(term, site), site))
    try:
        return _cone_evaluator(cache, readings, post_activation=post_activation, half=half)
    except NoCone as no_cone:
        reason = str(no_cone)
    crop = _crop_evaluator(cache, readings, post_activation=post_activation, half=half)
    return crop or _picture_evaluator(cache, readings, reason, post_activation=post_activation, half=half)


def _cone_evaluator(
    cache: NetworkCache, readings: Sequence[SiteReading], *, post_activation: bool, half: bool
) -> Evaluator:
    """Raises NoCone where the operations cannot be run on a part of the picture, or differ from the network."""
    targets = []
    for reading in readings:
        named = cache.program.named.get(reading.site)
        if named is None or named.value is None:
            raise NoCone(f"{reading.site} is not in the program")
        value = named.value if post_activation else cache.entering.get(named.value, named.value)
        targets.append((value, reading.box))
    plan, box = plan_cone(cache.program, targets)
    names = tuple(reading.site for reading in readings)
    key = (plan, names, post_activation, half)
    if key not in cache.cones:
        refuse_not_finite(cache, plan)
        cache.cones[key] = Cone(cache.program, plan, dtype=torch.bfloat16 if half else None)
    cone = cache.cones[key]
    # Only a cone that needs the whole picture has something to explain.
    reason = _field_cause(cache, names) if (box.height, box.width) == cache.network.size else ""
    relative = tuple(reading.relative_positions for reading in readings)
    evaluator = Evaluator("cone", reason, box, (key, relative), cone.values_per_picture, ConeReader(cone), relative)
    _compare_with_network(cache, evaluator, readings, post_activation=post_activation, half=half)
    return evaluator


@torch.no_grad()
def refuse_not_finite(cache: NetworkCache, plan: ConePlan) -> None:
    """Raises BadInput where what the neurons depend on has weights that are NaN or infinite. Others do not matter."""
    for operation in operations_of(plan, cache.program):
        weighted = operation.kind in ("convolution", "affine")  # a constant may be infinite, as a bound is
        for tensor in operation.given:
            if tensor.is_floating_point() and bool((~tensor.isfinite() if weighted else tensor.isnan()).any()):
                state = cache.network.module.state_dict(keep_vars=True).items()
                names = [name for name, one in state if isinstance(one, Tensor) and one.data_ptr() == tensor.data_ptr()]
                raise BadInput(
                    f"the weights {names[0] if names else f'of {operation.name}'} of {cache.network.name} hold NaN "
                    "or infinity; no picture can be found for what depends on them."
                )


def _field_cause(cache: NetworkCache, names: Sequence[str]) -> str:
    fields = [cache.sites[name].field() for name in names]
    return next((f"{one.status}: {one.cause}" for one in fields if one.cause), "")


def _crop_evaluator(
    cache: NetworkCache, readings: Sequence[SiteReading], *, post_activation: bool, half: bool
) -> Evaluator | None:
    """The network itself on a crop that begins at a multiple of the total stride; None where that is not exact."""
    sites, size = cache.sites, cache.network.size
    fields = [sites[reading.site].field() for reading in readings]
    # Stride 0: all neurons see the same, as behind a mean over the map; a crop would change the mean.
    if any(one.status != "exact" or 0 in one.stride for one in fields):
        return None
    if any(sites[reading.site].channel_axis != 1 for reading in readings):
        return None
    boxes = [
        field.box(reading.box.top, reading.box.left).hull(field.box(reading.box.bottom - 1, reading.box.right - 1))
        for field, reading in zip(fields, readings, strict=True)
    ]
    crop = align_box(reduce(Box.hull, boxes), [field.stride for field in fields], size)
    if (crop.height, crop.width) == size:
        return None
    shifted = tuple(
        reading.box.shift(-(crop.top // field.stride[0]), -(crop.left // field.stride[1]))
        for field, reading in zip(fields, readings, strict=True)
    )
    names = [reading.site for reading in readings]
    reader = BoxReader(network_reader(cache, names, post_activation=post_activation, half=half), shifted)
    relative = tuple(reading.relative_positions for reading in readings)
    key = ("crop", tuple(names), crop.height, crop.width, shifted, relative, post_activation, half)
    evaluator = Evaluator("aligned crop", "", crop, key, _count_values(cache, names, crop), reader, relative)
    try:
        _compare_with_network(cache, evaluator, readings, post_activation=post_activation, half=half)
    # On a crop a network may fail, as where it flattens maps of a fixed size.
    except (NoCone, BadInput, RuntimeError):
        return None
    return evaluator


def _picture_evaluator(
    cache: NetworkCache, readings: Sequence[SiteReading], reason: str, *, post_activation: bool, half: bool
) -> Evaluator:
    names = [reading.site for reading in readings]
    relative = tuple(reading.relative_positions for reading in readings)
    whole = network_reader(cache, names, post_activation=post_activation, half=half)
    reader = BoxReader(whole, tuple(reading.box for reading in readings))
    box = Box(0, 0, *cache.network.size)
    key = ("whole", tuple(readings), post_activation, half)
    evaluator = Evaluator("whole picture", reason, box, key, _count_values(cache, names, box), reader, relative)
    if key not in cache.tried:
        refuse_no_finite_response(cache, evaluator, names)
        cache.tried[key] = ""
    return evaluator


def refuse_no_finite_response(cache: NetworkCache, evaluator: Evaluator, names: Sequence[str]) -> None:
    """Raises BadInput where not even a picture of the mean color has finite responses."""
    network = cache.network
    with torch.no_grad():
        maps = evaluator.reader.read_maps(torch.zeros((1, network.inputs, *network.size), device=network.device))
    for name, one in zip(names, maps, strict=True):
        if not bool(one.isfinite().any()):
            raise BadInput(
                f"{name} of {network.name} is NaN or infinite even for a picture of the mean color, as it is where "
                "weights are; no picture can be found for it."
            )


def _count_values(cache: NetworkCache, names: Sequence[str], box: Box) -> int:
    """How many values the pass up to the last of the sites keeps for a picture of the box's size."""
    share = box.height * box.width / (cache.network.size[0] * cache.network.size[1])
    last = max(list(cache.sites).index(name) for name in names)
    passed = list(cache.sites.values())[: last + 1]
    return sum(int(site.channels * site.lattice[0] * site.lattice[1] * share) for site in passed)


# --- comparison with the network -----------------------------------------------------------------------------------


def _compare_with_network(
    cache: NetworkCache, evaluator: Evaluator, readings: Sequence[SiteReading], *, post_activation: bool, half: bool
) -> None:
    """Raises NoCone where an evaluator does not answer to a picture of noise as the network does."""
    if evaluator.key not in cache.tried:
        cache.tried[evaluator.key] = _difference(cache, evaluator, readings, post_activation=post_activation, half=half)
    if cache.tried[evaluator.key]:
        raise NoCone(cache.tried[evaluator.key])


def _difference(
    cache: NetworkCache, evaluator: Evaluator, readings: Sequence[SiteReading], *, post_activation: bool, half: bool
) -> str:
    """How the responses of an evaluator to noise differ from the network's, in words; "" where they do not."""
    network, box = cache.network, evaluator.box
    names = [reading.site for reading in readings]
    with torch.no_grad():
        x = network.prepare(noise_for(network, count=1))
        maps = evaluator.reader.read_maps(x[:, :, box.top : box.bottom, box.left : box.right])
        whole_maps = network_reader(cache, names, post_activation=post_activation, half=False).read_maps(x)
    for reading, values, whole in zip(readings, maps, whole_maps, strict=True):
        at = reading.box
        expected = whole[:, :, at.top : at.bottom, at.left : at.right]
        if values.shape != expected.shape:
            return f"its responses have the shape {tuple(values.shape)}, and the network's {tuple(expected.shape)}"
        largest = float((values.float() - expected).abs().max() / expected.abs().max().clamp(min=1e-6))
        if not largest <= (0.1 if half else tolerance(cache.program)):  # not <=: NaN is a difference, too
            return f"its responses differ from the network's by {largest:.1g}"
    return ""


def tolerance(program: Program) -> float:
    """How far an evaluator may be from the network, in the coarsest of the network's types."""
    values = [program.origin, *program.makers]
    types = {value.dtype for value in values}
    return max(TOLERANCE, *(16 * torch.finfo(dtype).eps for dtype in types if dtype.is_floating_point))
