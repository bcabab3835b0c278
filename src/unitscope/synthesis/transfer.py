"""Outcomes shown at other positions than their own: what neurons answer there, and what other units make of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from unitscope.optima import Optima, Optimum
from unitscope.synthesis.evaluators import Subject, prepare
from unitscope.synthesis.objectives import Objective, neuron
from unitscope.synthesis.objectives import unit as everywhere
from unitscope.synthesis.position_similarity import Alike, cosines, shared
from unitscope.vocabulary import Box, ReceptiveField, Site, Size, Unit


def moved(one: Optimum, by: Size, box: Box, picture: Size) -> Float[Tensor, "seed color height width"]:
    """What the part `box` of the network's picture shows when an optimum's pictures are moved by rows and columns.

    What leaves the picture is lost; where nothing comes in, there is the mean color.
    """
    place = one.box.shift(*by)
    whole = shared(place.clip(picture), place)
    part = one.whitened[:, :, whole.top - place.top : whole.bottom - place.top]
    part = part[:, :, :, whole.left - place.left : whole.right - place.left]
    return laid(torch.from_numpy(np.ascontiguousarray(part)), whole, box)


def laid(
    pictures: Float[Tensor, "picture color height width"], place: Box, box: Box
) -> Float[Tensor, "picture color rows cols"]:
    """Pictures that lie at `place`, as pictures of `box`; 0, the mean color, where they say nothing."""
    result = torch.zeros(*pictures.shape[:2], box.height, box.width)
    inside = shared(place, box)
    result[:, :, inside.top - box.top : inside.bottom - box.top, inside.left - box.left : inside.right - box.left] = (
        pictures[
            :,
            :,
            inside.top - place.top : inside.bottom - place.top,
            inside.left - place.left : inside.right - place.left,
        ]
    )
    return result


@torch.no_grad()
def carried(
    subject: Subject,
    objectives: Sequence[Objective],
    outcomes: Optima,
    seen: ReceptiveField,
    places: Sequence[Size],
    *,
    after: bool,
) -> Float64[np.ndarray, "position other_position seed"]:
    """What each neuron answers to the outcomes of all positions, moved to it."""
    network = subject.network
    found = np.empty((len(places), len(places), len(outcomes[0].responses)))
    for j, (objective, to) in enumerate(zip(objectives, places, strict=True)):
        heard = prepare(subject, objective, after=after, half=False)
        channel = objective.terms[0].unit.channel
        for i, (one, place) in enumerate(zip(outcomes, places, strict=True)):
            by = tuple(step * (b - a) for step, a, b in zip(seen.stride, place, to, strict=True))
            x = moved(one, (by[0], by[1]), heard.box, network.size).to(network.device)
            channels = torch.full((len(x), 1), channel, device=x.device)
            found[i, j] = heard.hear(x, channels, torch.ones(len(x), 1, device=x.device)).double().cpu().numpy()
    return found


def by_features(
    subject: Subject,
    unit: Unit,
    site: Site,
    shown: Site,
    seen: ReceptiveField,
    places: Sequence[Size],
    *,
    rest: Sequence[float],
) -> Alike:
    """The cosine of what the units of the site `shown`, but the unit itself, add to their answers to the blank picture.

    Pictures are shown at the first of their positions, then at the second, and the mean counts: what a unit answers at
    the border it answers to all that are compared.
    """
    network = subject.network
    std, mean, gray = (np.asarray(n, np.float32)[:, None, None] for n in (network.std, network.mean, rest))
    kept = [channel for channel in range(shown.channels) if shown is not site or channel != unit.channel]

    @torch.no_grad()
    def described(pictures: Float[np.ndarray, "picture color height width"], box: Box, place: Size) -> np.ndarray:
        row, col = ((2 * p + 1) * b // (2 * a) for p, a, b in zip(place, site.lattice, shown.lattice, strict=True))
        heard = prepare(subject, neuron(Unit(shown.name, 0), at=(row, col)), after=True, half=False)
        x = torch.zeros(len(pictures) + 1, pictures.shape[1], heard.box.height, heard.box.width)
        x[:-1] = laid(torch.from_numpy((pictures + (gray - mean)) / std), box, heard.box)
        at = (0, 0) if isinstance(heard.places[0], str) else heard.places[0][0]
        answers = heard.maps.hear(x.to(network.device))[0][:, kept, at[0], at[1]].double()
        found: np.ndarray = (answers[:-1] - answers[-1:]).cpu().numpy()
        return found

    def alike(
        pictures: Float[np.ndarray, "picture color height width"], frame: Box, positions: tuple[int, ...]
    ) -> Float64[np.ndarray, "picture other"]:
        origins = [seen.box(*places[n]) for n in positions]
        parts = [
            described(pictures, frame.shift(origin.top, origin.left), places[n])
            for n, origin in zip(positions, origins, strict=True)
        ]
        found: np.ndarray = np.mean([cosines(part) for part in parts], 0)
        return found

    return alike


@torch.no_grad()
def gram(subject: Subject, shown: Site, tiled: Optimum) -> Float64[np.ndarray, "seed other_seed"]:
    """Cosines of the Gram matrices (mean products of units over positions) of the tiled pictures."""
    heard = prepare(subject, everywhere(Unit(shown.name, 0)), after=True, half=False)
    x = moved(tiled, (0, 0), heard.box, subject.network.size).to(subject.network.device)
    maps = heard.maps.hear(x)[0].flatten(2).double()
    return cosines(torch.einsum("sup,svp->suv", maps, maps).flatten(1).cpu().numpy())
