"""Levels of inactivity, on units whose nature we know."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas
import pytest
import torch
from PIL import Image

from unitscope.analysis.measures import measure, tables
from unitscope.networks import Network
from unitscope.record import open_record
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
    assert table.certified_dead.isna().all()
    assert table.positive_share.tolist() == pytest.approx([0.1, 0.1, 0.1, 0.0, 0.1])
    assert table.firing_rate.tolist() == pytest.approx([1 / 16_000] * 3 + [0, 1 / 16_000])


def test_the_table_is_kept_in_the_record_and_declares_its_columns(record):
    made = measure(record)["activity"]
    kept = open_record(record).measures("activity")
    assert kept.certified_dead.isna().all()
    others = [name for name in made if name != "certified_dead"]
    pandas.testing.assert_frame_equal(made[others], kept[others], check_dtype=False)
    declared = [column.name for column in tables()["activity"].columns]
    assert ["unit", "site", "channel", *declared] == list(kept.columns)


def test_measuring_needs_no_torch(record):
    code = "import sys, unitscope.analysis.measures as m; m.measure(sys.argv[1]); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, str(record)], env={"PYTHONPATH": "src"}).returncode == 0
