"""Comparing records: means on the part that both sites see, stages, untrained copies, and stories."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from tests.wiring import write_folder
from unitscope.analysis.channel_sharing import (
    Means,
    along_skips,
    compare,
    mean_similarity,
    pairs_of,
    stages,
    titles_of,
)
from unitscope.atlas_pages.sharing_figures import write_sharing_figures
from unitscope.errors import BadInput, UnknownName
from unitscope.networks import Network, resnet
from unitscope.random_copies import untrained
from unitscope.record import Record, open_record
from unitscope.recording.channel_correlations import sharing
from unitscope.recording.filter_tables import filters
from unitscope.recording.survey import survey
from unitscope.vocabulary import Box

SITES = ["bn1", "maxpool", "layer*.bn1", "layer*.bn2", "layer*.add"]


def small(*, plain: bool = False) -> Network:
    """A residual network of two blocks a stage, or its plain twin, whose branches are weak."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = resnet("plainnet18" if plain else "resnet18", width=6, classes=3)
    for name, part in module.named_modules():
        if name.endswith("bn2") and not plain:
            nn.init.constant_(part.weight, 0.2)
    return Network(module, size=32, mean=(0.5,) * 3, std=(0.25,) * 3, name="plain" if plain else "resnet")


def write_waves(folder: Path, count: int) -> Path:
    """Pictures of smooth noise, half of them labeled a and half b."""
    generator = torch.Generator().manual_seed(5)
    waves = torch.nn.functional.interpolate(torch.rand(count, 3, 8, 8, generator=generator), size=32, mode="bilinear")
    return write_folder(folder, {"a": list(waves[: count // 2]), "b": list(waves[count // 2 :])})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_waves(tmp_path_factory.mktemp("images"), 40)


@pytest.fixture(scope="module")
def records(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    home = tmp_path_factory.mktemp("records")
    kept = [s for s in SITES if s != "layer*.bn2"]
    return [
        survey(small(), str(folder), to=home / "resnet", sites=kept, top=2, resize=32),
        survey(small(plain=True), str(folder), to=home / "plain", sites=SITES[:-1], top=2, resize=32),
    ]


def test_stages_follow_the_skips_and_find_their_places_in_the_plain_twin(records: list[Record]) -> None:
    assert along_skips(records[0])[0] == ["maxpool", "layer1.0.add", "layer1.1.add"]
    first = stages(records)[0]
    assert first[0] == ["maxpool", "layer1.0.add", "layer1.1.add"]
    assert first[1] == ["maxpool", "layer1.0.bn2", "layer1.1.bn2"]
    assert stages(records, ["layer2.?.bn1"])[0] == [["layer2.0.bn1", "layer2.1.bn1"]] * 2
    with pytest.raises(UnknownName, match=r"layer1\.0\.ad"):
        stages(records, ["layer1.0.ad"])
    with pytest.raises(BadInput, match="is a sum behind a skip"):
        stages(records[1:])


def test_the_residual_network_shares_channels_and_its_twin_does_not(records: list[Record], tmp_path: Path) -> None:
    table = compare(*records, to=tmp_path / "out", least=1, permutations=300)
    by = table.set_index(["network", "first", "second"])
    assert by.loc[("resnet", "layer1.0.add", "layer1.1.add"), "p"] < 0.02
    assert by.loc[("resnet", "layer1.0.add", "layer1.1.add"), "advantage"] > 0.4
    assert abs(by.loc[("plain", "layer1.0.bn2", "layer1.1.bn2"), "advantage"]) < 0.35
    assert ("resnet | plain", "layer1.0.add", "layer1.0.bn2") in by.index
    again = pd.read_parquet(tmp_path / "out" / "sharing.parquet")
    np.testing.assert_array_equal(again["advantage"], table["advantage"])
    channels = pd.read_parquet(tmp_path / "out" / "channels.parquet")
    assert {"same", "rank", "matched"} <= set(channels)
    made = write_sharing_figures(records, table, folder=tmp_path / "figures", least=1)
    assert all(path.stat().st_size > 2000 for path in made)
    assert len(made) > 4


def test_responses_of_a_record_and_of_its_untrained_copies(records: list[Record], folder: Path) -> None:
    measured = sharing(small(), str(folder), record=records[0], baselines=1)
    at_first = measured[measured["site"] == "layer1.0.add"]
    assert len(at_first) == 6
    assert (at_first["skip_fraction"] > 0.5).all()
    found = list(pairs_of([open_record(records[0].path)], means=False))
    assert {pair.what for pair in found} == {"response", "branch"}
    assert {pair.seed for pair in found} == {None, 0}
    first = next(p for p in found if (p.first, p.second, p.seed) == ("maxpool", "layer1.0.relu_1", None))
    own = np.diag(first.similarity)
    assert np.nanmean(own) > 0.6
    assert 0 < first.alignment <= 1 + 1e-9
    table = compare(records[0], means=False, permutations=100)
    assert set(table["what"]) == {"response", "branch"}


def test_no_skips_need_names_and_other_weights_are_refused(records: list[Record], folder: Path) -> None:
    with pytest.raises(BadInput, match=r"plain has no skips\. Name the sites"):
        sharing(small(plain=True), str(folder), record=records[1])
    with pytest.raises(UnknownName, match=r"layer9"):
        sharing(small(plain=True), str(folder), record=records[1], sites="layer9.*")
    other = untrained(small(), seed=3)
    with pytest.raises(BadInput, match="weights or preprocessing differ"):
        filters(other, record=records[0])
    sharing(small(plain=True), str(folder), record=records[1], sites=["layer1.*.relu_1"])
    assert [pair.first for pair in pairs_of([records[1]], means=False)] == ["layer1.0.relu_1"]


def test_an_untrained_network_is_drawn_from_its_seed() -> None:
    before = torch.random.get_rng_state()
    one, again, other = (untrained(small(), seed=seed) for seed in (1, 1, 2))
    assert one.fingerprint == again.fingerprint != other.fingerprint
    assert torch.equal(before, torch.random.get_rng_state())
    assert one.weights == "random (seed 1)"
    assert (one.module.bn1.running_var == 1).all()


def test_titles_tell_untrained_networks_apart(folder: Path, tmp_path: Path) -> None:
    made = survey(untrained(small(), seed=7), str(folder), to=tmp_path / "u", sites=["maxpool"], top=1, resize=32)
    assert titles_of([made]) == ["resnet untrained 7"]


def means(pictures: np.ndarray, box: Box) -> Means:
    return Means(pictures, np.full(len(pictures), 99), box)


def test_only_what_both_sites_see_is_compared() -> None:
    generator = np.random.default_rng(0)
    large = generator.standard_normal((5, 3, 9, 9))
    small_ = large[:, :, 3:6, 3:6].copy()
    large[:, :, 0] += 100 * generator.standard_normal((5, 3, 9))  # outside the smaller field
    found = mean_similarity(means(small_, Box(3, 3, 6, 6)), means(large, Box(0, 0, 9, 9)))
    assert found is not None
    np.testing.assert_allclose(np.diag(found), 1)
    centered = small_ - small_.mean(0)
    flat = centered.reshape(5, -1) / np.linalg.norm(centered.reshape(5, -1), axis=1, keepdims=True)
    np.testing.assert_allclose(found, flat @ flat.T, atol=1e-12)


def test_rows_and_columns_have_parts_of_their_own() -> None:
    """What is seen of 9 x 14 pixels in rows 1 to 5 and columns 8 to 13 is compared with that part of the whole."""
    whole = np.random.default_rng(0).random((4, 3, 9, 14))
    found = mean_similarity(means(whole[:, :, 1:6, 8:14], Box(1, 8, 6, 14)), means(whole, Box(0, 0, 9, 14)))
    assert found is not None
    np.testing.assert_allclose(np.diag(found), 1)


def test_reduced_fields_are_compared_on_a_common_grid() -> None:
    generator = np.random.default_rng(1)
    coarse = generator.standard_normal((4, 3, 16, 16))
    fine = coarse.repeat(4, 2).repeat(4, 3)
    found = mean_similarity(means(coarse, Box(0, 0, 64, 64)), means(fine[:, :, 8:56, 8:56], Box(8, 8, 56, 56)))
    assert found is not None
    np.testing.assert_allclose(np.diag(found), 1, atol=1e-9)


def test_means_over_few_stimuli_are_left_out_and_fields_apart_undefined() -> None:
    pictures = np.random.default_rng(2).standard_normal((4, 3, 5, 5))
    few = Means(pictures, np.array([99, 3, 99, 99]), Box(0, 0, 5, 5))
    found = mean_similarity(few, means(pictures, Box(0, 0, 5, 5)))
    assert found is not None
    assert np.isnan(found[1]).all()
    assert np.isfinite(found[[0, 2, 3]]).all()
    assert mean_similarity(few, means(pictures, Box(5, 5, 10, 10))) is None
    assert mean_similarity(few, None) is None
