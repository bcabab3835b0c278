"""Aligned crops: the smallest picture on which a site's center neuron answers as it does on the whole one (methods
1.6).

The problem: a neuron of an early site sees a small part of the picture, and hundreds of stimuli differ in that part
only. To show the network that part alone is wrong: the network pads it, and its strides count from its corner.

The idea: a crop begins at a multiple of the site's stride and contains the field, so that each lattice position of the
crop is one of the whole picture's; where the field hangs over an edge of the picture, the crop ends there, too.

    stride 4, field 13 x 13     pixels   0   4   8   12  16  20  24
    of the neuron at column 3   field        (-----------)           9 .. 21
                                crop        [------------)           8 .. 21: begins at a multiple of 4, is neuron 1

The zeros that the network pads a crop with lie at other places than in the whole picture; whether they reach the
neuron depends on the network. So each crop is tried with noise before anything is measured on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    crop = plan_crop(network.size, sites, box)
    crop = None if crop is None else replace(crop, channels_last=last)
    if crop is None or crop.size == network.size or not crop_agrees(network, sites, crop, whole, channels=channels):
        return whole
    return crop


def plan_crop(picture: Size, sites: Mapping[str, Site], box: Box) -> Crop | None:
    """The crop by the rule of strides alone; None where a site's neurons do not move with a common stride."""
    strides = {name: site.field().stride for name, site in sites.items()}
    if any(min(stride) < 1 for stride in strides.values()):
        return None
    # The crop begins at a multiple of the largest stride, which must be a multiple of all other strides.
    if any(max(s[axis] for s in strides.values()) % stride[axis] for stride in strides.values() for axis in (0, 1)):
        return None
    crop = align_box(box, list(strides.values()), picture)
    centers = {
        name: (site.center[0] - crop.top // strides[name][0], site.center[1] - crop.left // strides[name][1])
        for name, site in sites.items()
    }
    return Crop(crop.top, crop.left, (crop.height, crop.width), centers)


def align_box(box: Box, strides: Sequence[Size], picture: Size) -> Box:
    """The part of a box that lies on the picture, extended to begin at a multiple of the largest stride."""
    inside = box.clip(picture)
    down, along = (max(stride[axis] for stride in strides) for axis in (0, 1))
    return inside._replace(top=inside.top // down * down, left=inside.left // along * along)


def noise_for(network: Network, *, count: int) -> Float[Tensor, "stimulus color height width"]:
    """Pictures of noise, always the same."""
    noise = torch.rand((count, network.inputs, *network.size), generator=torch.Generator().manual_seed(0))
    return noise.to(network.device)


def crop_agrees(
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
        on_crop = center_responses(network, part, sites, crop)
    except (RuntimeError, ValueError, IndexError, BadInput):  # a network that takes pictures of one size only
        return False
    on_whole = center_responses(network, noise, sites, whole)
    for name in sites:
        chosen = slice(None) if channels is None else torch.as_tensor(channels[name])
        found, expected = on_crop[name][:, chosen], on_whole[name][:, chosen]
        if float((found - expected).abs().max()) > TOLERANCE * float(expected.std() + 1e-12):
            return False
    return True


def center_responses(network: Network, pictures: Tensor, sites: Mapping[str, Site], crop: Crop) -> dict[str, Tensor]:
    """Responses of the center neuron of every unit, {site: Tensor[stimulus unit]}, to pictures of the crop's size.

    The pass ends at the last of the sites.
    """
    responses: dict[str, Tensor] = {}

    def keep(site: Site, value: Tensor) -> None:
        # A copy: `value` is the network's own memory, which the next operation may overwrite.
        row, col = crop.centers[site.name]
        responses[site.name] = value[:, :, row, col].detach().float().clone()

    with torch.no_grad():
        layout = torch.channels_last if crop.channels_last else torch.contiguous_format
        x = network.prepare(pictures).contiguous(memory_format=layout)
        show(network, x, sites, keep)
    return responses
