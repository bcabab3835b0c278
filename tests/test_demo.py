"""The demonstration, from two networks to one atlas."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import tiny
from unitscope import networks, record
from unitscope.cli import app
from unitscope.demo import SHIPPED_PAIR, demo
from unitscope.errors import BadInput, Failure
from unitscope.networks import SHIPPED, Network


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    rng = np.random.default_rng(3)
    for number in range(6):
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def tiny_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of the shipped pair, two networks that take no time."""

    def load(name: str) -> Network:
        return Network(tiny.network(), size=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), name=name)

    monkeypatch.setattr(networks, "load", load)


def tree(folder: Path) -> dict[str, int]:
    """All files of a folder, and when they were written."""
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_the_demonstration_uses_what_is_shipped() -> None:
    assert set(SHIPPED_PAIR) == set(SHIPPED)


@pytest.mark.usefixtures("tiny_pair")
def test_it_leaves_two_records_and_one_atlas(photographs: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    page = demo(tmp_path / "demo", images=str(photographs), top=2, progress=lambda *facts: told.append(facts))
    assert page == tmp_path / "demo" / "atlas" / "index.html"
    assert page.is_file()
    for name in ("resnet34", "plainnet34"):
        found = record.open_record(tmp_path / "demo" / "records" / name)
        assert found.facts["network"]["name"] == f"shipped:{name}"
        assert found.facts["complete"]
    assert ("resnet34 looks", 6, 6) in told
    assert ("plainnet34 looks", 6, 6) in told


@pytest.mark.usefixtures("tiny_pair")
def test_a_second_time_shows_nothing_anew(photographs: Path, tmp_path: Path) -> None:
    demo(tmp_path / "demo", images=str(photographs), top=2)
    before = tree(tmp_path / "demo" / "records")
    demo(tmp_path / "demo", images=str(photographs), top=2)
    assert tree(tmp_path / "demo" / "records") == before


@pytest.mark.usefixtures("tiny_pair")
def test_the_verb_ends_with_the_atlas_and_how_to_open_it(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    short: Callable[..., Path] = demo
    monkeypatch.setattr(
        "unitscope.demo.demo", lambda to, *, progress: short(to, images=str(photographs), top=2, progress=progress)
    )
    with pytest.raises(SystemExit, match="0"):
        app.main(["demo", "--to", str(tmp_path / "demo")])
    out, err = capsys.readouterr()
    assert err == ""
    assert "shipped:resnet34: " in out
    assert "shipped:plainnet34: " in out
    page = tmp_path / "demo" / "atlas" / "index.html"
    assert out.endswith(f"The atlas is {page}\nOpen it by double-click, or: unitscope view {page.parent}\n")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="is a file; the demonstration needs a folder"):
        demo(tmp_path / "file")
    with pytest.raises(Failure, match="the demonstration cannot be written to"):
        demo(tmp_path / "file" / "demo")
