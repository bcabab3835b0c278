"""Effective fields: how much each pixel within a receptive field really matters, over given pictures (luo2016).

Problem: a receptive field says which pixels can matter, and many of them hardly do.

Idea: the mean absolute gradient of the response over pictures. Behind many convolutions few ways lead to a pixel at the
field's edge, and many to one in its middle:

    three convolutions of 3 taps, all 1      ways to pixels -3 .. 3:  1  3  6  7  6  3  1
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unitscope.anatomy.sites import Network
from unitscope.anatomy.value_hooks import hook_values
from unitscope.errors import BadInput, unknown_name
from unitscope.vocabulary import Box, Site, Size


@dataclass(frozen=True, eq=False)
class EffectiveField:
    """Mean absolute gradient of one neuron per unit: `energy` [unit height width], summed over colors, 0 where nothing
    matters.
    """

    site: Site
    channels: tuple[int, ...]
    place: Size
    energy: NDArray[np.float64]

    def side(self, share: float) -> NDArray[np.int64]:
        """For each unit the side, in pixels, of the smallest square around the field's center that holds `share` (0..1)
        of the energy; 0 where there is none. The center is that of the receptive field, not the largest gradient.
        """
        return np.array(
            [side_of(energy, self.center(c), share) for energy, c in zip(self.energy, self.channels, strict=True)]
        )

    def center(self, channel: int) -> tuple[float, float]:
        """The center of a unit's receptive field, in pixels from the center of the upper left pixel."""
        box: Box = self.site.box(*self.place, channel)
        return (box.top + box.bottom - 1) / 2, (box.left + box.right - 1) / 2

    def participation(self) -> NDArray[np.float64]:
        """The area, in pixels, over which the energy spreads: (sum e)^2 / sum e^2; 1 for a single pixel, NaN for
        none.
        """
        total, squares = self.energy.sum((1, 2)), (self.energy**2).sum((1, 2))
        return np.divide(total**2, squares, out=np.full_like(total, np.nan), where=squares > 0)


def side_of(energy: NDArray[np.float64], center: tuple[float, float], share: float) -> int:
    rows, cols = (np.abs(np.arange(n) - at) for n, at in zip(energy.shape, center, strict=True))
    # By the larger of both distances, equal reaches are squares around the center.
    reach = np.maximum(rows[:, None], cols[None, :]).ravel()
    order = np.argsort(reach, kind="stable")
    held = np.cumsum(energy.ravel()[order])
    if held[-1] <= 0:
        return 0
    return int(np.floor(2 * reach[order][np.searchsorted(held, share * held[-1] * (1 - 1e-12))] + 1))


def effective_field(
    network: Network,
    pictures: Tensor,
    *,
    sites: Mapping[str, Site],
    site: str,
    channels: Sequence[int],
    place: Size | None = None,
) -> EffectiveField:
    """The effective fields of several units at one lattice place (the center, unless given), over `pictures`.

    E |df/dx|, the mean over pictures of the absolute gradient at the network's own input, summed over its channels
    (luo2016, methods 1.7). All units of a picture go through the network in one batch, which ends at the site. Ask for
    pre-activations: a silent ReLU has no gradient. `pictures` [stimulus color height width] are what the module takes.
    Raises BadInput for an unknown site, channel or place.
    """
    if site not in sites:
        raise unknown_name("site", site, sites, where="the network")
    where = sites[site]
    place = where.center if place is None else place
    if not channels:
        raise BadInput("an effective field is that of some channels; none were given.")
    for channel in channels:
        where.box(*place, channel)  # raises where there is no such channel or place
    total = np.zeros((len(channels), *pictures.shape[2:]))
    for picture in pictures:
        total += gradients(network, picture, where, tuple(channels), place)
    return EffectiveField(where, tuple(channels), place, total / len(pictures))


class Reached(Exception):
    """The site was reached; nothing behind it is needed."""


def gradients(
    network: Network, picture: Tensor, site: Site, channels: tuple[int, ...], place: Size
) -> NDArray[np.float64]:
    """Absolute gradients of one neuron of each channel, [unit height width]."""
    # One copy of the picture for each channel: one backward pass gives the gradients of all.
    batch = picture.detach().expand(len(channels), *picture.shape).clone().requires_grad_(True)
    responses: list[Tensor] = []

    def keep_value(name: str, value: Tensor) -> None:
        if name == site.name:
            by_unit = value.movedim(site.channel_axis, 1).reshape(len(channels), site.channels, *site.lattice)
            responses.append(by_unit[torch.arange(len(channels)), list(channels), place[0], place[1]].sum())
            raise Reached

    try:
        with torch.enable_grad(), hook_values(network.module, keep_value):
            network.module(batch)
    except Reached:
        pass
    gradient = torch.autograd.grad(responses[0], batch)[0]
    return gradient.abs().sum(1).double().cpu().numpy()
