"""Means with intervals, and verdicts that do not follow from an interval's being wide."""

from __future__ import annotations

import numpy as np
import pytest

from unitscope.reproductions.intervals import describe_interval, mean_difference, student_interval
from unitscope.reproductions.zipser_studies import Studied
from unitscope.reproductions.zipser_verdicts import (
    rank_correlation,
    verdict_complexity,
    verdict_fall_off,
    verdict_large,
    verdict_small,
    verdict_tiling,
)
from unitscope.synthesis.position_similarity import Specificity


class Wired(Studied):
    """A unit of which only what verdicts read is known."""

    field = 1.0

    @property
    def ratio(self) -> float:
        return self.field


def unit(*, index: float = 0.0, field: float = 1.0, **patterns: float) -> Wired:
    made = object.__new__(Wired)
    known = {"inside": {"blurred": Specificity(3, index)}, "patterns": patterns, "field": field}
    for name, value in known.items():
        object.__setattr__(made, name, value)
    return made


def units(*indices: float) -> list[Wired]:
    return [unit(index=index) for index in indices]


def test_intervals_of_six_units_hold_the_mean_in_95_of_100_draws() -> None:
    rng = np.random.default_rng(0)
    held = [low <= 0 <= high for _, low, high in (student_interval(rng.standard_normal(6)) for _ in range(2000))]
    assert 0.935 < np.mean(held) < 0.965
    held = [
        low <= 1 <= high
        for _, low, high in (
            mean_difference((1 + rng.standard_normal(6)).tolist(), (3 * rng.standard_normal(6)).tolist())
            for _ in range(2000)
        )
    ]
    assert 0.93 < np.mean(held) < 0.97


def test_too_few_values_have_no_interval() -> None:
    middle, low, high = student_interval([0.0, 1.0, float("nan")])
    assert middle == 0.5
    assert np.isnan([low, high]).all()
    assert describe_interval((0.5, low, high)) == "0.50 (too few for an interval)"
    assert np.isnan(student_interval([float("nan")])[0])
    assert describe_interval(student_interval([])) == "not defined"
    table = np.array([[1.0, 2.0], [3.0, 5.0]])
    assert np.isnan(rank_correlation([table] * 9)[1])
    assert rank_correlation([table] * 10) == pytest.approx((1, 1, 1))
    assert np.isnan(rank_correlation([])[0])


def test_a_wide_interval_is_no_agreement() -> None:
    assert verdict_small(units(0.01, -0.01, 0.02, 0.0)) == "as the paper says"
    assert verdict_small(units(0.5, -0.6, 0.3, -0.1)).startswith("cannot be told")
    assert verdict_small(units(0.3, 0.31, 0.32)) == "not found: they differ"
    assert verdict_small(units(0.0, 0.0)) == "cannot be told: too few units"
    assert verdict_small([]) == "cannot be told: no such unit"


def test_large_fields_are_specific_only_above_0_and_above_small_ones() -> None:
    none, much, wide = units(0.0, 0.01, -0.01), units(0.4, 0.42, 0.41), units(0.6, -0.2, 0.1)
    assert verdict_large(none, much) == "as the paper says"
    assert verdict_large(much, much) == "above 0, but not clearly above small fields"
    assert verdict_large(none, wide) == "cannot be told: the interval holds 0"
    assert verdict_large(none, none) == "not found: hardly any"
    assert verdict_large(none, units(0.05, 0.06, 0.07)) == "as the paper says, but little"
    assert verdict_large(none, units(0.4)) == "cannot be told: too few units"


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        ((0.3, 0.1, 0.5), "as the paper says"),
        ((0.3, -0.1, 0.6), "cannot be told"),
        ((-0.3, -0.6, -0.1), "the opposite"),
        ((0.3, float("nan"), float("nan")), "cannot be told: too few units"),
        ((float("nan"),) * 3, "cannot be told"),
    ],
)
def test_correlations_with_fall_off_are_judged_by_their_interval(interval: tuple, said: str) -> None:
    assert verdict_fall_off(interval) == said


def test_complexity_grows_as_the_paper_says_where_it_outgrows_the_field() -> None:
    def grown(power: float) -> list[Wired]:
        fields = np.linspace(0.1, 2, 20)
        return [unit(field=f, complexity=f**power, noise_complexity=f**2) for f in fields.tolist()]

    assert verdict_complexity(grown(3)) == "as the paper says"
    assert verdict_complexity(grown(1)) == "they grow with the field, and no more than it does"
    assert verdict_complexity(grown(-1)) == "not found"
    assert verdict_complexity(grown(3)[:5]) == "cannot be told: too few units"


def test_tiling_is_judged_against_other_units() -> None:
    def tiled(*pairs: tuple[float, float]) -> list[Wired]:
        return [unit(tiling=own, tiling_strangers=other) for own, other in pairs]

    assert verdict_tiling(tiled((0.8, 0.2), (0.9, 0.3), (0.7, 0.2))) == "as the paper says"
    assert verdict_tiling(tiled((0.8, 0.2), (0.1, 0.3), (0.4, 0.2))) == "cannot be told: the interval holds 0"
    assert verdict_tiling(tiled((0.1, 0.2), (0.1, 0.3), (0.1, 0.2))) == "not found"
    assert verdict_tiling(tiled((0.8, 0.2), (float("nan"), 0.3))) == "cannot be told: too few units"
