"""Virtual filters of a network, kept in a record: settings, chains, untrained copies, the verb, and stories."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from tests.recording.pictures import write_many
from unitscope.analysis.couplings import couplings, filter_array, read_filters
from unitscope.anatomy.filters import strongest_taps
from unitscope.anatomy.site_graph import graph_of
from unitscope.cli.app import main
from unitscope.errors import BadInput, UnknownName
from unitscope.networks import Network, load, resnet
from unitscope.record import Record, open_record
from unitscope.recording.filter_tables import filters, followers
from unitscope.recording.survey import survey
from unitscope.stimuli.images import open_images

SITES = ["conv1", "maxpool", "layer2.0.downsample.*", "layer2.0.add"]
SECOND = "layer2.0.downsample.0"


def small(seed: int = 0) -> Network:
    return load("resnet18", width=4, classes=3, size=32, seed=seed)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_many(tmp_path_factory.mktemp("pictures"), 4)


@pytest.fixture(scope="module")
def record(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Record:
    return survey(small(), pictures, to=tmp_path_factory.mktemp("filtering") / "record", sites=SITES, top=1)


def test_the_record_keeps_what_was_found_and_that_of_untrained_copies(record: Record) -> None:
    found = filters(small(), record=record, baselines=2)
    assert list(found) == ["layer1.0.conv1", "layer1.1.conv1", "layer2.0.conv1", SECOND]
    kept = read_filters(record)
    assert [(one["site"], one["seed"]) for one in kept if one["site"] == SECOND] == [
        (SECOND, None), (SECOND, 0), (SECOND, 1),
    ]  # fmt: skip
    number = next(i for i, one in enumerate(kept) if (one["site"], one["seed"]) == (SECOND, None))
    assert kept[number]["chain"] == ["conv1", SECOND]
    assert kept[number]["shown_at"] == [SECOND, "layer2.0.downsample.1", "layer2.0.add"]
    own = found[SECOND]
    for name in ("pictures", "basis", "coupling"):
        np.testing.assert_allclose(filter_array(record, number, name), getattr(own.filters, name), rtol=1e-6)
    np.testing.assert_allclose(filter_array(record, number, "cosine"), own.cosine)
    assert np.isnan(filter_array(record, number + 4, "error")).all()  # of untrained copies it is not asked
    assert filter_array(record, number + 4, "pictures").std() > 0


def test_the_tests_of_couplings_are_written_beside(record: Record) -> None:
    filters(small(), SECOND, record=record, baselines=1)
    whole, units = couplings(record, permutations=40)
    assert whole[["site", "test"]].drop_duplicates().values.tolist() == [[SECOND, f"T{i}"] for i in (1, 2, 3, 4)]
    assert whole["seed"].isna().sum() == 4
    pd.testing.assert_frame_equal(pd.read_parquet(record.path / "filters.parquet"), whole, check_dtype=False)
    assert len(pd.read_parquet(record.path / "couplings.parquet")) == len(units) == 4 * 8
    again, _ = couplings(record, permutations=40)
    pd.testing.assert_frame_equal(again, whole)


def test_a_chain_goes_through_two_down_samplings() -> None:
    network = small()
    found = filters(network, ["layer3.0.downsample.0"])["layer3.0.downsample.0"].filters
    assert found.chain == ("conv1", SECOND, "layer3.0.downsample.0")
    first, second, third = (network.module.get_submodule(name).weight.detach().double() for name in found.chain)
    mixed = third[:, :, 0, 0] @ second[:, :, 0, 0]
    np.testing.assert_allclose(found.pictures, torch.einsum("pk,kcij->pcij", mixed, first))


def test_folding_multiplies_the_gains_in() -> None:
    network = small()
    norm = network.module.bn1
    norm.weight.data.uniform_(0.5, 2)
    plain, folded = (filters(network, SECOND, folded=one)[SECOND].filters for one in (False, True))
    gain = (norm.weight / (norm.running_var + norm.eps).sqrt()).detach().double().numpy()
    np.testing.assert_allclose(folded.basis, plain.basis * gain[:, None, None, None], rtol=1e-6)
    np.testing.assert_allclose(folded.coupling, plain.coupling)


def test_channels_count_by_their_standard_deviation_over_images(pictures: Path) -> None:
    network = small()
    found = filters(network, SECOND, images=pictures)[SECOND].filters
    heard: list[torch.Tensor] = []
    network.module.layer1.register_forward_hook(lambda _module, _read, value: heard.append(value.double()))
    images = open_images(pictures)
    from unitscope.stimuli.presentation import Presentation

    for number in range(len(images)):
        shown = torch.from_numpy(Presentation(network.size).present(images.bytes(number))).permute(2, 0, 1)
        with torch.no_grad():
            network(shown[None].float() / 255)
    spread = torch.cat(heard).transpose(0, 1).flatten(1).std(1, correction=0).numpy()
    taps = strongest_taps(network.module.layer2[0].downsample[0].weight.detach()).double().numpy()
    np.testing.assert_allclose(found.coupling, taps * spread, rtol=1e-4)
    assert found.weighted


def test_followers_end_at_the_first_addition() -> None:
    found = followers(graph_of(small()), "layer1.0.conv2")
    assert found == ["layer1.0.conv2", "layer1.0.bn2", "layer1.0.add", "layer1.0.relu_1"]


def test_stories(record: Record, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"'max_taps'.*max_tap"):
        filters(small(), mode="max_taps")
    with pytest.raises(UnknownName, match=r"layer2\.0\.downsample\.0"):
        filters(small(), "layer2.0.downsampl.0")
    with pytest.raises(BadInput, match=r"layer1\.0\.bn1 is no convolution"):
        filters(small(), "layer1.0.bn1")
    with pytest.raises(BadInput, match="reads the picture itself"):
        filters(small(), "conv1")
    with pytest.raises(BadInput, match=r"with the weights \w{8}; .* Give the network that was surveyed"):
        filters(small(seed=1), record=record)
    bare = Network(nn.Sequential(nn.Conv2d(3, 2, 3)), size=16, mean=(0.5,) * 3, std=(0.5,) * 3)
    with pytest.raises(BadInput, match="no convolution of this network reads the first one's filters"):
        filters(bare)
    other = survey(small(), write_many(tmp_path, 1), to=tmp_path / "record", sites=["conv1"], top=1)
    with pytest.raises(BadInput, match="keeps no filters; `unitscope filters MODEL"):
        couplings(other)


def verb(*words: str) -> int:
    with pytest.raises(SystemExit) as done:
        main(["filters", *words])
    return int(done.value.code or 0)


def test_the_verb_prints_both_tables_in_eighty_columns(pictures, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    module = resnet("resnet18", width=4, classes=3)
    torch.save(module.state_dict(), tmp_path / "w.pt")
    model = ["resnet18", "--weights", str(tmp_path / "w.pt"), "--size", "32"]
    network = load("resnet18", str(tmp_path / "w.pt"), size=32)
    survey(network, pictures, to=tmp_path / "record", sites=SITES, top=1)
    words = [*model, "--record", str(tmp_path / "record"), "--untrained", "1", "--permutations", "50"]
    assert verb(*words, "--fold", "--weigh-by", str(pictures)) == 0
    told = capsys.readouterr().out
    assert max(map(len, told.split("\n\nThe record")[0].splitlines())) <= 80
    for expected in (
        SECOND,
        "batch normalization folded in",
        "untrained z",
        "T4: the strongest pairs",
        "Next: unitscope",
    ):
        assert expected in " ".join(told.split())
    about = json.loads((tmp_path / "record" / "filters.json").read_text())
    assert {(one["folded"], one["weighted"], one["mode"]) for one in about} == {(True, True, "max_tap")}
    assert open_record(tmp_path / "record").path.is_dir()

    assert verb(*words, "--sites", "layer1.0.relu") == 2
    assert "layer1.0.relu is no convolution" in capsys.readouterr().err
    assert verb(*words, "--mode", "maximal") == 2
    assert "max_tap" in capsys.readouterr().err
    assert verb(*words[:-6], "--record", str(tmp_path / "absent")) == 2
    assert "absent" in capsys.readouterr().err
