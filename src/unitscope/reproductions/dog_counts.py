"""What is counted in the dog study: of one network, how many units are selective, and for what at their lower end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from unitscope.analysis.index_conflicts import SELECTIVE
from unitscope.analysis.label_extremes import LabelEnds, TwoSided, chance_of, label_ends, random_groups, two_sided
from unitscope.record import Record
from unitscope.resampling import false_discovery, permutation_p

THRESHOLD = SELECTIVE["selectivity"]
GROUP_DRAWS = 200
SEED = 0
Q = 0.05


@dataclass(frozen=True)
class EndCounts:
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
    def above_share(self) -> float:
        return self.above / self.selective if self.selective else np.nan


@dataclass(frozen=True)
class Breeds:
    """How the mean responses of a group's labels, sorted, fall off over the units that are selective for the group
    (methods 6.3). Over these units: `curve`, the median of the labels' mean rectified responses over the largest,
    from the largest down; medians of the share of labels `below` the mean of all images outside, and of the `skewness`
    of the labels' means. Those of a half-normal distribution have a skewness of 0.995; of even ones, of 0.
    """

    curve: Float[np.ndarray, " label"]
    below: float
    skewness: float


@dataclass(frozen=True)
class DogFindings:
    """What one network gives: `random` are the counts of groups of labels drawn at random; `by_mean` where both ends
    are those of the map's mean.
    """

    name: str
    record: Record
    units: TwoSided
    dogs: EndCounts
    control: EndCounts
    by_mean: EndCounts
    random: tuple[EndCounts, ...]
    breeds: Breeds
    breeds_of_random: tuple[Breeds, ...] = ()

    @property
    def p(self) -> float:
        """The chance that a random group of labels has as large a share of its own selective units with more of the
        group at the lower end than its prevalence. One test for the whole network: its units answer to the same few
        classes, and are not independent. NaN where no unit is selective.
        """
        own, others = np.array([self.dogs.above_share]), above_shares(self)
        return float(permutation_p(own, others[None])[0])


def find_dogs(
    name: str, record: Record, inside: Bool[np.ndarray, " label"], control: Bool[np.ndarray, " label"]
) -> DogFindings:
    """All that is counted of one network, at its sites before a nonlinearity."""
    generator = np.random.default_rng(SEED)
    ends = preactivations(label_ends(record))
    by_mean = preactivations(label_ends(record, pool="mean"))
    size, others = (int((which & (ends.images > 0)).sum()) for which in (inside, control))
    chance = chance_of(ends, size)
    units = two_sided(ends, inside, chance)
    random = random_groups(ends, size, GROUP_DRAWS, generator=generator)
    of_random = [two_sided(ends, group, chance) for group in random]
    return DogFindings(
        name=name,
        record=record,
        units=units,
        dogs=counts_of(units),
        control=counts_of(two_sided(ends, control, chance_of(ends, others))),
        by_mean=counts_of(two_sided(by_mean, inside, chance_of(by_mean, size))),
        random=tuple(counts_of(of) for of in of_random),
        breeds=breeds_of(ends, inside, units.selectivity >= THRESHOLD),
        breeds_of_random=tuple(
            breeds_of(ends, group, of.selectivity >= THRESHOLD) for group, of in zip(random, of_random, strict=True)
        ),
    )


def breeds_of(ends: LabelEnds, group: Bool[np.ndarray, " label"], selective: Bool[np.ndarray, " unit"]) -> Breeds:
    """The sorted means of a group's labels over selective units; NaN where no unit is selective."""
    from scipy.stats import skew

    inside, outside = (which & (ends.images > 0) for which in (group, ~group))
    means = -np.sort(-ends.rectified[selective][:, inside], axis=1)
    if not len(means):
        return Breeds(np.full(int(inside.sum()), np.nan), float("nan"), float("nan"))
    others = (ends.rectified[selective][:, outside] * ends.images[outside]).sum(1) / ends.images[outside].sum()
    return Breeds(
        curve=np.median(means / means[:, :1], axis=0),
        below=finite_median((means < others[:, None]).mean(1)),
        skewness=finite_median(skew(means, axis=1)),
    )


def preactivations(ends: LabelEnds) -> LabelEnds:
    """Only the units that a nonlinearity reads: behind it there is no negative end."""
    chosen = ends.preactivation
    return LabelEnds(
        ends.labels, ends.images, ends.rectified[chosen], ends.preferred[chosen], ends.antipreferred[chosen],
        chosen[chosen],
    )  # fmt: skip


def counts_of(units: TwoSided) -> EndCounts:
    selective = units.selectivity >= THRESHOLD
    enriched, depleted = (
        selective & (false_discovery(p) < Q) for p in (units.antipreferred_p, units.antipreferred_fewer_p)
    )
    return EndCounts(
        units=len(selective),
        prevalence=units.prevalence,
        selective=int(selective.sum()),
        above=int((selective & (units.antipreferred_share > units.prevalence)).sum()),
        enriched=int(enriched.sum()),
        depleted=int(depleted.sum()),
        preferred_share=finite_median(units.preferred_share[selective]),
        antipreferred_share=finite_median(units.antipreferred_share[selective]),
    )


def finite_median(values: Float[np.ndarray, " n"]) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float("nan")


def above_shares(one: DogFindings) -> Float[np.ndarray, " draw"]:
    """Of each random group that has selective units: the share of these with more of the group at the lower end than
    its prevalence.
    """
    return np.array([counts.above_share for counts in one.random if counts.selective])
