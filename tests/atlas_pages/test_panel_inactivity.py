"""What an atlas shows of units that never answer, and of what is lost by disturbing them."""

from __future__ import annotations

from pathlib import Path

import pandas
import pytest
import torch
from tests import wiring
from tests.browser import launched, page_of
from tests.conftest import needs

from unitscope.analysis.measures import measure
from unitscope.atlas_pages.panels import inactivity
from unitscope.atlas_pages.panels.inactivity import format_change
from unitscope.atlas_pages.record_view import RecordView, view_records
from unitscope.atlas_pages.site import build_atlas
from unitscope.perturbation.experiment import perturb
from unitscope.record import Record, open_record
from unitscope.recording.survey import survey


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """Two of four units dead, and disturbed."""
    folder = tmp_path_factory.mktemp("inactive")
    network = wiring.dead_network()
    generator = torch.Generator().manual_seed(0)
    pictures = {name: list(torch.rand(6, 3, 32, 32, generator=generator)) for name in "ab"}
    images = wiring.write_folder(folder / "images", pictures)
    kept = survey(network, images, to=folder / "record", sites=["conv1", "relu"], top=2, resize=32)
    measure(kept)
    classes = {"a": 0, "b": 2}
    perturb(network, images, record=kept, site="conv1", which=["all", "each channel"], target=["chosen", "active"],
            seeds=2, classes=classes, resize=32, to=kept.path)  # fmt: skip
    return open_record(kept.path)


@pytest.fixture
def view(record: Record, tmp_path: Path) -> RecordView:
    (found,) = view_records([record], tmp_path)
    return found


def test_a_site_is_told_its_levels_its_weights_and_what_was_lost(view: RecordView, tmp_path: Path) -> None:
    data = inactivity.unit_data(view, view.record.sites["conv1"], stem=tmp_path / "x")
    assert data is not None
    assert data["levels"]["flags"]["certified_dead"] == [False, True, False, True]
    assert data["levels"]["weights"]["highest_possible"][1] == pytest.approx(-0.5, abs=1e-3)
    assert data["levels"]["weights"]["gain"][0] != data["levels"]["weights"]["gain"][0]  # there is no normalization
    losses = data["losses"]
    assert (losses["site"], losses["channels"]) == ("relu", [1, 3])  # silent behind the rectification of conv1
    kept = pandas.read_parquet(view.record.path / "perturbation.parquet")
    assert [row["delta_loss"] for row in losses["rows"]] == kept.delta_loss.tolist()
    assert [row["which"] for row in losses["rows"]] == ["all", "channel 1", "channel 3", "all"]
    behind = inactivity.unit_data(view, view.record.sites["relu"], stem=tmp_path / "x")
    assert behind is not None
    assert behind["losses"] == losses


def test_the_first_page_counts_the_levels_and_shows_the_paper_s_conditions(view: RecordView, tmp_path: Path) -> None:
    levels, losses = inactivity.overview(view, tmp_path)
    rows = levels.body.split("<tr>")[2:]
    assert [row.count(">2</td>") for row in rows] == [4, 4, 0]
    assert rows[-1].count(">4</td>") == 4
    assert losses.body.count("<tr>") == 3
    assert "noise in 2 units" in losses.body
    assert "noise in 2 active units" in losses.body
    assert format_change(pandas.read_parquet(view.record.path / "perturbation.parquet").delta_loss[0]) in losses.body


def test_changes_in_words() -> None:
    assert [format_change(x) for x in (0.0, -1e-17, 0.01234, -2.0, 3e-6, float("nan"))] == [
        "0", "0", "+0.0123", "−2.0000", "+3.0e−06", "–",
    ]  # fmt: skip


def test_without_measures_and_perturbation_nothing_is_shown(tmp_path: Path) -> None:
    images = wiring.write_folder(tmp_path / "images", {"a": [torch.rand(3, 32, 32)]})
    record = survey(wiring.dead_network(), images, to=tmp_path / "record", sites=["conv1"], top=2, resize=32)
    (view,) = view_records([record], tmp_path / "atlas")
    assert inactivity.unit_data(view, record.sites["conv1"], stem=tmp_path / "x") is None
    assert inactivity.overview(view, tmp_path) == []


@needs("chromium")
def test_pages_show_badges_and_intervals(record: Record, tmp_path: Path) -> None:
    atlas = build_atlas([record], to=tmp_path / "atlas")
    with launched() as chromium, page_of(chromium) as page:
        page.goto(f"{atlas.parent.as_uri()}/{next(atlas.parent.glob('*/conv1.html')).relative_to(atlas.parent)}#3")
        page.wait_for_selector("#unit .inactivity")
        assert page.locator("#unit .inactivity .badge").all_inner_texts() == ["certified dead", "never positive"]
        named = page.locator("#unit .forest tbody th").all_inner_texts()
        assert named == ["noise, unit 3", "noise, all 2 units"]
        page.goto(page.url.partition("#")[0] + "#0")
        page.wait_for_function("document.querySelector('#unit h1').textContent.endsWith('0')")
        assert page.locator("#unit .inactivity").count() == 0  # it answers, and was not disturbed
        page.goto(page.url.partition("#")[0])
        page.wait_for_selector("#sheet .forest")
        assert page.locator("#sheet .forest .interval").count() == 4
        assert "certified dead" in page.locator('[data-unit="1"]').get_attribute("title")
        assert page.complaints == []
