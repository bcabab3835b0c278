"""From paired per-image differences to a change with its uncertainty (methods 5). Everything is float64."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int

RESAMPLES = 2000
"""How many bootstrap samples an interval is made of."""


@dataclass(frozen=True)
class Change:
    """A mean difference with its standard error and its 95 % interval over images."""

    mean: float
    se: float
    low: float
    high: float


def change(
    differences: Float64[np.ndarray, " stimulus"],
    *,
    clusters: Int[np.ndarray, " stimulus"] | None = None,
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
) -> Change:
    """The mean of paired differences, its standard error, and a percentile bootstrap interval over images.

    With `clusters` (the number of the batch of each image) whole clusters are drawn, and the standard error is that of
    a mean of clusters. NaN for no images; no interval for a single image or cluster.
    """
    count = len(differences)
    if not count:
        return Change(math.nan, math.nan, math.nan, math.nan)
    mean = math.fsum(differences) / count
    groups = np.arange(count) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    sums = np.bincount(groups, weights=differences)
    sizes = np.bincount(groups).astype(np.float64)
    number = len(sums)
    if number < 2:
        return Change(mean, math.nan, math.nan, math.nan)
    if not differences.any():  # nothing changed in any image: no resampling can say otherwise
        return Change(0.0, 0.0, 0.0, 0.0)
    se = math.sqrt(number / (number - 1) * float(((sums - mean * sizes) ** 2).sum())) / count
    drawn = generator.multinomial(number, np.full(number, 1 / number), size=resamples).astype(np.float64)
    low, high = np.quantile((drawn @ sums) / (drawn @ sizes), [0.025, 0.975])
    return Change(mean, se, float(low), float(high))


@dataclass(frozen=True)
class ClassChange:
    """The change in the images of one class, with the p of a paired t-test and whether it stands among all classes.

    `p` is NaN where all differences are equal. `q` is p controlled for false discovery over the classes
    (benjamini1995); what has no p counts as 1.
    """

    label: str
    images: int
    delta_loss: float
    delta_top1: float
    p: float
    q: float


def class_changes(
    losses: Float64[np.ndarray, " stimulus"],
    hits: Float64[np.ndarray, " stimulus"],
    labels: np.ndarray,
) -> list[ClassChange]:
    """Changes of loss and accuracy by class; `losses` and `hits` are paired differences per image."""
    names = sorted(set(labels.tolist()))
    members = [labels == name for name in names]
    p = np.array([paired_p(losses[member]) for member in members])
    q = false_discovery(p)
    return [
        ClassChange(str(name), int(m.sum()), float(losses[m].mean()), float(hits[m].mean()), float(a), float(b))
        for name, m, a, b in zip(names, members, p, q, strict=True)
    ]


def paired_p(differences: Float64[np.ndarray, " stimulus"]) -> float:
    """Two-sided p of the paired t-test; NaN for fewer than two images or where all differences are equal."""
    from scipy import stats

    if len(differences) < 2 or np.ptp(differences) == 0:
        return math.nan
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


def false_discovery(p: Float64[np.ndarray, " test"]) -> Float64[np.ndarray, " test"]:
    """p controlled for false discovery, after benjamini1995; undefined p count as 1."""
    from scipy import stats

    known: Bool[np.ndarray, " test"] = np.isfinite(p)
    return np.where(known, stats.false_discovery_control(np.where(known, p, 1.0)), np.nan) if len(p) else p
