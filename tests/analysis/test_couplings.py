"""Coupling tests against brute force and planted columns (methods 10, check 27)."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest
from scipy import stats

from tests.wiring import gabor
from unitscope.analysis.couplings import (
    Coupling,
    coupling_of,
    coupling_tests,
    orientation_concentration,
    orientations,
    pair_similarity,
    sign_agreement,
    signed_similarity,
    similarity,
    strongest_pairs,
)

ANGLES = np.repeat([0.0, 45.0, 90.0, 135.0], 5)


def gabors(angles: np.ndarray) -> np.ndarray:
    """One kernel of 7 x 7 per angle, at several phases."""
    return np.stack(
        [gabor(a, side=7, sigma=1.8, frequency=0.22, phase=40.0 * i).numpy() for i, a in enumerate(angles)]
    ).astype(np.float64)


def columns(generator: np.random.Generator) -> np.ndarray:
    """Each unit reads the Gabors of one orientation only, with some noise."""
    wanted = np.resize(np.unique(ANGLES), 12)
    strong = (ANGLES[None] == wanted[:, None]) * generator.choice([-1.0, 1.0], (12, len(ANGLES)))
    return strong + 0.02 * generator.standard_normal(strong.shape)


def test_planted_columns_are_found() -> None:
    generator = np.random.default_rng(0)
    whole, each = coupling_tests(gabors(ANGLES), columns(generator), generator=generator, permutations=2000)
    p = dict(zip(whole["test"], whole["p"], strict=True))
    assert max(p["T1"], p["T3"], p["T4"]) < 1e-3
    assert whole.set_index("test").loc["T1", "significant"] == 1
    assert (each[each["test"] == "T1"]["q"] < 0.05).all()


def test_the_order_that_was_found_counts_among_the_permutations() -> None:
    """No p is 0: where no permutation reaches what was found, p is 1 / (1 + permutations)."""
    generator = np.random.default_rng(0)
    whole, each = coupling_tests(gabors(ANGLES), columns(generator), generator=generator, permutations=19)
    assert whole["p"].min() == pytest.approx(1 / 20)
    assert each["p"].min() == pytest.approx(1 / 20)


def test_without_columns_p_is_uniform() -> None:
    generator = np.random.default_rng(1)
    filters = gabors(ANGLES)
    found: dict[str, list[float]] = {"T1": [], "T2": [], "T3": [], "T4": []}
    for _ in range(60):
        mixed = columns(generator)[:4][:, generator.permutation(len(ANGLES))]
        whole, _ = coupling_tests(filters, mixed, generator=generator, permutations=199)
        for test, p in zip(whole["test"], whole["p"], strict=True):
            found[test].append(p)
    for test, values in found.items():
        assert stats.kstest(values, "uniform").pvalue > 0.005, test


def slow(pairs: Coupling, order: tuple[int, ...]) -> list[list[float]]:
    """T1 to T4 of each unit as they are defined, pair by pair."""
    rows = []
    s, c = pairs.similarity[np.ix_(order, order)], pairs.signed[np.ix_(order, order)]
    z = np.asarray(pairs.orientation)[list(order)]
    both = list(combinations(range(len(order)), 2))
    for a in pairs.coupling:
        weight = [abs(a[k] * a[m]) for k, m in both]
        similar = [s[k, m] for k, m in both]
        top = sorted(range(len(both)), key=lambda i: -weight[i])[:5]
        rows.append([
            np.dot(weight, similar) / sum(weight),
            stats.pearsonr([a[k] * a[m] for k, m in both], [c[k, m] for k, m in both]).statistic,
            abs((np.abs(a) * z).sum()) / (np.abs(a) * np.abs(z)).sum(),
            np.mean([similar[i] for i in top]) - np.mean(similar),
        ])  # fmt: skip
    return np.array(rows).T.tolist()


def test_the_statistics_are_what_they_say() -> None:
    generator = np.random.default_rng(2)
    pairs = coupling_of(generator.standard_normal((5, 3, 7, 7)), generator.standard_normal((3, 5)))
    orders = list(permutations(range(5)))[:20]
    fast = [
        f(pairs, np.array(orders))
        for f in (pair_similarity, sign_agreement, orientation_concentration, strongest_pairs)
    ]
    for i, order in enumerate(orders):
        np.testing.assert_allclose([values[:, i] for values in fast], slow(pairs, order), atol=1e-12)


@pytest.mark.parametrize("angle", [0.0, 30.0, 75.0, 90.0, 135.0, 160.0])
def test_the_orientation_of_a_gabor_is_that_of_its_bars(angle: float) -> None:
    z = orientations(gabor(angle, side=15, sigma=3.0).numpy()[None].astype(np.float64))[0]
    found = np.rad2deg(np.angle(z)) / 2 % 180
    assert min(abs(found - angle), 180 - abs(found - angle)) < 1
    assert abs(z) > 0.7


def test_similarity_forgives_phase_and_shift_but_the_signed_one_does_not() -> None:
    filters = np.zeros((3, 1, 7, 7))
    filters[0, 0, 3, 2], filters[1, 0, 4, 4] = 1.0, -1.0
    filters[2, 0, 0, :] = 1.0
    found = similarity(filters)
    assert found[0, 1] == pytest.approx(1)
    assert found[0, 2] < 0.6
    assert signed_similarity(filters)[0, 1] == pytest.approx(np.corrcoef(filters[0].ravel(), filters[1].ravel())[0, 1])


def test_degenerate_filters_are_left_out_and_depthwise_units_undefined() -> None:
    generator = np.random.default_rng(3)
    basis = generator.standard_normal((6, 3, 5, 5))
    basis[2] *= 1e-6
    whole, each = coupling_tests(basis, np.eye(6), generator=generator, permutations=20)
    assert (whole["filters"] == 5).all()
    assert (whole["units"] == 0).all()
    assert whole["p"].isna().all()
    assert each["value"].isna().all()
