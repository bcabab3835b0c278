"""The sites of a network, in the order of execution, each with its receptive field."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from unitscope.anatomy.listening import listening
from unitscope.anatomy.maps import Seen, origin
from unitscope.anatomy.names import NONLINEARITIES
from unitscope.anatomy.receptive_fields import OnLattice, bounds_of, fields_of, layout
from unitscope.anatomy.watching import Watching
from unitscope.errors import BadInput
from unitscope.vocabulary import Site, Size


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

    The network's own operations run once on a blank picture, convolutions and products left out, and maps of what each element
    sees run along. A network that looks at values in order to decide what to do is run again in full, on gray.

    Raises BadInput where the network cannot be run on a picture of its size, trains its normalization, or is wrapped in
    nn.DataParallel. The network is left as it was.
    """
    refuse_training(network.module)
    run = Run.of(network, cheaply=True)
    if run.looked:
        run = Run.of(network, cheaply=False)
    return run.finished()


@dataclass
class Run:
    """One pass through the network: the sites found, in order, without their readers, who come later."""

    sites: dict[str, Site] = field(default_factory=dict)
    readers: dict[str, dict[str, None]] = field(default_factory=lambda: defaultdict(dict))
    looked: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, network: Network, *, cheaply: bool) -> Run:
        run, watching = cls(), Watching(cheaply=cheaply)
        makers: WeakIdKeyDictionary = WeakIdKeyDictionary()
        operations: dict[str, str] = {}

        def noted(name: str, operation: str, read: tuple[Tensor, ...], _: Tensor) -> None:
            for tensor in read:
                if tensor in makers:
                    run.readers[makers[tensor]][operation] = None
            operations[name] = operation

        def heard(name: str, value: Tensor) -> None:
            makers[value] = name
            seen = watching.seen(value)
            if seen is not None and value.is_floating_point() and (place := layout(seen)) is not None:
                run.sites[name] = site_of(name, operations[name], seen, place, network.size)

        picture = blank(network, value=0.0 if cheaply else 0.5)
        watching.know(picture, picture_maps(tuple(picture.shape)))
        with torch.no_grad(), listening(network.module, heard, noted=noted), watching:
            show(network, picture)
        run.looked = watching.looked
        return run

    def finished(self) -> dict[str, Site]:
        """The sites with their readers."""
        return {
            name: replace(
                site,
                readers=tuple(self.readers[name]),
                preactivation=any(reader in NONLINEARITIES for reader in self.readers[name]),
            )
            for name, site in self.sites.items()
        }


def site_of(name: str, operation: str, seen: Seen, place: tuple[int, Size], picture: Size) -> Site:
    axis, lattice = place
    maps = OnLattice.of(seen, axis, lattice)
    fields, groups = fields_of(seen, maps, lattice, picture)
    return Site(
        name=name,
        channels=seen.shape[axis],
        lattice=lattice,
        picture=picture,
        operation=operation,
        bounds=bounds_of(maps, picture, unknown=bool(seen.unknown)),
        fields=fields,
        channel_axis=axis,
        groups=groups,
    )


def blank(network: Network, *, value: float) -> Tensor:
    """A picture with nothing on it, of the kind and on the device of the network's parameters."""
    like = next((p for p in network.module.parameters() if p.is_floating_point()), torch.empty(0))
    shape = (STIMULI, network.inputs, *network.size)
    return torch.full(shape, value, dtype=like.dtype, device=like.device)


def picture_maps(shape: tuple[int, ...]) -> Seen:
    dims = tuple(((name, size),) for name, size in zip(("stimulus", "channel", "row", "col"), shape, strict=True))
    return origin(shape, dims, row=[2], col=[3])


def show(network: Network, picture: Tensor) -> Any:
    """Run the network; what it raises becomes a short story."""
    try:
        return network.module(picture)
    except (RuntimeError, TypeError, ValueError, IndexError, AssertionError) as error:
        size = " x ".join(str(n) for n in network.size)
        reason = str(error).strip().split("\n")[0][:200]
        raise BadInput(
            f"{type(network.module).__name__} cannot be run on a picture of {size} pixels and {network.inputs} channels: "
            f"{reason or type(error).__name__}. Another size or number of inputs may help; a network that needs more than a "
            "picture has to be wrapped in a module that takes one."
        ) from error


def refuse_training(module: nn.Module) -> None:
    """With the statistics of a batch, responses depend on the other pictures, and there is no receptive field."""
    for name, part in module.named_modules():
        if (
            part.training
            and isinstance(part, nn.modules.batchnorm._BatchNorm)
            and not isinstance(part, (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d))
        ):
            raise BadInput(
                f"{name or type(part).__name__} normalizes by the statistics of the batch (training mode), so that a response "
                "depends on all pictures shown with it. Call `module.eval()` first."
            )
