"""Joint moments: how the units of several sites on one lattice vary together, over images and positions.

Problem: correlations between all units of a stage need all their responses, which do not fit into memory.

Idea: keep number, mean and the matrix of summed products of deviations, and merge one image after the other into these
(chan1983). For two groups of values a and b, with n values and mean m each:

    cross = cross_a + cross_b + (m_a - m_b) (m_a - m_b)' n_a n_b / (n_a + n_b)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unitscope.anatomy.sites import sites as sites_of
from unitscope.errors import BadInput, Failure, unknown_name
from unitscope.recording.batches import Progress, batches, convert_to_gray, default_workers, first_pictures
from unitscope.recording.electrode import show
from unitscope.recording.steadiness import check_steadiness
from unitscope.stimuli.images import Source, open_images
from unitscope.stimuli.presentation import Presentation
from unitscope.vocabulary import Size

if TYPE_CHECKING:
    from unitscope.networks import Network
    from unitscope.vocabulary import Site


@dataclass
class JointMoments:
    """Moments of the units of some sites, stacked in the order of `sites`, over `count` (image, position) pairs.

    `mean` [unit], `cross` [unit unit] the sums of products of deviations, `magnitude` [unit] the sum of |response|;
    float64, merged image by image after chan1983, so that they do not depend on how the images were batched.
    """

    sites: tuple[str, ...]
    channels: tuple[int, ...]
    count: int = 0
    mean: np.ndarray = field(default_factory=lambda: np.zeros(0))
    cross: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    magnitude: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        units = sum(self.channels)
        if len(self.mean) != units:
            self.mean, self.magnitude, self.cross = np.zeros(units), np.zeros(units), np.zeros((units, units))

    def take(self, responses: Float[Tensor, "unit place"]) -> None:
        """Add one image: the responses of all units at all places."""
        values = responses.double()
        places, mean = values.shape[1], values.mean(1, keepdim=True)
        around = values - mean
        total = self.count + places
        apart = mean[:, 0].cpu().numpy() - self.mean
        self.cross += (around @ around.T).cpu().numpy() + np.outer(apart, apart) * (self.count * places / total)
        self.mean += apart * (places / total)
        self.magnitude += values.abs().sum(1).cpu().numpy()
        self.count = total

    def place(self, site: str) -> slice:
        """Where the units of a site stand among all."""
        first = sum(self.channels[: self.sites.index(site)])
        return slice(first, first + self.channels[self.sites.index(site)])

    def deviation(self, site: str) -> Float[np.ndarray, " unit"]:
        """The standard deviation of each unit of a site."""
        return np.sqrt(np.diag(self.cross)[self.place(site)] / max(self.count, 1))

    def mean_magnitude(self, site: str) -> Float[np.ndarray, " unit"]:
        """E |response| of each unit of a site."""
        return self.magnitude[self.place(site)] / max(self.count, 1)

    def correlation(self, first: str, second: str) -> Float[np.ndarray, "unit other"]:
        """Pearson correlation of each unit of one site with each of another; NaN for a unit that never varies."""
        spread = np.sqrt(np.diag(self.cross))
        # The spread of a unit that never varies is a rounding error rather than exactly 0.
        spread = np.where(spread > 1e-9 * max(spread.max(initial=0.0), 1e-300), spread, np.nan)
        both = self.cross[self.place(first), self.place(second)]
        return both / spread[self.place(first), None] / spread[None, self.place(second)]

    def alignment(self, first: str, second: str) -> float:
        """Linear CKA of two sites (kornblith2019): |Y'X|^2 / (|X'X| |Y'Y|), with (image, position) pairs as samples.

        The biased form; with so many samples it does not differ from the unbiased one.
        """
        a, b = self.place(first), self.place(second)
        norm = np.linalg.norm(self.cross[a, a]) * np.linalg.norm(self.cross[b, b])
        return float(np.linalg.norm(self.cross[a, b]) ** 2 / norm) if norm > 0 else float("nan")


def joint_moments(
    network: Network,
    images: Source,
    groups: Sequence[Sequence[str]],
    *,
    resize: int | Size | None = None,
    batch: int = 32,
    workers: int | None = None,
    progress: Progress | None = None,
) -> list[JointMoments]:
    """Show every image once and gather the joint moments of each group of sites; those of a group share a lattice.

    Raises UnknownName for a site that is not there, BadInput for sites of different lattices, Failure where no image
    can be read.
    """
    everything = sites_of(network)
    joints = [_empty(everything, group) for group in groups]
    chosen = {name: everything[name] for name in everything if any(name in joint.sites for joint in joints)}
    opened = open_images(images)
    settings = {"first": 0, "last": len(opened), "batch": batch, "workers": workers or default_workers()}
    presentation = Presentation(network.size, resize)
    if chosen:
        tried = first_pictures(opened, presentation, inputs=network.inputs)
        if len(tried):
            check_steadiness(network, chosen, network.prepare(tried.to(network.device).float().div_(255)))
    for part in batches(opened, presentation, **settings):
        part = convert_to_gray(part) if network.inputs == 1 else part
        responses = _read_responses(network, part.pictures[part.readable], chosen) if part.readable.any() else {}
        for joint in joints if responses else ():
            for stimulus in range(int(part.readable.sum())):
                # Image by image, whatever the batch: the sum of real numbers depends on how they are grouped.
                joint.take(torch.cat([responses[name][stimulus].flatten(1) for name in joint.sites]))
        if progress is not None:
            progress(int(part.images[-1]) + 1, len(opened))
    if joints and not joints[0].count:
        raise Failure(f"none of the {len(opened)} images of {opened.source} can be read.")
    return joints


def _read_responses(network: Network, pictures: Tensor, sites: Mapping[str, Site]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    with torch.no_grad():
        x = network.prepare(pictures.to(network.device).float().div_(255))
        show(network, x, sites, lambda site, value: found.update({site.name: value.clone()}))
    return found


def _empty(sites: Mapping[str, Site], group: Sequence[str]) -> JointMoments:
    for name in group:
        if name not in sites:
            raise unknown_name("site", name, sites, where="the network")
    lattices = {sites[name].lattice for name in group}
    if len(lattices) > 1:
        raise BadInput(
            f"the sites {', '.join(group)} have different lattices; only sites of one lattice vary together."
        )
    return JointMoments(tuple(group), tuple(sites[name].channels for name in group))
