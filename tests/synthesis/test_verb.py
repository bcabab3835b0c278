"""`unitscope maximize`, from the command line to files on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from unitscope.cli import main
from unitscope.networks import load
from unitscope.record import open_record
from unitscope.recording.survey import survey


def test_optima_come_to_lie_in_the_record_of_the_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(4):
        Image.effect_noise((80, 80), 60).convert("RGB").save(images / f"{number}.png")
    survey(load("tests.tiny:network", size=64), images, sites=["1"], top=2, to=tmp_path / "record")
    words = ["maximize", "tests.tiny:network", "3:1-2", "3:0@5,5", "--size", "64", "--record", str(tmp_path / "record")]
    with pytest.raises(SystemExit) as end:
        main([*words, "--pole", "both", "--seeds", "2"])
    assert end.value.code == 0
    told = capsys.readouterr().out
    assert "3          3      8" in told
    record = open_record(tmp_path / "record")
    found = record.optima("3:2")
    assert found.pictures.shape == (1, 2, 3, 8, 8)
    assert record.optima("3:2", name="contrast-antipreferred").responses.max() < found.responses.min()
    with Image.open(tmp_path / "record/optima/contrast-preferred/3/0@5,5.png") as picture:
        assert picture.size == (16, 8)
    with pytest.raises(SystemExit) as end:
        main([*words[:1], "tests.tiny:network", "3:1", "--record", str(tmp_path / "record")])
    assert end.value.code == 1
    assert "do not belong there" in " ".join(capsys.readouterr().err.split())
