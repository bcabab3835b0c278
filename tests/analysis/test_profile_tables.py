"""The pictures that a record keeps of its units, read as linear fields."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.recording.pictures import write_many
from tests.wiring import gabor
from unitscope.analysis import profile_tables
from unitscope.analysis.measures import TABLES, measure
from unitscope.networks import Network
from unitscope.record import Record
from unitscope.recording.filter_tables import filters
from unitscope.recording.survey import survey
from unitscope.synthesis.maximize import maximize

ANGLES = [20.0, 65.0, 110.0, 155.0]
STD = (0.2, 0.25, 0.3)


def network() -> Network:
    """Gray Gabor units in pixel values, whatever the normalization; behind them a convolution that swaps channels."""
    kernels = torch.stack([gabor(angle, frequency=0.2, sigma=1.6, side=9) for angle in ANGLES])
    module = nn.Sequential(nn.Conv2d(3, 4, 9, bias=False, padding=4), nn.Conv2d(4, 4, 1, bias=False))
    with torch.no_grad():
        module[0].weight.copy_(kernels * torch.tensor(STD)[:, None, None])
        module[1].weight.copy_(torch.eye(4).flip(0)[:, :, None, None])
    return Network(module, size=24, mean=(0.5, 0.4, 0.3), std=STD, name="two")


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    folder = tmp_path_factory.mktemp("profiles")
    (folder / "pictures").mkdir()
    made = survey(network(), write_many(folder / "pictures", 80), to=folder / "record", sites=["0", "1"])
    filters(network(), ["1"], record=made)
    maximize(network(), ["0:*"], to=made)
    measure(made)
    return made


def off(found: object, expected: list[float]) -> np.ndarray:
    return np.abs((np.asarray(found) - np.array(expected) + 90) % 180 - 90)


@pytest.mark.parametrize(("name", "site", "angles"), [("kernel", "0", ANGLES), ("virtual_filter", "1", ANGLES[::-1])])
def test_kernels_and_virtual_filters_are_read_in_pixel_values(
    record: Record, name: str, site: str, angles: list[float]
) -> None:
    table = record.measures(name)
    table = table[table["site"] == site]
    assert table["channel"].tolist() == [0, 1, 2, 3]
    assert off(table[f"{name}_orientation"], angles).max() < 1
    assert table[f"{name}_chromatic_energy"].abs().max() < 1e-6  # gray, though the weights of the three colors differ
    assert table[f"{name}_gabor_explained"].min() > 0.99
    assert table[f"{name}_shape"].tolist() == ["gabor"] * 4


def test_optimal_stimuli_have_the_orientation_of_the_unit(record: Record) -> None:
    table = record.measures("optimum")
    assert off(table["optimum_orientation"], ANGLES).max() < 3


def test_mean_stimuli_lean_towards_it_and_have_no_numbers_where_they_are_few(record: Record, tmp_path: Path) -> None:
    table = record.measures("mean_stimulus")
    assert set(table["site"]) == {"0", "1"}
    assert table["mean_stimulus_orientation"].between(0, 180).all()
    few = survey(network(), write_many(tmp_path, 8), to=tmp_path / "record", sites=["0"])
    assert profile_tables.mean_stimulus(few) is None
    assert profile_tables.virtual_filter(few) is None
    assert profile_tables.optimum(few) is None


def test_every_column_says_what_it_is(record: Record) -> None:
    for table in profile_tables.PROFILES:
        columns = set(record.measures(table.name).columns) - {"unit", "site", "channel"}
        assert columns == {column.name for column in table.columns}
        assert TABLES[table.name] is table


def test_a_network_of_one_input_channel_has_no_color(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    gray = [profile_tables.Some("0", np.arange(4), gabor(30.0)[:1].double().numpy()[None].repeat(4, 0))]
    monkeypatch.setattr(profile_tables, "_kernels", lambda _: iter(gray))
    table = profile_tables.kernel(record)
    assert table is not None
    assert off(table["kernel_orientation"], [30.0] * 4).max() < 1
    assert not [name for name in table.columns if "cone" in name or "chromatic" in name]
