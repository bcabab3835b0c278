"""Every test and every interval of the project where the truth is known: how often is chance called a finding, and how
often does the interval hold the truth?

A simulation draws data without an effect (or with a known mean), and says once per run whether the test found something
(or the interval held the mean). `benchmarks/error_rates.py` makes a table of the docs from them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np
import pandas as pd

from tests.wiring import gabor
from unitscope.analysis import couplings, enrichment
from unitscope.analysis.channel_identity import identity
from unitscope.analysis.label_extremes import LabelEnds, chance_of, random_groups, two_sided
from unitscope.analysis.natural_indices import index_of
from unitscope.analysis.population_shares import wilson
from unitscope.perturbation.estimates import change, class_changes
from unitscope.reproductions.dog_counts import DogFindings, counts_of
from unitscope.reproductions.kobayashi2020 import coupling_verdict
from unitscope.reproductions.kobayashi2020_layers import how_far
from unitscope.resampling import beyond_copies_p, mean_interval
from unitscope.synthesis.position_similarity import specificity

Chance = np.random.Generator


@dataclass(frozen=True)
class Simulation:
    """`run` says of one draw whether chance was called a finding, or whether the interval held the truth.

    `bounds` are those between which the share of runs must lie; `note` says why where these are not the usual ones.
    """

    name: str
    where: str
    data: str
    run: Callable[[Chance], bool]
    bounds: tuple[float, float]
    note: str = ""


RATE, COVERAGE = (0.03, 0.07), (0.93, 0.97)
CONSERVATIVE = (0.0, 0.07)


# --- couplings ----------------------------------------------------------------------------------------------

ANGLES = np.repeat([0.0, 45.0, 90.0, 135.0], 4)


@cache
def filters() -> couplings.Coupling:
    kernels = [gabor(a, side=7, sigma=1.8, frequency=0.22, phase=40.0 * i).numpy() for i, a in enumerate(ANGLES)]
    return couplings.coupling_of(np.stack(kernels).astype(np.float64), np.ones((1, len(ANGLES))))


def strongly_read(chance: Chance) -> np.ndarray:
    """All units read one orientation twice as strongly, and none reads filters of one orientation together."""
    return chance.standard_normal((12, len(ANGLES))) * np.where(ANGLES == 45, 2.0, 1.0)


def coupling_p(test: str, chance: Chance) -> float:
    own = strongly_read(chance)
    pairs = replace(filters(), coupling=own, relative=couplings.remove_strengths(own))
    orders = couplings.orders_of(len(ANGLES), 199, chance)
    value, under = couplings._under_chance(couplings.STATISTICS[test], pairs, orders)
    return float(couplings._against(value.mean()[None], under.mean(0)[None])[0][0])


def couplings_found(chance: Chance) -> bool:
    rows = [{"p": coupling_p(test, chance), "z": 1.0} for test in couplings.STATISTICS]
    return coupling_verdict(pd.DataFrame(rows)) != "no more than by chance"


# --- categories ---------------------------------------------------------------------------------------------


def enriched(spread: float, chance: Chance) -> bool:
    """Images of a class have something in common, whichever class it is."""
    label = np.repeat(np.arange(12), 25)
    responses = chance.standard_normal(300) + spread * chance.standard_normal(12)[label]
    member = np.isin(label, chance.choice(12, 6, replace=False))
    return end_p(responses, member, label, np.arange(300)) < 0.05


def enriched_with_crops(chance: Chance) -> bool:
    """Photographs of two classes, a category that cuts through both, ten crops of each photograph."""
    photograph = np.repeat(np.arange(40), 10)
    responses = chance.standard_normal(400) + chance.standard_normal(40)[photograph]
    member = chance.permutation(np.arange(40) < 16)[photograph]
    return end_p(responses, member, photograph % 2, photograph) < 0.05


def end_p(responses: np.ndarray, member: np.ndarray, label: np.ndarray, photograph: np.ndarray) -> float:
    at_end = enrichment.end(responses[None], highest=True, count=enrichment.size_of_end(len(responses)))
    lottery = enrichment.lottery(member, label, photograph, seed=int(np.sum(member * np.arange(len(member)))))
    return float(enrichment.enrichment_p(at_end, [lottery])[0][0])


def both_ends(chance: Chance) -> bool:
    """The verdict on a network: units that answer to classes by chance, of which a random half is called dogs."""
    label = np.repeat(np.arange(12), 20)
    responses = chance.standard_normal((60, 240)) + 2 * chance.standard_normal((60, 12))[:, label]
    which = np.eye(12, dtype=np.int64)[label]
    ends = [enrichment.end(responses, highest=highest, count=12) @ which for highest in (True, False)]
    rectified = responses.clip(min=0) @ which / 20
    known = LabelEnds(tuple(map(str, range(12))), which.sum(0), rectified, *ends, np.ones(60, bool))
    draws = chance_of(known, 6)
    counts = [counts_of(two_sided(known, group, draws)) for group in random_groups(known, 6, 40, generator=chance)]
    network = object.__new__(DogFindings)  # only what the verdict reads of it
    for name, value in (("dogs", counts[0]), ("random", tuple(counts[1:]))):
        object.__setattr__(network, name, value)
    return network.p < 0.05


# --- channels and positions ---------------------------------------------------------------------------------


def shared(chance: Chance) -> bool:
    return identity(chance.standard_normal((12, 12)), generator=chance, permutations=199, resamples=50).p < 0.05


def shared_in_part(chance: Chance) -> bool:
    """The worst case: a high mean advantage, and p that are by chance in each of six pairs of layers."""
    return how_far(pd.DataFrame({"p": chance.uniform(size=6), "advantage": np.full(6, 0.5)})) != "not shared"


def advantage(channels: int, chance: Chance) -> bool:
    """Channels that are alike themselves by 1 on average, some more than others, and like others by what both are."""
    own = chance.exponential(1.0, channels)
    some = chance.standard_normal(channels)
    off = 0.2 * (some[:, None] + some[None, :]) + 0.3 * chance.standard_normal((channels, channels))
    matrix = off - np.diag(np.diag(off)) + np.diag(own)
    found = identity(matrix, generator=chance, permutations=1, resamples=999)
    return bool(found.ci_low <= 1 <= found.ci_high)


def specific(chance: Chance) -> bool:
    """Four positions, three outcomes each, all alike in the same degree."""
    pictures = (chance.standard_normal((12, 30)) + chance.standard_normal(30)).reshape(4, 3, 30)
    compared = np.full((4, 4, 6, 6), np.nan)
    for one in range(4):
        for other in range(4):
            compared[one, other] = np.corrcoef(np.concatenate([pictures[one], pictures[other]]))
        compared[one, one, 3:] = compared[one, one, :, 3:] = np.nan
    compared[:, :, range(6), range(6)] = np.nan
    return specificity(compared, rng=chance, permutations=199, resamples=2).p < 0.05


# --- perturbation -------------------------------------------------------------------------------------------


def losses(count: int, chance: Chance) -> np.ndarray:
    """Differences of loss as noise makes them: a little less for most images, much more for a few; 0 on average."""
    found: np.ndarray = chance.lognormal(0, 1.5, count) - np.exp(1.125)
    return found


def some_class(images: int, chance: Chance) -> bool:
    values = losses(20 * images, chance)
    found = class_changes(values, values, np.repeat(np.arange(20), images), seed=int(chance.integers(2**31)))
    return any(one.q < 0.05 for one in found)


def mean_held(draw: Callable[[Chance, int], np.ndarray], count: int, chance: Chance) -> bool:
    """`draw` gives values whose mean is 1."""
    found = change(draw(chance, count), generator=chance)
    return bool(found.low <= 1 <= found.high)


def normal(chance: Chance, count: int) -> np.ndarray:
    return chance.normal(1, 1, count)


def exponential(chance: Chance, count: int) -> np.ndarray:
    return chance.exponential(1, count)


def crops_held(chance: Chance) -> bool:
    """Twenty photographs of six crops each, which share most of what they say."""
    photograph = np.repeat(np.arange(20), 6)
    values = 1 + chance.normal(0, 1, 20)[photograph] + chance.normal(0, 0.5, 120)
    found = change(values, clusters=photograph, generator=chance)
    return bool(found.low <= 1 <= found.high)


def draws_held(chance: Chance) -> bool:
    """Twenty draws of units, of which some matter much; and a hundred images, which differ, too."""
    of_draw, of_image = chance.exponential(1, 20), chance.normal(0, 1, 100)
    found = change(of_draw.mean() + of_image, draws=of_draw + of_image.mean(), generator=chance)
    return bool(found.low <= 1 <= found.high)


def share_held(units: int, chance: Chance) -> bool:
    _, low, high = wilson(float(chance.binomial(units, 0.3)), units)
    return low <= 0.3 <= high


def natural_held(patches: int, chance: Chance) -> bool:
    """A third of the answer is lost, more or less by patch."""
    answers = 1 + chance.exponential(1, patches)
    left = answers * chance.beta(4, 2, patches)
    _, low, high = index_of(np.stack([answers, left], 1), 0, [1], loss=True)
    return bool(low <= 1 / 3 <= high)


def more_than_copies(draw: Callable[[Chance, int], np.ndarray], chance: Chance) -> bool:
    own, *copies = draw(chance, 4).tolist()
    return beyond_copies_p(own, copies) < 0.05


def rare_counts(chance: Chance, networks: int) -> np.ndarray:
    return chance.poisson(3, networks)


def varied_counts(chance: Chance, networks: int) -> np.ndarray:
    return chance.poisson(chance.gamma(4, 4, networks))


def over_clusters(chance: Chance) -> bool:
    """A mean of groups of different sizes."""
    sizes = chance.integers(2, 9, 25)
    clusters = np.repeat(np.arange(25), sizes)
    values = 1 + chance.normal(0, 1, 25)[clusters] + chance.normal(0, 1, len(clusters))
    found = mean_interval(values, clusters=clusters, generator=chance)
    return bool(found.low <= 1 <= found.high)


TESTS = (
    *(
        Simulation(f"coupling {test}", "analysis/couplings.py", "all units read one kind of filter twice as strongly",
                   lambda chance, test=test: coupling_p(test, chance) < 0.05, RATE)
        for test in couplings.STATISTICS
    ),
    Simulation("coupling, verdict", "reproductions/kobayashi2020.py", "the same, four tests", couplings_found,
               CONSERVATIVE, "four tests, their number counted, that say much the same"),
    Simulation("category at an end, p", "analysis/enrichment.py", "class spread 0", partial(enriched, 0.0), RATE),
    Simulation("category at an end, p", "analysis/enrichment.py", "class spread 1", partial(enriched, 1.0),
               CONSERVATIVE, "an end holds few classes: many choices tie"),
    Simulation("category at an end, p", "analysis/enrichment.py", "ten crops of each photograph, class cut through",
               enriched_with_crops, CONSERVATIVE, "an end holds few photographs: many choices tie"),
    Simulation("dogs at both ends, verdict", "reproductions/dog_counts.py", "units that answer to classes by chance",
               both_ends, CONSERVATIVE, "shares of few selective units tie"),
    Simulation("shared channels, p", "analysis/channel_identity.py", "12 channels, similarities by chance",
               shared, RATE),
    Simulation("shared channels, verdict", "reproductions/kobayashi2020_layers.py", "six pairs of layers",
               shared_in_part, RATE),
    Simulation("position-specificity, p", "synthesis/position_similarity.py", "4 positions of 3 outcomes, all alike",
               specific, RATE),
    Simulation("some class changed, q", "perturbation/estimates.py", "20 classes of 10 images, skewed losses",
               partial(some_class, 10), RATE),
    Simulation("some class changed, q", "perturbation/estimates.py", "20 classes of 50 images, skewed losses",
               partial(some_class, 50), RATE),
    Simulation("more than in untrained copies", "resampling.py", "3 copies, rare counts (Poisson, mean 3)",
               partial(more_than_copies, rare_counts), CONSERVATIVE, "the larger of two p's; counts tie"),
    Simulation("more than in untrained copies", "resampling.py", "3 copies, varied counts (mean 16, deviation 9)",
               partial(more_than_copies, varied_counts), CONSERVATIVE, "the larger of two p's"),
)  # fmt: skip

INTERVALS = (
    Simulation("change of loss, over images", "resampling.py", "6 images, normal", partial(mean_held, normal, 6),
               COVERAGE),
    Simulation("change of loss, over images", "resampling.py", "6 images, exponential",
               partial(mean_held, exponential, 6), (0.83, 0.97),
               "below ten Student's t, which does not hold for skewed values"),
    Simulation("change of loss, over images", "resampling.py", "10 images, exponential",
               partial(mean_held, exponential, 10), (0.91, 0.97), "ten skewed values hardly show their tail"),
    Simulation("change of loss, over images", "resampling.py", "20 images, exponential",
               partial(mean_held, exponential, 20), COVERAGE),
    Simulation("change of loss, over images", "resampling.py", "100 images, exponential",
               partial(mean_held, exponential, 100), COVERAGE),
    Simulation("change of loss, over photographs", "perturbation/estimates.py", "20 photographs of 6 crops", crops_held,
               COVERAGE),
    Simulation("change of loss, over batches", "resampling.py", "25 batches of 2 to 8 images", over_clusters, COVERAGE),
    Simulation("change of loss, over images and draws", "perturbation/estimates.py",
               "20 draws, exponential, of 100 images", draws_held, COVERAGE),
    Simulation("shared channels, advantage", "analysis/channel_identity.py", "12 channels", partial(advantage, 12),
               (0.91, 0.97), "as for ten skewed values"),
    Simulation("shared channels, advantage", "analysis/channel_identity.py", "32 channels",
               partial(advantage, 32), COVERAGE),
    Simulation("share of units", "analysis/population_shares.py", "10 units, 30 %", partial(share_held, 10),
               (0.88, 0.99), "counts of ten come in steps"),
    Simulation("share of units", "analysis/population_shares.py", "64 units, 30 %", partial(share_held, 64), COVERAGE),
    Simulation("natural indices", "analysis/natural_indices.py", "8 patches", partial(natural_held, 8), (0.88, 0.97),
               "a ratio of few skewed patches: too short"),
    Simulation("natural indices", "analysis/natural_indices.py", "16 patches", partial(natural_held, 16), (0.88, 0.97),
               "a ratio of few skewed patches: too short"),
)  # fmt: skip


def share_of_runs(simulation: Simulation, runs: int, *, seed: int = 0) -> float:
    """In which share of runs it says yes."""
    chance = np.random.default_rng([seed, *simulation.name.encode(), *simulation.data.encode()])
    return sum(bool(simulation.run(chance)) for _ in range(runs)) / runs
