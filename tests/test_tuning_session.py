"""The deed behind `unitscope tuning`, on a small record."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas
import pyarrow.parquet
import pytest
import torch
from torch import nn

import unitscope
from tests.recording.pictures import write_many
from tests.wiring import gabor, wired
from unitscope import tuning_session
from unitscope.analysis.measures import measure
from unitscope.analysis.tuning_curves import sessions
from unitscope.atlas_pages.site import build_atlas
from unitscope.cli.tuning import tuning_table
from unitscope.errors import BadInput, Failure
from unitscope.networks import Network
from unitscope.record import Record
from unitscope.recording.survey import survey

ANGLES = [10.0, 100.0]


def little(angles: list[float], *, size: int = 16) -> Network:
    """Gabor units of 7 x 7 pixels: a session of theirs is short."""
    kernels = [gabor(angle, frequency=0.2, sigma=1.6, side=7) for angle in angles]
    return wired(torch.stack(kernels), name="little", size=size)


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    folder = tmp_path_factory.mktemp("tuning")
    pictures = write_many(folder, 4)
    record = survey(little(ANGLES), pictures, to=folder / "record", sites=["conv1", "relu"])
    tuning_session.tuning(little(ANGLES), record)
    return record


def test_the_measures_are_in_the_record(record: Record) -> None:
    table = record.measures("orientation")
    assert table["site"].tolist() == ["conv1"] * 2 + ["relu"] * 2
    assert table["unit"].tolist() == [0, 1, 2, 3]
    assert table["preferred_orientation"].tolist() == pytest.approx(ANGLES * 2, abs=0.5)
    promised = {
        "preferred_orientation",
        "orientation_selectivity",
        "bandwidth",
        "preferred_frequency",
        "f1_f0",
        "responsive",
    }
    assert promised <= set(table.columns)
    assert {"cone_l", "cone_m", "cone_s", "color_preference", "opponency", "responsive"} <= set(
        record.measures("color").columns
    )


def test_responses_come_back_as_they_were_read(record: Record) -> None:
    (first, second) = sessions(record)
    assert (first.site, second.site) == ("conv1", "relu")
    assert first.stimuli["block"][0] == "rest"
    assert (second.responses >= 0).all()
    assert second.responses == pytest.approx(first.rates, abs=1e-6)


def test_measures_are_made_again_without_the_network(record: Record, tmp_path: Path) -> None:
    copy = shutil.copytree(record.path, tmp_path / "copy")
    shutil.rmtree(copy / "measures")
    made = measure(copy)
    pandas.testing.assert_frame_equal(made["orientation"], record.measures("orientation"), check_dtype=False)


def test_a_session_is_not_repeated(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning_session, "show_group", lambda *_, **__: pytest.fail("shown again"))
    tuning_session.tuning(little(ANGLES), record)
    with pytest.raises(pytest.fail.Exception, match="shown again"):
        tuning_session.tuning(little(ANGLES), record, contrast=0.5)


def test_another_network_is_refused(record: Record) -> None:
    with pytest.raises(Failure, match=r"is a record of little .* Use the network that was surveyed"):
        tuning_session.tuning(little([20.0, 30.0]), record)


def test_sites_that_the_record_lacks_are_named(record: Record) -> None:
    with pytest.raises(BadInput, match="no site 'avgpool'"):
        tuning_session.tuning(little(ANGLES), record, sites="avgpool")


def test_a_contrast_out_of_gamut_is_named(record: Record, tmp_path: Path) -> None:
    copy = shutil.copytree(record.path, tmp_path / "copy")
    with pytest.raises(BadInput, match="out of gamut"):
        tuning_session.tuning(little(ANGLES), copy, color_contrast=0.3)


def test_a_grayscale_network_has_no_color_measures(tmp_path: Path) -> None:
    """Photographs are shown to it in gray, and so it has a record, orientation, and an atlas that says so."""
    network = wired(gabor(30.0, frequency=0.2, sigma=1.6, side=7)[:1][None], name="gray", size=16)
    record = survey(network, write_many(tmp_path, 4), to=tmp_path / "record", sites=["conv1", "relu"])
    found = tuning_session.tuning(network, record, patches=2)
    assert set(found) == {"orientation"}
    assert found["orientation"]["preferred_orientation"].tolist() == pytest.approx([30.0] * 2, abs=0.5)
    said = tuning_table(found)
    assert "Color is undefined: the network has one input channel" in " ".join(said.split())
    assert max(map(len, said.splitlines())) <= 80
    build_atlas([record], to=tmp_path / "atlas")
    assert "tuning" in (tmp_path / "atlas" / "index.html").read_text()


def test_without_a_record_a_grayscale_network_sees_gratings(tmp_path: Path) -> None:
    network = wired(gabor(30.0, frequency=0.2, sigma=1.6, side=7)[:1][None], name="gray", size=16)
    assert set(tuning_session.tuning(network, tmp_path / "record", sites=["relu"])) == {"orientation"}


def test_a_network_of_other_channels_is_a_story(tmp_path: Path) -> None:
    network = wired(torch.rand(1, 4, 5, 5), name="four", size=16)
    with pytest.raises(BadInput, match=r"photographs have 3 colors, .*; four takes 4 input channels"):
        tuning_session.tuning(network, tmp_path / "record")


def test_fields_smaller_than_a_cycle_are_named(tmp_path: Path) -> None:
    network = Network(nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU()), size=32, mean=(0, 0, 0), std=(1, 1, 1), name="dots")
    record = survey(network, write_many(tmp_path, 2), to=tmp_path / "record")
    with pytest.raises(
        BadInput, match=r"0 cannot be shown gratings: its field of 1 x 1 pixels holds less than a cycle"
    ):
        tuning_session.tuning(network, record)


def test_a_site_without_positions_sees_the_whole_picture(tmp_path: Path) -> None:
    network = little(ANGLES, size=12)
    record = survey(network, write_many(tmp_path, 2), to=tmp_path / "record", sites=["conv1", "fc"])
    found = tuning_session.tuning(network, record, sites=["fc"])
    assert found["orientation"]["responsive"].all()
    assert found["orientation"]["preferred_orientation"].tolist() == pytest.approx(ANGLES, abs=5)


def test_the_name_at_the_top_is_the_deed() -> None:
    assert unitscope.tuning is tuning_session.tuning


def test_untrained_networks_are_measured_alike(tmp_path: Path) -> None:
    network = little(ANGLES)
    record = survey(network, write_many(tmp_path, 2), to=tmp_path / "record", sites=["relu"])
    tuning_session.tuning(network, record, null=1)
    path = record.path / "tuning" / "null-orientation.parquet"
    first = pandas.read_parquet(path)
    assert first["seed"].tolist() == [0, 0]
    tuning_session.tuning(network, record, null=2)
    both = pandas.read_parquet(path)
    assert both["seed"].tolist() == [0, 0, 1, 1]
    pandas.testing.assert_frame_equal(both[both["seed"] == 0].reset_index(drop=True), first)
    assert both["orientation_selectivity"].nunique() == 4
    assert both["orientation_selectivity"].mean() < record.measures("orientation")["orientation_selectivity"].mean()


def test_untrained_measures_of_an_earlier_definition_are_made_anew(tmp_path: Path) -> None:
    network = little(ANGLES)
    record = survey(network, write_many(tmp_path, 2), to=tmp_path / "record", sites=["relu"])
    tuning_session.tuning(network, record, null=1)
    path = record.path / "tuning" / "null-color.parquet"
    first = pandas.read_parquet(path)
    table = pyarrow.parquet.read_table(path)
    asked = {**json.loads(table.schema.metadata[b"asked"]), "definitions": 1}
    earlier = table.drop_columns(["cone_opponency"])
    earlier = earlier.replace_schema_metadata({**earlier.schema.metadata, b"asked": json.dumps(asked).encode()})
    pyarrow.parquet.write_table(earlier, path)
    tuning_session.tuning(network, record, null=1)
    pandas.testing.assert_frame_equal(pandas.read_parquet(path), first)
