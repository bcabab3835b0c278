"""Chance by resampling: p-values of permutations, false discovery, intervals by bootstrap and jackknife.

All chapters take their tests from here, so that one simulation (`tests/statistics/`) speaks for all of them. The
statistic, and what is drawn anew, are the caller's business; this module makes a p or an interval of the draws:

    permutation_p(value [unit], under [unit draw])        p [unit]
    mean_interval(values [value], clusters [value])       mean, standard error, low, high
    percentile_interval(drawn [draw unit])                low [unit], high [unit]
    mean_interval(pseudo_values(whole, without [value]))  the same of any statistic of all values
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

Tail = Literal["above", "below", "both"]

EQUAL = 1e-12
"""Values that differ by less than this share count as equal: a permutation that changes nothing must count as extreme,
whatever the order of its sums."""


def permutation_p(
    value: Float[np.ndarray, " unit"],
    under: Float[np.ndarray, "unit draw"],
    *,
    tail: Tail = "above",
    every: bool = False,
) -> Float[np.ndarray, " unit"]:
    """The share of draws that are as extreme as the value, the value itself counted among them: (1 + r) / (1 + n).

    Args:
        value: The statistic of each unit as it is.
        under: The same statistic under permutations.
        tail: "above", "below", or "both": as far from the mean of all of them.
        every: Whether `under` holds every permutation once, the given order among them; then p is r / n.

    Returns:
        p of each unit, 0..1; NaN for a value that is NaN.
    """
    added, count = (0, under.shape[1]) if every else (1, under.shape[1] + 1)
    if tail == "both":
        middle = (added * value + under.sum(1)) / count
        value, under = np.abs(value - middle), np.abs(under - middle[:, None])
    sign = -1 if tail == "below" else 1
    # The same numbers summed in another order differ in the last bits; without slack they would not count as equal.
    slack = EQUAL * np.maximum(1, np.abs(value))
    reached = (sign * under >= (sign * value - slack)[:, None]).sum(1)
    return np.where(np.isfinite(value), (added + reached) / count, np.nan)


def false_discovery(p: Float[np.ndarray, " test"]) -> Float[np.ndarray, " test"]:
    """q-values: the share of false ones among all tests that are called significant down to this one.

    A p that is NaN stays NaN, and does not count among the tests. Source: benjamini1995.
    """
    from scipy.stats import false_discovery_control

    known: Bool[np.ndarray, " test"] = np.isfinite(p)
    q = np.full(len(p), np.nan)
    if known.any():
        q[known] = false_discovery_control(p[known], method="bh")
    return q


RESAMPLES = 2000
"""How many bootstrap samples an interval is made of."""

FEWEST = 10
"""With fewer values or clusters than these nothing can be learned of the form of their distribution: resamples of three
values are too alike, and a percentile interval of them covers the mean in 72 of 100 cases instead of 95."""


class Interval(NamedTuple):
    """A mean, its standard error, and the ends of its 95 % interval; NaN where they cannot be told."""

    mean: float
    se: float
    low: float
    high: float


UNKNOWN = Interval(math.nan, math.nan, math.nan, math.nan)


def mean_interval(
    values: Float[np.ndarray, " value"],
    *,
    clusters: Int[np.ndarray, " value"] | None = None,
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
) -> Interval:
    """The mean of values with its 95 % interval.

    From ten clusters on, the interval is a bootstrap of Student's t, which holds for skewed values, too. Below ten it
    is Student's t itself, which is right for values that are about normal. Fewer than three give no interval. Whole
    clusters are drawn; the mean is over values, so that larger clusters count for more.

    Args:
        values: Values that are independent of each other, or independent between clusters.
        clusters: The number of each value's cluster. By default each value is a cluster.
        generator: Draws the resamples.
        resamples: How many.

    Source: efron1993, section 12.5.
    """
    count = len(values)
    if not count:
        return UNKNOWN
    mean = math.fsum(values) / count
    groups = np.arange(count) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    sums, sizes = np.bincount(groups, weights=values), np.bincount(groups).astype(np.float64)
    number = len(sums)
    if number < 3:
        return UNKNOWN._replace(mean=mean)
    if not values.any():  # nothing in any of them: no resampling can say otherwise
        return Interval(0.0, 0.0, 0.0, 0.0)
    every = np.ones((1, number))
    se = float(_means(every, sums, sizes)[1][0])
    if number < FEWEST:
        from scipy.stats import t

        half = float(t.ppf(0.975, number - 1)) * se
        return Interval(mean, se, mean - half, mean + half)
    drawn = generator.multinomial(number, np.full(number, 1 / number), size=resamples).astype(np.float64)
    means, errors = _means(drawn, sums, sizes)
    away = means - mean
    with np.errstate(invalid="ignore", divide="ignore"):
        # 0 / 0, of a resample without any variation at the mean of all values, is no deviation.
        t_values = np.where(np.abs(away) <= EQUAL * abs(mean), 0.0, away / errors)
    low, high = np.quantile(t_values, [0.025, 0.975], method="inverted_cdf")
    # The interval of a bootstrap of t reverses the quantiles: the upper one gives the lower end.
    ends = (mean - high * se, mean - low * se) if np.isfinite([low, high]).all() else (math.nan, math.nan)
    return Interval(mean, se, *map(float, ends))


def _means(
    times: Float[np.ndarray, "draw cluster"], sums: Float[np.ndarray, " cluster"], sizes: Float[np.ndarray, " cluster"]
) -> tuple[Float[np.ndarray, " draw"], Float[np.ndarray, " draw"]]:
    """The mean over values, and its standard error between clusters, where each cluster was drawn so many times."""
    number, of = len(sums), times @ sizes
    mean = (times @ sums) / of
    # sum of (s_k - mean n_k)^2 over the drawn clusters, expanded, so that three products serve all draws.
    squares = times @ sums**2 - 2 * mean * (times @ (sums * sizes)) + mean**2 * (times @ sizes**2)
    return mean, np.sqrt(number / (number - 1) * np.maximum(squares, 0)) / of


def percentile_interval(
    drawn: Float[np.ndarray, "draw unit"], *, least: float = 0.5
) -> tuple[Float[np.ndarray, " unit"], Float[np.ndarray, " unit"]]:
    """Both ends of the middle 95 % of a statistic over draws.

    Args:
        drawn: The statistic of each unit in each draw. NaN where a draw does not define it.
        least: With a smaller share of draws that define the statistic, a unit has no interval (NaN).
    """
    ends = np.full((2, drawn.shape[1]), np.nan)
    known = np.isfinite(drawn).mean(0) >= least
    if known.any():
        ends[:, known] = np.nanpercentile(drawn[:, known], [2.5, 97.5], axis=0)
    return ends[0], ends[1]


def both_intervals(mean: float, first: Interval, second: Interval) -> Interval:
    """The interval of a mean that varies for two independent reasons, from the intervals that each of them gives alone.

    Source: zou2008 (variance estimates recovered from both ends).
    """
    low, high = (
        math.hypot(*(side(one) for one in (first, second)))
        for side in (lambda one: one.mean - one.low, lambda one: one.high - one.mean)
    )
    return Interval(mean, math.hypot(first.se, second.se), mean - low, mean + high)


def pseudo_values(whole: float, without: Float[np.ndarray, " value"]) -> Float[np.ndarray, " value"]:
    """What each value contributes to a statistic of all: n times the whole, less n - 1 times the statistic without it.

    Their mean interval is that of the statistic, as good as that is near to a mean. Source: efron1993, section 11.5.
    """
    found: Float[np.ndarray, " value"] = len(without) * whole - (len(without) - 1) * without
    return found


def beyond_copies_p(count: int, copies: Sequence[int]) -> float:
    """One-sided p of as high a count as one of the network, where untrained copies have these counts.

    More than the largest of three copies is no evidence: one of four networks that are all alike has the most in one
    case of four. The larger of two p's: that of a new copy beyond those that were seen, if square roots of counts,
    which are less skewed than counts, are about normal (Student's t); and if counts are as those of rare events (the
    count's share of all, binomial), which is what copies without any can tell. NaN for fewer than two copies.
    """
    from scipy.stats import binom, t

    seen = np.asarray(copies, dtype=float)
    number = len(seen)
    if number < 2:
        return math.nan
    rare = float(binom.sf(count - 1, count + seen.sum(), 1 / (number + 1)))
    roots = np.sqrt(seen)
    away, spread = math.sqrt(count) - roots.mean(), roots.std(ddof=1) * math.sqrt(1 + 1 / number)
    if spread == 0:
        return rare if away > 0 else 1.0
    return max(rare, float(t.sf(away / spread, number - 1)))


def merge_clusters(one: Int[np.ndarray, " value"], other: Int[np.ndarray, " value"]) -> Int[np.ndarray, " value"]:
    """Numbers (0, 1 ...) of larger clusters: clusters of `one` are merged where they share a cluster of `other`.

    For example photographs that occur in the same batch, and all batches that these photographs occur in.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    first, second = (np.unique(numbers, return_inverse=True)[1] for numbers in (one, other))
    beyond = int(first.max()) + 1
    nodes = beyond + int(second.max()) + 1
    edges = coo_array((np.ones(len(first)), (first, beyond + second)), (nodes, nodes))
    component = connected_components(edges, directed=False)[1]
    found: Int[np.ndarray, " value"] = np.unique(component[first], return_inverse=True)[1]
    return found
