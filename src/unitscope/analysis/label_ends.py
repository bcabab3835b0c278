"""Responses label by label, at both ends: what any group of labels has of them, known at once for each of many groups.

This makes the stricter control of a category possible: groups of as many labels drawn at random.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from unitscope.analysis import enrichment, indices
from unitscope.analysis.categories import Category, membership
from unitscope.analysis.selectivity import Pool, evidence
from unitscope.record import Record

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
    """A group's numbers per unit: selectivity, share at each end, and p of so many there, or (`_fewer`) so few."""

    prevalence: float
    selectivity: PerUnit
    preferred_share: PerUnit
    antipreferred_share: PerUnit
    preferred_p: PerUnit
    antipreferred_p: PerUnit
    antipreferred_fewer_p: PerUnit


def label_ends(record: Record, *, pool: Pool = "max") -> LabelEnds:
    """The labels' images that a record has, at both ends of each unit's responses (see `selectivity` for `pool`).

    Raises BadInput without labels.
    """
    labels = tuple(record.facts["settings"]["labels"])
    members = membership(record, [Category("first", frozenset(labels[:1]))])
    label = members.label[members.known]
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


def two_sided(ends: LabelEnds, group: Bool[np.ndarray, " label"]) -> TwoSided:
    """The numbers of a group of labels (which must hold some, and not all, of the images) for each unit."""
    members, images = int(ends.images[group].sum()), int(ends.images.sum())
    total = np.where(ends.images > 0, ends.rectified, 0) * ends.images
    means = [total[:, which].sum(1) / ends.images[which].sum() for which in (group, ~group)]
    drawn = {pole: getattr(ends, pole).sum(1) for pole in ("preferred", "antipreferred")}
    hits = {pole: getattr(ends, pole)[:, group].sum(1) for pole in drawn}
    share = {pole: np.where(drawn[pole] > 0, hits[pole] / np.maximum(drawn[pole], 1), np.nan) for pole in drawn}
    p = {pole: enrichment.enrichment_p(hits[pole], drawn[pole], members=members, images=images) for pole in drawn}
    return TwoSided(
        prevalence=members / images,
        selectivity=indices.selectivity(*means),
        preferred_share=share["preferred"],
        antipreferred_share=share["antipreferred"],
        preferred_p=p["preferred"],
        antipreferred_p=p["antipreferred"],
        antipreferred_fewer_p=enrichment.enrichment_p(
            hits["antipreferred"], drawn["antipreferred"], members=members, images=images, tail="below"
        ),
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
