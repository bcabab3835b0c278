"""What colors say of units whose nature we know."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pandas import DataFrame

from tests.analysis.laboratory import session_of
from tests.wiring import gabor, wired
from unitscope.analysis.color_table import color_table
from unitscope.analysis.opponency import (
    CONES,
    Reading,
    Thresholds,
    color_class,
    opponency,
    opponent,
    primary_weights,
)
from unitscope.networks import Network
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


def planted_gray() -> list[torch.Tensor]:
    """A Gabor, a blob, center and surround, and noise, all with red, green and blue alike."""
    noise = torch.randn(1, 9, 9, generator=torch.Generator().manual_seed(0)).expand(3, -1, -1) / 27
    gray = (1.0, 1.0, 1.0)
    return [gabor(60.0, side=9, sigma=2.0, frequency=0.2), spot(gray), spot(gray, width=1.2) - spot(gray), noise]


def test_gray_units_are_not_opponent_though_cones_would_say_so() -> None:
    """The weights of cones are those of R + G + B (the table at the top of analysis/opponency.py)."""
    network = wired(torch.stack(planted_gray()), name="gray", size=32)
    found = color_table([session_of(network, color=True, color_contrast=0.02)])
    assert found[["cone_l", "cone_m", "cone_s"]].to_numpy() == pytest.approx(
        np.array([[0.541, -0.314, 0.144]] * 4), abs=0.03
    )
    assert found["cone_opponency"].tolist() == ["double", "single", "double", "double"]
    assert found["channel_opponency"].tolist() == ["none"] * 4
    assert found["opponency"].tolist() == ["none"] * 4
    assert found["opponency_agreement"].tolist() == [1.0] * 4
    assert found["color_class"].tolist() == ["luminance"] * 4
    assert not found["center_surround"].any()
    assert set(found["opponency_harris"]) <= {"none", "spatial"}


def test_weights_of_one_sign_are_never_opponent() -> None:
    """Of 20 Gabors with random positive weights of red, green and blue, cones alone call most opponent."""
    chance = torch.Generator().manual_seed(0)
    colors = [tuple(torch.rand(3, generator=chance).tolist()) for _ in range(20)]
    network = wired(
        torch.stack([gabor(60.0, side=7, sigma=1.6, frequency=0.2, color=c) for c in colors]), name="positive", size=24
    )
    found = color_table([session_of(network, color=True)])
    assert (found["cone_opponency"] == "double").sum() > 10
    assert (found["opponency"] == "none").all()
    assert (found["color_class"] != "color").all()


class Pooled(torch.nn.Module):
    def __init__(self, kernels: torch.Tensor) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, len(kernels), kernels.shape[2:], padding=kernels.shape[2] // 2)
        self.conv.weight.data, self.conv.bias.data = kernels, torch.zeros(len(kernels))
        self.relu, self.pool = torch.nn.ReLU(), torch.nn.MaxPool2d(3, 1, 1)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.pool(self.relu(self.conv(pictures)))


def test_gray_units_behind_a_pooling_are_not_opponent() -> None:
    """Where phase is lost, and signs are those that foretell the responses to gray and to color."""
    red_cyan = gabor(60.0, side=9, sigma=2.0, frequency=0.2, color=(1.0, -0.5, -0.5))
    module = Pooled(torch.stack([*planted_gray(), red_cyan, spot((1.0, -0.5, -0.5))]))
    network = Network(module.eval(), size=32, mean=(0, 0, 0), std=(1, 1, 1), name="pooled")
    found = color_table([session_of(network, "pool", color=True)])
    assert found["opponency"].tolist() == ["none"] * 4 + ["double", "single"]


def test_planted_units_in_the_channels_terms(found: DataFrame) -> None:
    """S cones alone, as L cones alone, are told by positive weights of all channels."""
    assert found["channel_opponency"].tolist() == ["single", "double", "double", "none", "single", "none", "single"]
    assert found["opponency"].tolist() == ["single", "double", "double", "none", "single", "none", "single"]
    units = [
        spot((1.0, -0.5, -0.5), width=1.2) - spot((1.0, -0.5, -0.5), width=2.4),
        gabor(30.0, side=9, sigma=2.0, frequency=0.2, color=(-1.0, -1.0, 2.0)),
        spot(cone_color((0.0, 0.0, 1.0))),
    ]
    network = wired(torch.stack(units), name="more", size=32)
    more = color_table([session_of(network, color=True)])
    assert more["opponency"].tolist() == ["double", "double", "none"]
    assert more["center_surround"].tolist()[0]


def test_a_unit_is_double_opponent_only_where_no_space_calls_it_single() -> None:
    def reading(*, opposed: bool, low_pass: float, preference: float) -> Reading:
        return Reading(np.zeros((3, 1)), np.array([opposed]), np.array([preference]), np.array([low_pass]))

    flat, edge = (reading(opposed=True, low_pass=x, preference=3.0) for x in (0.5, 0.4))
    neither = reading(opposed=False, low_pass=0.4, preference=np.nan)
    assert [opponency(*pair)[0] for pair in ((edge, edge), (flat, edge), (edge, flat), (edge, neither))] == [
        "double", "single", "single", "none"
    ]  # fmt: skip
    assert color_class(edge, neither)[0] is None


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
    alike = Reading(weights, opponent(weights), np.array([0.4, 1.0, 3.0]), np.zeros(3))
    assert color_class(alike).tolist() == ["luminance", "color-luminance", "color"]
    assert color_class(alike, bound=4).tolist() == ["color-luminance"] * 3
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
