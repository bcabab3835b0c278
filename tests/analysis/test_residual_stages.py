"""A channel's way through its stage: which sites are on it, and how alike the channel is from one to the next."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.analysis.test_channel_sharing import small, write_waves
from unitscope.analysis.channel_sharing import along_skips, mean_similarity, means_of
from unitscope.analysis.residual_stages import family, step
from unitscope.record import Record, open_record
from unitscope.recording.channel_correlations import sharing
from unitscope.recording.survey import survey

SITES = ["maxpool", "layer1.*.conv1", "layer1.*.bn2", "layer1.*.add", "layer1.*.relu_1", "layer2.0.add"]


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    home = tmp_path_factory.mktemp("stage")
    images = write_waves(home / "images", 16)
    made = survey(small(), images, to=home / "record", sites=SITES, top=1, resize=32)
    sharing(small(), images, record=made)
    return open_record(made.path)


@pytest.mark.parametrize(
    ("site", "names"),
    [
        ("layer1.1.add", ["maxpool", "layer1.0.add", "layer1.1.add"]),
        ("layer1.0.relu_1", ["maxpool", "layer1.0.relu_1", "layer1.1.relu_1"]),
        ("layer1.0.conv1", ["layer1.0.conv1", "layer1.1.conv1"]),
        ("maxpool", ["maxpool", "layer1.0.add", "layer1.1.add"]),
        ("layer2.0.add", ["layer2.0.add"]),
    ],
)
def test_a_site_stands_with_those_of_its_place_in_other_blocks(record: Record, site: str, names: list[str]) -> None:
    assert [one.name for one in family(record, record.sites[site])] == names


def test_in_a_plain_twin_the_last_site_of_a_block_follows_the_pooling(tmp_path: Path) -> None:
    made = survey(
        small(plain=True),
        write_waves(tmp_path / "images", 2),
        to=tmp_path / "record",
        sites=["maxpool", "layer1.*"],
        top=1,
    )
    names = [one.name for one in family(made, made.sites["maxpool"])]
    assert names == ["maxpool", "layer1.0.relu_1", "layer1.1.relu_1"]
    assert [one.name for one in family(made, made.sites["layer1.1.bn2"])] == ["layer1.0.bn2", "layer1.1.bn2"]


def test_behind_a_skip_the_rectified_sum_is_compared_where_it_is_recorded(record: Record) -> None:
    assert along_skips(record) == [["maxpool", "layer1.0.relu_1", "layer1.1.relu_1"]]


def test_a_step_says_of_each_channel_what_the_matrix_holds(record: Record) -> None:
    by_mean, by_response = step(record, "layer1.0.relu_1", "layer1.1.relu_1", least=1)
    assert (by_mean.what, by_response.what) == ("mean stimulus", "response")
    matrix = mean_similarity(*(means_of(record, f"layer1.{i}.relu_1") for i in (0, 1)), least=1)
    assert matrix is not None
    np.testing.assert_array_equal(by_mean.same, np.diag(matrix))
    for channel in np.flatnonzero(np.isfinite(by_mean.same)):
        row = np.nan_to_num(matrix[channel])[np.isfinite(by_mean.same)]
        ties = (row == by_mean.same[channel]).sum() - 1  # channels that always answer have the same mean
        assert by_mean.rank[channel] == 1 + (row > by_mean.same[channel]).sum() + ties / 2
        assert matrix[channel, by_mean.most_similar[channel]] == row.max()
    assert np.nanmean(by_response.same) > 0.6  # branches are weak
    assert (by_response.most_similar >= -1).all()


def test_sites_of_which_nothing_is_known_have_no_step(record: Record) -> None:
    assert [one.what for one in step(record, "layer1.0.conv1", "layer1.1.conv1", least=1)] == ["mean stimulus"]
