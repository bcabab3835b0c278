"""What is counted in the dog study: of one network, how many units are selective, and for what at their lower end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from unitscope.analysis.disagreement import SELECTIVE
from unitscope.analysis.enrichment import enrichment_p, false_discovery
from unitscope.analysis.label_ends import LabelEnds, TwoSided, label_ends, random_groups, two_sided
from unitscope.record import Record

THRESHOLD = SELECTIVE["selectivity"]
DRAWS = 200
SEED = 0
Q = 0.05


@dataclass(frozen=True)
class Counts:
    """Of one group of labels in one network: units before a nonlinearity, those that are selective for it; of these,
    whose share of it among the lowest responses is above its prevalence, significantly so, or significantly below; and
    medians over the selective units.
    """

    units: int
    prevalence: float
    selective: int
    above: int
    enriched: int
    depleted: int
    preferred_share: float
    antipreferred_share: float

    @property
    def enriched_share(self) -> float:
        return self.enriched / self.selective if self.selective else np.nan


@dataclass(frozen=True)
class Found:
    """What one network gives: `random` are the counts of groups of labels drawn at random, `shuffled` how many of the
    selective units are called enriched where the images' labels are shuffled, on average; `by_mean` where both ends are
    those of the map's mean.
    """

    name: str
    record: Record
    units: TwoSided
    dogs: Counts
    control: Counts
    by_mean: Counts
    random: tuple[Counts, ...]
    shuffled: float


def find(name: str, record: Record, inside: Bool[np.ndarray, " label"], control: Bool[np.ndarray, " label"]) -> Found:
    """All that is counted of one network, at its sites before a nonlinearity."""
    generator = np.random.default_rng(SEED)
    ends = preactivations(label_ends(record))
    units = two_sided(ends, inside)
    size = int((inside & (ends.images > 0)).sum())
    return Found(
        name=name,
        record=record,
        units=units,
        dogs=counts_of(units),
        control=counts_of(two_sided(ends, control)),
        by_mean=counts_of(two_sided(preactivations(label_ends(record, pool="mean")), inside)),
        random=tuple(
            counts_of(two_sided(ends, group)) for group in random_groups(ends, size, DRAWS, generator=generator)
        ),
        shuffled=enriched_if_shuffled(ends, units, inside, generator=generator),
    )


def preactivations(ends: LabelEnds) -> LabelEnds:
    """Only the units that a nonlinearity reads: behind it there is no negative end."""
    chosen = ends.preactivation
    return LabelEnds(
        ends.labels, ends.images, ends.rectified[chosen], ends.preferred[chosen], ends.antipreferred[chosen],
        chosen[chosen],
    )  # fmt: skip


def counts_of(units: TwoSided) -> Counts:
    selective = units.selectivity >= THRESHOLD
    enriched, depleted = (
        selective & (false_discovery(p) < Q) for p in (units.antipreferred_p, units.antipreferred_fewer_p)
    )
    return Counts(
        units=len(selective),
        prevalence=units.prevalence,
        selective=int(selective.sum()),
        above=int((selective & (units.antipreferred_share > units.prevalence)).sum()),
        enriched=int(enriched.sum()),
        depleted=int(depleted.sum()),
        preferred_share=median(units.preferred_share[selective]),
        antipreferred_share=median(units.antipreferred_share[selective]),
    )


def median(values: Float[np.ndarray, " n"]) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float("nan")


def enriched_if_shuffled(
    ends: LabelEnds, units: TwoSided, inside: Bool[np.ndarray, " label"], *, generator: np.random.Generator
) -> float:
    """How many of the selective units are called enriched at the lower end on average, where labels of images are
    shuffled for each unit.
    """
    members, images, drawn = int(ends.images[inside].sum()), int(ends.images.sum()), ends.antipreferred.sum(1)
    selective, called = units.selectivity >= THRESHOLD, []
    for _ in range(20):
        hits = generator.hypergeometric(members, images - members, drawn)
        q = false_discovery(enrichment_p(hits, drawn, members=members, images=images))
        called.append(int((selective & (q < Q)).sum()))
    return float(np.mean(called))


def shares_of(one: Found) -> Float[np.ndarray, " draw"]:
    """Of each random group that has selective units: the share of these with the group enriched at the lower end."""
    return np.array([counts.enriched_share for counts in one.random if counts.selective])
