"""What is measured for zipser2015: which sites, units and positions, and what is found of each unit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from unitscope.anatomy.sites import sites
from unitscope.networks import Network
from unitscope.recording.batches import batches
from unitscope.recording.reading import read
from unitscope.reproductions.zipser_patterns import complexity, tiling
from unitscope.stimuli.images import Images
from unitscope.stimuli.presentation import Presentation
from unitscope.synthesis.ascents import MeanNormalized
from unitscope.synthesis.maximize import maximize
from unitscope.synthesis.objectives import neuron
from unitscope.synthesis.position_similarity import Specificity, blur_pictures, blurred_correlation
from unitscope.synthesis.position_study import SIMILARITIES, PositionStudy, placed_pictures, positions
from unitscope.synthesis.recipes import Recipe, zipser2015
from unitscope.vocabulary import Site, Size, Unit

RATIOS = (0.1, 0.25, 0.5, 1.0, 2.0)
"""Sides of fields over the picture's for which sites are looked for."""

FAR = 1.6
"""A site stands for a ratio if its own differs by no more than this factor."""

SURVEY_IMAGES = 32
"""How many photographs decide which units respond at all."""


@dataclass(frozen=True)
class Effort:
    """How much is computed: units of each site, outcomes of each position; steps at most, of what size; where chance
    begins.
    """

    units: int = 10
    seeds: int = 3
    steps: int = 50
    size: float = 5 / 255
    seed: int = 0

    @property
    def recipe(self) -> Recipe:
        """That of zipser2015, in fewer and larger steps."""
        return replace(zipser2015(), ascent=MeanNormalized(size=self.size, steps=self.steps))


@dataclass(frozen=True, eq=False)
class Studied:
    """One unit: its study, and what it comes to.

    `strangers` is how alike outcomes of one inner position are that are those of different units of its site. `inside`
    leaves out the position at the corner.
    """

    network: str
    study: PositionStudy
    strangers: float
    found: dict[str, Specificity]
    inside: dict[str, Specificity]
    patterns: dict[str, float]
    "Complexity of the outcomes in the middle, that of noise, tiling, that of other units' outcomes."

    @property
    def ratio(self) -> float:
        return self.study.field_ratio

    def facts(self) -> dict[str, Any]:
        """A row of the table of units."""
        facts = {"network": self.network} | self.study.facts() | {"strangers": self.strangers} | self.patterns
        for where, of in (("", self.found), ("_inside", self.inside)):
            for kind, one in of.items():
                facts |= {f"{kind}{where}": one.index, f"{kind}{where}_p": one.p}
        return facts


StudyProgress = Callable[[str, int, int], None]


def studies_of(network: Network, images: Images, effort: Effort, to: Path, tell: StudyProgress) -> Iterator[Studied]:
    """All units of a network that are studied; optima are kept in the folder, and those there are not made anew."""
    for site in sites_of(network):
        units = choose_living_units(network, site, images, effort)
        if not units:
            continue
        places = choose_places(site)
        label = f"{network.name} {site.name}"
        asked = [neuron(unit, at=place) for place in places for unit in units]
        kept: dict[str, Any] = {"recipe": effort.recipe, "seeds": effort.seeds, "seed": effort.seed, "to": to}
        maximize(network, asked, progress=lambda done, total, label=label: tell(label, done, total), **kept)  # type: ignore[misc]
        studies = [positions(network, unit, at=places, tiled=n == 0, **kept) for n, unit in enumerate(units)]
        apart = strangers(studies)
        for study in studies:
            among = {kind: study.specificity(kind) for kind in SIMILARITIES}
            inner = range(1, len(places))
            inside = {kind: study.specificity(kind, among=inner) for kind in SIMILARITIES}
            yield Studied(network.name, study, apart, among, inside, patterns_of(study, studies))


def sites_of(network: Network) -> list[Site]:
    """For each of RATIOS the last of the sites whose field comes nearest to it: all channels alike, at least 4 x 4
    positions.
    """
    fit = [
        site
        for site in sites(network).values()
        if len(site.fields) == 1 and site.field().status == "exact" and 0 not in site.field().stride
        and min(site.lattice) >= 4
    ]  # fmt: skip
    chosen: dict[str, Site] = {}
    for ratio in RATIOS:
        apart = [abs(np.log(ratio_of(site) / ratio)) for site in fit]
        if apart and min(apart) <= np.log(FAR):
            nearest = max(n for n, away in enumerate(apart) if away <= min(apart) + 1e-9)
            chosen[fit[nearest].name] = fit[nearest]
    return list(chosen.values())


