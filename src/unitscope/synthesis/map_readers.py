"""Readers of maps: the responses [stimulus unit row col] of some sites to a batch of pictures, with gradients.

Three readers: of a cone, of the network itself, and of boxes of another reader's maps. The network's own pass ends at
the last site that is read. To read what enters a nonlinearity, the nonlinearity is left out of the pass: its value is
replaced by that of the site before it,

    conv1 -> relu -> maxpool         read maxpool before the nonlinearity: relu gives what conv1 gave, so that
                                     maxpool is the maximum of conv1
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from unitscope.anatomy.operations import kind
from unitscope.anatomy.value_hooks import hook_values
from unitscope.errors import BadInput
from unitscope.networks import Network
from unitscope.recording.electrode import as_responses
from unitscope.synthesis.cone_evaluation import Cone
from unitscope.synthesis.network_cache import NetworkCache
from unitscope.vocabulary import Box, Site


class MapReader:
    """Gives the map of each term of an objective, all channels; abstract."""

    def read_maps(
        self, x: Float[Tensor, "stimulus color height width"]
    ) -> list[Float[Tensor, "stimulus unit row col"]]:
        raise NotImplementedError


class ConeReader(MapReader):
    """Maps from a cone."""

    def __init__(self, cone: Cone) -> None:
        self.cone = cone

    def read_maps(self, x: Float[Tensor, "stimulus color height width"]) -> list[Tensor]:
        return self.cone.evaluate(x)


@dataclass(frozen=True, eq=False)
class BoxReader(MapReader):
    """Boxes of the lattices of another reader's maps."""

    reader: MapReader
    boxes: tuple[Box, ...]

    def read_maps(self, x: Float[Tensor, "stimulus color height width"]) -> list[Tensor]:
        maps = self.reader.read_maps(x)
        return [m[:, :, b.top : b.bottom, b.left : b.right] for m, b in zip(maps, self.boxes, strict=True)]


@dataclass(frozen=True, eq=False)
class NetworkReader(MapReader):
    """Maps from the network itself.

    `names` are the sites that are read, in a pass that ends at the last of them. Values of `bypassed` sites are
    replaced by those of the sites before them: so a nonlinearity is left out.
    """

    network: Network
    sites: tuple[Site, ...]
    names: tuple[str, ...]
    bypassed: Mapping[str, str]
    half: bool

    def read_maps(self, x: Float[Tensor, "stimulus color height width"]) -> list[Tensor]:
        """The maps of the sites. Raises BadInput where they are not one for each picture."""
        x = x.to(self.network.dtype)
        try:
            maps = self._pass_once(x)
        except Exception:
            if len(x) != 1:
                raise
            maps = [torch.empty(0)]
        # A network that calls `squeeze()` loses the axis of stimuli of one picture; two pictures keep it.
        if len(x) == 1 and not self._has_one_map_each(maps, 1):
            maps = self._pass_once(torch.cat([x, x]))
            maps = [m[:1] for m in maps] if self._has_one_map_each(maps, 2) else maps
        if not self._has_one_map_each(maps, len(x)):
            raise BadInput(
                f"{self.network.name} gives {maps[0].shape[0]} maps at {self.names[0]} for {len(x)} pictures, so that "
                "it cannot be told which response is to which picture."
            )
        return maps

    def _has_one_map_each(self, maps: Sequence[Tensor], stimuli: int) -> bool:
        """Whether there are maps [stimulus unit row col] of each site, one for each picture."""
        return all(
            one.ndim == 4 and one.shape[:2] == (stimuli, site.channels)
            for one, site in zip(maps, self.sites, strict=False)
        )

    def _pass_once(self, x: Tensor) -> list[Tensor]:
        waiting, entering, values = set(self.names), dict[str, Tensor](), dict[str, Tensor]()
        scripted = any(isinstance(part, torch.jit.ScriptModule) for part in self.network.module.modules())
        wanted = set(self.bypassed.values())

        def take_value(name: str, value: Tensor) -> Tensor | None:
            if name in wanted:
                # A copy: an operation in place may overwrite the value behind this site.
                entering[name] = value.clone()
            if name in self.bypassed:
                value = entering[self.bypassed[name]]
            if name in waiting:
                values[name] = value.clone()
                waiting.discard(name)
                # What is raised within a script comes out of it as something else; there the pass goes on to its end.
                if not waiting and not scripted:
                    raise _AllRead
            return value if name in self.bypassed else None

        # Gradients are wanted for the picture only: with those of the weights a pass would take twice the memory.
        trained = [p for p in self.network.module.parameters() if p.requires_grad]
        for parameter in trained:
            parameter.requires_grad_(False)
        try:
            cast = torch.autocast(x.device.type, torch.bfloat16, enabled=self.half)
            with suppress(_AllRead), cast, hook_values(self.network.module, take_value):
                self.network.module(x)
        finally:
            for parameter in trained:
                parameter.requires_grad_(True)
        if waiting:
            raise BadInput(
                f"{self.network.name} did not pass {min(waiting)} with this picture; its path depends on what it sees."
            )
        return [_as_maps(values[name], site) for name, site in zip(self.names, self.sites, strict=True)]


class _AllRead(Exception):
    """All sites have been read, and the pass may end."""


def _as_maps(value: Tensor, site: Site) -> Float[Tensor, "stimulus unit row col"]:
    """A site's value with the axes of maps; on a crop, too, where its lattice is smaller."""
    if value.ndim == 4 and site.channel_axis == 1:
        return value
    return as_responses(value, site) if value.ndim > site.channel_axis else value


def network_reader(cache: NetworkCache, names: Sequence[str], *, post_activation: bool, half: bool) -> NetworkReader:
    bypassed = {} if post_activation else bypassed_nonlinearities(cache, names)
    return NetworkReader(cache.network, tuple(cache.sites[n] for n in names), tuple(names), bypassed, half)


def bypassed_nonlinearities(cache: NetworkCache, names: Sequence[str]) -> dict[str, str]:
    """The nonlinearities to be left out, and the sites whose values take their place.

    These are the sites themselves, where they are nonlinearities; and where a site is a maximum, the nonlinearity
    whose maximum it is: max(relu(x)) = relu(max(x)), so that max(x) is what the maximum is before the nonlinearity.
    """
    entered, sites = cache.entered, cache.sites
    bypassed = {}
    for name in names:
        at = entered.get(name, "") if sites[name].operation == "max_pool2d" else name
        left_out = at in sites and kind(sites[at].operation)
        if left_out and (left_out.nonlinear if at == name else left_out.increasing) and entered.get(at) in sites:
            bypassed[at] = entered[at]
    return bypassed
