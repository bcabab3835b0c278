"""The atlas as a folder: what is written, from what, and what happens when something is missing."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr
from PIL import Image
from tests.atlas_pages.fake_record import HOSTILE, SITES, write_pictures, write_record

from unitscope.analysis.measures import TABLES
from unitscope.atlas_pages.site import build_atlas
from unitscope.errors import BadInput, Failure
from unitscope.stimuli.presentation import Presentation


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("shown") / "pictures")


@pytest.fixture(scope="module")
def atlas(pictures, tmp_path_factory) -> Path:
    """An atlas of a pair; the second network lacks the first site."""
    folder = tmp_path_factory.mktemp("atlas")
    one = write_record(folder / "one", pictures, note="demonstration set: not a sample")
    other = write_record(folder / "other", pictures, name="plainnet34", sites=SITES[1:], seed=1)
    return build_atlas([one, other.path], to=folder / "atlas").parent


def data_of(atlas: Path, record: str, site: str) -> dict:
    text = (atlas / record / "data" / f"{site}.js").read_text()
    return json.loads(re.fullmatch(r"unitscope\.sites\[\S+\] = (.*);\n", text, re.S)[1])


def test_every_page_is_there_and_stays_in_its_folder(atlas):
    pages = sorted(str(path.relative_to(atlas)) for path in atlas.rglob("*.html"))
    slugs = ["conv1", "layer1.0.relu_1", "layer4.relu", "maxpool", "up_away"]
    assert pages == [
        "index.html",
        *(f"plainnet34/{s}.html" for s in slugs if s != "conv1"),
        *(f"resnet34/{s}.html" for s in slugs),
    ]
    assert not [path for path in atlas.parent.iterdir() if path.name not in ("one", "other", "atlas")]


def test_nothing_is_fetched_from_anywhere(atlas):
    for path in [*atlas.rglob("*.html"), *atlas.rglob("assets/*")]:
        text = path.read_text().replace("http://www.w3.org/2000/svg", "").replace("'http://www.w3.org/2000/svg'", "")
        assert "http:" not in text
        assert "https:" not in text
        assert "fetch(" not in text


def test_the_demonstration_set_is_called_so(atlas):
    assert "demonstration set: not a sample" in (atlas / "index.html").read_text()
    assert "demonstration set: not a sample" in (atlas / "resnet34" / "maxpool.html").read_text()


def test_names_are_escaped_in_pages_and_data(atlas):
    for path in [*atlas.rglob("*.html"), *atlas.rglob("*.js")]:
        if path.parent.name != "assets":
            text = path.read_text()
            assert "<img" not in text
            assert "<b>" not in text
            assert HOSTILE not in text


def test_a_site_says_of_its_units_what_the_tables_say(atlas):
    table = pd.read_parquet(atlas.parent / "one" / "units.parquet").query("site == 'layer1.0.relu_1'")
    stimuli = pd.read_parquet(atlas.parent / "one" / "stimuli.parquet").query("site == 'layer1.0.relu_1'")
    data = data_of(atlas, "resnet34", "layer1.0.relu_1")
    columns = {column["key"]: column for column in data["columns"]}
    assert columns["peak_max"]["values"] == pytest.approx(table["peak_max"].tolist(), rel=1e-5)
    assert columns["inactive"]["values"] == table["inactive"].tolist()
    assert columns["inactive"]["kind"] == "flag"
    for channel in range(12):
        for pole in ("preferred", "antipreferred"):
            rows = stimuli.query("channel == @channel and pole == @pole").sort_values("rank")
            names = ["image", "row", "col", "value", "top", "left", "bottom", "right"]
            expected = rows[names].to_numpy(float)
            np.testing.assert_allclose(np.array(data["stimuli"][pole][channel]).reshape(-1, 8), expected, rtol=1e-5)


def test_photographs_are_shared_and_stored_as_they_were_shown(atlas, pictures):
    folders = list((atlas / "photographs").iterdir())
    assert len(folders) == 1
    stored = sorted(folders[0].rglob("*.webp"))
    assert len(stored) == 24
    names = sorted(str(path.relative_to(pictures)) for path in pictures.rglob("*.png"))
    kept = Image.open(stored[5]).convert("RGB")
    assert kept.size == (240, 240)
    shown = Presentation((48, 48), 55).show(Image.open(pictures / names[5])).astype(int)

    def difference(shift: float) -> float:
        box = (10 + shift, 10, 230 + shift, 230)
        return float(np.abs(np.asarray(kept.resize((44, 44), box=box), int) - shown[2:46, 2:46]).mean())

    assert difference(0) < min(difference(-5), difference(5)) / 2


def test_measures_with_a_row_per_unit_become_columns(pictures, tmp_path):
    record = write_record(tmp_path / "record", pictures, sites=SITES[:1])
    units = record.units()
    (record.path / "measures").mkdir()
    one = units[["unit", "site", "channel"]].assign(
        orientation_selectivity=[0.1, None, 0.3, 0.4, 0.5, 0.6], responsive=True
    )
    one.to_parquet(record.path / "measures" / "orientation.parquet")
    many = pd.concat([units[["unit"]].assign(category=c, selectivity=float(c == "b")) for c in "ab"])
    many.to_parquet(record.path / "measures" / "selectivity.parquet")
    many[many["unit"] < 2].to_parquet(record.path / "measures" / "few.parquet")
    build_atlas([record], to=tmp_path / "atlas")
    columns = {column["key"]: column for column in data_of(tmp_path / "atlas", "resnet34", "conv1")["columns"]}
    assert columns["orientation/orientation_selectivity"]["values"] == [0.1, None, 0.3, 0.4, 0.5, 0.6]
    assert columns["orientation/responsive"]["kind"] == "flag"
    assert columns["selectivity/selectivity/b"]["values"] == [1.0] * 6
    assert columns["selectivity/selectivity/b"]["name"] == "selectivity: b"
    assert columns["few/selectivity/a"]["values"] == [0.0, 0.0, None, None, None, None]
    assert [key for key in columns if key.startswith("selectivity/")] == [f"selectivity/selectivity/{c}" for c in "ab"]


def test_what_measures_say_of_themselves_is_told(pictures, tmp_path):
    record = write_record(tmp_path / "record", pictures, sites=SITES[:1])
    (record.path / "measures").mkdir()
    activity = record.units()[["unit", "site", "channel"]].assign(never_positive=False, positive_share=0.5)
    activity.to_parquet(record.path / "measures" / "activity.parquet")
    build_atlas([record], to=tmp_path / "atlas")
    columns = {column["key"]: column for column in data_of(tmp_path / "atlas", "resnet34", "conv1")["columns"]}
    (declared,) = (one for one in TABLES["activity"].columns if one.name == "positive_share")
    assert columns["activity/positive_share"]["says"].startswith(declared.says)
    assert declared.high in columns["activity/positive_share"]["says"]
    assert columns["activity/never_positive"]["name"] == "never positive"


def test_means_over_other_positions_are_shown_where_there_are_any(pictures, tmp_path):
    record = write_record(tmp_path / "record", pictures, sites=SITES[:1])
    group = zarr.open_group(str(record.path / "arrays.zarr"))
    for part in ("", "_n", "_size"):
        group.create_array(f"mean_stimulus_best{part}", data=group[f"mean_stimulus_center{part}"][...])
    build_atlas([record], to=tmp_path / "atlas")
    (further,) = data_of(tmp_path / "atlas", "resnet34", "conv1")["further"]
    assert further["title"] == "mean, best position"
    assert further["n"] == [100, 12, 0, 100, 100, 100]
    assert further["absolute"]["missing"] == [2]


def test_photographs_that_are_gone_leave_an_atlas_without_patches(pictures, tmp_path):
    here = tmp_path / "pictures"
    shutil.copytree(pictures, here)
    record = write_record(tmp_path / "record", here, sites=SITES[:2])
    shutil.rmtree(here)
    index = build_atlas([record], to=tmp_path / "atlas")
    data = data_of(tmp_path / "atlas", "resnet34", "conv1")
    assert data["patches"]["preferred"]["missing"] == [0, 1, 2, 3, 4, 5]
    assert data["mean"]["contrast"] is None
    assert "no longer at their source" in index.read_text()


def test_one_damaged_photograph_is_left_out(pictures, tmp_path):
    here = tmp_path / "pictures"
    shutil.copytree(pictures, here)
    record = write_record(tmp_path / "record", here, sites=SITES[:2])
    next(here.rglob("007.png")).write_bytes(b"no picture")
    build_atlas([record], to=tmp_path / "atlas")
    (script,) = (tmp_path / "atlas" / "photographs").rglob("images.js")
    images = json.loads(script.read_text().partition(" = ")[2].rstrip(";\n"))
    damaged = next(i for i, uri in enumerate(images["uris"]) if uri.endswith("007.png"))
    assert [i for i, stored in enumerate(images["stored"]) if not stored] == [damaged]


def test_records_of_the_same_name_are_told_apart(pictures, tmp_path):
    records = [
        write_record(tmp_path / name, pictures, sites=SITES[:1], seed=i) for i, name in enumerate(("before", "after"))
    ]
    build_atlas(records, to=tmp_path / "atlas")
    assert (tmp_path / "atlas" / "resnet34_before" / "conv1.html").exists()
    assert (tmp_path / "atlas" / "resnet34_after" / "conv1.html").exists()
    build_atlas([records[0], records[0]], to=tmp_path / "twice")
    assert len(list((tmp_path / "twice").glob("*/conv1.html"))) == 2


def test_an_atlas_is_made_anew_over_an_old_one(pictures, tmp_path):
    record = write_record(tmp_path / "record", pictures, sites=SITES[:1])
    first = build_atlas([record], to=tmp_path / "atlas").read_bytes()
    assert build_atlas([record], to=tmp_path / "atlas").read_bytes() == first


def test_progress_counts_photographs_then_sites(pictures, tmp_path):
    record = write_record(tmp_path / "record", pictures, sites=SITES[:2])
    told = []
    build_atlas([record], to=tmp_path / "atlas", progress=lambda *step: told.append(step))
    assert [step for step in told if step[2] == "photographs"] == [(i + 1, 24, "photographs") for i in range(24)]
    assert [step for step in told if step[2] == "sites"] == [(1, 2, "sites"), (2, 2, "sites")]


def test_places_where_no_atlas_can_be_are_refused(pictures, tmp_path):
    record = write_record(tmp_path / "record", pictures, sites=SITES[:1])
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    with pytest.raises(BadInput, match="no record came"):
        build_atlas([], to=tmp_path / "atlas")
    with pytest.raises(BadInput, match="is a record; give the atlas a folder of its own"):
        build_atlas([record], to=record.path)
    with pytest.raises(BadInput, match="is a file; an atlas needs a folder"):
        build_atlas([record], to=tmp_path / "file")
    with pytest.raises(BadInput, match="holds other things and no atlas"):
        build_atlas([record], to=tmp_path / "full")
    with pytest.raises(Failure, match="the atlas cannot be written to"):
        build_atlas([record], to=tmp_path / "file" / "atlas")
    with pytest.raises(BadInput, match="is not a record"):
        build_atlas([tmp_path / "nowhere"], to=tmp_path / "atlas")


def test_an_atlas_needs_neither_torch_nor_pyplot(pictures, tmp_path):
    record = write_record(tmp_path / "record", pictures, sites=SITES[:1])
    code = (
        "import sys; from unitscope.atlas_pages.site import build_atlas; build_atlas([sys.argv[1]], to=sys.argv[2]);"
        "sys.exit(', '.join({'torch', 'matplotlib', 'matplotlib.pyplot'} & set(sys.modules)) or 0)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(record.path), str(tmp_path / "atlas")],
        env={"PYTHONPATH": "src", "PATH": ""},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
