"""How strongly responses speak for a category: indices of selectivity, side by side (methods 6.2 and 6.4).

All take responses [unit stimulus] and which stimuli are of the category [stimulus], and give a number per unit, NaN
where it is undefined. The units are independent of each other.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

Responses = Float[np.ndarray, "unit stimulus"]
Members = Bool[np.ndarray, " stimulus"]
PerUnit = Float[np.ndarray, " unit"]


def selectivity(inside: Float[np.ndarray, " unit"], outside: Float[np.ndarray, " unit"]) -> PerUnit:
    """The index of the dog study: m_C / (m_C + m_O), of the mean rectified response inside and outside the category.

    0.5 is chance, 1 means all response is to the category, 0 none. It depends neither on the responses' scale nor on
    how many images there are of either kind. NaN for a unit that never answers above zero.
    Unlike the paper, which gives no formula: this is the one that meets all it says of it (1 = only that category,
    categories of any size); its threshold 0.65 stands for a ratio of 1.86, 2/3 for 2.
    """
    return _over(inside, inside + outside)


def face_selectivity(inside: Float[np.ndarray, " unit"], outside: Float[np.ndarray, " unit"]) -> PerUnit:
    """FSI = (m_C - m_O) / (m_C + m_O) of the same means, -1 to 1; a third is twice the response.

    Source: freiwald2010. It is 2 selectivity - 1.
    """
    return _over(inside - outside, inside + outside)


def proportion(
    inside: Float[np.ndarray, " unit"], outside: Float[np.ndarray, " unit"], *, prevalence: float
) -> PerUnit:
    """Share of all rectified response that goes to the category. Chance is the category's prevalence, so that it
    depends on how many images there are of each kind.
    """
    part = inside * prevalence
    return _over(part, part + outside * (1 - prevalence))


def d_prime(responses: Responses, inside: Members) -> PerUnit:
    """(m_C - m_O) / sqrt((s_C^2 + s_O^2) / 2) of the responses themselves, in standard deviations (of a sample).

    Source: vinken2023. NaN where neither varies, or where there are fewer than two images of a kind.
    """
    if min(inside.sum(), (~inside).sum()) < 2:
        return np.full(len(responses), np.nan)
    of, against = (responses[:, which].astype(np.float64) for which in (inside, ~inside))
    return _over(of.mean(1) - against.mean(1), np.sqrt((of.var(1, ddof=1) + against.var(1, ddof=1)) / 2))


def auroc(ranks: Responses, inside: Members) -> PerUnit:
    """How often an image of the category has the higher response, of all pairs with one of another; ties count half.

    `ranks` are each unit's ranks of the stimuli, the mean rank where responses are equal (scipy's `rankdata`). 0.5 is
    chance, and the measure is free of thresholds, scales and sizes.
    """
    n, others = int(inside.sum()), int((~inside).sum())
    if not n or not others:
        return np.full(len(ranks), np.nan)
    return (ranks[:, inside].sum(1) - n * (n + 1) / 2) / (n * others)


def class_selectivity(means: Float[np.ndarray, "unit label"]) -> tuple[PerUnit, Int[np.ndarray, " unit"]]:
    """(m_max - m_rest) / (m_max + m_rest), of each unit's highest mean of a class against the mean of all other
    classes' means; and which class that is (-1 where undefined).

    Source: morcos2018. 0: all classes alike, 1: one class only. Unlike the paper, the means are of whatever is given;
    there they are of rectified responses averaged over the lattice.
    """
    if means.shape[1] < 2:
        return np.full(len(means), np.nan), np.full(len(means), -1)
    defined = np.isfinite(means).all(1)
    best = np.where(defined, np.where(defined[:, None], means, 0).argmax(1), -1)
    highest = means.max(1)
    rest = (means.sum(1) - highest) / (means.shape[1] - 1)
    index = _over(highest - rest, highest + rest)
    return index, np.where(np.isfinite(index), best, -1)


def _over(part: np.ndarray, whole: np.ndarray) -> PerUnit:
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)
