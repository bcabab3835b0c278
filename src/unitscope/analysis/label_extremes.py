"""Responses label by label, at both ends: what any group of labels has of them, known at once for each of many groups.

Problem: whether dogs stand together at an end of a unit's responses is asked of thousands of random groups of labels,
too, as a control. Idea: each end is counted once by label, [unit label]; a group's count is then a sum over its labels,
and all groups are one product:

    ends [unit label]  @  groups [label draw]  =  images of each group at the end [unit draw]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from unitscope.analysis import enrichment, indices
from unitscope.analysis.categories import Category, membership
from unitscope.analysis.selectivity import Pool, evidence
from unitscope.errors import BadInput
from unitscope.record import Record
from unitscope.resampling import Tail, permutation_p

Pole = Literal["preferred", "antipreferred"]

ENDS: tuple[tuple[Pole, Tail], ...] = (("preferred", "above"), ("antipreferred", "above"), ("antipreferred", "below"))
"""At which end more, or fewer, of a group may stand than by chance."""

PerUnit = Float[np.ndarray, " unit"]


@dataclass(frozen=True)
class LabelEnds:
    """Per unit and label: the mean rectified response, and how many images stand among the highest and the lowest
    responses. `images` [label]; `preactivation` [unit], whether a nonlinearity reads the unit.
    """

    labels: tuple[str, ...]
    images: Int[np.ndarray, " label"]
    rectified: Float[np.ndarray, "unit label"]
    preferred: Int[np.ndarray, "unit label"]
    antipreferred: Int[np.ndarray, "unit label"]
    preactivation: Bool[np.ndarray, " unit"]


@dataclass(frozen=True)
class TwoSided:
    """A group's numbers per unit: selectivity, share at each end, and p of so many there, or (`_fewer`) so few, among
    groups of as many other labels.
    """

    prevalence: float
    selectivity: PerUnit
    preferred_share: PerUnit
    antipreferred_share: PerUnit
    preferred_p: PerUnit
    antipreferred_p: PerUnit
    antipreferred_fewer_p: PerUnit


def label_ends(record: Record, *, pool: Pool = "max") -> LabelEnds:
    """The labels' images that a record has, at both ends of each unit's responses (see `selectivity` for `pool`).

    Raises BadInput without labels, and where crops of one photograph have different labels, which then are not
    independent of each other.
    """
    labels = tuple(record.facts["settings"]["labels"])
    members = membership(record, [Category("first", frozenset(labels[:1]))])
    label, photograph = members.label[members.known], members.photograph[members.known]
    if len(np.unique(photograph)) < len(np.unique(np.stack([photograph, label]), axis=1).T):
        raise BadInput(f"{record.path} has crops of one photograph under several labels; these cannot be compared.")
    # The category names labels only, so all known images have a label. A label of -1 would pick the last row.
    which = np.eye(len(labels), dtype=np.int64)[label]
    found = list(evidence(record, members, pool=pool))
    return LabelEnds(
        labels=labels,
        images=which.sum(0),
        rectified=np.concatenate([np.where(facts.finite[:, None], facts.rectified, np.nan) for _, facts in found]),
        preferred=np.concatenate([facts.preferred @ which for _, facts in found]),
        antipreferred=np.concatenate([facts.antipreferred @ which for _, facts in found]),
        preactivation=np.concatenate([np.full(site.channels, site.preactivation) for site, _ in found]),
    )


@dataclass(frozen=True, eq=False)
class Chance:
    """What groups of as many other labels have at each end, more than their share of all images, [unit draw]."""

    size: int
    preferred: Float[np.ndarray, "unit draw"]
    antipreferred: Float[np.ndarray, "unit draw"]
    every: bool


def chance_of(ends: LabelEnds, size: int, *, seed: int = 0) -> Chance:
    """Groups of `size` labels drawn among those that have images; every one where there are not too many."""
    shown = ends.images > 0
    chosen, every = enrichment.groups(int(shown.sum()), size, seed)
    draws = np.zeros((len(chosen), len(ends.images)), dtype=bool)
    draws[:, shown] = chosen
    preferred, antipreferred = (
        enrichment.excess(counts, ends.images, draws) for counts in (ends.preferred, ends.antipreferred)
    )
    return Chance(size, preferred, antipreferred, every)


def two_sided(ends: LabelEnds, group: Bool[np.ndarray, " label"], chance: Chance) -> TwoSided:
    """The numbers of a group of labels (which must hold some, and not all, of the images) for each unit; `chance` is
    that of groups of its size.
    """
    # The labels' means, weighted by their numbers of images, give the mean over images.
    total = np.where(ends.images > 0, ends.rectified, 0) * ends.images
    means = [total[:, which].sum(1) / ends.images[which].sum() for which in (group, ~group)]
    counts = {pole: getattr(ends, pole) for pole in ("preferred", "antipreferred")}
    more = {pole: enrichment.excess(of, ends.images, group[None])[:, 0] for pole, of in counts.items()}
    p = {
        (pole, tail): permutation_p(more[pole], getattr(chance, pole), tail=tail, every=chance.every)
        for pole, tail in ENDS
    }
    prevalence = float(ends.images[group].sum() / ends.images.sum())
    return TwoSided(
        prevalence,
        indices.selectivity(*means),
        more["preferred"] + prevalence,
        more["antipreferred"] + prevalence,
        # In the order of ENDS, which is that of the last three fields.
        *p.values(),
    )


def random_groups(
    ends: LabelEnds, size: int, count: int, *, generator: np.random.Generator
) -> Bool[np.ndarray, "draw label"]:
    """`count` groups of `size` labels each, drawn without replacement among the labels that have images."""
    shown = np.flatnonzero(ends.images)
    groups = np.zeros((count, len(ends.labels)), dtype=bool)
    for group in groups:
        group[generator.choice(shown, size, replace=False)] = True
    return groups
