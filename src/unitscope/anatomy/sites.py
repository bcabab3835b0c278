"""The sites of a network, in the order of execution, each with its receptive field.

Problem: what can be recorded from a network stands nowhere in its code: which values it computes, in which order, under
which names, with which lattice, and what each neuron there sees.

Idea: the network is shown blank pictures once, and its program is recorded (trace.py). A site is a named value with an
axis of stimuli, one of channels and a lattice. Its fields are a reading of the program (extents.py), from the picture
or from another site. Where nothing certain can be said (behind a choice by the picture, for pictures joined into one),
the site says so, and claims nothing.

    x = self.conv1(x)      site "conv1", 64 channels, lattice 112 x 112, field 7 x 7, stride 2
    x = x + y              site "add"
    n = x.shape[0]         no site
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from dataclasses import replace
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from unitscope.anatomy.data_dependence import NextRead, ValueReads, first_choice
from unitscope.anatomy.extent_maps import Extent, Factors, origin
from unitscope.anatomy.extent_registry import Gates
from unitscope.anatomy.extents import Extents
from unitscope.anatomy.operations import kind
from unitscope.anatomy.program import NamedValue, Program, Value
from unitscope.anatomy.program_cache import kept_program
from unitscope.anatomy.receptive_fields import OnLattice, bounds_of, everything, fields_of, layout
from unitscope.anatomy.reshape_extents import permute_extent
from unitscope.anatomy.trace import record
from unitscope.errors import BadInput, unknown_name
from unitscope.precision import picture_type
from unitscope.vocabulary import ReceptiveField, Site, Size


@runtime_checkable
class Network(Protocol):
    """What is needed of a network: the module, the picture's height and width, and the number of input channels."""

    @property
    def module(self) -> nn.Module: ...
    @property
    def size(self) -> Size: ...
    @property
    def inputs(self) -> int: ...


STIMULI = 2
"""Two stimuli are shown, so that the axis of stimuli is known from the others wherever it goes."""


def sites(network: Network) -> dict[str, Site]:
    """All sites of a network by name, in the order of execution, with their exact receptive fields.

    The network's own operations are recorded once on a blank picture, without convolutions and products. The fields are
    a reading of that program (extents.py). A network that looks at values in order to choose its path is recorded again
    in full, on gray. Sites that run after a choice by the picture have the status "unknown"; sites before the choice,
    and sites behind mere checks, keep their fields.

    Args:
        network: it is left as it was.

    Returns:
        Site by name.

    Raises:
        BadInput: the network cannot be run on a picture of its size, trains its normalization, has no weights (meta
            device), was exported for a fixed number of pictures, or is wrapped in nn.DataParallel on several devices.

    Example:
        >>> sites = unitscope.sites(network)
        >>> list(sites)[:4]
        ['conv1', 'bn1', 'relu', 'maxpool']
        >>> sites["layer1.0.relu_1"].field().size
        (27, 27)
    """
    refuse_training(network.module)
    refuse_fixed_batch(network.module)
    return Views(network).sites()


