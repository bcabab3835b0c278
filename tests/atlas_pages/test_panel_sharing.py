"""What an atlas shows of shared channels: a unit's row through its stage in both networks, and matrices of layers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.analysis.test_channel_sharing import small, write_waves
from tests.browser import launched, page_of
from tests.conftest import needs

from unitscope.analysis.channel_sharing import compare
from unitscope.atlas_pages.panels import sharing as panel
from unitscope.atlas_pages.record_view import view_records
from unitscope.atlas_pages.sharing_section import SIMILAR_COLOR, section_of, write_matrix
from unitscope.atlas_pages.site import build_atlas
from unitscope.random_copies import untrained
from unitscope.record import Record, open_record
from unitscope.recording.channel_correlations import sharing
from unitscope.recording.survey import survey


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    """A residual network with responses, also of an untrained copy; its plain twin; and an untrained copy's record."""
    home = tmp_path_factory.mktemp("records")
    images = write_waves(home / "images", 40)
    made = [
        survey(small(), images, to=home / "resnet", sites=["maxpool", "layer1.*.add"], top=2, resize=32),
        survey(small(plain=True), images, to=home / "plain", sites=["maxpool", "layer1.*.bn2"], top=2, resize=32),
        survey(untrained(small(), seed=4), images, to=home / "first", sites=["maxpool", "layer1.*.add"], top=2,
               resize=32),
    ]  # fmt: skip
    sharing(small(), images, record=made[0], baselines=1)
    return [open_record(one.path) for one in made]


@pytest.fixture(scope="module")
def atlas(records: list[Record], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_atlas(records[:2], to=tmp_path_factory.mktemp("atlas") / "atlas")


def data_of(atlas: Path, record: str, site: str) -> dict:
    text = (atlas.parent / record / "data" / f"{site}.js").read_text()
    return json.loads(re.fullmatch(r"unitscope\.sites\[\S+\] = (.*);\n", text, re.S)[1])["panels"]["sharing"]


def test_a_site_is_shown_with_its_stage_and_the_files_of_the_others_are_there(atlas: Path) -> None:
    data = data_of(atlas, "resnet", "layer1.0.add")
    assert [site["name"] for site in data["sites"]] == ["maxpool", "layer1.0.add", "layer1.1.add"]
    assert data["channels"] == 6
    assert [len(found) for found in data["steps"]] == [1, 1]
    (first,) = data["steps"][0]
    assert first["what"] == "mean stimulus"
    assert len(first["same"]) == len(first["rank"]) == len(first["mostSimilar"]) == 6
    for site in data["sites"]:
        assert set(site["sprites"]) <= {"mean", "best"}
        assert "best" in site["sprites"]
        for sprite in site["sprites"].values():
            for file in sprite["files"]:
                with Image.open(atlas.parent / "resnet" / "sprites" / file) as shown:
                    assert shown.size == (6 * (panel.STAGE_TILE + 2), panel.STAGE_TILE + 2)


def test_a_site_by_itself_has_no_row(tmp_path: Path) -> None:
    record = survey(
        small(), write_waves(tmp_path / "images", 2), to=tmp_path / "record", sites=["bn1"], top=1, resize=32
    )
    (view,) = view_records([record], tmp_path / "atlas")
    assert panel.unit_data(view, record.sites["bn1"], stem=tmp_path / "x") is None
    assert panel.compare([view], tmp_path) == []


def test_the_first_page_tells_the_numbers_that_compare_gives(records: list[Record], tmp_path: Path) -> None:
    body = section_of(records, tmp_path / "sharing")
    assert body is not None
    table = compare(*records, permutations=200)
    known = table[table["channels"] >= 3]
    trained = known[known["seed"].isna()]
    cells = re.findall(r"<strong>(\S+) ~ (\S+)</strong><span>(\S+) <small>", body)
    assert sorted(cells) == sorted((r.first, r.second, f"{r.advantage:.2f}") for r in trained.itertuples())
    assert len(list((tmp_path / "sharing").glob("*.png"))) == len(trained)
    assert body.count("<circle") == (~known["network"].str.contains(" | ", regex=False)).sum()
    assert body.count('hollow"><title>') == known["seed"].notna().sum() > 1
    assert "By mean stimulus" in body
    assert "By response" in body


def test_a_matrix_is_clear_where_nothing_is_similar(tmp_path: Path) -> None:
    write_matrix(np.array([[1.0, 0.0], [-0.5, np.nan]]), tmp_path / "m.png")
    found = np.asarray(Image.open(tmp_path / "m.png"))
    assert found[0, 0].tolist() == [*SIMILAR_COLOR, 255]
    assert found[:, :, 3].tolist() == [[255, 0], [128, 0]]
    assert found[1, 0, 2] > found[1, 0, 0]  # blue for what is opposite


@needs("chromium")
def test_both_networks_stand_one_above_the_other_on_a_unit_page(atlas: Path) -> None:
    with launched() as chromium, page_of(chromium) as page:
        known = data_of(atlas, "resnet", "layer1.1.add")["steps"][0][0]["same"]
        channel = next(number for number, same in enumerate(known) if same is not None)
        page.goto(f"{atlas.parent.as_uri()}/resnet/layer1.1.add.html#{channel}")
        page.wait_for_selector(".stage-row")
        rows = page.locator(".stage-row")
        assert rows.locator("h4").all_inner_texts() == ["resnet", "plain"]
        assert rows.nth(0).locator(".place .name").all_inner_texts() == ["maxpool", "layer1.0.add", "layer1.1.add"]
        assert rows.nth(0).locator(".link").count() == 2
        assert "rank" in rows.nth(0).locator(".link").first.inner_text()
        box, other = rows.nth(0).bounding_box(), rows.nth(1).bounding_box()
        assert other["y"] >= box["y"] + box["height"]
        rows.nth(1).locator(".place a").first.click()
        page.wait_for_url(f"**/plain/*.html#{channel}")
        page.goto(atlas.as_uri())
        assert page.locator(".matrix img").count() > 5
        shown = "document.querySelectorAll('details[open] .matrix img')"
        page.wait_for_function(f"[...{shown}].every(one => one.naturalWidth)")
        assert page.complaints == []
