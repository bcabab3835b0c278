"""What record.json must hold, and whether what it names is still there: one story for all who open a record."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.recording.pictures import write_many
from unitscope import facts as facts_module
from unitscope.analysis.measures import measure
from unitscope.errors import BadInput, Failure
from unitscope.facts import find_fault, read_facts
from unitscope.networks import Network, load
from unitscope.record import open_record
from unitscope.recording.channel_correlations import sharing
from unitscope.recording.filter_tables import filters
from unitscope.recording.merging import merge
from unitscope.recording.survey import survey
from unitscope.synthesis.maximize import maximize

SITES = ["bn1", "layer1.0.bn2"]


@pytest.fixture(scope="module")
def network() -> Network:
    return load("resnet18", width=4, classes=3, size=32, seed=1)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_many(tmp_path_factory.mktemp("pictures"), 4)


@pytest.fixture(scope="module")
def kept(network: Network, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kept") / "record"
    survey(network, pictures, to=path, sites=SITES, workers=1)
    return path


@pytest.fixture
def record(kept: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(kept, tmp_path / "record"))


def spoil(record: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    facts = json.loads((record / "record.json").read_text())
    change(facts)
    (record / "record.json").write_text(json.dumps(facts))


DAMAGE: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no network": (lambda f: f.pop("network"), "network is missing"),
    "no sites": (lambda f: f.pop("sites"), "sites is missing"),
    "null": (lambda f: f.update(stimuli=None), "stimuli is not a group of keys"),
    "a list": (lambda f: f.update(network=[1]), "network is not a group of keys"),
    "a text": (lambda f: f["sites"][0].update(channels="64"), r"sites\[0\]\.channels is not a whole number"),
    "no number": (lambda f: f["sites"][1].update(channels=True), r"sites\[1\]\.channels is not a whole number"),
    "fewer than none": (lambda f: f["stimuli"].update(count=-1), r"stimuli\.count is not a whole number"),
    "an endless number": (lambda f: f["network"].update(mean=[float("nan")] * 3), r"network\.mean\[0\] is not"),
    "a short pair": (lambda f: f["sites"][0].update(lattice=[3]), r"sites\[0\]\.lattice is not two whole numbers"),
    "sites of texts": (lambda f: f.update(sites=["conv1"]), r"sites\[0\] is not a group of keys"),
    "units that overlap": (lambda f: f["sites"][1].update(first_unit=0), r"sites\[1\]\.first_unit is 0 and not 4"),
    "one name twice": (lambda f: f["sites"][1].update(name="bn1"), "two sites have one name"),
    "labels": (lambda f: f["settings"].update(labels=[1]), r"settings\.labels\[0\] is not a text"),
    "no field": (lambda f: f["sites"][0].pop("field"), r"sites\[0\]\.field is missing"),
    "no completeness": (lambda f: f.pop("complete"), "complete is missing"),
    "another format": (lambda f: f.update(format=2), "this version of unitscope reads form 1"),
    "an odd format": (lambda f: f.update(format=[1]), "format is not a whole number"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_record_is_told_in_one_way(record, name):
    change, story = DAMAGE[name]
    spoil(record, change)
    with pytest.raises(BadInput, match=story):
        open_record(record)


def test_all_who_open_a_record_tell_the_same_story(record, network, pictures):
    spoil(record, lambda f: f["network"].pop("fingerprint"))
    deeds: list[Callable[[], object]] = [
        lambda: open_record(record),
        lambda: measure(record),
        lambda: merge([record], to=record.parent / "merged"),
        lambda: survey(network, pictures, to=record, sites=SITES, workers=1),
        lambda: filters(network, record=record),
        lambda: sharing(network, record=record),
        lambda: maximize(network, ["bn1:0"], to=record),
    ]
    for deed in deeds:
        with pytest.raises(BadInput, match=r"network\.fingerprint is missing"):
            deed()


def test_other_keys_are_let_through_and_missing_ones_have_defaults(record):
    def change(facts: dict[str, Any]) -> None:
        facts["calibration"] = {"found": [1]}
        facts["network"]["computation"] = "0a"
        del facts["settings"], facts["seed"], facts["files"]

    spoil(record, change)
    facts = open_record(record).facts
    assert facts["calibration"] == {"found": [1]}
    assert (facts["settings"], facts["seed"]) == ({"labels": [], "means": []}, 0)


def chunk_of(record: Path, name: str) -> Path:
    return next(path for path in (record / "arrays.zarr" / name / "c").rglob("0") if path.is_file())


TEARS: dict[str, Callable[[Path], Any]] = {
    "an empty table": lambda r: (r / "units.parquet").write_bytes(b""),
    "a table of zeros": lambda r: (r / "units.parquet").write_bytes(bytes((r / "units.parquet").stat().st_size)),
    "a table that ends in zeros": lambda r: (r / "stimuli.parquet").write_bytes(
        (data := (r / "stimuli.parquet").read_bytes())[:400] + bytes(len(data) - 400)
    ),
    "no table": lambda r: (r / "images.parquet").unlink(),
    "no arrays": lambda r: shutil.rmtree(r / "arrays.zarr"),
    "an array of zeros": lambda r: chunk_of(r, "kernels").write_bytes(bytes(chunk_of(r, "kernels").stat().st_size)),
    "a file in place of arrays": lambda r: (shutil.rmtree(r / "arrays.zarr"), (r / "arrays.zarr").write_bytes(b"")),
    "a chunk less": lambda r: chunk_of(r, "histogram").unlink(),
}  # fmt: skip


@pytest.mark.parametrize("digested", [1 << 24, 0])
@pytest.mark.parametrize("name", TEARS)
def test_a_torn_record_is_told_apart(record, name, digested, monkeypatch):
    """Of what has at most DIGESTED bytes any change; of more, what a power cut leaves. `verify` sees any."""
    monkeypatch.setattr(facts_module, "DIGESTED", digested)
    whole = open_record(record)
    whole.verify()
    TEARS[name](record)
    with pytest.raises(Failure, match=r"is torn: .* Data were lost on the disk"):
        whole.verify()
    if digested or name != "a table that ends in zeros":
        with pytest.raises(Failure, match="is torn"):
            open_record(record)


def test_a_survey_into_a_torn_record_is_refused(record, network, pictures):
    (record / "units.parquet").write_bytes(b"")
    with pytest.raises(Failure, match=r"units\.parquet has 0 bytes and was written with [\d,]+ bytes"):
        survey(network, pictures, to=record, sites=SITES, workers=1)


def test_odd_entries_of_files_are_told(record):
    facts = read_facts(record)
    assert facts is not None
    assert find_fault(record, facts) == ""
    for entry in (None, 3, {"bytes": -1, "sha256": ""}, {"bytes": 3}):
        assert "is not described" in find_fault(record, facts | {"files": {"units.parquet": entry}})
    for name in ("/dev/zero", "../record/units.parquet", ""):
        assert "is no file of a record" in find_fault(record, facts | {"files": {name: {"bytes": 0, "sha256": ""}}})
