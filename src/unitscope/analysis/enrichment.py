"""What stands at the two ends of a unit's responses: shares of a category, and whether chance gives as much.

An end is the set of images with the highest, or the lowest, responses; [unit image], true for those in it.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

MOST = 1000
"""Images at an end, as in the dog study ..."""

SHARE = 0.05
"""... but at most this share of all."""

Ends = Bool[np.ndarray, "unit image"]
PerUnit = Float[np.ndarray, " unit"]


def size_of_end(images: int) -> int:
    """How many images make an end: 1000, or 5 % where there are fewer than 20,000; at least one."""
    return max(1, min(MOST, int(images * SHARE)))


def end(responses: Float[np.ndarray, "unit image"], *, highest: bool, count: int) -> Ends:
    """The `count` highest (or lowest) responses of each unit.

    Where several are equal at the border none of these is in: who came first must not decide. So an end may be smaller,
    and a unit that answers to all alike has none.
    """
    signed = responses if highest else -responses
    if count >= signed.shape[1]:
        return np.ones(signed.shape, dtype=bool)
    border = np.partition(signed, signed.shape[1] - count - 1, axis=1)[:, signed.shape[1] - count - 1]
    return signed > border[:, None]


def enrichment_p(
    hits: Int[np.ndarray, " unit"],
    drawn: Int[np.ndarray, " unit"],
    *,
    members: int,
    images: int,
    tail: Literal["above", "below"] = "above",
) -> PerUnit:
    """The chance of so many members of a category, or more ("below": or fewer), among as many images drawn blindly.

    Hypergeometric: without replacement from `images`, of which `members` are of the category. NaN where none is drawn.
    It takes images for independent; those of one class are not, so that random groups of classes are the stricter
    control.
    """
    from scipy.stats import hypergeom

    law = hypergeom(images, members, drawn)
    p = law.sf(hits - 1) if tail == "above" else law.cdf(hits)
    return np.where(drawn > 0, np.clip(p, 0, 1), np.nan)


def false_discovery(p: PerUnit) -> PerUnit:
    """q-values: the share of false ones among all that are called significant down to this one. NaN stays NaN.

    Source: benjamini1995.
    """
    from scipy.stats import false_discovery_control

    q, known = np.full(len(p), np.nan), np.isfinite(p)
    if known.any():
        q[known] = false_discovery_control(p[known], method="bh")
    return q


def dichotomy(preferred: PerUnit, antipreferred: PerUnit) -> PerUnit:
    """The smaller of the two shares over the larger: 1 where the category stands at both ends alike, 0 where at one
    only.
    """
    low, high = np.minimum(preferred, antipreferred), np.maximum(preferred, antipreferred)
    return np.divide(low, high, out=np.full(len(low), np.nan), where=high > 0)


def overlap(one: Ends, other: Ends) -> PerUnit:
    """Jaccard's index of two ends: images in both over images in either."""
    either = (one | other).sum(1)
    both = (one & other).sum(1).astype(float)
    return np.divide(both, either, out=np.full(len(either), np.nan), where=either > 0)


def evenness(counts: Int[np.ndarray, "unit label"]) -> PerUnit:
    """Entropy of the labels at an end over that of equal shares: 1 where all labels stand there alike, 0 where one
    does. NaN where none does, and for a category of one label.
    """
    total = counts.sum(1, keepdims=True)
    if counts.shape[1] < 2:
        return np.full(len(counts), np.nan)
    shares = counts / np.maximum(total, 1)
    entropy = -(shares * np.log(np.where(shares > 0, shares, 1))).sum(1)
    return np.where(total[:, 0] > 0, np.clip(entropy / np.log(counts.shape[1]), 0, 1), np.nan)
