"""Tuning curves against their closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import iv

from unitscope.analysis import tuning_curves
from unitscope.resampling import percentile_interval

PHASES = np.arange(32) * 11.25


def von_mises(concentration: float, at: float, *, count: int = 24) -> np.ndarray:
    degrees = np.arange(count) * 180 / count
    return np.exp(concentration * (np.cos(2 * np.radians(degrees - at)) - 1))[:, None]


@pytest.mark.parametrize("offset", [0.0, 2.0, 5.6])
def test_a_half_rectified_sine_has_a_modulation_of_half_pi(offset: float) -> None:
    rates = np.maximum(np.cos(np.radians(PHASES - offset)), 0)[:, None]
    found = tuning_curves.harmonics(rates)
    assert float((found.f1 / found.f0)[0]) == pytest.approx(np.pi / 2, abs=0.01)
    assert float(found.phase[0]) == pytest.approx(offset % 360, abs=1e-6)


def test_eight_phases_are_too_few() -> None:
    """1.657 or 1.531, as the offset will have it: why 32 phases are shown."""
    few = np.arange(8) * 45
    ratios = [
        (lambda h: (h.f1 / h.f0)[0])(tuning_curves.harmonics(np.maximum(np.cos(np.radians(few - o)), 0)[:, None]))
        for o in (0, 22.5)
    ]
    assert sorted(ratios) == pytest.approx([1.531, 1.657], abs=1e-3)


def test_an_energy_unit_is_not_modulated() -> None:
    rates = (np.cos(np.radians(PHASES)) ** 2 + np.sin(np.radians(PHASES)) ** 2)[:, None]
    found = tuning_curves.harmonics(rates)
    assert float(found.f1[0] / found.f0[0]) < 1e-12
    best = tuning_curves.best_condition(tuning_curves.harmonics(rates[None]), np.zeros(1))
    assert not best.simple[0]


@pytest.mark.parametrize("concentration", [0.8, 2.0, 5.0])
def test_a_von_mises_curve_has_the_variance_and_width_of_its_closed_forms(concentration: float) -> None:
    """1 - CV = I1(k) / I0(k); half width at the level h is 0.5 acos(1 + ln(h) / k)."""
    curve = von_mises(concentration, 33.0)
    mean = tuning_curves.resultant(curve, np.arange(24) * 7.5)
    assert float(np.abs(mean)[0]) == pytest.approx(iv(1, concentration) / iv(0, concentration), abs=1e-6)
    assert float(tuning_curves.preferred_orientation(mean)[0]) == pytest.approx(33.0, abs=1e-6)
    width = np.degrees(np.arccos(1 + np.log(tuning_curves.LEVEL) / concentration)) / 2
    assert float(tuning_curves.half_width(curve, smooth=False)[0]) == pytest.approx(width, abs=0.2)


def test_a_curve_that_never_falls_has_no_width() -> None:
    assert np.isnan(tuning_curves.half_width(np.ones((24, 1)) + 0.01 * von_mises(1.0, 0)))[0]


def test_cut_offs_of_a_curve_over_octaves() -> None:
    """A Gaussian over log2 f with a standard deviation of an octave falls to 71 % at 0.8326 octaves."""
    frequencies = np.geomspace(0.02, 0.4, 10)
    curve = np.exp(-(np.log2(frequencies / 0.09) ** 2) / 2)[:, None]
    found = tuning_curves.band(curve, frequencies)
    assert float(found.peak[0]) == pytest.approx(0.09, rel=0.01)
    assert float(found.octaves[0]) == pytest.approx(2 * np.sqrt(np.log(2)), rel=0.02)


def test_a_curve_that_rises_to_the_end_has_no_upper_cut_off() -> None:
    found = tuning_curves.band(np.arange(1.0, 7.0)[:, None], np.geomspace(0.1, 0.4, 6))
    assert np.isnan(found.high[0])
    assert not np.isnan(found.low[0])


def test_redrawn_phases_find_the_same_sine() -> None:
    rates = (3 + 2 * np.cos(np.radians(PHASES - 40)))[None, :, None]
    drawn = tuning_curves.resample_component(rates, np.array([3.0]), np.array([True]), times=50, seed=0)
    assert drawn == pytest.approx(2.0, abs=1e-9)


def test_halves_of_the_phases_agree_for_a_sine_and_not_for_noise() -> None:
    rng = np.random.default_rng(0)
    amplitude = rng.random((40, 1, 1))
    sine = amplitude * np.cos(np.radians(PHASES))[:, None]
    noise = rng.standard_normal((40, 32, 1))
    rest, simple = np.zeros(1), np.array([True])
    assert float(tuning_curves.split_half(sine, rest, simple)[0]) == pytest.approx(1)
    assert float(tuning_curves.split_half(noise, rest, simple)[0]) < 0.6


def test_units_that_hardly_answer_count_as_unresponsive() -> None:
    assert tuning_curves.responsive(np.array([1.0, 0.5, 0.019])).tolist() == [True, True, False]
    assert tuning_curves.responsive(np.zeros(2)).tolist() == [False, False]


def test_direction_selectivity_of_a_static_network_is_nothing() -> None:
    """Averaged over whole cycles, drifting either way shows the same phases: why no direction index is kept."""
    rng = np.random.default_rng(0)
    rates = rng.random((1, 32, 1))
    forth, back = tuning_curves.harmonics(rates), tuning_curves.harmonics(rates[:, ::-1])
    assert forth.f0 == pytest.approx(back.f0)
    assert forth.f1 == pytest.approx(back.f1)


def test_an_interval_is_told_only_where_half_of_the_draws_are_defined() -> None:
    drawn = np.stack([np.arange(40.0), np.where(np.arange(40) < 30, np.nan, 1.0)], axis=1)
    low, high = percentile_interval(drawn)
    assert (float(low[0]), float(high[0])) == pytest.approx((0.975, 38.025))
    assert np.isnan([low[1], high[1]]).all()


def test_redrawn_phases_keep_the_phase() -> None:
    rates = (3 + 2 * np.cos(np.radians(PHASES - 40)))[:, None]
    found = tuning_curves.redraw_phases(rates, times=20, seed=0)
    assert found.phase == pytest.approx(40, abs=1e-6)
    assert found.f1 == pytest.approx(2, abs=1e-9)
