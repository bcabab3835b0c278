"""What an atlas shows of virtual filters: every unit beside what it is made of, and the coupling tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.browser import launched, page_of
from tests.conftest import needs
from tests.recording.pictures import write_many
from torch import nn

from unitscope.analysis.couplings import couplings
from unitscope.atlas_pages.panels import filters as panel
from unitscope.atlas_pages.record_view import RecordView, view_records
from unitscope.atlas_pages.site import build_atlas
from unitscope.networks import Network
from unitscope.record import Record
from unitscope.recording.filter_tables import filters
from unitscope.recording.survey import survey

RED, GREEN, BLUE = range(3)


def mixed() -> Network:
    """Unit 0 adds red to half of blue; unit 1 takes green off; unit 2 reads all four."""
    first, second = nn.Conv2d(3, 4, 5, padding=2, bias=False), nn.Conv2d(4, 3, 1, bias=False)
    with torch.no_grad():
        first.weight.zero_()
        for channel, (color, col) in enumerate([(RED, 0), (GREEN, 1), (BLUE, 2), (RED, 1)]):
            first.weight[channel, color, 2, col] = 1
        second.weight.zero_()
        second.weight[0, 0], second.weight[0, 2], second.weight[1, 1] = 1.0, 0.5, -1.0
        second.weight[2, :] = torch.tensor([0.1, 0.2, -0.4, 0.3])[:, None, None]
    return Network(
        nn.Sequential(first, nn.ReLU(), second), size=32, mean=(0.5,) * 3, std=(0.25,) * 3, name='mixed <b>"'
    )


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    home = tmp_path_factory.mktemp("filters")
    record = survey(mixed(), write_many(home, 3), to=home / "record", sites=["0", "2"])
    filters(mixed(), record=record, baselines=2)
    couplings(record, permutations=50)
    return record


@pytest.fixture
def view(record: Record, tmp_path: Path) -> RecordView:
    (found,) = view_records([record], tmp_path)
    return found


def test_a_unit_is_shown_with_what_it_reads_the_strongest_first(view: RecordView, tmp_path: Path) -> None:
    (data,) = panel.unit_data(view, view.record.sites["2"], stem=tmp_path / "2-filters") or []
    assert (data["site"], data["reads"], data["chain"]) == ("2", "1", ["0"])
    assert data["read"] == [[0, 2], [1], [2, 3, 1, 0]]
    assert data["coupling"] == [[1.0, 0.5], [-1.0], [-0.4, 0.3, 0.2, 0.1]]
    assert data["cosine"] == pytest.approx([1, 1, 1])
    assert data["error"] == pytest.approx([0, 0, 0], abs=1e-6)
    picture = np.asarray(Image.open(tmp_path / data["filters"]["files"][0]).convert("RGB")).astype(int)
    side = data["filters"]["tile"][0] // 5
    pixel = picture[1 + 2 * side + side // 2, 1 + side // 2]  # of unit 0: red at its left end
    assert pixel[RED] > 200
    assert abs(pixel[GREEN] - 128) < 3


def test_a_site_without_virtual_filters_shows_none(view: RecordView, tmp_path: Path) -> None:
    assert panel.unit_data(view, view.record.sites["0"], stem=tmp_path / "0-filters") is None


def test_the_first_page_has_the_tests_beside_those_of_untrained_copies(view: RecordView, tmp_path: Path) -> None:
    (section,) = panel.overview(view, tmp_path) or []
    assert section.title == "Virtual filters"
    assert f'href="{view.slug}/2.html#show=virtual-0">2</a>' in section.body
    ranges, undefined = section.body.count("<small>"), section.body.count(">undefined<")
    assert (ranges, undefined) == (2, 2)  # single pixels: no orientation, all signed correlations alike
    assert "<b>" not in section.body


def test_a_record_without_filters_shows_nothing(tmp_path: Path) -> None:
    bare = survey(mixed(), write_many(tmp_path, 2), to=tmp_path / "record", sites=["2"])
    (view,) = view_records([bare], tmp_path / "atlas")
    assert panel.unit_data(view, bare.sites["2"], stem=tmp_path / "x") is None
    assert panel.overview(view, tmp_path) is None


@needs("chromium")
def test_the_unit_page_shows_the_sum(record: Record, tmp_path: Path) -> None:
    build_atlas([record], to=tmp_path / "atlas")
    (page_path,) = (tmp_path / "atlas").rglob("2.html")
    with launched() as chromium, page_of(chromium) as page:
        page.goto(f"{page_path.resolve().as_uri()}#2")
        assert page.locator(".virtual .read strong").all_inner_texts() == ["\u22120.400", "+0.300", "+0.200", "+0.100"]
        assert "cosine 1" in page.locator(".virtual .whole").inner_text()
        page.goto(f"{page_path.resolve().as_uri()}#show=virtual-0")
        page.reload()
        assert "contrast" in page.locator("body").inner_text()
        assert page.complaints == []
