"""The record explains itself, and what is not a record is refused in words."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow
import pytest

from unitscope.errors import BadInput, UnknownName
from unitscope.record import Record, open_record, write_arrays, write_facts, write_table
from unitscope.vocabulary import Unit


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """A record of two sites with three and two units, made by hand."""
    field = {"size": [11, 11], "stride": [4, 4], "start": [-5, -5], "status": "exact", "cause": ""}
    sites = [
        {
            "name": name,
            "channels": channels,
            "lattice": [56, 56],
            "operation": "relu",
            "preactivation": False,
            "first_unit": first,
            "field": field,
        }
        for name, channels, first in (("maxpool", 3, 0), ("layer1.0.<b>", 2, 3))
    ]
    units = {
        "unit": range(5),
        "site": ["maxpool"] * 3 + ["layer1.0.<b>"] * 2,
        "channel": [0, 1, 2, 0, 1],
        "peak_max": [1.0, 2, 3, 4, 5],
    }
    stimuli = {
        "unit": [0, 0, 4],
        "site": ["maxpool"] * 2 + ["layer1.0.<b>"],
        "channel": [0, 0, 1],
        "pole": ["preferred", "antipreferred", "preferred"],
        "rank": [0, 0, 0],
    }
    write_table(tmp_path / "units.parquet", pyarrow.table({name: list(column) for name, column in units.items()}))
    write_table(tmp_path / "stimuli.parquet", pyarrow.table(stimuli))
    write_arrays(
        tmp_path / "arrays.zarr",
        {"mean_stimulus_center": (np.zeros((5, 3, 4, 4), np.float32), ("unit", "color", "height", "width"))},
    )
    facts = {
        "format": 1,
        "network": {"name": "resnet34", "fingerprint": "3f9a0000c2"},
        "stimuli": {"count": 3925, "unreadable": 0, "source": "imagenette val", "fingerprint": "91bd000000"},
        "sites": sites,
        "seed": 0,
        "complete": True,
    }
    write_facts(tmp_path, facts)
    return open_record(tmp_path)


def test_a_record_says_what_it_is_of(record):
    assert str(record) == (
        "record of resnet34 (weights 3f9a00…c2) · 3\u202f925 stimuli (imagenette val, 91bd00…) · "
        "2 sites · seed 0 · complete"
    )


def test_its_html_escapes_names(record):
    assert "layer1.0.&lt;b&gt;" in record._repr_html_()
    assert "<b>" not in record._repr_html_()


def test_units_have_numbers_on_the_flat_axis(record):
    assert record.index("layer1.0.<b>:1") == 4
    assert record.unit(4) == Unit("layer1.0.<b>", 1)
    with pytest.raises(UnknownName, match=r"no site 'maxpol'\. Close: 'maxpool'"):
        record.index("maxpol:0")
    with pytest.raises(BadInput, match="has 3 channels, 0 to 2; there is no 3"):
        record.index("maxpool:3")
    with pytest.raises(BadInput, match="has no unit number 5"):
        record.unit(5)


def test_stimuli_of_one_unit_and_pole(record):
    assert len(record.stimuli()) == 3
    assert record.stimuli("maxpool:0").pole.tolist() == ["preferred", "antipreferred"]
    assert record.stimuli("maxpool:0", pole="preferred").unit.tolist() == [0]
    with pytest.raises(BadInput, match="is no pole; there are 'preferred' and 'antipreferred'"):
        record.stimuli(pole="liked")


def test_arrays_and_measures_go_by_their_names(record):
    assert record.array("mean_stimulus_center").shape == (5, 3, 4, 4)
    with pytest.raises(UnknownName, match=r"no array 'mean_stimulus'\. Close: 'mean_stimulus_center'"):
        record.array("mean_stimulus")
    with pytest.raises(UnknownName, match=r"no measure 'activity'"):
        record.measures("activity")
    write_table(record.path / "measures" / "activity.parquet", pyarrow.table({"unit": [0]}))
    assert record.measures("activity").unit.tolist() == [0]


def test_xarray_has_one_unit_axis(record):
    data = record.to_xarray()
    assert dict(data.sizes) == {"unit": 5, "color": 3, "height": 4, "width": 4}
    assert data.peak_max.sel(unit=3).item() == 4.0
    assert data.site.values.tolist() == ["maxpool"] * 3 + ["layer1.0.<b>"] * 2


@pytest.mark.parametrize(
    ("prepare", "story"),
    [
        (lambda path: path.rmdir(), "there is no such folder"),
        (lambda path: (path.rmdir(), path.write_text("")), "it is a file"),
        (lambda path: None, "it holds no record.json"),
        (lambda path: (path / "parts").mkdir(), "has not been completed"),
        (lambda path: (path / "record.json").write_text("{"), "is damaged"),
        (lambda path: (path / "record.json").write_text("[]"), "holds a list"),
        (
            lambda path: (path / "record.json").write_text(json.dumps({"format": 99})),
            "a record of form 99; this version of unitscope reads form 1",
        ),
    ],
)
def test_what_is_not_a_record_is_refused_in_words(tmp_path, prepare, story):
    path = tmp_path / "there"
    path.mkdir()
    prepare(path)
    with pytest.raises(BadInput, match=re.escape(story)):
        open_record(path)