class Views:
    """The sites as seen from the picture, from another site, or without gating. Each view is computed when it is first
    asked for, from one program.
    """

    def __init__(self, network: Network) -> None:
        self.module = network.module
        self.size, self.inputs = network.size, network.inputs
        self.layouts: dict[str, tuple[tuple[Factors, ...], int, Size]] = {}
        self.known: dict[tuple[str | None, bool], dict[str, Site]] = {}

    def sites(self, at: str | None = None, *, gating: bool = True) -> dict[str, Site]:
        """All sites that depend on the site `at` (None: the picture), with fields counted on its lattice."""
        if (at, gating) not in self.known:
            if at is not None and at not in self.layouts:
                raise unknown_name("site", at, self.layouts, where="the network")
            self.known[at, gating] = self.with_readers(self.read_fields(at, gating=gating))
        return self.known[at, gating]

    @cached_property
    def program(self) -> Program:
        return program_of(self)

    @property
    def reads_values(self) -> bool:
        """Whether the network reads values of the picture, to check them or to choose its path."""
        return bool(self.program.choices)

    @cached_property
    def chosen(self) -> dict[str, str]:
        """The names of values that are computed after a choice by the picture, and what it was made by."""
        value_reads = self.program.choices
        choice = first_choice(value_reads, lambda number: self.fails(turned=number))
        behind = [one.name for one in self.program.named.values() if choice is not None and one.choices > choice]
        return {} if choice is None else dict.fromkeys(behind, value_reads[choice].what)

    def fails(self, *, turned: int) -> bool:
        """Whether the network fails at once where one yes or no that it reads is answered the other way."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                record_blank(self, shape_only=False, turned=turned)
            # It went on to the next read, and did not fail.
            except NextRead:
                return False
            except Exception:  # whatever it is, no picture comes through
                return True
        return False

    def read_fields(self, at: str | None, *, gating: bool) -> dict[str, Site]:
        """The sites in order, by a reading of the program; without their readers."""
        program, extents = self.program, Extents(Gates(count=gating))
        if at is None:
            start, origin_value, position = program.origin, self.origin_of_picture(program.origin), 0
        else:
            (dims, axis, lattice), named = self.layouts[at], program.named[at]
            assert named.value is not None
            # Operations before the site cannot depend on it.
            start, position = named.value, named.position
            origin_value = origin(start.shape, dims, channel=axis, lattice=lattice)
        size = self.size if at is None else self.layouts[at][2]
        facts, found, reached = {start: origin_value}, {}, at is None
        steps = program.steps(facts, extents, operations=program.operations[position:])
        for named in program.named.values():
            reached |= named.name == at
            if not reached:
                continue
            # Run only as far as this value: `gates.outer_zeros` then speaks of the convolutions before it.
            for _ in range(named.position - position):
                next(steps)
            position = named.position
            value = named.value
            # The places that max-pooling gives, masks and counts are no responses.
            extent = None if value is None or not value.dtype.is_floating_point else facts.get(value)
            if extent is not None:
                site = self.site_at(named, extent, size, learn=at is None, by_sizes=extents.gates.outer_zeros)
                found.update({} if site is None else {named.name: site})
        return found

    def origin_of_picture(self, picture: Value) -> Extent:
        dims = tuple(((word, size),) for word, size in zip(PICTURE, picture.shape, strict=True))
        return origin(picture.shape, dims, channel=1, lattice=self.size)

    def site_at(self, named: NamedValue, extent: Extent, size: Size, *, learn: bool, by_sizes: bool) -> Site | None:
        """The site of a value; None where its shape is not that of a site."""
        if (place := layout(extent, STIMULI)) is None:
            return unreadable_site(named, extent, size)
        if learn:
            self.layouts[named.name] = (extent.dims, *place)
        site = site_of(named.name, named.word, extent, place, size)
        # Fields follow from the sizes of kernels. Where outer taps are all 0, less may matter, and the site says so.
        fields = tuple(map(by_size, site.fields)) if by_sizes else site.fields
        return replace(site, module=named.module, fields=fields)

    def with_readers(self, found: dict[str, Site]) -> dict[str, Site]:
        """The sites with the operations that read them, and without a claim behind a choice."""
        readers: dict[str, dict[str, None]] = defaultdict(dict)
        for named in self.program.named.values():
            for name in named.reads:
                readers[name][named.word] = None
        return {
            name: replace(
                on_one_path(site, self.chosen[name]) if name in self.chosen else site,
                readers=tuple(readers[name]),
                preactivation=not site.unreadable and any(kind(one).nonlinear for one in readers[name]),
                views=self,
            )
            for name, site in found.items()
        }

    def site(self, name: str, at: str | None, gating: bool) -> Site:
        """One site as seen from `at`. Raises BadInput where it does not depend on it."""
        found = self.sites(at, gating=gating)
        if name not in found:
            raise BadInput(f"{name} does not depend on {at}: it runs before it or on another branch.")
        return found[name]


def program_of(network: Network) -> Program:
    """What a network computes: without the numbers, unless they decide what is run. Kept until the network changes.

    Raises BadInput where the network cannot be run on a picture of its size.
    """

    def make() -> Program:
        # Without numbers first, which is quick. Numbers that are wrong would choose a wrong path, so that a network
        # that reads any is recorded in full.
        program = record_blank(network, shape_only=True)
        return record_blank(network, shape_only=False) if program.choices else program

    return kept_program(network.module, (network.inputs, network.size), make)


def record_blank(network: Network, *, shape_only: bool, turned: int | None = None) -> Program:
    """The program of a network that is shown blank pictures, gray where their values count."""
    picture = blank(network.module, (STIMULI, network.inputs, *network.size), value=0.0 if shape_only else 0.5)
    return record(network.module, picture, shape_only=shape_only, value_reads=ValueReads(turned), show=show)


def unreadable_site(named: NamedValue, extent: Extent, picture: Size) -> Site | None:
    """A site that has not one row per stimulus on its first axis; what its neurons see is not claimed.

    Its stimuli lie on another axis, or the network joins or cuts the pictures of a batch there
    (`torch.cat([x, x.flip(3)])`, `x.chunk(2)`).
    """
    axes = [dim for dim in range(len(extent.shape)) if extent.label(dim) == "stimulus"]
    if len(axes) != 1 or (axes != [0] and extent.shape[axes[0]] != STIMULI):
        return None
    # Described with its stimuli first, as other sites are, though nothing is claimed of its fields.
    order = [axes[0], *(dim for dim in range(len(extent.shape)) if dim != axes[0])]
    turned, rows = permute_extent(extent, order), extent.shape[axes[0]]
    if (place := layout(turned, rows)) is None:
        return None
    why = f"the pictures lie on axis {axes[0]} of its tensor, not on axis 0"
    if axes == [0]:
        why = f"the network joins or cuts the pictures of a batch (it has {rows} rows for {STIMULI} pictures)"
    site = replace(site_of(named.name, named.word, turned, place, picture), module=named.module, unreadable=why)
    return unclaimed(site, why)


PICTURE = ("stimulus", "channel", "row", "col")


def site_of(name: str, operation: str, extent: Extent, place: tuple[int, Size], picture: Size) -> Site:
    axis, lattice = place
    maps = OnLattice.of(extent, axis, lattice)
    fields, groups = fields_of(extent, maps, lattice, picture)
    return Site(
        name=name,
        channels=extent.shape[axis],
        lattice=lattice,
        picture=picture,
        operation=operation,
        bounds=bounds_of(maps, picture, unknown=bool(extent.unknown)),
        fields=fields,
        channel_axis=axis,
        groups=groups,
    )


def by_size(field: ReceptiveField) -> ReceptiveField:
    """An exact field behind kernels with zeros says that sizes count."""
    return replace(field, cause=BY_SIZE) if field.status == "exact" else field


BY_SIZE = "by the kernels' sizes; outer taps of a kernel before it are 0 in all channels, so that less may matter"


def on_one_path(site: Site, what: str) -> Site:
    """A site that runs after a choice: for another picture it may be computed in another way, or not at all."""
    return unclaimed(
        site, f"the network looks at values ({what}) to choose its path; this is its path for a gray picture"
    )


def unclaimed(site: Site, cause: str) -> Site:
    """A site of whose fields nothing is claimed."""
    unknown = ReceptiveField(site.picture, (0, 0), (0, 0), "unknown", cause)
    return replace(site, fields=(unknown,), groups=(), bounds=everything(site.picture))


@torch.inference_mode(False)
def blank(module: nn.Module, shape: tuple[int, ...], *, value: float) -> Tensor:
    """A picture with nothing on it, of the kind and on the device of the network's parameters."""
    like = next((p for p in module.parameters() if p.is_floating_point()), torch.empty(0))
    dtype = picture_type(module, shape[1:]) or like.dtype
    return torch.full(shape, value, dtype=dtype, device=like.device)


