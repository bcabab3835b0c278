"""What an atlas shows of optimal stimuli: every picture of a unit, beside its natural patches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.recording.pictures import write_many
from tests.wiring import opponent_network

from unitscope.atlas_pages.panels import optima
from unitscope.atlas_pages.record_view import RecordView, view_records
from unitscope.atlas_pages.site import build_atlas
from unitscope.record import Record
from unitscope.recording.survey import survey
from unitscope.synthesis.maximize import keep_scores, maximize


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    folder = tmp_path_factory.mktemp("panel")
    network = opponent_network()
    record = survey(network, write_many(folder, 3), to=folder / "record", sites=["conv1"])
    for pole in ("preferred", "antipreferred"):
        maximize(network, ["conv1:0", "conv1:1@0,0"], pole=pole, seeds=2, to=record, scores=False)
    found = maximize(network, ["conv1:1"], at="all", recipe="kobayashi2020", to=record, scores=False)
    keep_scores(network, record.path / "optima" / "contrast-preferred", ["conv1:0"], record)
    assert found.units == ("conv1:1@all",)
    return record


@pytest.fixture
def view(record: Record, tmp_path: Path) -> RecordView:
    (found,) = view_records([record], tmp_path)
    site = record.sites["conv1"]
    for channel in range(site.channels):
        found.patches[site.first_unit + channel, "preferred"] = np.full((*found.tile(site), 4), 255, np.uint8)
    return found


def shown(view: RecordView, folder: Path) -> list[dict]:
    data = optima.unit_data(view, view.record.sites["conv1"], stem=folder / "conv1-optima")
    assert data is not None
    return data["groups"]


def test_sets_and_places_are_groups_with_a_tile_for_each_channel_and_seed(view: RecordView, tmp_path: Path) -> None:
    groups = shown(view, tmp_path)
    assert [(one["set"], one["at"], one["pole"]) for one in groups] == [
        ("contrast-preferred", "center", "preferred"),
        ("contrast-preferred", "0,0", "preferred"),
        ("kobayashi2020-preferred", "all", "preferred"),
        ("contrast-antipreferred", "center", "antipreferred"),
        ("contrast-antipreferred", "0,0", "antipreferred"),
    ]
    center = groups[0]
    channels = view.record.sites["conv1"].channels
    assert center["pictures"]["missing"] == list(range(2, 2 * channels))
    assert center["responses"][0] == pytest.approx(view.record.optima("conv1:0").responses[0], rel=1e-3)
    assert center["responses"][1] is None
    assert center["moved"][0] == [True, True]
    assert center["best"][0] == int(np.argmax(center["responses"][0]))


def test_a_sheet_shows_an_optimum_only_beside_a_natural_patch(view: RecordView, tmp_path: Path) -> None:
    groups = shown(view, tmp_path)
    channels = view.record.sites["conv1"].channels
    assert groups[0]["pairs"]["missing"] == list(range(1, channels))
    assert groups[3]["pairs"]["missing"] == list(range(channels))  # no antipreferred patch was cut
    height, width = groups[0]["pairs"]["tile"]
    assert width == 2 * height + optima.PAIR_GAP


def test_pictures_lie_in_their_fields_and_are_transparent_off_the_edge(view: RecordView, tmp_path: Path) -> None:
    groups = shown(view, tmp_path)
    corner = groups[1]["pictures"]
    with Image.open(tmp_path / corner["files"][0]) as opened:
        sheet = np.asarray(opened.convert("RGBA"))
    height, width = corner["tile"]
    gutter = corner["gutter"]
    tile = sheet[gutter : gutter + height, 2 * (width + 2 * gutter) + gutter :][:, :width]  # channel 1, seed 0
    assert (tile[: height // 4, :, 3] == 0).all()
    assert (tile[height // 2 :, width // 2 :, 3] == 255).all()


def test_scores_belong_to_the_best_seed_and_the_first_page_counts_who_is_ahead(
    view: RecordView, tmp_path: Path
) -> None:
    groups = shown(view, tmp_path)
    found = groups[0]["scores"][0]
    table = view.record.optima("conv1:0", name="contrast-preferred").scores
    own = table[table["seed"] == groups[0]["best"][0]].iloc[0]
    assert found["response"] == pytest.approx(own["response"], rel=1e-3)
    assert found["natural"] == pytest.approx(own["natural"], rel=1e-3)
    assert groups[1]["scores"][1] is None
    (section,) = optima.overview(view, tmp_path) or []
    assert "1 of 1" in section.body
    assert "not scored" in section.body
    assert "conv1.html#show=optima-kobayashi2020-preferred-all" in section.body


@pytest.mark.parametrize(
    ("objective", "at"),
    [("a.b:3", "center"), ("a.b:3@all", "all"), ("a.b:3@1,22", "1,22"), ("a.b:3 - a.b:4", None), ("2*a.b:3", None)],
)
def test_single_units_are_told_from_sums(objective: str, at: str | None) -> None:
    assert optima.lattice_place(objective, "a.b", 3) == at


def test_an_atlas_has_the_pictures_and_a_record_without_optima_has_none(record: Record, tmp_path: Path) -> None:
    build_atlas([record], to=tmp_path / "atlas")
    assert "Optimal stimuli" in (tmp_path / "atlas" / "index.html").read_text()
    (home,) = (path for path in (tmp_path / "atlas").iterdir() if (path / "sprites").is_dir())
    assert list((home / "sprites").glob("conv1-optima-*-pairs-0.webp"))
    bare = survey(opponent_network(), write_many(tmp_path, 2), to=tmp_path / "record", sites=["conv1"])
    (view,) = view_records([bare], tmp_path / "bare")
    assert optima.unit_data(view, bare.sites["conv1"], stem=tmp_path / "x") is None
    assert optima.overview(view, tmp_path) is None
