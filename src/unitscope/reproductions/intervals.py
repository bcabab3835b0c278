"""Means of a few values with intervals that hold for few, too."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import t as student

MeanInterval = tuple[float, float, float]
"""An estimate, and the bounds of its 95 % interval."""


def student_interval(values: Sequence[float] | np.ndarray) -> MeanInterval:
    """The mean with its interval by Student's t, which holds for few values, too; values that are not defined are left
    out. NaN where none is, and no interval for fewer than three.
    """
    known = np.asarray([value for value in values if np.isfinite(value)], dtype=float)
    if not len(known):
        return (float("nan"),) * 3
    half = float("nan")
    if len(known) > 2:
        half = float(student.ppf(0.975, len(known) - 1) * known.std(ddof=1) / np.sqrt(len(known)))
    return float(known.mean()), float(known.mean()) - half, float(known.mean()) + half


def mean_difference(ones: Sequence[float], others: Sequence[float]) -> MeanInterval:
    """The mean of ones less that of others with its interval by Welch's t; none for fewer than three."""
    (one, low, _), (other, low_other, _) = student_interval(ones), student_interval(others)
    if np.isnan(low) or np.isnan(low_other):
        return one - other, float("nan"), float("nan")
    known = [np.asarray([v for v in values if np.isfinite(v)]) for values in (ones, others)]
    parts = [values.var(ddof=1) / len(values) for values in known]
    # Welch and Satterthwaite.
    freedom = sum(parts) ** 2 / max(sum(p**2 / (len(v) - 1) for p, v in zip(parts, known, strict=True)), 1e-300)
    half = float(student.ppf(0.975, max(freedom, 1)) * np.sqrt(sum(parts)))
    return one - other, one - other - half, one - other + half


def describe_interval(value: MeanInterval) -> str:
    middle, low, high = value
    if np.isnan(middle):
        return "not defined"
    return f"{middle:.2f} (too few for an interval)" if np.isnan(low) else f"{middle:.2f} ({low:.2f} to {high:.2f})"
