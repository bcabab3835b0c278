"""The command line: what it prints, and how it takes mistakes."""

from __future__ import annotations

import dataclasses
import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import webbrowser
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import PROJECT
from unitscope import __version__
from unitscope.cli import app, common
from unitscope.cli import sites as sites_verb
from unitscope.errors import BadInput, Failure

TINY = "tests.tiny:network"


@dataclasses.dataclass(frozen=True)
class Said:
    """What a command left: its exit code, and what it wrote."""

    code: int | str | None
    out: str
    err: str


Say = Callable[..., Said]


@pytest.fixture
def unitscope(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Say:
    """Runs a command in this process, on a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("UNITSCOPE_DEBUG", raising=False)

    def run(*arguments: object) -> Said:
        with pytest.raises(SystemExit) as stopped:
            app.main([str(argument) for argument in arguments])
        return Said(stopped.value.code, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve small pictures of noise in two classes, and a file that is no picture."""
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for number in range(12):
        place = folder / ("cat" if number % 2 else "dog")
        place.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(place / f"{number:02}.png")
    (folder / "dog" / "broken.jpg").write_bytes(b"not a picture")
    return folder


def is_one_short_paragraph(text: str) -> bool:
    lines = text.rstrip("\n").split("\n")
    return 0 < len(lines) <= 8 and all(line.strip() for line in lines) and "Traceback" not in text


def test_version(unitscope: Say) -> None:
    assert unitscope("--version") == Said(0, f"{__version__}\n", "")


@pytest.mark.parametrize("verb", ["sites", "survey", "merge", "measure", "train", "atlas", "view", "demo"])
def test_every_verb_explains_itself_in_80_columns(unitscope: Say, verb: str) -> None:
    said = unitscope(verb, "--help")
    assert said.code == 0
    assert said.out.startswith(f"Usage: unitscope {verb}")
    assert max(map(len, said.out.splitlines())) <= 80


def test_without_a_verb_the_verbs_are_listed(unitscope: Say) -> None:
    said = unitscope()
    assert said.code == 0
    assert re.findall(r"^│ (\w+) ", said.out, re.MULTILINE) == sorted(verb.__name__ for verb in app.VERBS)


def test_sites_fit_80_columns(unitscope: Say) -> None:
    said = unitscope("sites", "resnet34")
    assert (said.code, said.err) == (0, "")
    lines = said.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "resnet34, weights random (seed 0), pictures of 224 x 224 pixels"
    assert re.search(r"^maxpool \* +max_pool2d +64 +56x56 +11 +4 +-5 +exact$", said.out, re.MULTILINE)
    assert re.search(r"^layer1\.0\.relu_1 +(\* +)?relu +64 +56x56 +27 +4 +-13 +exact$", said.out, re.MULTILINE)
    assert "sites. The" in said.out


def test_sites_of_a_factory_at_another_size(unitscope: Say) -> None:
    said = unitscope("sites", TINY, "--size", "32x48")
    assert said.code == 0
    assert "pictures of 32 x 48 pixels" in said.out
    assert re.search(r"^2 .*max_pool2d +5 +16x24 +4 +2 +-1 +exact$", said.out, re.MULTILINE)


def test_survey_ends_with_a_table_and_the_next_step(unitscope: Say, photographs: Path, tmp_path: Path) -> None:
    said = unitscope(
        "survey", TINY, photographs, "--to", tmp_path / "record", "--size", 32, "--sites", "0", "3", "--top", 2
    )
    assert said.code == 0, said.err
    assert re.search(r"^0 +3 x 3 +5 +0 ", said.out, re.MULTILINE)
    assert re.search(r"^3 +8 x 8 +7 +1 ", said.out, re.MULTILINE)
    assert "12 units at 2 sites; 1 (8.3 %) never had a response above 0" in said.out
    assert "12 images (1 more could not be read)" in said.out
    assert f"Next: unitscope atlas {tmp_path / 'record'} --to atlas" in said.out
    assert max(len(line) for line in said.out.splitlines() if str(tmp_path) not in line) <= 80
    assert said.err == ""  # no progress bar where there is no terminal


def test_shards_are_merged_into_the_same_record(unitscope: Say, photographs: Path, tmp_path: Path) -> None:
    command = ["survey", TINY, photographs, "--size", 32, "--top", 2]
    whole = unitscope(*command, "--to", tmp_path / "whole")
    for part in ("1/2", "2/2"):
        said = unitscope(*command, "--shard", part, "--to", tmp_path / f"part{part[0]}")
        assert said.code == 0, said.err
        assert said.out.startswith(f"Part {part} of the survey is {tmp_path}")
    merged = unitscope("merge", tmp_path / "part1", tmp_path / "part2", "--to", tmp_path / "merged")
    assert merged.code == 0, merged.err
    assert merged.out == whole.out.replace(str(tmp_path / "whole"), str(tmp_path / "merged"))
    alone = unitscope("merge", tmp_path / "part1", "--to", tmp_path / "other")
    assert alone.code == 2
    assert "2/2 missing" in " ".join(alone.err.split())


def test_survey_then_atlas_then_view(
    unitscope: Say, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unitscope("survey", TINY, photographs, "--to", tmp_path / "record", "--size", 32, "--top", 2)
    said = unitscope("atlas", tmp_path / "record", "--to", tmp_path / "atlas")
    assert said.code == 0, said.err
    assert said.out == (
        f"The atlas is {tmp_path / 'atlas' / 'index.html'}\n"
        f"Open it by double-click, or: unitscope view {tmp_path / 'atlas'}\n"
    )
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    assert unitscope("view", tmp_path / "atlas").code == 0
    assert opened == [(tmp_path / "atlas" / "index.html").as_uri()]


def test_train_prints_a_line_for_each_epoch_and_resumes(unitscope: Say, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(8):
        place = tmp_path / "data" / f"class{number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(place / f"{number}.png")
    command = ["train", "resnet18", tmp_path / "data", "--to", tmp_path / "run", "--width", 4, "--size", 32,
               "--epochs", 2, "--batch", 4, "--workers", 0, "--validation", tmp_path / "data"]  # fmt: skip
    said = unitscope(*command)
    assert said.code == 0, said.err
    assert re.search(r"^epoch +0  loss \d\.\d{3}  top-1 .* validation: .*\nepoch +1  loss", said.out, re.MULTILINE)
    assert (tmp_path / "run" / "weights.safetensors").is_file()
    again = unitscope(*command)
    assert again.code == 0
    assert "epoch" not in again.out  # nothing was left to do
    other = unitscope(*command, "--learning-rate", 0.5)
    assert other.code == 1
    assert "is of another training" in " ".join(other.err.split())


MISTAKES = {
    "unknown verb": (["suvrey"], 'Unknown command "suvrey". Did you mean "survey"?'),
    "unknown option": (["sites", "resnet34", "--wieghts", "x"], "Unknown option: --wieghts. Did you mean --weights?"),
    "no network": (["sites"], "parameter MODEL requires an argument"),
    "no place": (["survey", "resnet34", "photographs"], "parameter --to requires an argument"),
    "no number": (["survey", "r", "p", "--to", "x", "--top", "many"], 'unable to convert "many" into int'),
    "network with a typo": (["sites", "resnet43"], "has no network 'resnet43'. Close: 'resnet34'"),
    "torchvision with a typo": (["sites", "torchvision:resnet51"], "resnet50"),
    "no such factory": (["sites", "tests.tiny:netwrok"], "network"),
    "no such module": (["sites", "tests.tny:network"], "tests.tny"),
    "no such weights": (["sites", "resnet18", "--weights", "w.safetensors"], "w.safetensors"),
    "size of words": (["sites", "resnet18", "--size", "big"], "--size was 'big'; expected pixels, such as 224"),
    "size of nothing": (["sites", "resnet18", "--size", "0"], "--size was '0'; expected pixels"),
    "mean of words": (
        ["sites", "resnet18", "--mean", "gray"],
        "--mean was 'gray'; expected a number per input channel",
    ),
    "no such folder": (["survey", TINY, "no/such/folder", "--to", "record"], "no/such/folder does not exist"),
    "no such device": (["survey", TINY, ".", "--to", "record", "--device", "gpu"], "--device was 'gpu'"),
    "no such record": (["atlas", "no/record", "--to", "atlas"], "no/record is not a record: there is no such folder"),
    "no such atlas": (["view", "no/atlas"], "no/atlas is not an atlas: there is no such folder"),
    "no recipe": (["train", "resnet18", ".", "--to", "run", "--epochs", "0"], "--epochs"),
    "fewer than no workers": (["survey", TINY, ".", "--to", "record", "--workers", "-1"], "--workers"),
    "always flipped": (["train", "resnet18", ".", "--to", "run", "--flip", "1.5"], "--flip"),
}


@pytest.mark.parametrize(("arguments", "story"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_gets_one_short_paragraph_and_exit_code_2(
    unitscope: Say, arguments: list[str], story: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = unitscope(*arguments)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("unitscope")
    assert is_one_short_paragraph(said.err)
    assert story in " ".join(said.err.split())
    assert not list(tmp_path.iterdir())  # nothing was begun


def test_a_folder_without_images(unitscope: Say, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    said = unitscope("survey", TINY, tmp_path / "empty", "--to", tmp_path / "record")
    assert said.code == 2
    assert is_one_short_paragraph(said.err)
    assert "image" in said.err


def test_a_site_with_a_typo(unitscope: Say, photographs: Path, tmp_path: Path) -> None:
    said = unitscope(
        "survey", "resnet18", photographs, "--to", tmp_path / "r", "--size", 32, "--sites", "layer1.0.relu1"
    )
    assert said.code == 2
    assert "has no site 'layer1.0.relu1'. Close: 'layer1.0.relu_1'" in " ".join(said.err.split())


def test_images_without_labels_cannot_be_trained_on(unitscope: Say, tmp_path: Path) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    said = unitscope("train", "resnet18", tmp_path, "--to", tmp_path / "run", "--size", 32)
    assert said.code == 2
    assert "put the images of each class into a folder" in " ".join(said.err.split())


def test_a_place_that_cannot_be_written_is_found_out_before_the_long_pass(
    unitscope: Say, photographs: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    said = unitscope("survey", TINY, photographs, "--size", 32, "--to", tmp_path / "file" / "record")
    assert said.code == 1
    assert is_one_short_paragraph(said.err)
    assert "cannot be written" in " ".join(said.err.split())


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (BadInput("that was wrong."), 2, "unitscope sites: that was wrong."),
        (Failure("that failed."), 1, "unitscope sites: that failed."),
        (OSError(errno.ENOSPC, "No space left on device", "x/y"), 1, "unitscope sites: No space left on device: x/y."),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "unitscope sites: No space left on device."),
        (RuntimeError("odd"), 1, "unitscope sites: this was not foreseen (RuntimeError: odd)."),
        (KeyboardInterrupt(), 130, "unitscope sites: stopped."),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_what_becomes_of_errors(
    unitscope: Say, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, words: str
) -> None:
    def stumble(*_: object) -> None:
        raise error

    monkeypatch.setattr(sites_verb, "open_network", stumble)
    said = unitscope("sites", "resnet18")
    assert (said.code, said.out) == (code, "")
    assert " ".join(said.err.split()).startswith(words)
    assert is_one_short_paragraph(said.err)


@pytest.mark.parametrize("way", ["option", "environment"])
def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    if way == "environment":
        monkeypatch.setenv("UNITSCOPE_DEBUG", "1")
    with pytest.raises(BadInput, match="has no network 'resnet43'"):
        app.main(["sites", "resnet43"] + ["--debug"] * (way == "option"))


def test_a_mistake_in_the_factory_is_told(unitscope: Say) -> None:
    said = unitscope("sites", "tests.tiny:broken")
    assert said.code in (1, 2)
    assert is_one_short_paragraph(said.err)
    assert "the factory stumbled" in said.err


def test_view_where_there_is_no_browser(unitscope: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "index.html").write_text("<!doctype html>")
    monkeypatch.setattr(webbrowser, "open", lambda address: False)
    said = unitscope("view", tmp_path)
    assert said.code == 1
    assert "no browser could be started here" in said.err


def test_view_finds_the_atlas_of_a_demonstration(
    unitscope: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "atlas").mkdir()
    (tmp_path / "atlas" / "index.html").write_text("<!doctype html>")
    monkeypatch.setattr(webbrowser, "open", lambda address: True)
    assert unitscope("view", tmp_path).out.strip().endswith("/atlas/index.html")


LISTENING = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("unitscope", run_name="__main__", alter_sys=True)
"""


def start(*arguments: object, **options: object) -> subprocess.Popen[str]:
    """A command in a process of its own, which listens to Ctrl-C also where the tests were started deaf to it."""
    command = [sys.executable, "-c", LISTENING, *map(str, arguments)]
    paths = os.pathsep.join([str(PROJECT / "src"), str(PROJECT)])
    environment = {**os.environ, "PYTHONPATH": paths, "COLUMNS": "80"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=PROJECT, **options
    )  # type: ignore[call-overload]


def test_ctrl_c_says_what_is_kept_and_how_to_resume(tmp_path: Path) -> None:
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    picture = Image.effect_noise((512, 512), 80).convert("RGB")
    picture.save(photographs / "0.png")
    for number in range(1, 4000):
        (photographs / f"{number}.png").hardlink_to(photographs / "0.png")
    record = tmp_path / "record"
    process = start("survey", TINY, photographs, "--to", record, "--size", 64)
    deadline = time.monotonic() + 60
    while not (record / "parts").is_dir() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert err.startswith("unitscope survey: stopped. What was shown so far is kept in")
    assert "the same command resumes" in " ".join(err.split())
    assert out == ""


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    process = start("sites", TINY)
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=60)
    assert err == ""


def test_progress_is_shown_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with common.progress_bars() as tell:
        tell("looking", 10, 100)
        tell("looking", 100, 100)
        tell("drawing", 1, 2)
    out, err = capsys.readouterr()
    assert out == ""
    assert "looking: 100%" in err
    assert "drawing:  50%" in err


def test_a_survey_s_bar_tells_images_per_second_and_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with common.progress_bars(" images") as tell:
        tell("resnet18", 1, 100)
        time.sleep(0.15)
        tell("resnet18", 50, 100)
    last = capsys.readouterr().err.rstrip().split("\r")[-1]
    assert re.search(r"50/100 \[00:00, 00:00 left, \d+\.\d+ images/s\]", last), last


@pytest.fixture(scope="module")
def surveyed(tmp_path_factory: pytest.TempPathFactory, photographs: Path) -> Path:
    place = tmp_path_factory.mktemp("surveyed") / "record"
    said = io.StringIO()
    with redirect_stdout(said), pytest.raises(SystemExit) as stopped:
        app.main(["survey", TINY, str(photographs), "--size", "32", "--to", str(place), "--json"])
    assert stopped.value.code == 0
    (place / "said.json").write_text(said.getvalue())
    return place


def test_a_survey_tells_scripts_what_it_found(surveyed: Path) -> None:
    said = json.loads((surveyed / "said.json").read_text())
    assert (said["record"], said["images"], said["unreadable"]) == (str(surveyed), 12, 1)
    assert [site["channels"] for site in said["sites"]] == [5, 5, 7]
    assert said["inactive"] == sum(site["inactive"] for site in said["sites"]) >= 1
    assert said["units"] == 17


def test_shards_and_their_merging_tell_scripts_so(
    unitscope: Say, surveyed: Path, photographs: Path, tmp_path: Path
) -> None:
    shown = ["--size", "32", "--shard", "1/1", "--to", tmp_path / "part", "--json"]
    assert json.loads(unitscope("survey", TINY, photographs, *shown).out)["shard"] == "1/1"
    merged = json.loads(unitscope("merge", tmp_path / "part", "--to", tmp_path / "whole", "--json").out)
    alone = json.loads((surveyed / "said.json").read_text())
    assert {**merged, "record": ""} == {**alone, "record": ""}


def test_measures_and_sites_are_told_as_json(unitscope: Say, surveyed: Path) -> None:
    said = json.loads(unitscope("measure", surveyed, "--json").out)
    activity = said["measures"]["activity"]
    assert activity["rows"] == 17
    assert Path(activity["table"]).exists()
    assert activity["columns"]["never_positive"]["holds_for"] >= 1
    assert 0 <= activity["columns"]["positive_share"]["median"] <= 1
    assert activity["columns"]["certified_dead"] == {"known": 17, "holds_for": 1}
    listed = json.loads(unitscope("sites", TINY, "--size", "32", "--json").out)["sites"]
    assert listed[0]["field"]["size"] == [3, 3]
    assert [site["site"] for site in listed if site["surveyed"]] == ["0", "2", "3"]


def test_measure_prints_and_keeps_the_table(unitscope: Say, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (70, 70), (200, 30, 30)).save(tmp_path / "one.png")
    made = unitscope(
        "survey", "resnet18", str(tmp_path), "--to", str(tmp_path / "r"), "--sites", "maxpool", "--width", "4"
    )
    assert made.code == 0, made.err
    said = unitscope("measure", str(tmp_path / "r"))
    assert (said.code, said.err) == (0, "")
    assert re.search(r"^maxpool +4 +\d+ +\d+ +\d+ ", said.out, re.MULTILINE)
    assert "certified dead: proven from the weights that no picture can activate it" in said.out
    assert "gain: gain of the unit's batch normalization (in the table)." in said.out
    assert max(len(line) for line in said.out.splitlines() if not line.startswith("The table is")) <= 80
    assert (tmp_path / "r" / "measures" / "activity.parquet").exists()
    assert unitscope("measure", str(tmp_path)).code == 2


def test_perturb_prints_and_keeps_what_is_lost(unitscope: Say, photographs: Path, tmp_path: Path) -> None:
    classes = tmp_path / "classes.csv"
    classes.write_text("label,class\ncat,1\ndog,0\n")
    asked = ("perturb", TINY, photographs, "--units", "1:0-1", "--what", "noise", "zero", "--seeds", "2")
    said = unitscope(*asked, "--classes", classes, "--to", tmp_path / "kept")
    assert (said.code, said.err) == (0, "")
    assert re.search(r"^noise x 1\s+all +both +2 +[+-]?\d", said.out, re.MULTILINE)
    assert "2 units of 1 (as asked for), 12 images" in said.out
    assert max(map(len, said.out.splitlines()[:-1])) <= 80
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {
        "perturbation.parquet", "perturbation_classes.parquet",
    }  # fmt: skip
    classes.write_text("label,class\ncat,1\n")
    refused = unitscope(*asked, "--classes", classes)
    assert refused.code == 2
    assert "does not name dog" in refused.err
    assert is_one_short_paragraph(refused.err)


def test_measure_says_which_units_are_dead_and_why(unitscope: Say, photographs: Path, tmp_path: Path) -> None:
    assert unitscope("survey", TINY, photographs, "--to", tmp_path / "r", "--size", "32").code == 0
    said = unitscope("measure", tmp_path / "r")
    listed = re.search(r"^3:0 +(L.*)$", said.out, re.MULTILINE)
    assert listed is not None
    *levels, bound, norm, share, offset = listed[1].split()
    assert levels == ["L0", "L1", "L3"]
    assert -1000 < float(bound) < -800
    assert float(offset) == -1000
    assert 0.5 < float(share) < 2  # its kernel is like the others: the offset silences it
    assert float(norm) > 1
