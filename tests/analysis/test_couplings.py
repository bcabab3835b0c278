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
    remove_strengths,
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


def test_one_kind_of_filter_that_all_read_twice_as_strongly_is_not_found() -> None:
    """Which channels are read is not which are read together."""
    generator = np.random.default_rng(5)
    plain = generator.standard_normal((12, len(ANGLES)))
    doubled = plain * np.where(ANGLES == 45, 2.0, 1.0) * generator.uniform(0.5, 2, (12, 1))
    tables = [coupling_tests(gabors(ANGLES), a, generator=np.random.default_rng(0), permutations=199)
              for a in (plain, doubled)]  # fmt: skip
    for one, other in zip(*tables, strict=True):
        np.testing.assert_allclose(one["p"], other["p"], rtol=1e-9)
        np.testing.assert_allclose(one["value"], other["value"], rtol=1e-9)


def test_the_tests_are_two_sided() -> None:
    """Units that read each orientation once: what is read together is not similar."""
    generator = np.random.default_rng(6)
    apart = np.array([[1.0 if k % 5 == u % 5 else 0.2 for k in range(len(ANGLES))] for u in range(30)])
    apart *= np.exp(0.1 * generator.standard_normal(apart.shape)) * generator.choice([-1, 1], apart.shape)
    whole, _ = coupling_tests(gabors(ANGLES), apart, generator=generator, permutations=999)
    first = whole.set_index("test").loc["T1"]
    assert first["z"] < -2
    assert first["p"] < 0.05


def test_couplings_of_zero_are_left_out() -> None:
    """Two groups of channels, each read by half of the units: what a unit cannot read says nothing."""
    generator = np.random.default_rng(7)
    coupling = generator.standard_normal((8, 6))
    coupling[:4, 3:] = coupling[4:, :3] = 0
    z = remove_strengths(coupling)
    np.testing.assert_array_equal(np.isnan(z), coupling == 0)
    np.testing.assert_allclose(z[:4, :3], remove_strengths(coupling[:4, :3]), atol=1e-9)


def slow(pairs: Coupling, order: tuple[int, ...]) -> list[list[float]]:
    """T1 to T4 of each unit as they are defined, pair by pair."""
    rows = []
    s, c = pairs.similarity[np.ix_(order, order)], pairs.signed[np.ix_(order, order)]
    angles = np.asarray(pairs.orientation)[list(order)]
    both = list(combinations(range(len(order)), 2))
    logs = np.log(np.abs(pairs.coupling))
    rest = logs - logs.mean(1, keepdims=True) - logs.mean(0, keepdims=True) + logs.mean()
    for a, z in zip(pairs.coupling, rest / rest.std(0), strict=True):
        similar = [s[k, m] for k, m in both]
        b = np.sign(a) * np.exp(z)
        top = sorted(range(len(both)), key=lambda i: -sum(z[list(both[i])]))[:5]
        rows.append([
            np.cov([z[k] * z[m] for k, m in both], similar, ddof=0)[0, 1] / np.std(similar),
            stats.pearsonr([b[k] * b[m] for k, m in both], [c[k, m] for k, m in both]).statistic,
            abs((np.exp(z) * angles).sum()) / (np.exp(z) * np.abs(angles)).sum(),
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