def ratio_of(site: Site) -> float:
    """The field's side over the picture's."""
    return float(np.sqrt(np.prod(site.field().size) / np.prod(site.picture)))


def choose_places(site: Site) -> list[Size]:
    """The corner, and the diagonal at a quarter, the half and three quarters of the lattice."""
    rows, cols = site.lattice
    return [(part * rows // 4, part * cols // 4) for part in range(4)]


def choose_living_units(network: Network, site: Site, images: Images, effort: Effort) -> list[Unit]:
    """Units of a site drawn at random from those whose responses to photographs vary and rise above 0."""
    step = max(1, len(images) // SURVEY_IMAGES)
    few = Images(images.items[::step], images.sizes[::step], lambda i: images.bytes(i * step), images.source)
    presentation, maps = Presentation(network.size, None), []
    for batch in batches(few, presentation, first=0, last=min(SURVEY_IMAGES, len(few)), batch=16, workers=1):
        pictures = batch.pictures[batch.readable].to(network.device).float() / 255
        maps.append(read(network, pictures, [site.name])[site.name].amax((2, 3)).cpu())
    peaks = torch.cat(maps)
    alive = np.flatnonzero(((peaks.max(0).values > 0) & (peaks.std(0) > 0)).numpy())
    # Drawn from seed and site name, so that a site's units do not depend on which other sites are studied.
    drawn = np.random.default_rng([effort.seed, *site.name.encode()]).permutation(alive)[: effort.units]
    return [Unit(site.name, int(channel)) for channel in sorted(drawn)]


def patterns_of(study: PositionStudy, studies: Sequence[PositionStudy]) -> dict[str, float]:
    """Complexity of the outcomes in the middle of the picture and of noise; tiling where there is a tiled outcome, and
    that of other units' outcomes. All is blurred by half a stride, as where likeness is measured: the dots at which
    searches begin are left in the fine detail.
    """
    own, stride = middle_pictures(study), study.field.stride
    noise = np.random.default_rng(0).standard_normal(own.shape).astype(np.float32)
    found = {
        "complexity": float(np.mean([complexity(one) for one in own])),
        "noise_complexity": float(np.mean([complexity(one) for one in blur_pictures(noise, stride)])),
        "tiling": float("nan"), "tiling_strangers": float("nan"),
    }  # fmt: skip
    if study.tiled is not None:
        pictures = blur_pictures(study.tiled.pictures, stride)
        others = [middle_pictures(other)[0] for other in studies if other is not study]
        found["tiling"] = float(np.mean([tiling(*pair) for pair in zip(own, pictures, strict=True)]))
        if others:
            found["tiling_strangers"] = float(np.mean([tiling(other, pictures[0]) for other in others]))
    return found


def middle_pictures(study: PositionStudy) -> Float[np.ndarray, "seed color height width"]:
    """The outcomes of the position in the middle of the picture, as blurred contrast, in what it sees."""
    view = placed_pictures(study.outcomes, study.boxes, study.picture, rest=study.rest)[2]
    return blur_pictures(view.cut(view.frame), study.field.stride)


def strangers(studies: Sequence[PositionStudy]) -> float:
    """The mean similarity of outcomes of one position that are those of different units, over the inner positions, on
    the rectangles on which these are compared.
    """
    if len(studies) < 2:
        return float("nan")
    found = []
    views = [placed_pictures(study.outcomes, study.boxes, study.picture, rest=study.rest)[1:] for study in studies]
    unit = np.repeat(np.arange(len(studies)), studies[0].seeds)
    for one, other in permutations(zip(*views, strict=True), 2):
        frame = one[0].frame & other[0].frame
        pictures = np.concatenate([view.cut(frame) for view in one])
        alike = blurred_correlation(pictures, studies[0].field.stride)
        # Only pairs of different units.
        found.append(np.nanmean(alike[unit[:, None] != unit[None, :]]))
    return float(np.mean(found))
