"""Levels of inactivity, on units whose nature we know."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas
import pytest
import torch
from PIL import Image

from tests import wiring
from unitscope.analysis.measures import TABLES, measure
from unitscope.networks import Network
from unitscope.record import open_record
from unitscope.recording.merging import merge
from unitscope.recording.survey import survey

GAINS = (1.0, 2.0, 1e-9, -1.0, 3.0)
"""Of five units that answer with the brightness of each pixel times a gain: the third numerically dead, the fourth
never positive.
"""


@pytest.fixture
def record(tmp_path: Path) -> Path:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 1, bias=False), torch.nn.ReLU())
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor(GAINS).reshape(5, 1, 1, 1).expand(5, 3, 1, 1) / 3)
    network = Network(module, size=40, mean=(0, 0, 0), std=(1, 1, 1))
    (tmp_path / "images").mkdir()
    for number in range(10):
        picture = Image.new("RGB", (40, 40))
        if number == 0:
            picture.putpixel((20, 20), (255, 255, 255))  # one position of 16,000
        picture.save(tmp_path / "images" / f"{number}.png")
    survey(network, tmp_path / "images", to=tmp_path / "record", resize=40)
    return tmp_path / "record"


def test_levels_of_inactivity(record):
    table = measure(record)["activity"]
    assert table.never_positive.tolist() == [False, False, False, True, False]
    assert table.numerically_dead.tolist() == [False, False, True, True, False]
    assert table.rarely_active.tolist() == [True] * 5
    assert table.certified_dead.tolist() == [False, False, False, True, False]
    assert table.positive_share.tolist() == pytest.approx([0.1, 0.1, 0.1, 0.0, 0.1])
    assert table.firing_rate.tolist() == pytest.approx([1 / 16_000] * 3 + [0, 1 / 16_000])


def test_where_most_units_never_answer_a_highest_response_of_zero_is_numerically_dead(tmp_path):
    """The median of the site is 0 then, and so is the border."""
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 1, bias=False), torch.nn.ReLU())
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor([1.0, 2.0, -1.0, -2.0, -3.0]).reshape(5, 1, 1, 1).expand(5, 3, 1, 1))
    wiring.write_folder(tmp_path / "images", {"a": [torch.ones(3, 8, 8), torch.zeros(3, 8, 8)]})
    network = Network(module, size=8, mean=(0, 0, 0), std=(1, 1, 1))
    survey(network, tmp_path / "images", to=tmp_path / "record", sites=["1"], resize=8)
    table = measure(tmp_path / "record")["activity"]
    assert table.numerically_dead.tolist() == [False, False, True, True, True]


def test_the_table_is_kept_in_the_record_and_declares_its_columns(record):
    made = measure(record)["activity"]
    kept = open_record(record).measures("activity")
    pandas.testing.assert_frame_equal(made, kept, check_dtype=False)
    declared = [column.name for column in TABLES["activity"].columns]
    assert ["unit", "site", "channel", *declared] == list(kept.columns)


def test_measuring_needs_no_torch(record):
    code = "import sys, unitscope.analysis.measures as m; m.measure(sys.argv[1]); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, str(record)], env={"PYTHONPATH": "src"}).returncode == 0


def test_certificates_reach_the_table_through_survey_shards_and_merging(tmp_path):
    network = wiring.dead_network()
    wiring.write_folder(tmp_path / "images", {"a": [torch.rand(3, 32, 32) for _ in range(3)]})
    whole = survey(network, tmp_path / "images", to=tmp_path / "whole", sites=["conv1", "relu"], resize=32)
    table = measure(whole)["activity"].set_index(["site", "channel"])
    assert table.certified_dead.tolist() == [False, True, False, True] * 2
    assert table.highest_possible["conv1"].tolist() == pytest.approx([1, -0.5, 0.25, 0], abs=1e-3)
    assert table.kernel_norm["relu"].tolist() == pytest.approx([27**-0.5, 27**-0.5, 0, 0])
    assert table.offset["conv1"].tolist() == pytest.approx([0, -1.5, 0.25, 0])
    assert table.gain.isna().all()
    survey(network, tmp_path / "images", to=tmp_path / "part", sites=["conv1", "relu"], resize=32, shard="1/1")
    merged = measure(merge([tmp_path / "part"], to=tmp_path / "merged"))["activity"]
    pandas.testing.assert_frame_equal(merged, measure(whole)["activity"])


def test_a_record_without_certificates_proves_nothing(record):
    import shutil

    for name in ("highest_possible", "kernel_norm", "gain", "offset"):
        shutil.rmtree(record / "arrays.zarr" / name)
    metadata = record / "arrays.zarr" / "zarr.json"
    facts = json.loads(metadata.read_text())
    for name in ("highest_possible", "kernel_norm", "gain", "offset"):
        facts.get("consolidated_metadata", {"metadata": {}})["metadata"].pop(name, None)
    metadata.write_text(json.dumps(facts))
    about = json.loads((record / "record.json").read_text())
    del about["files"]  # older records do not say what their files hold
    (record / "record.json").write_text(json.dumps(about))
    table = measure(record)["activity"]
    assert table.certified_dead.isna().all()
    assert table.kernel_norm.isna().all()
