"""What an atlas shows of category selectivity: both ends of every unit, and the dog study's two figures."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from tests.browser import launched, page_of
from tests.conftest import needs
from tests.kennel import two_sided_network, write_kennel

from unitscope.analysis.categories import Category
from unitscope.analysis.measures import measure
from unitscope.analysis.selectivity import SELECTIVITY
from unitscope.atlas_pages.panels import selectivity
from unitscope.atlas_pages.panels.selectivity import SCATTER_SIDE
from unitscope.atlas_pages.record_view import RecordView, view_records
from unitscope.atlas_pages.site import build_atlas
from unitscope.atlas_pages.table_columns import describe_columns
from unitscope.record import Record, open_record
from unitscope.recording.survey import survey

HOSTILE = 'dogs & <b>"others"</b>'


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """Units before and behind a rectification, their selectivity for dogs and for a category of a hostile name."""
    folder = tmp_path_factory.mktemp("kennel")
    kept = survey(
        two_sided_network(), write_kennel(folder / "pictures"), to=folder / "record", sites=["conv1", "relu"], top=16,
        responses=True,
    )  # fmt: skip
    measure(kept, categories=["dogs", Category(HOSTILE, frozenset({"n01440764", "n02085620"}))])
    return open_record(kept.path)


@pytest.fixture
def view(record: Record, tmp_path: Path) -> RecordView:
    (found,) = view_records([record], tmp_path)
    return found


@pytest.fixture(scope="module")
def atlas(record: Record, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_atlas([record], to=tmp_path_factory.mktemp("atlas") / "atlas")


def test_a_unit_is_told_its_numbers_for_every_category(view: RecordView, tmp_path: Path) -> None:
    data = selectivity.unit_data(view, view.record.sites["conv1"], stem=tmp_path / "x")
    assert data is not None
    dogs, other = data["categories"]
    assert (dogs["name"], dogs["prevalence"]) == ("dogs", 0.5)
    assert (other["name"], other["prevalence"]) == (HOSTILE, 0.25)
    assert dogs["values"]["selectivity"] == [1, 1, 0, None, pytest.approx(0.09, abs=0.05)]
    assert dogs["values"]["antipreferred_share"][:2] == [1, None]  # unit 1 is never below zero
    assert "No response above zero" in dogs["values"]["note"][3]
    assert {measure["key"] for measure in data["measures"]} >= {"fsi", "d_prime", "auroc", "class_selectivity"}
    peaks = view.record.array("responses/peak")[:5]
    for channel, (images, values) in enumerate(zip(data["silent"]["image"], data["silent"]["value"], strict=True)):
        assert len(set(images)) == len(images) == 4
        assert max(map(abs, values)) <= sorted(abs(peaks[channel]))[4] + 1e-6


def test_figure_two_places_a_unit_by_its_shares_and_colors_it_by_its_index(view: RecordView, tmp_path: Path) -> None:
    (section,) = selectivity.overview(view, tmp_path)
    figure = section.body.partition("<figure")[2].partition("</figure>")[0]
    red = re.search(r'class="band-3" d="([^"]*)"', figure)
    assert red is not None
    assert red[1] == f"M{SCATTER_SIDE} 0h0"  # unit 0 has dogs at both ends; unit 1 has no lower end
    assert f'class="chance" d="M{SCATTER_SIDE / 2:.1f} 0V{SCATTER_SIDE}' in figure
    assert "2 of 5 units selective" in section.body
    both, without = re.findall(r'class="looked-at">(.*?)</p>', section.body)
    assert "<a" not in both  # four of eight classes are drawn in 70 ways: p is 1/70 at best, too much for five units
    assert re.findall(r">(conv1:\d+)</a>", without) == ["conv1:0", "conv1:1"]
    assert "relu:" not in section.body  # behind a rectification nothing is negative
    assert "<b>" not in section.body


def test_units_can_be_sorted_by_what_is_known_of_each_category(record: Record) -> None:
    units, about = describe_columns(record.path, record.units())
    assert units["selectivity/selectivity/dogs"].iloc[:3].tolist() == [1, 1, 0]
    (told,) = (one for one in about if one["key"] == "selectivity/dichotomy/dogs")
    assert told["name"] == "dichotomy: dogs"
    assert "the category stands at one end only" in told["says"]


@pytest.mark.parametrize("table", [None, pd.DataFrame({"unit": [0], "category": ["dogs"], "selectivity": [0.5]})])
def test_without_such_a_table_nothing_is_shown(table: pd.DataFrame | None, tmp_path: Path) -> None:
    folder = write_kennel(tmp_path / "pictures")
    record = survey(two_sided_network(), folder, to=tmp_path / "record", sites=["conv1"], top=2)
    if table is not None:
        (record.path / "measures").mkdir()
        table.to_parquet(record.path / "measures" / "selectivity.parquet")
    (view,) = view_records([record], tmp_path / "atlas")
    assert selectivity.unit_data(view, record.sites["conv1"], stem=tmp_path / "x") is None
    assert selectivity.overview(view, tmp_path) == []
    assert list(selectivity.extra_images(view)) == []


@needs("chromium")
def test_a_unit_page_shows_both_ends_and_the_axis_between(atlas: Path) -> None:
    with launched() as chromium, page_of(chromium) as page:
        page.goto(f"{atlas.parent.as_uri()}/two-sided/conv1.html#0")
        page.wait_for_selector(".selectivity")
        rows = page.locator(".selectivity .ends tbody tr:not(.remark)").all_inner_texts()
        told = rows[0].replace("\u00a0", " ").split()
        assert told[:7] == ["dogs", "1", "100", "%", "2", "×", "chance,"]
        assert rows[0].count("q") == 2
        assert rows[1].startswith(HOSTILE)
        assert "FSI 1 · d′" in page.locator(".selectivity .remark").first.inner_text()
        assert (
            "Mexican hairless"
            in page.locator(".selectivity .remark").all_inner_texts()[0] + page.locator(".axis").inner_text()
        )
        assert page.locator(".selectivity .share.sure").count() == 0  # p is 1/70 at best, with four of eight classes
        assert page.locator(".axis h4").all_inner_texts() == ["most negative", "no response", "strongest"]
        page.wait_for_function("document.querySelectorAll('.axis img').length === 12")
        page.locator(".selectivity details summary").click()
        assert page.locator(".selectivity .indices tbody tr").count() == len(SELECTIVITY.columns)
        page.goto(atlas.as_uri())
        page.locator(".site-by-site a").first.click()
        page.wait_for_selector(".unit-tile")
        order = page.eval_on_selector_all("#tiles .unit-tile", "all => all.map(one => Number(one.dataset.unit))")
        assert order[:2] == [0, 1]
        assert page.complaints == []
