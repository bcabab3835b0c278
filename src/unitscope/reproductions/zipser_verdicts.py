"""What many units of the position study come to: means with intervals, correlations, and verdicts on the paper's words.

A verdict needs an interval that leaves only one answer. One that merely contains 0 decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

from unitscope.reproductions.intervals import MeanInterval, mean_difference, student_interval
from unitscope.reproductions.zipser_studies import Studied
from unitscope.resampling import percentile_interval

SMALL_FIELDS, LARGE_FIELDS = 0.4, 0.9
"""Fields are called small below the first, and large from the second, as shares of the picture's side. Small ones lie
wholly on the picture at the inner positions."""

LITTLE = 0.1
"""An index whose whole interval is this near to 0 is none to speak of."""

FEW_UNITS = 10
"""Units are not resampled where there are fewer."""


def trained(found: Sequence[Studied]) -> list[Studied]:
    return [one for one in found if "untrained" not in one.network]


def sized_between(found: Sequence[Studied], low: float, high: float) -> list[Studied]:
    """Those with a field of `low` to `high` (excluded) of the picture's side."""
    return [one for one in found if low <= one.ratio < high]


def correlation(found: Sequence[Studied], column: str) -> MeanInterval:
    """Spearman's correlation of a column of pairs of positions with the larger fall-off of the two. Its interval
    comes from units drawn anew; there is none for fewer than FEW_UNITS units.
    """
    tables = []
    for one in found:
        table = one.study.table()
        fall = np.maximum(table["fall_off"], table["other_fall_off"]).to_numpy()
        values = table[column].to_numpy()
        known = np.isfinite(values)
        tables.append(np.stack([fall[known], values[known]]))
    tables = [table for table in tables if table.shape[1]]
    if not tables or len(np.unique(np.concatenate(tables, 1)[0])) < 2:
        return (float("nan"),) * 3

    return rank_correlation(tables)


def rank_correlation(tables: Sequence[Float[np.ndarray, "2 row"]]) -> MeanInterval:
    """Spearman's correlation over all rows of all units' tables, with an interval by drawing units anew."""

    def rank(chosen: Sequence[np.ndarray]) -> float:
        both = np.concatenate(chosen, 1)
        if np.ptp(both[0]) == 0 or np.ptp(both[1]) == 0:
            return float("nan")
        return float(np.corrcoef(rankdata(both, axis=1))[0, 1])

    if len(tables) < FEW_UNITS:
        return rank(tables) if tables else float("nan"), float("nan"), float("nan")
    rng = np.random.default_rng(0)
    # Whole units are drawn, since the pairs of positions of one unit share outcomes.
    drawn = [rank([tables[n] for n in rng.integers(len(tables), size=len(tables))]) for _ in range(400)]
    (low,), (high,) = percentile_interval(np.array(drawn)[:, None], least=0)
    return rank(tables), float(low), float(high)


def growth(found: Sequence[Studied], *, relative: bool) -> MeanInterval:
    """Spearman's correlation, over units, of the complexity of outcomes with the size of the field; `relative` to that
    of noise in the same field.
    """
    rows = [
        np.array([[one.ratio], [one.patterns["complexity"] / (one.patterns["noise_complexity"] if relative else 1)]])
        for one in found
    ]
    return rank_correlation([row for row in rows if np.isfinite(row).all()])


def complexities(units: Sequence[Studied]) -> str:
    """For each size of field the mean number of waves, and that of noise."""
    told_of = []
    for ratio in sorted({one.ratio for one in units}):
        rows = [one.patterns for one in units if one.ratio == ratio]
        own, noise = (np.mean([row[name] for row in rows]) for name in ("complexity", "noise_complexity"))
        told_of.append(f"{ratio:.2f}: {own:.0f} of {noise:.0f}")
    return "field over picture and waves: " + ", ".join(told_of)


def verdict_complexity(units: Sequence[Studied]) -> str:
    waves, share = growth(units, relative=False), growth(units, relative=True)
    if np.isnan(waves[1]):
        return "cannot be told: too few units"
    if waves[1] <= 0:
        return "not found"
    if share[1] > 0:
        return "as the paper says"
    return "they grow with the field, and no more than it does"


def tiled_of(units: Sequence[Studied]) -> list[tuple[float, float]]:
    """Tiling of own and of other units' outcomes, where there is both."""
    both = [(one.patterns["tiling"], one.patterns["tiling_strangers"]) for one in units]
    return [pair for pair in both if np.isfinite(pair).all()]


def tilings(units: Sequence[Studied]) -> str:
    both = tiled_of(units)
    return ", ".join(f"{own:.2f} beside {other:.2f}" for own, other in both) or "no field smaller than the picture"


def verdict_tiling(units: Sequence[Studied]) -> str:
    middle, low, _ = student_interval([own - other for own, other in tiled_of(units)])
    if np.isnan(low):
        return "cannot be told: too few units"
    return "as the paper says" if low > 0 else "cannot be told: the interval holds 0" if middle > 0 else "not found"


def indices(units: Sequence[Studied]) -> list[float]:
    return [one.inside["blurred"].index for one in units]


def verdict_small(units: Sequence[Studied]) -> str:
    """Whether the index is 0 for all practical purposes, which an interval that merely contains 0 does not show."""
    middle, low, high = student_interval(indices(units))
    if np.isnan(middle):
        return "cannot be told: no such unit"
    if np.isnan(low):
        return "cannot be told: too few units"
    if low > -LITTLE and high < LITTLE:
        return "as the paper says"
    return "not found: they differ" if low > 0 or high < 0 else f"cannot be told: the interval leaves ±{LITTLE:g}"


def verdict_large(small: Sequence[Studied], large: Sequence[Studied]) -> str:
    middle, low, high = student_interval(indices(large))
    if np.isnan(middle):
        return "cannot be told: no such unit"
    if np.isnan(low):
        return "cannot be told: too few units"
    if low <= 0:
        return "not found: hardly any" if high < LITTLE else "cannot be told: the interval holds 0"
    if not mean_difference(indices(large), indices(small))[1] > 0:
        return "above 0, but not clearly above small fields"
    return "as the paper says" if middle > LITTLE else "as the paper says, but little"


def verdict_fall_off(found: MeanInterval) -> str:
    if np.isnan(found[0]):
        return "cannot be told"
    if np.isnan(found[1]):
        return "cannot be told: too few units"
    return "as the paper says" if found[1] > 0 else "the opposite" if found[2] < 0 else "cannot be told"
