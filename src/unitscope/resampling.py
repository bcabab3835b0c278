"""Chance by resampling: p-values of permutations, false discovery. One place for all tests, so that one
simulation (`tests/statistics/`) speaks for all of them.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

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
        value: the statistic of each unit as it is.
        under: the same under permutations.
        tail: "above", "below", or "both": as far from the mean of all of them.
        every: `under` holds every permutation once, that which is given too; then p is r / n.

    NaN for a value that is NaN.
    """
    added, count = (0, under.shape[1]) if every else (1, under.shape[1] + 1)
    if tail == "both":
        middle = (added * value + under.sum(1)) / count
        value, under = np.abs(value - middle), np.abs(under - middle[:, None])
    sign = -1 if tail == "below" else 1
    slack = EQUAL * np.maximum(1, np.abs(value))
    reached = (sign * under >= (sign * value - slack)[:, None]).sum(1)
    return np.where(np.isfinite(value), (added + reached) / count, np.nan)


def false_discovery(p: Float[np.ndarray, " test"]) -> Float[np.ndarray, " test"]:
    """q-values: the share of false ones among all that are called significant down to this one. NaN stays NaN, and is
    none of the tests.

    Source: benjamini1995.
    """
    from scipy.stats import false_discovery_control

    known: Bool[np.ndarray, " test"] = np.isfinite(p)
    q = np.full(len(p), np.nan)
    if known.any():
        q[known] = false_discovery_control(p[known], method="bh")
    return q
