"""Outcomes shown at other positions than their own: what neurons answer there, and what other units answer to them.

An outcome is an optimal stimulus that was found for one position of the lattice, with one seed. It is moved to another
position by the shift of the field: as many strides as the positions are apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from unitscope.optima import Optima, Optimum, paste_pictures
from unitscope.synthesis.evaluators import make_evaluator
from unitscope.synthesis.network_cache import NetworkCache
from unitscope.synthesis.objectives import Objective, neuron
from unitscope.synthesis.objectives import unit as everywhere
from unitscope.synthesis.position_similarity import SimilarityFunction, cosines
from unitscope.vocabulary import Box, ReceptiveField, Site, Size, Unit


def shift_optimum(one: Optimum, by: Size, box: Box, picture: Size) -> Float[Tensor, "seed color height width"]:
    """What the part `box` of the network's picture shows when an optimum's pictures are moved by rows and columns.

    What leaves the picture is lost; where nothing comes in, there is the mean color.
    """
    moved = one.box.shift(*by)
    on_picture = moved.clip(picture) & moved
    part = np.ascontiguousarray(one.whitened[:, :, *on_picture.slices(moved)])
    return torch.from_numpy(paste_pictures(part, on_picture, box))


@torch.no_grad()
def transferred_responses(
    cache: NetworkCache,
    objectives: Sequence[Objective],
    outcomes: Optima,
    seen: ReceptiveField,
    places: Sequence[Size],
    *,
    post_activation: bool,
) -> Float64[np.ndarray, "position other_position seed"]:
    """What each neuron answers to the outcomes of all positions, moved to it."""
    network = cache.network
    found = np.empty((len(places), len(places), len(outcomes[0].responses)))
    for j, (objective, to) in enumerate(zip(objectives, places, strict=True)):
        evaluator = make_evaluator(cache, objective, post_activation=post_activation, half=False)
        channel = objective.terms[0].unit.channel
        for i, (one, place) in enumerate(zip(outcomes, places, strict=True)):
            by = tuple(step * (b - a) for step, a, b in zip(seen.stride, place, to, strict=True))
            x = shift_optimum(one, (by[0], by[1]), evaluator.box, network.size).to(network.device)
            channels = torch.full((len(x), 1), channel, device=x.device)
            found[i, j] = evaluator.evaluate(x, channels, torch.ones(len(x), 1, device=x.device)).double().cpu().numpy()
    return found


def feature_similarity(
    cache: NetworkCache,
    unit: Unit,
    site: Site,
    shown: Site,
    seen: ReceptiveField,
    places: Sequence[Size],
    *,
    rest: Sequence[float],
) -> SimilarityFunction:
    """The cosine of what the units of the site `shown`, but the unit itself, add to their answers to the blank picture.

    Pictures are shown at the first of their positions, then at the second, and the mean counts: what a unit answers at
    the border it answers to all that are compared.
    """
    network = cache.network
    std, mean, gray = (np.asarray(n, np.float32)[:, None, None] for n in (network.std, network.mean, rest))
    kept = [channel for channel in range(shown.channels) if shown is not site or channel != unit.channel]

    @torch.no_grad()
    def feature_responses(
        pictures: Float[np.ndarray, "picture color height width"], box: Box, place: Size
    ) -> np.ndarray:
        # Both lattices cover the picture evenly: the place of the other one that holds the middle of this place.
        row, col = ((2 * p + 1) * b // (2 * a) for p, a, b in zip(place, site.lattice, shown.lattice, strict=True))
        evaluator = make_evaluator(cache, neuron(Unit(shown.name, 0), at=(row, col)), post_activation=True, half=False)
        # The last picture stays blank: answers to it are subtracted.
        x = torch.zeros(len(pictures) + 1, pictures.shape[1], evaluator.box.height, evaluator.box.width)
        x[:-1] = torch.from_numpy(paste_pictures((pictures + (gray - mean)) / std, box, evaluator.box))
        at = (0, 0) if isinstance(evaluator.positions[0], str) else evaluator.positions[0][0]
        answers = evaluator.reader.read_maps(x.to(network.device))[0][:, kept, at[0], at[1]].double()
        found: np.ndarray = (answers[:-1] - answers[-1:]).cpu().numpy()
        return found

    def similarity(
        pictures: Float[np.ndarray, "picture color height width"], frame: Box, positions: tuple[int, ...]
    ) -> Float64[np.ndarray, "picture other"]:
        origins = [seen.box(*places[n]) for n in positions]
        parts = [
            feature_responses(pictures, frame.shift(origin.top, origin.left), places[n])
            for n, origin in zip(positions, origins, strict=True)
        ]
        found: np.ndarray = np.mean([cosines(part) for part in parts], 0)
        return found

    return similarity


@torch.no_grad()
def gram_similarity(cache: NetworkCache, shown: Site, tiled: Optimum) -> Float64[np.ndarray, "seed other_seed"]:
    """Cosines of the Gram matrices (mean products of units over positions) of the tiled pictures."""
    evaluator = make_evaluator(cache, everywhere(Unit(shown.name, 0)), post_activation=True, half=False)
    x = shift_optimum(tiled, (0, 0), evaluator.box, cache.network.size).to(cache.network.device)
    maps = evaluator.reader.read_maps(x)[0].flatten(2).double()
    return cosines(torch.einsum("sup,svp->suv", maps, maps).flatten(1).cpu().numpy())
