"""What an atlas shows of tuning: curves of every unit, and every site beside macaque V1."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from tests.recording.pictures import write_many
from tests.test_tuning_session import little
from tests.wiring import dead_network

from unitscope import tuning_session
from unitscope.atlas_pages.panels import tuning
from unitscope.atlas_pages.record_view import RecordView, view_records
from unitscope.atlas_pages.site import build_atlas
from unitscope.record import Record
from unitscope.recording.survey import survey


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    folder = tmp_path_factory.mktemp("panel")
    record = survey(little([30.0, 120.0]), write_many(folder, 3), to=folder / "record", sites=["conv1"])
    tuning_session.tuning(little([30.0, 120.0]), record, null=1)
    return record


@pytest.fixture
def view(record: Record, tmp_path: Path) -> RecordView:
    (found,) = view_records([record], tmp_path)
    return found


def test_curves_peak_where_the_unit_prefers_it(view: RecordView, tmp_path: Path) -> None:
    data = tuning.unit_data(view, view.record.sites["conv1"], stem=tmp_path / "conv1-tuning")
    assert data is not None
    assert [int(np.argmax(curve)) * 7.5 for curve in data["curves"]["orientation"]] == [30.0, 120.0]
    assert data["orientation"]["preferred_orientation"] == pytest.approx([30, 120], abs=0.5)
    assert len(data["curves"]["frequency"][0]) == len(data["axes"][0]["frequency"])
    assert data["color"]["opponency"][0] in ("none", "single", "double")
    assert (tmp_path / data["best"]["files"][0]).exists()


def test_every_site_stands_beside_macaque_v1(view: RecordView, tmp_path: Path) -> None:
    (section,) = tuning.overview(view, tmp_path) or []
    assert "macaque V1" in section.body
    assert "84 % (73 of 87)" in section.body
    assert "band-pass: Schiller et al. 1976" in section.body
    assert "about" not in section.body
    assert re.search(r'href="[^"]*conv1\.html">conv1<', section.body)
    assert 'class="null"' in section.body  # untrained networks
    assert "2 of 2" in section.body


def test_a_record_without_tuning_has_nothing_to_show(tmp_path: Path) -> None:
    record = survey(dead_network(), write_many(tmp_path, 2), to=tmp_path / "record", sites=["conv1"])
    (view,) = view_records([record], tmp_path / "atlas")
    assert tuning.unit_data(view, record.sites["conv1"], stem=tmp_path / "x") is None
    assert tuning.overview(view, tmp_path) is None


def test_a_best_grating_is_drawn_at_its_orientation() -> None:
    class Row:
        responsive, preferred_frequency, preferred_orientation = True, 0.1, 90.0
        preferred_phase, orientation_selectivity = 0.0, 1.0

    picture = tuning.best_grating(Row)
    assert picture is not None
    inner = picture[:, :, 0].astype(float)
    assert np.ptp(inner, axis=0).max() <= 1  # upright bars: all rows alike
    assert np.ptp(inner, axis=1).min() > 100
    Row.responsive = False
    assert tuning.best_grating(Row) is None


def test_the_atlas_holds_it(record: Record, tmp_path: Path) -> None:
    page = build_atlas([record], to=tmp_path / "atlas")
    assert "Tuning, beside macaque V1" in page.read_text(encoding="utf-8")
    assert list((tmp_path / "atlas").rglob("*conv1-tuning-0.webp"))
    assert list((tmp_path / "atlas").rglob("panel-tuning.js"))
