"""`unitscope maximize`, from the command line to files on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from unitscope.cli.app import main
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


def test_a_study_of_positions_leaves_figures_tables_and_optima(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["positions", "tests.tiny:network", "3:1", "3:2", "--size", "64", "--to", str(tmp_path), "--grid", "2x3"]
    with pytest.raises(SystemExit) as end:
        main([*words, "--recipe", "kobayashi2020", "--seeds", "2"])
    assert end.value.code == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in told[:3]] == ["unit", "3:1", "3:2"]
    assert max(len(line) for line in told[:-1]) <= 80
    folder = tmp_path / "positions" / "kobayashi2020-preferred"
    assert sorted(path.name for path in folder.iterdir()) == ["3-1.csv", "3-1.png", "3-2.csv", "3-2.png"]
    assert len((folder / "3-1.csv").read_text().splitlines()) == 1 + 6 * 5
    assert (tmp_path / "optima/kobayashi2020-preferred/recipe.json").is_file()


@pytest.mark.parametrize(
    ("words", "story"),
    [(["--grid", "many"], "--grid was 'many'"), (["--at", "3"], "--at was '3'"), (["--at", "99,0"], "no neuron at")],
)
def test_positions_that_there_are_not_are_refused(
    words: list[str], story: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["positions", "tests.tiny:network", "3:1", "--size", "64", "--to", str(tmp_path), *words])
    assert end.value.code == 2
    assert story in " ".join(capsys.readouterr().err.split())
