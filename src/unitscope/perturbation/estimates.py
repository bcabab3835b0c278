"""From paired per-image differences to a change with its uncertainty (methods 5). Everything is float64."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int

from unitscope.resampling import Interval, both_intervals, false_discovery, mean_interval, permutation_p

PERMUTATIONS = 2000
"""At least this many permutations; for many classes a hundred for each, so that one class can stand out among all."""

MOST = 20_000
"""At most this many permutations."""

AT_ONCE = 4_000_000
"""Values that are permuted at a time."""


def change(
    differences: Float64[np.ndarray, " stimulus"],
    *,
    clusters: Int[np.ndarray, " stimulus"] | None = None,
    draws: Float64[np.ndarray, " draw"] | None = None,
    generator: np.random.Generator,
) -> Interval:
    """The mean of paired differences with its interval over images, or over `clusters` of images (the photograph that
    they are cut from, the batch that they were in).

    Where units were drawn at random, `draws` are the means of each draw: another draw would have given another mean,
    whatever the images, and the interval is over images and draws.
    """
    found = mean_interval(differences, clusters=clusters, generator=generator)
    # Where nothing changed, draws have nothing to add.
    if draws is None or math.isnan(found.mean) or not differences.any():
        return found
    return both_intervals(found.mean, found, mean_interval(draws, generator=generator)._replace(mean=found.mean))


@dataclass(frozen=True)
class ClassChange:
    """The change in the images of one class, and whether it differs from that of the median class.

    `p` is that of a permutation of images among classes: exact however skewed the differences are, as those of a loss
    are, for which a t-test finds false classes. What happens to all classes alike is the change itself. NaN for fewer
    than two photographs, or where all differences are equal. `q` is p controlled for false discovery over the classes
    that have one.
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
    *,
    photographs: Int[np.ndarray, " stimulus"] | None = None,
    seed: int = 0,
) -> list[ClassChange]:
    """Changes of loss and accuracy by class; `losses` and `hits` are paired differences per image."""
    names = sorted(set(labels.tolist()))
    members = [labels == name for name in names]
    p = class_p(losses, np.searchsorted(names, labels), photographs, generator=np.random.default_rng(seed))
    q = false_discovery(p)
    return [
        ClassChange(str(name), int(m.sum()), float(losses[m].mean()), float(hits[m].mean()), float(a), float(b))
        for name, m, a, b in zip(names, members, p, q, strict=True)
    ]


def class_p(
    differences: Float64[np.ndarray, " stimulus"],
    label: Int[np.ndarray, " stimulus"],
    photographs: Int[np.ndarray, " stimulus"] | None = None,
    *,
    generator: np.random.Generator,
) -> Float64[np.ndarray, " label"]:
    """Two-sided p of each class: the distance of its mean from the median class's, in standard errors, under
    permutation of images among the classes.

    The median is hardly moved by a class that is hurt, which the mean of all others is: then those that are not hurt
    would be found. A photograph counts once, with the mean of its crops. Source: janssen1997, of studentized
    statistics.
    """
    values, label = _of_photographs(differences, label, photographs)
    order = np.argsort(label, kind="stable")
    # Class after class: sums over classes are then sums over slices (`np.add.reduceat`).
    values, sizes = values[order], np.bincount(label)
    defined = (sizes > 1) & (np.count_nonzero(sizes) > 1) & (np.ptp(values) > 0 if len(values) else False)
    if not defined.any():
        return np.full(len(sizes), np.nan)
    own = _away(values[None], sizes)[0]
    count = min(MOST, max(PERMUTATIONS, 100 * len(sizes)))
    under = np.concatenate(list(_permute_differences(values, sizes, count, generator)))
    return np.where(defined, permutation_p(np.abs(own), np.abs(under).T), np.nan)


def _permute_differences(
    values: np.ndarray, sizes: np.ndarray, count: int, generator: np.random.Generator
) -> Iterator[Float64[np.ndarray, "draw label"]]:
    step = max(1, AT_ONCE // len(values))
    for first in range(0, count, step):
        rows = np.tile(values, (min(step, count - first), 1))
        yield _away(generator.permuted(rows, axis=1, out=rows), sizes)


def _away(
    values: Float64[np.ndarray, "draw stimulus"], sizes: Int[np.ndarray, " label"]
) -> Float64[np.ndarray, "draw label"]:
    """The distance of each class's mean from the median of the classes' means, in standard errors; values lie class
    after class. 0 for a class of a single image, and where nothing varies.
    """
    shown = np.flatnonzero(sizes)
    starts, n = (np.cumsum(sizes) - sizes)[shown], sizes[shown].astype(float)
    sums, squares = (np.add.reduceat(power, starts, axis=1) for power in (values, values**2))
    with np.errstate(invalid="ignore", divide="ignore"):
        # Rounding can make a variance of 0 a little negative.
        error = np.sqrt(np.maximum(squares - sums**2 / n, 0) / (n * (n - 1)))
        found = (sums / n - np.median(sums / n, axis=1, keepdims=True)) / error
    t = np.zeros((len(values), len(sizes)))
    # 0 / 0 where a class does not vary and lies at the median. Of a single image the error is not known.
    t[:, shown] = np.where(np.isnan(found) | (n < 2), 0.0, found)
    return t


def _of_photographs(
    values: np.ndarray, label: np.ndarray, photographs: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """The mean of each photograph under each label, and that label."""
    if photographs is None:
        return values, label
    groups, place = np.unique(np.stack([label, photographs]), axis=1, return_inverse=True)
    place = place.ravel()
    return np.bincount(place, weights=values) / np.bincount(place), groups[0]
