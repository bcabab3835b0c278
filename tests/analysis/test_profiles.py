"""What kernels and pictures say of a unit, against what they were made of."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.wiring import gabor
from unitscope.analysis.fits import difference_fit, gabor_fit
from unitscope.analysis.profiles import chromatic_energy, colors_of, fourier_peak, profile_numbers, separate_color
from unitscope.stimuli.color import CONES_OF_LINEAR, direction

RED_CYAN = (1.0, -0.5, -0.5)


def kernels(*made: torch.Tensor) -> np.ndarray:
    return torch.stack(made).double().numpy()


def spot(color: tuple[float, ...] = (1.0, 1.0, 1.0), *, side: int = 15, width: float = 2.0) -> torch.Tensor:
    axis = torch.arange(side, dtype=torch.float64) - side // 2
    round_ = torch.exp(-(axis[:, None] ** 2 + axis[None, :] ** 2) / (2 * width**2))
    return round_ / round_.sum() * torch.tensor(color, dtype=torch.float64)[:, None, None]


def cone_color(weights: tuple[float, float, float]) -> tuple[float, ...]:
    """Red, green and blue of a unit that weighs the cones so."""
    return tuple((np.array(weights) @ CONES_OF_LINEAR).tolist())


def pure_gabor(orientation: float, *, frequency: float, phase: float, across: float, along: float, x: float, y: float):
    """A Gabor function as the fit writes it, on 21 x 25 pixels."""
    rows, cols = np.mgrid[10:-11:-1, -12:13]
    turn = np.radians(orientation)
    dx, dy = cols - x, rows - y
    u, v = dy * np.cos(turn) - dx * np.sin(turn), dx * np.cos(turn) + dy * np.sin(turn)
    hill = np.exp(-(u**2) / (2 * across**2) - v**2 / (2 * along**2))
    return hill * np.cos(2 * np.pi * frequency * u + np.radians(phase))


@pytest.mark.parametrize("orientation", [0.0, 33.7, 90.0, 121.3, 176.0])
def test_the_fourier_peak_of_a_gabor_kernel(orientation: float) -> None:
    """Of a Gabor without a hill's own shift of the peak: 3 cycles in the envelope."""
    profile = pure_gabor(orientation, frequency=0.25, phase=90, across=3.0, along=3.0, x=0, y=0)[None]
    peak = fourier_peak(profile)
    assert (float(peak.orientation[0]) - orientation + 90) % 180 - 90 == pytest.approx(0, abs=0.1)
    assert float(peak.frequency[0]) == pytest.approx(0.25, rel=0.005)
    sigma = 1 / (2 * np.pi * 3.0)  # of the peak in cycles per pixel; 71 % at 0.8326 of it on either side
    low, high = 0.25 - 0.83255 * sigma, 0.25 + 0.83255 * sigma
    assert float(peak.octaves[0]) == pytest.approx(np.log2(high / low), abs=0.02)
    assert float(peak.selectivity[0]) > 0.8


def test_a_gabor_function_is_fitted_by_itself() -> None:
    made = {"frequency": 0.11, "phase": 310.0, "across": 2.5, "along": 4.2, "x": 1.3, "y": -0.8}
    profile = 0.3 * pure_gabor(27.0, **made)
    peak = fourier_peak(profile[None])
    fit = gabor_fit(profile, orientation=float(peak.orientation[0]), frequency=float(peak.frequency[0]))
    assert fit.explained == pytest.approx(1, abs=1e-9)
    assert fit.values == pytest.approx({"orientation": 27.0, "amplitude": 0.3, **made}, abs=1e-4)
    assert fit.bic < difference_fit(profile).bic


def test_a_gabor_that_was_begun_the_other_way_round_has_the_same_phase() -> None:
    profile = pure_gabor(170.0, frequency=0.15, phase=60.0, across=3, along=3, x=0, y=0)
    for begun in (-10.0, 170.0):
        values = gabor_fit(profile, orientation=begun, frequency=0.15).values
        assert (values["orientation"], values["phase"]) == pytest.approx((170.0, 60.0), abs=1e-3)


def test_a_difference_of_gaussians_is_fitted_by_itself() -> None:
    square = (np.mgrid[-9:10, -9:10] ** 2).sum(0)
    center, around = (np.exp(-square / (2 * s**2)) / (2 * np.pi * s**2) for s in (1.5, 3.0))
    profile = 2 * center - 1.7 * around
    fit = difference_fit(profile)
    expected = {"x": 0, "y": 0, "center": 1.5, "surround": 3.0, "center_weight": 2.0, "surround_weight": -1.7}
    assert fit.explained == pytest.approx(1, abs=1e-9)
    assert fit.values == pytest.approx(expected, abs=1e-4)
    found = profile_numbers(np.stack([profile] * 3)[None], "weights")
    assert found["shape"].tolist() == ["difference of Gaussians"]
    assert float(found["orientation_selectivity"][0]) < 0.02


