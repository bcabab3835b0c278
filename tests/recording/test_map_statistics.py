"""A new number per response map needs one file, and comes with or without the fast path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.recording.fast.test_reader import environment
from tests.recording.pictures import write_many
from tests.recording.test_survey import contents
from unitscope.networks import Network, load
from unitscope.recording.accumulator import Block
from unitscope.recording.map_statistics import REGISTERED, MapStatistic, register
from unitscope.recording.merging import merge
from unitscope.recording.reading import read
from unitscope.recording.survey import survey
from unitscope.stimuli.presentation import Presentation

SITES = ["bn1", "maxpool", "layer2.0.bn2"]


def energy(responses: Tensor) -> Tensor:
    """The mean square of each response map."""
    return responses.square().mean((2, 3))


@dataclass
class LargestEnergy:
    """The largest energy of each unit so far."""

    value: np.ndarray

    def take(self, block: Block) -> None:
        self.value = np.maximum(self.value, np.where(block.counted, block.summaries["energy"], 0).max(0))

    def merge(self, other: LargestEnergy) -> LargestEnergy:
        return LargestEnergy(np.maximum(self.value, other.value))

    def arrays(self) -> dict[str, np.ndarray]:
        return {"value": self.value}

    def restore(self, arrays: Mapping[str, Any]) -> None:
        self.value = arrays["value"]


ENERGY = MapStatistic(
    "energy",
    energy,
    begin=lambda site: LargestEnergy(np.zeros(site.channels, np.float32)),
    finish=lambda kept: kept.value,
)


@pytest.fixture
def registered() -> Iterator[None]:
    register(ENERGY)
    yield
    del REGISTERED["energy"]


@pytest.fixture
def network() -> Network:
    return load("resnet18", width=4, classes=2, size=48, seed=1)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    return write_many(tmp_path / "images", 12)


def largest_energies(network: Network, images: Path) -> np.ndarray:
    """From the responses to all pictures, in full."""
    show = Presentation(network.size).present
    pictures = np.stack([show(path.read_bytes()) for path in sorted(images.iterdir())]).transpose(0, 3, 1, 2)
    responses = read(network, torch.from_numpy(pictures).float() / 255, SITES)
    return np.concatenate([energy(responses[name]).amax(0).numpy() for name in SITES])


@pytest.mark.usefixtures("registered")
def test_a_registered_statistic_is_an_array_of_the_record(network, images, tmp_path):
    record = survey(network, images, to=tmp_path / "fast", sites=SITES)
    assert record.facts["calibration"]["way"] == "quick"
    np.testing.assert_allclose(record.array("energy")[...], largest_energies(network, images), rtol=1e-5)
    with environment(UNITSCOPE_COMPILE="0"):
        survey(network, images, to=tmp_path / "plain", sites=SITES)
    assert contents(tmp_path / "fast") == contents(tmp_path / "plain")


@pytest.mark.usefixtures("registered")
def test_a_registered_statistic_is_merged_from_shards(network, images, tmp_path):
    write_many(images, 260)  # two blocks
    whole = survey(network, images, to=tmp_path / "whole", sites=SITES)
    for part in ("1/2", "2/2"):
        survey(network, images, to=tmp_path / part[0], sites=SITES, shard=part)
    merged = merge([tmp_path / "1", tmp_path / "2"], to=tmp_path / "merged")
    assert np.array_equal(merged.array("energy")[...], whole.array("energy")[...])


def test_without_it_records_are_as_before(network, images, tmp_path):
    assert "energy" not in survey(network, images, to=tmp_path / "r", sites=SITES).to_xarray()


@pytest.mark.usefixtures("registered")
def test_two_statistics_of_one_name_are_refused():
    with pytest.raises(ValueError, match="'energy' already"):
        register(
            MapStatistic("energy", energy, begin=lambda _: LargestEnergy(np.zeros(1)), finish=lambda kept: kept.value)
        )
