"""Aligned crops: the smallest picture on which a site's center neuron answers as it does on the whole one (methods
1.6).

A crop begins at a multiple of the site's stride and contains the field; where the field hangs over an edge of the
picture, the crop ends there, too. Whether the network agrees is tried with noise before anything is measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unitscope.errors import BadInput
from unitscope.recording.electrode import show
from unitscope.recording.steadiness import check_steadiness
from unitscope.vocabulary import Box, Size

if TYPE_CHECKING:
    from unitscope.networks import Network
    from unitscope.vocabulary import Site

TOLERANCE = 1e-3
"""A crop is taken where responses on it differ from those on the whole picture by at most this share of their
spread.
"""


@dataclass(frozen=True)
class Crop:
    """A part of the picture that starts at (top, left), and where each site's center neuron lies on its lattice."""

    top: int
    left: int
    size: Size
    centers: Mapping[str, Size]
    channels_last: bool = False
    """Whether the network may be shown pictures whose channels lie side by side in memory."""

    def within(self, box: Box) -> tuple[float, float]:
        """The center (row, col) of a box of the whole picture, in pixels from the crop's upper left pixel center."""
        return (box.top + box.bottom - 1) / 2 - self.top, (box.left + box.right - 1) / 2 - self.left


def aligned_crop(
    network: Network, sites: Mapping[str, Site], box: Box, *, channels: Mapping[str, np.ndarray] | None = None
) -> Crop:
    """The aligned crop for the center neurons of sites that all see `box`, or of some of their `channels`; the whole
    picture where the network answers differently on a crop.

    Raises BadInput where a response depends on other pictures, on chance, or on what was shown before.
    """
    last = check_steadiness(network, sites, network.prepare(noise_for(network, count=3))).channels_last
    whole = Crop(0, 0, network.size, {name: site.center for name, site in sites.items()}, last)
    crop = planned(network.size, sites, box)
    crop = None if crop is None else replace(crop, channels_last=last)
    if crop is None or crop.size == network.size or not agrees(network, sites, crop, whole, channels=channels):
        return whole
    return crop


def planned(picture: Size, sites: Mapping[str, Site], box: Box) -> Crop | None:
    """The crop by the rule of strides alone; None where a site's neurons do not move with a stride."""
    strides = [tuple(max(site.field().stride[axis] for site in sites.values()) for axis in (0, 1))]
    if any(min(site.field().stride) < 1 for site in sites.values()) or any(
        strides[0][axis] % site.field().stride[axis] for site in sites.values() for axis in (0, 1)
    ):
        return None
    start, end = [], []
    for axis in (0, 1):
        first, last, step = box[axis], box[axis + 2], strides[0][axis]
        start.append(max(0, first // step * step))
        end.append(min(last, picture[axis]))
    centers = {
        name: tuple(site.center[axis] - start[axis] // site.field().stride[axis] for axis in (0, 1))
        for name, site in sites.items()
    }
    return Crop(start[0], start[1], (end[0] - start[0], end[1] - start[1]), centers)  # type: ignore[arg-type]


def noise_for(network: Network, *, count: int) -> Float[Tensor, "stimulus color height width"]:
    """Pictures of noise, always the same."""
    noise = torch.rand((count, network.inputs, *network.size), generator=torch.Generator().manual_seed(0))
    return noise.to(network.device)


def agrees(
    network: Network,
    sites: Mapping[str, Site],
    crop: Crop,
    whole: Crop,
    *,
    channels: Mapping[str, np.ndarray] | None = None,
) -> bool:
    """Whether the center neurons answer to parts of noise as they do to the whole."""
    noise = noise_for(network, count=4)
    height, width = crop.size
    part = noise[:, :, crop.top : crop.top + height, crop.left : crop.left + width]
    try:
        seen = center_responses(network, part, sites, crop)
    except (RuntimeError, ValueError, IndexError, BadInput):  # a network that takes pictures of one size only
        return False
    full = center_responses(network, noise, sites, whole)
    for name in sites:
        own = slice(None) if channels is None else torch.as_tensor(channels[name])
        a, b = seen[name][:, own], full[name][:, own]
        if float((a - b).abs().max()) > TOLERANCE * float(b.std() + 1e-12):
            return False
    return True


def center_responses(network: Network, pictures: Tensor, sites: Mapping[str, Site], crop: Crop) -> dict[str, Tensor]:
    """Responses of the center neuron of every unit, {site: Tensor[stimulus unit]}, to pictures of the crop's size.

    The pass ends at the last of the sites.
    """
    found: dict[str, Tensor] = {}

    def keep(site: Site, value: Tensor) -> None:
        row, col = crop.centers[site.name]
        found[site.name] = value[:, :, row, col].detach().float().clone()

    with torch.no_grad():
        layout = torch.channels_last if crop.channels_last else torch.contiguous_format
        x = network.prepare(pictures).contiguous(memory_format=layout)
        show(network, x, sites, keep)
    return found