def test_chromatic_energy_is_nothing_for_gray_and_all_for_red_against_cyan() -> None:
    found = chromatic_energy(kernels(gabor(20.0), gabor(20.0, color=RED_CYAN), gabor(20.0, color=(1.0, 0.0, 0.0))))
    assert found == pytest.approx([0, 1, 2 / 3], abs=1e-6)


def test_a_kernel_of_one_color_is_separable_and_one_of_two_profiles_is_not() -> None:
    both = gabor(20.0, color=RED_CYAN) + gabor(110.0)
    parts = separate_color(kernels(gabor(20.0, color=RED_CYAN), both))
    assert float(parts.separability[0]) == pytest.approx(1, abs=1e-6)
    assert float(parts.separability[1]) < 0.8
    assert parts.color[0] == pytest.approx(np.array(RED_CYAN) / np.sqrt(1.5), abs=1e-6)
    assert (parts.color[0][:, None, None] * parts.profile[0]) == pytest.approx(
        gabor(20.0, color=RED_CYAN).double().numpy(), abs=1e-7
    )


@pytest.mark.parametrize("angle", [3.0, 47.0, 95.0, 170.0])
def test_the_axis_of_a_planted_hue_is_found(angle: float) -> None:
    """As weights: those that answer to the two axes as the hue's cosine and sine. As colors: the hue itself."""
    dual = np.linalg.inv(np.stack([direction(name) for name in ("luminance", "l-m", "s")], axis=1))
    weights = np.cos(np.radians(angle)) * dual[1] + np.sin(np.radians(angle)) * dual[2]
    assert float(colors_of(kernels(spot(tuple(weights))), "weights").hue[0]) == pytest.approx(angle, abs=1e-6)
    assert float(colors_of(kernels(spot(direction(f"hue:{angle}"))), "colors").hue[0]) == pytest.approx(angle, abs=1e-6)


def test_planted_opponents_are_told_by_their_weights_alone() -> None:
    red_green = cone_color((1.0, -1.0, 0.0))
    planted = kernels(
        spot(red_green),
        gabor(60.0, color=red_green).double(),
        spot(red_green, width=1.2) - spot(red_green, width=2.4),
        gabor(60.0, color=cone_color((0.4, 0.6, 0.0))).double(),
        spot(cone_color((-0.5, -0.5, 1.0))),
        spot(cone_color((1.0, 0.0, 0.0)), width=1.5) - spot(cone_color((0.0, 1.0, 0.0)), width=3.0),
    )
    found = colors_of(planted, "weights")
    assert found.opponency.tolist()[:5] == ["single", "double", "double", "none", "single"]
    assert found.cones[:, 0] == pytest.approx([0.5, -0.5, 0], abs=1e-6)
    assert found.cones[:, 4] == pytest.approx([-0.25, -0.25, 0.5], abs=1e-6)
    assert found.balance[:3] == pytest.approx([1, 0, 0], abs=0.05)
    assert found.cone_correlation[:2] == pytest.approx([-1, -1], abs=1e-6)
    assert float(found.cone_correlation[5]) < 0  # center of one cone, surround of the other


def test_gray_kernels_are_not_opponent_though_cones_would_say_so() -> None:
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 15, 15))).expand(3, -1, -1)
    found = colors_of(kernels(gabor(60.0), spot(), noise), "weights")
    assert found.cones[:, 0] == pytest.approx([0.541, -0.314, 0.144], abs=1e-3)
    assert found.opponency.tolist() == ["none"] * 3
    reddish = kernels(*(gabor(60.0, color=color) for color in [(1.0, 0.5, 0.3), (0.3, 1.0, 0.1), (0.1, 0.2, 1.0)]))
    assert colors_of(reddish, "weights").opponency.tolist() == ["none"] * 3


def test_blank_pictures_have_no_numbers() -> None:
    found = profile_numbers(np.zeros((1, 3, 9, 9)), "weights")
    assert found["opponency"].tolist() == [None]
    assert found["shape"].tolist() == [None]
    numbers = np.array([v[0] for v in found.values() if v.dtype.kind == "f"])
    assert np.isnan(numbers).all()


def test_a_flat_profile_has_no_orientation_but_a_color() -> None:
    found = profile_numbers(np.ones((1, 3, 9, 9)) * np.array(RED_CYAN)[:, None, None], "weights")
    assert np.isnan(found["orientation"][0])
    assert float(found["chromatic_energy"][0]) == pytest.approx(1)
    assert found["opponency"].tolist() == ["single"]
