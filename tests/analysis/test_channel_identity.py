"""Does a channel stay itself? Planted answers and brute force (methods 10, checks 49 to 52)."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from unitscope.analysis.channel_identity import (
    advantage_interval,
    advantages_without_one,
    auc,
    best_matching,
    identity,
    identity_p,
    means,
    rank_of_same,
)


def profiles(units: int = 24, *, seed: int = 0) -> np.ndarray:
    """Random preferences of so many channels, of length 1."""
    drawn = np.random.default_rng(seed).standard_normal((units, 200))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def found_in(matrix: np.ndarray, *, permutations: int = 2000) -> object:
    return identity(matrix, generator=np.random.default_rng(1), permutations=permutations, resamples=500)


def test_an_identity_stream_is_identified_completely() -> None:
    x = profiles()
    found = found_in(x @ x.T)
    assert found.same == pytest.approx(1)
    assert (found.identified, found.auc, found.reciprocal_rank, found.kept_by_matching) == (1, 1, 1, 1)
    assert found.p < 1e-3
    assert 0.9 < found.ci_low <= found.advantage <= found.ci_high


def test_permuted_channels_are_at_chance_and_the_matching_finds_them() -> None:
    x = profiles(60)
    order = np.roll(np.arange(60), 1)
    matrix = x @ x[order].T
    found = found_in(matrix)
    assert found.identified == 0
    assert found.p > 0.05
    assert found.ci_low < 0 < found.ci_high or abs(found.advantage) < 0.1
    assert found.matched == pytest.approx(1)
    assert (order[best_matching(matrix)[1]] == np.arange(60)).all()


def test_more_of_a_branch_means_less_identity() -> None:
    generator = np.random.default_rng(2)
    x, branch = generator.standard_normal((20, 4000)), generator.standard_normal((20, 4000))
    mixed = [np.maximum(x + e * branch, 0) for e in (0, 0.5, 1, 2, 4, 16)]
    advantages = [found_in(np.corrcoef(x, y)[:20, 20:]).advantage for y in mixed]
    assert (np.diff(advantages) < 0).all()


def test_statistics_against_brute_force() -> None:
    generator = np.random.default_rng(3)
    matrix = generator.standard_normal((9, 9)).round(1)  # with ties
    own = np.diag(matrix)
    others = matrix[~np.eye(9, dtype=bool)]
    assert auc(matrix) == pytest.approx(stats.mannwhitneyu(own, others).statistic / (9 * 72))
    slow = [stats.rankdata(-row)[i] for i, row in enumerate(matrix)]
    np.testing.assert_allclose(rank_of_same(matrix), slow)
    found = found_in(matrix)
    assert found.advantage == pytest.approx(own.mean() - others.mean())
    assert found.reciprocal_rank == pytest.approx(np.mean([1 / rank for rank in slow]))


def test_the_permutation_is_exact_in_the_small() -> None:
    """With three channels there are six orders; the diagonal's sum is the largest of them."""
    matrix = np.array([[3.0, 0, 0], [0, 2.0, 0], [0, 0, 1.0]])
    assert identity_p(matrix, np.random.default_rng(0), 6000) == pytest.approx(1 / 6, abs=0.02)


def test_the_interval_is_over_what_each_channel_contributes() -> None:
    matrix = np.random.default_rng(0).standard_normal((12, 12))
    for channel, found in enumerate(advantages_without_one(matrix)):
        same, other = means(np.delete(np.delete(matrix, channel, 0), channel, 1))
        assert found == pytest.approx(same - other)
    alike = np.full((12, 12), 0.25) + 0.5 * np.eye(12)
    assert advantage_interval(alike, np.random.default_rng(0), 200) == (pytest.approx(0.5), pytest.approx(0.5))


def test_without_sharing_p_is_uniform() -> None:
    generator = np.random.default_rng(4)
    p = [identity_p(generator.standard_normal((12, 12)), generator, 199) for _ in range(150)]
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_channels_without_a_value_are_left_out_and_too_few_are_undefined() -> None:
    x = profiles(10)
    matrix = x @ x.T
    matrix[3] = matrix[:, 3] = np.nan
    assert found_in(matrix).channels == 9
    matrix[2:] = np.nan
    found = found_in(matrix)
    assert found.channels == 2
    assert np.isnan(found.advantage)
    assert np.isnan(found.p)
