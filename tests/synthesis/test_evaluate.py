"""Scores: responses at equal norm, against controls whose answers are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.synthesis.networks import small_resnet
from tests.wiring import wired
from unitscope.errors import BadInput
from unitscope.networks import Network
from unitscope.optima import read_optima
from unitscope.record import Record
from unitscope.recording.survey import survey
from unitscope.synthesis.evaluate import score, shift_eight_ways
from unitscope.synthesis.maximize import maximize
from unitscope.synthesis.objectives import Objective, neuron, unit


def linear_network() -> Network:
    kernels = torch.randn((3, 3, 7, 7), generator=torch.Generator().manual_seed(5))
    network = wired(kernels, [0.5, -1.0, 0.0], name="linear")
    network.mean, network.std = (0.5, 0.5, 0.5), (0.2, 0.25, 0.5)
    return network


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Network, Record]:
    """A linear network that has seen twelve pictures of noise."""
    place = tmp_path_factory.mktemp("scores")
    generator = np.random.default_rng(0)
    (place / "images").mkdir()
    for number in range(12):
        picture = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(picture).save(place / "images" / f"{number}.png")
    network = linear_network()
    return network, survey(network, place / "images", sites=["conv1", "relu"], top=5, to=place / "record", resize=32)


def test_at_low_contrast_the_exact_optimum_of_a_linear_unit_is_rho_times_the_norm_of_its_weights() -> None:
    network = linear_network()
    optima = maximize(network, "conv1:*", recipe="contrast")
    scores = score(network, optima, contrasts=(0.02,)).set_index("channel")
    std = np.asarray(network.std)[:, None, None]
    rho = 0.02 * (3 * 49) ** 0.5
    for channel, bias in enumerate((0.5, -1.0, 0.0)):
        weights = network.module.conv1.weight[channel].detach().numpy() / std
        row = scores.loc[channel]
        assert row.exact == pytest.approx(rho * np.linalg.norm(weights) + bias, rel=1e-4)
        assert row.blank == pytest.approx(bias, abs=1e-5)
        assert 0.9 * (row.exact - bias) < row.response - bias <= 1.0001 * (row.exact - bias)
        assert abs(row.noise - bias) < 0.3 * (row.exact - bias)
        assert row.clipped == 0


def test_a_bent_response_has_no_exact_optimum() -> None:
    network = small_resnet()
    scores = score(network, maximize(network, "layer1.0.add:3", recipe="kobayashi2020"))
    assert scores["exact"].isna().all()
    assert (scores.response > scores.noise).all()
    assert "no record" in scores.why[0]


def test_the_natural_rival_is_the_recorded_patch_at_the_same_norm(recorded: tuple[Network, Record]) -> None:
    network, record = recorded
    row = score(network, maximize(network, "conv1:1"), record=record, natural=1, contrasts=(0.1,)).loc[0]
    best = record.stimuli("conv1:1", pole="preferred").sort_values("rank").iloc[0]
    with Image.open(Path(record.facts["stimuli"]["source"]) / record.images().uri[best.image]) as opened:
        whole = np.asarray(opened, np.float32).transpose(2, 0, 1) / 255
    away = np.zeros((3, 7, 7), np.float32)
    top, left = max(best.top, 0), max(best.left, 0)
    part = whole[:, top : best.bottom, left : best.right] - 0.5
    away[:, top - best.top :, left - best.left :][:, : part.shape[1], : part.shape[2]] = part
    away *= 0.1 * 147**0.5 / np.linalg.norm(away)
    weights = network.module.conv1.weight[1].detach().numpy() / np.asarray(network.std)[:, None, None]
    assert row.natural == pytest.approx(float((away * weights).sum()) - 1.0, rel=1e-3)
    assert row.beats_natural


def test_the_poles_are_mirrored(recorded: tuple[Network, Record]) -> None:
    network, record = recorded
    low = score(network, maximize(network, "conv1:2", pole="antipreferred"), record=record).loc[0]
    high = score(network, maximize(network, "conv1:2"), record=record).loc[0]
    assert low.response < low.natural < 0 < high.natural < high.response
    assert low.beats_natural
    assert low.response == pytest.approx(-high.response, rel=0.02)


def test_a_picture_of_noise_does_not_beat_nature(recorded: tuple[Network, Record]) -> None:
    network, record = recorded
    optima = maximize(network, "conv1:0")
    noise = np.random.default_rng(1).normal(size=optima[0].whitened.shape).astype(np.float32)
    worse = replace(optima, optima=(replace(optima[0], whitened=noise),))
    assert not score(network, worse, record=record).beats_natural[0]


def test_moving_an_optimum_costs_response() -> None:
    row = score(linear_network(), maximize(linear_network(), "conv1:0")).loc[0]
    assert row.shifted < 0.5 * row.response


def test_an_optimum_is_moved_in_eight_directions_and_never_left_in_its_place() -> None:
    """One bright pixel in row 4 and column 6 of 9 x 13, shift_eight_ways by 2 rows and 3 columns."""
    picture = torch.zeros(1, 3, 9, 13)
    picture[:, :, 4, 6] = 1
    there = shift_eight_ways(picture, (2, 3))[:, 0].nonzero()[:, 1:].tolist()
    around = [[row, col] for row in (2, 4, 6) for col in (3, 6, 9) if (row, col) != (4, 6)]
    assert sorted(there) == around


def test_the_record_keeps_the_scores(recorded: tuple[Network, Record]) -> None:
    network, record = recorded
    made = maximize(network, ["relu:0", "conv1:*"], to=record, seeds=2)
    assert made.scores is not None
    assert list(made.scores.objective) == [
        f"{name}" for name in ("relu:0", "conv1:0", "conv1:1", "conv1:2") for _ in "ab"
    ]
    assert made.scores.beats_natural.all()
    assert np.isfinite(made.scores.mean_stimulus).all()
    again = record.optima("conv1:1").scores
    assert again.equals(made.scores[made.scores.objective == "conv1:1"].reset_index(drop=True))
    more = maximize(network, ["conv1:0", "relu:1"], to=record, seeds=2).scores
    assert len(more) == 4
    assert len(read_optima(record.path / "optima" / "contrast-preferred").scores) == 10


def test_a_unit_everywhere_is_scored_against_whole_photographs(recorded: tuple[Network, Record]) -> None:
    network, record = recorded
    row = score(network, maximize(network, "conv1:0", at="all"), record=record).loc[0]
    assert row.natural_n == 5
    assert row.beats_natural


def test_contrasts_are_positive() -> None:
    network = linear_network()
    with pytest.raises(BadInput, match="above 0"):
        score(network, maximize(network, "conv1:0"), contrasts=(0.0,))


@pytest.mark.parametrize(
    "objective",
    [
        neuron("a.b:3"),
        unit("a:1"),
        neuron("a:1@2,3") - 0.5 * unit("a:2"),
        neuron("a:1", at=[(1, 2), (3, 4)]),
        -unit("a:1"),
    ],
)
def test_an_objective_is_read_as_it_prints_itself(objective: Objective) -> None:
    assert Objective.parse(str(objective)) == objective


def test_an_optimum_is_moved_in_eight_directions_and_not_shown_unmoved() -> None:
    picture = torch.rand(1, 3, 6, 7, generator=torch.Generator().manual_seed(0))
    found = shift_eight_ways(picture, (2, 3))
    expected = {}
    for down in (-2, 0, 2):
        for right in (-3, 0, 3):
            one = torch.zeros(3, 6, 7)
            one[:, max(down, 0) : 6 + min(down, 0), max(right, 0) : 7 + min(right, 0)] = picture[
                0, :, max(-down, 0) : 6 - max(down, 0), max(-right, 0) : 7 - max(right, 0)
            ]
            expected[down, right] = one
    del expected[0, 0]
    assert len(found) == 8
    for one in expected.values():
        assert sum(torch.equal(one, other) for other in found) == 1
