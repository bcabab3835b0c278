"""The position study (zipser2015) on a network whose small units are alike everywhere, and whose large one is not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from tests.wiring import gabor, write_folder
from unitscope.cli.app import main
from unitscope.networks import Network
from unitscope.reproductions.zipser2015 import reproduce
from unitscope.reproductions.zipser_studies import Effort, choose_places, sites_of
from unitscope.stimuli.images import open_images

SIDE = 16
SHORT = Effort(units=2, seeds=3, steps=40)


class Switch(nn.Module):
    """Its first layer is linear: a horizontal Gabor, a vertical one, and a constant. Its last unit answers to the first
    one, but to the second where the constant 8 pixels to the left of it lies off the picture.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, padding=1)
        self.second = nn.Conv2d(3, 3, 3, padding=8, dilation=8, bias=False)
        self.third = nn.Conv2d(3, 2, 1)
        self.norm = nn.BatchNorm2d(2)
        self.relu = nn.ReLU()
        self.last = nn.Conv2d(2, 1, 1, bias=False)
        kernels = torch.stack([gabor(0.0, side=3, frequency=0.25), gabor(90.0, side=3, frequency=0.25)])
        with torch.no_grad():
            for part in (self.first, self.third):
                part.weight.zero_()
                part.bias.zero_()
            self.second.weight.zero_()
            self.first.weight[:2] = kernels
            self.first.bias[2] = 1.0
            self.second.weight[0, 0, 1, 1] = self.second.weight[1, 1, 1, 1] = self.second.weight[2, 2, 1, 0] = 1.0
            self.third.weight[:, :, 0, 0] = torch.tensor([[1.0, 0.0, 20.0], [0.0, 1.0, -20.0]])
            self.third.bias[:] = torch.tensor([3.0 - 20.0, 3.0])
            self.last.weight.fill_(1.0)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.last(self.relu(self.norm(self.third(self.second(self.first(pictures))))))


def network() -> Network:
    return Network(Switch(), size=SIDE, mean=(0.5,) * 3, std=(0.25,) * 3, name="switch", weights="by hand")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    generator = torch.Generator().manual_seed(0)
    pictures = [(255 * torch.rand((3, SIDE, SIDE), generator=generator)).byte() for _ in range(6)]
    return write_folder(tmp_path_factory.mktemp("pictures"), {"noise": pictures})


@pytest.fixture(scope="module")
def study(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("study")
    reproduce([network()], folder, to=place, effort=SHORT)
    return place


def test_sites_stand_for_ratios_and_constant_units_are_not_drawn(study: Path) -> None:
    assert [site.name for site in sites_of(network())] == ["first", "last"]
    assert choose_places(sites_of(network())[0]) == [(0, 0), (4, 4), (8, 8), (12, 12)]
    units = pd.read_csv(study / "units.csv")
    own = units[units["network"] == "switch"]
    assert own["unit"].tolist() == ["first:0", "first:1", "last:0"]
    assert own["field_ratio"].tolist() == pytest.approx([3 / 16, 3 / 16, 19 / 16])


def test_the_unit_with_the_large_field_is_specific_to_its_position_and_the_small_ones_are_not(study: Path) -> None:
    units = pd.read_csv(study / "units.csv").set_index("unit").query("network == 'switch'")
    assert units.loc["last:0", "blurred_inside"] > 0.3
    assert abs(units.loc[["first:0", "first:1"], "blurred_inside"]).max() < 0.1
    assert units.loc["last:0", "blurred_inside_p"] < 0.05
    pairs = pd.read_csv(study / "pairs.csv").query("network == 'switch' and row != 0 and other_row != 0")
    by_unit = pairs.groupby("unit")["kept"]
    np.testing.assert_allclose(by_unit.get_group("first:0"), 1, atol=1e-5)
    assert by_unit.get_group("last:0").min() < 0.9


def test_the_report_says_so(study: Path) -> None:
    report = json.loads((study / "report.json").read_text())
    claims = {claim["what"]: claim for claim in report["claims"]}
    too_few = "switch: cannot be told: too few units"
    assert claims["Units with small fields respond to the same at all positions"]["verdict"] == too_few
    large = next(claim for what, claim in claims.items() if "as large as the picture" in what)
    assert large["verdict"] == too_few
    assert "1 of 1 units with p < 0.05 (by chance 0.1)" in large["found"]
    assert " waves: " not in claims["Optimal stimuli grow more complex with the size of the field"]["paper"]
    assert "0.19: " in claims["Optimal stimuli grow more complex with the size of the field"]["found"]
    tiled = claims["Driven at all positions, a unit tiles the picture with its pattern"]["found"]
    assert " beside " in tiled
    assert "switch, untrained" in report["circumstances"]
    files = [figure["file"] for figure in report["figures"]]
    assert files == ["index.png", "transfer.png", "outcomes-switch-first-0.png", "outcomes-switch-last-0.png"]
    for file in files:
        assert (study / file).read_bytes().startswith(b"\x89PNG")


def test_patterns_are_measured_in_the_table(study: Path) -> None:
    """Only the first unit of a site has a tiled outcome, and only a field smaller than the picture can be tiled."""
    units = pd.read_csv(study / "units.csv").query("network == 'switch'").set_index("unit")
    assert units.loc["first:0", ["tiling", "tiling_strangers"]].between(-1, 1).all()
    assert units.loc[["first:1", "last:0"], "tiling"].isna().all()
    assert (units["complexity"] < units["noise_complexity"]).all()


def test_what_is_there_is_not_searched_for_again(study: Path, folder: Path) -> None:
    before = (study / "units.csv").read_bytes()
    heard: list[str] = []
    reproduce([network()], folder, to=study, effort=SHORT, progress=lambda what, *_: heard.append(what))
    assert heard == []
    assert (study / "units.csv").read_bytes() == before


def test_the_verb_repeats_the_study(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(open_images(folder)) == 6
    words = ["reproduce", "zipser2015", str(folder), "--to", str(tmp_path), "--size", "16", "--mean", "0.5,0.5,0.5"]
    with pytest.raises(SystemExit) as done:
        main([*words, "--models", "tests.reproductions.test_zipser2015:Switch"])
    assert done.value.code == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "Does it matter where on the picture a neuron looks?" in told
    assert (tmp_path / "index.html").is_file()
