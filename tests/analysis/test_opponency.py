"""What colors say of units whose nature we know."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pandas import DataFrame

from tests.analysis.laboratory import session_of
from tests.wiring import gabor, wired
from unitscope.analysis.opponency import CONES, Thresholds, color_class, color_table, opponent, primary_weights
from unitscope.stimuli.color import CONES_OF_LINEAR, direction

LUMINANCE = tuple(np.array([0.2126729, 0.7151522, 0.0721750]))
"""Of a unit that sees light as the observer does: for small contrasts pixel values go with linear light."""


def spot(color: tuple[float, float, float], *, side: int = 9, width: float = 2.0) -> torch.Tensor:
    axis = torch.arange(side, dtype=torch.float64) - side // 2
    round_ = torch.exp(-(axis[:, None] ** 2 + axis[None, :] ** 2) / (2 * width**2))
    return (round_ / round_.sum() * torch.tensor(color, dtype=torch.float64)[:, None, None]).float()


def cone_color(weights: tuple[float, float, float]) -> tuple[float, float, float]:
    """Red, green and blue of a unit that weighs the cones so."""
    return tuple(float(value) for value in np.array(weights) @ CONES_OF_LINEAR)  # type: ignore[return-value]


@pytest.fixture(scope="module")
def found() -> DataFrame:
    red_green = cone_color((1.0, -1.0, 0.0))
    units = [
        spot(red_green),  # 0 single-opponent
        gabor(60.0, color=red_green, side=9, sigma=2.0, frequency=0.2),  # 1 double-opponent, side by side
        spot(red_green, width=1.2) - spot(red_green, width=2.4),  # 2 double-opponent, center and surround
        gabor(60.0, color=LUMINANCE, side=9, sigma=2.0, frequency=0.2),  # 3 luminance
        spot(cone_color((-0.5, -0.5, 1.0))),  # 4 single-opponent, blue against yellow
        gabor(60.0, color=(1.0, 1.0, 1.0), side=9, sigma=2.0, frequency=0.2),  # 5 gray, in the network's terms
        spot((1.0, -0.5, -0.5)),  # 6 red against cyan
    ]
    network = wired(torch.stack(units), name="opponents", size=32)
    return color_table([session_of(network, color=True, color_contrast=0.02)])


def test_planted_units_are_classified(found: DataFrame) -> None:
    assert found["opponency"].tolist()[:5] == ["single", "double", "double", "none", "single"]
    assert found["responsive"].all()


def test_color_and_luminance_are_told_apart(found: DataFrame) -> None:
    assert found["color_class"].tolist()[:4] == ["color", "color", "color", "luminance"]
    assert float(found["color_preference"][3]) < 0.05
    assert float(found["low_pass"][0]) == pytest.approx(1, abs=0.01)
    assert float(found["low_pass"][1]) < 0.05


def test_cone_weights_of_planted_units(found: DataFrame) -> None:
    weights = found[["cone_l", "cone_m", "cone_s"]].to_numpy()
    assert weights[0] == pytest.approx([0.5, -0.5, 0], abs=0.06)
    assert weights[4] == pytest.approx([-0.25, -0.25, 0.5], abs=0.06)
    assert weights[3] == pytest.approx([0.361, 0.639, 0], abs=0.06)
    assert np.abs(weights).sum(1) == pytest.approx(1)


def test_what_is_gray_to_the_network_is_no_luminance_unit_to_an_observer(found: DataFrame) -> None:
    """Equal weights of red, green and blue: gray in pixel values, and yet driven by L - M at equal luminance."""
    assert float(found["channel_preference"][5]) < 1e-3
    assert found["channel_opponency"][5] == "none"
    assert float(found["color_preference"][5]) > 2
    assert found[["channel_red", "channel_green", "channel_blue"]].to_numpy()[5] == pytest.approx([1 / 3] * 3, abs=1e-3)


def test_what_is_gray_draws_nothing_from_a_red_cyan_unit(found: DataFrame) -> None:
    assert float(found["channel_preference"][6]) > 100
    assert found["channel_opponency"][6] == "single"


@pytest.mark.parametrize("angle", [0.0, 25.0, 90.0, 140.0])
def test_the_axis_of_a_planted_hue_is_found_within_a_degree(angle: float) -> None:
    """A unit that weighs colors by a hue's place on the two axes, at little contrast, where light goes with pixels."""
    dual = np.linalg.inv(np.stack([direction(name) for name in ("luminance", "l-m", "s")], axis=1))
    color = np.cos(np.radians(angle)) * dual[1] + np.sin(np.radians(angle)) * dual[2]
    network = wired(spot(tuple(color / np.abs(color).max()))[None], [5.0], name="hue", size=24)
    measured = float(color_table([session_of(network, color=True, color_contrast=0.01)])["hue_axis"][0])
    assert (measured - angle + 90) % 180 - 90 == pytest.approx(0, abs=1.0)


def test_surrounds_tell_double_opponents(found: DataFrame) -> None:
    assert found["center_surround"].tolist()[:3:2] == [False, True]


def test_thresholds_are_the_readers_choice() -> None:
    weights = np.array([[0.55, 0.6], [-0.05, -0.3], [0.4, 0.1]])
    assert opponent(weights).tolist() == [False, True]
    assert opponent(weights, least=0.04).tolist() == [True, True]
    assert color_class(np.array([0.4, 1.0, 3.0])).tolist() == ["luminance", "color-luminance", "color"]
    assert Thresholds().low_pass == 0.5


def test_signs_of_a_unit_without_phase_are_those_that_foretell_luminance_and_color() -> None:
    """A complex unit with L against M: strong for L - M, weak for luminance."""
    sizes = {"l": 0.5, "m": 0.5, "s": 0.0}
    luminance = 3**-0.5 * abs(0.5 - 0.5)
    red_green = 0.8705 * 0.5 + 0.4922 * 0.5
    responses = np.array([luminance, red_green, sizes["s"], sizes["l"], sizes["m"]])[:, None]
    found = primary_weights(np.zeros((5, 1), complex) + 1e-9, responses, np.array([False]), CONES)
    assert found[:, 0] == pytest.approx([0.5, -0.5, 0.0])


def test_the_criterion_of_harris() -> None:
    """Opponent in color: red against cyan with a baseline above zero; in space: a Gabor, likewise."""
    units = [
        spot((1.0, -0.5, -0.5)),
        gabor(60.0, side=9, sigma=2.0, frequency=0.2),
        gabor(30.0, side=9, color=(1.0, -0.6, -0.3)),
    ]
    network = wired(torch.stack(units), [0.2, 0.5, 2.0], name="harris", size=24)
    assert color_table([session_of(network, color=True)])["opponency_harris"].tolist() == [
        "spectral",
        "spatial",
        "spatial",
    ]
    network = wired(torch.stack([spot((1.0, -0.5, -0.5)) + gabor(30.0, side=9)]), [0.5], name="both", size=24)
    assert color_table([session_of(network, color=True)])["opponency_harris"].tolist() == ["double"]


def test_classes_of_planted_units_are_stable(found: DataFrame) -> None:
    assert found["opponency_agreement"].to_numpy()[:5] == pytest.approx(1, abs=0.05)
    assert found["color_class_agreement"].to_numpy()[:4] == pytest.approx(1, abs=0.05)
    assert found["reliability"].to_numpy() == pytest.approx(1, abs=0.02)
    for name in ("color_preference", "low_pass"):
        assert (found[f"{name}_low"] <= found[name] * 1.001 + 3e-3).all()
        assert (found[name] <= found[f"{name}_high"] * 1.001 + 3e-3).all()