def show(module: nn.Module, picture: Tensor) -> Any:
    """Run the network; what it raises becomes a CannotBeRun with a short message."""
    try:
        return module(picture)
    except (RuntimeError, TypeError, ValueError, IndexError, AssertionError, KeyError, AttributeError) as error:
        raise cannot_be_run(module, picture[:1], error) from error


class CannotBeRun(BadInput):
    """A network that fails when it is shown pictures."""


def cannot_be_run(module: nn.Module, pictures: Tensor, error: Exception) -> CannotBeRun:
    """The error of a network that raised `error` when it was shown pictures."""
    size = " x ".join(str(n) for n in pictures.shape[2:])
    reason = str(error).strip().split("\n")[0][:200]
    count = f"{len(pictures)} pictures" if len(pictures) > 1 else "a picture"
    return CannotBeRun(
        f"{type(module).__name__} cannot be run on {count} of {size} pixels and {pictures.shape[1]} channels: "
        f"{reason or type(error).__name__}. Another size or number of inputs may help; a network that needs more "
        "than a picture has to be wrapped in a module that takes one."
    )


def refuse_training(module: nn.Module) -> None:
    """With the statistics of a batch, responses depend on the other pictures, and there is no receptive field."""
    for name, part in module.named_modules():
        if not isinstance(part, nn.modules.batchnorm._BatchNorm) or isinstance(part, INSTANCE_NORMS):
            continue
        if part.training:
            raise BadInput(
                f"{name or type(part).__name__} normalizes by the statistics of the batch (training mode), "
                "so that a response depends on all pictures shown with it. Call `module.eval()` first."
            )
        if part.running_mean is None:
            raise BadInput(
                f"{name or type(part).__name__} normalizes by the statistics of the batch also in evaluation "
                "(track_running_stats=False), so that a response depends on all pictures shown with it. Replace it by "
                "a normalization with known statistics, or by one over each picture (nn.InstanceNorm2d)."
            )


INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
"""Classes under torch's batch normalization that normalize by one picture alone."""


def refuse_fixed_batch(module: nn.Module) -> None:
    """Raises BadInput for what torch.export made for one number of pictures only."""
    for part in module.modules():
        if not isinstance(part, torch.fx.GraphModule):
            continue
        given = [node.meta.get("val") for node in part.graph.nodes if node.op == "placeholder"]
        counts = [value.shape[0] for value in given if isinstance(value, Tensor) and value.ndim == 4]
        if counts and isinstance(counts[0], int):
            pictures = "picture" if counts[0] == 1 else "pictures"
            raise BadInput(
                f"the network was exported for a batch of {counts[0]} {pictures}, and is shown batches of other sizes "
                "here. Export it for any number: "
                "torch.export.export(..., dynamic_shapes=({0: torch.export.Dim('batch')},))."
            )
