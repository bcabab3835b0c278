"""Does a channel stay itself from one site to another? Statistics of a similarity matrix of channels (methods 8).

Row c and column c of the matrix are the same channel at two sites. If channels are shared, the diagonal stands out:

               other  0    1    2
    unit 0           .9   .1   .0       same (on the diagonal)    .8
         1           .1   .7   .2       other (off it)            .1
         2           .0   .2   .8       advantage                 .7
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from unitscope.resampling import mean_interval, permutation_p, pseudo_values

if TYPE_CHECKING:
    from jaxtyping import Float, Int

PERMUTATIONS = 10_000
RESAMPLES = 10_000
CHUNK = 1000


@dataclass(frozen=True)
class Identity:
    """How far the same channel (the diagonal) stands out from others.

    `same` and `other`: mean similarity on and off the diagonal; `advantage`, their difference, with a 95 % interval
    over channels and a permutation's one-sided `p`; `identified`: share of channels whose own
    counterpart is the most similar one (chance 1 / channels); `reciprocal_rank`: mean of 1 / rank of the counterpart;
    `auc`: chance that a diagonal value exceeds one off it; `matched`: mean similarity under the best one-to-one
    matching (Hungarian), `kept_by_matching` the share of channels that it leaves in place. NaN where fewer than three
    channels are defined at both sites.
    """

    channels: int
    same: float
    other: float
    advantage: float
    ci_low: float
    ci_high: float
    p: float
    identified: float
    reciprocal_rank: float
    auc: float
    matched: float
    kept_by_matching: float


def identity(
    similarity: Float[np.ndarray, "unit other"],
    *,
    generator: np.random.Generator,
    permutations: int = PERMUTATIONS,
    resamples: int = RESAMPLES,
) -> Identity:
    """All statistics of one similarity matrix; channels without a defined similarity to themselves are left out."""
    kept = np.isfinite(np.diag(similarity))
    matrix = np.nan_to_num(similarity[np.ix_(kept, kept)])
    count = len(matrix)
    if count < 3:
        return Identity(count, *[float("nan")] * 11)
    same, other = means(matrix)
    low, high = advantage_interval(matrix, generator, resamples)
    ranks = rank_of_same(matrix)
    rows, cols = best_matching(matrix)
    return Identity(
        channels=count,
        same=same,
        other=other,
        advantage=same - other,
        ci_low=low,
        ci_high=high,
        p=identity_p(matrix, generator, permutations),
        identified=float((ranks == 1).mean()),
        reciprocal_rank=float((1 / ranks).mean()),
        auc=auc(matrix),
        matched=float(matrix[rows, cols].mean()),
        kept_by_matching=float((rows == cols).mean()),
    )


def means(matrix: Float[np.ndarray, "unit unit"]) -> tuple[float, float]:
    """Mean similarity of the same channel, and of two different ones."""
    count = len(matrix)
    trace = float(np.trace(matrix))
    return trace / count, float((matrix.sum() - trace) / (count * (count - 1)))


def rank_of_same(matrix: Float[np.ndarray, "unit unit"]) -> Float[np.ndarray, " unit"]:
    """For each row the rank of its diagonal value, 1 the largest; ties share the mean of their ranks."""
    own = np.diag(matrix)[:, None]
    return 1 + (matrix > own).sum(1) + ((matrix == own).sum(1) - 1) / 2


def auc(matrix: Float[np.ndarray, "unit unit"]) -> float:
    """The chance that a value on the diagonal exceeds one off it, ties as half (Mann and Whitney)."""
    from scipy.stats import rankdata

    count = len(matrix)
    ranks = rankdata(matrix).reshape(matrix.shape)
    others = count * (count - 1)
    return float((np.trace(ranks) - count * (count + 1) / 2) / (count * others))


def best_matching(
    matrix: Float[np.ndarray, "unit unit"],
) -> tuple[Int[np.ndarray, " unit"], Int[np.ndarray, " unit"]]:
    """Rows and columns of the one-to-one matching of channels with the highest sum (Hungarian)."""
    from scipy.optimize import linear_sum_assignment

    rows, cols = linear_sum_assignment(matrix, maximize=True)
    return rows, cols


def identity_p(matrix: Float[np.ndarray, "unit unit"], generator: np.random.Generator, permutations: int) -> float:
    """One-sided p of the diagonal's sum against sums with channels in random order.

    The advantage rises and falls with the sum of the diagonal, since the sum of the matrix stays.
    """
    count = len(matrix)
    under = []
    for first in range(0, permutations, CHUNK):
        # Sorting random numbers gives a random permutation, one per row.
        orders = generator.random((min(CHUNK, permutations - first), count)).argsort(1)
        under.append(matrix[np.arange(count), orders].sum(1))
    return float(permutation_p(np.trace(matrix)[None], np.concatenate(under)[None])[0])


def advantage_interval(
    matrix: Float[np.ndarray, "unit unit"], generator: np.random.Generator, resamples: int
) -> tuple[float, float]:
    """95 % of the advantage over channels, from what each channel contributes to it (see `pseudo_values`)."""
    same, other = means(matrix)
    values = pseudo_values(same - other, advantages_without_one(matrix))
    found = mean_interval(values, generator=generator, resamples=resamples)
    return found.low, found.high


def advantages_without_one(matrix: Float[np.ndarray, "unit unit"]) -> Float[np.ndarray, " unit"]:
    """The advantage of all channels but one, for each of them."""
    count, own = len(matrix), np.diag(matrix)
    off = matrix - np.diag(own)
    # Leaving out channel c removes row c and column c. `off` is 0 on its diagonal, so nothing is subtracted twice.
    others = (off.sum() - off.sum(0) - off.sum(1)) / ((count - 1) * (count - 2))
    found: Float[np.ndarray, " unit"] = (own.sum() - own) / (count - 1) - others
    return found
