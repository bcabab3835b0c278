"""A power cut at any point of what is written leaves what is whole or what can be resumed (tests/power.py)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas
import pytest

from tests.power import Disk, Tree, bare, restored, tree_of, watched
from tests.recording.pictures import write_many
from unitscope import tuning_session
from unitscope.analysis.couplings import couplings
from unitscope.analysis.measures import measure
from unitscope.errors import BadInput
from unitscope.networks import Network, load, save
from unitscope.perturbation.experiment import write as write_perturbation
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
    return write_many(tmp_path_factory.mktemp("pictures"), 6)


@pytest.fixture(scope="module")
def surveyed(network: Network, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A record to which everything that a second run replaces has been added once."""
    path = tmp_path_factory.mktemp("surveyed") / "record"
    record = survey(network, pictures, to=path, sites=SITES, workers=1)
    measure(record)
    return path


def groups_of(tree: Tree) -> dict[str, Tree]:
    """What is replaced in one step: each file, but of arrays and of a tuning session the folder."""
    found: dict[str, Tree] = {}
    for name, contents in tree.items():
        parts = Path(name).parts
        length = next((i + 1 for i, part in enumerate(parts) if part.endswith(".zarr") or part.startswith("box-")), 0)
        if name.endswith("/natural.parquet"):  # it stays when the session is replaced
            length = 0
        if length or contents is not None:
            found.setdefault("/".join(parts[: length or len(parts)]), {})[name] = contents
    return found


def check_old_or_new(disk: Disk, before: Tree, after: Tree) -> None:
    """Whatever the moment, each file is the old one or a new one, whole; at the end nothing can be lost any more."""
    ends = groups_of(bare(before)), groups_of(bare(after))
    live: dict[str, list[Tree]] = {}  # files are renamed in one step, so that what the process left there was whole
    for _, tree in disk.after(("killed",)):
        for name, group in groups_of(tree).items():
            if list(group) == [name]:
                live.setdefault(name, []).append(group)
    for moment, tree in disk.after():
        there = groups_of(tree)
        for name in ends[0]:
            assert name in there or name not in ends[1], f"{name} is lost at {moment}"
        for name, group in there.items():
            known = [end[name] for end in ends if name in end] + live.get(name, [])
            assert group in known, f"{name} is torn at {moment}"
    _, last = disk.states[-1]
    for loss, tree in last.items():
        assert bare(tree) == bare(after), f"something is not on the disk at the end ({loss})"


def check_survey(disk: Disk, again: Callable[[Path], object], whole: Tree, place: Path, *, resumed: int) -> None:
    """Each folder is a whole record, or the survey resumes in it and ends with the same; so many of these are tried."""
    wanted = {name: contents for name, contents in whole.items() if name != "record.json"}
    begun = []
    for number, (moment, tree) in enumerate(disk.after()):
        if "record.json" not in tree:
            begun.append((moment, tree))
            continue
        folder = restored(tree, place / f"whole-{number}")
        open_record(folder).verify()
        there = {name: contents for name, contents in tree.items() if not name.startswith("parts")}
        there.pop("record.json")
        assert there == wanted, f"not the record at {moment}"
    chosen = np.unique(np.linspace(0, len(begun) - 1, min(resumed, len(begun))).astype(int))
    for number in chosen:
        moment, tree = begun[number]
        folder = restored(tree, place / f"begun-{number}")
        with pytest.raises(BadInput, match=r"is not a record"):
            open_record(folder)
        again(folder)
        there = tree_of(folder)
        there.pop("record.json")
        assert there == wanted, f"resumed from {moment}, it ended with something else"
    shutil.rmtree(place)


@pytest.mark.parametrize("resumed", [4, pytest.param(10_000, marks=pytest.mark.long)])
def test_a_survey(network, pictures, tmp_path, monkeypatch, resumed):
    run = partial(survey, network, pictures, sites=SITES, workers=1, put_aside_every=0)
    with watched(tmp_path / "watched", monkeypatch) as disk:
        run(to=tmp_path / "watched" / "record")
    whole = tree_of(tmp_path / "watched" / "record")
    inside = Disk(tmp_path / "nothing")
    inside.states = [
        (what, {loss: below(tree, "record/") for loss, tree in trees.items()}) for what, trees in disk.states
    ]
    check_survey(inside, lambda folder: run(to=folder), whole, tmp_path / "restored", resumed=resumed)
    _, last = inside.states[-1]
    assert all(bare(tree) == whole for tree in last.values())


def below(tree: Tree, prefix: str) -> Tree:
    return {name.removeprefix(prefix): contents for name, contents in tree.items() if name.startswith(prefix)}


@pytest.mark.parametrize("resumed", [2, pytest.param(10_000, marks=pytest.mark.long)])
def test_shards_and_their_merge(network, pictures, tmp_path, monkeypatch, resumed):
    parts = [tmp_path / "1", tmp_path / "2"]
    with watched(tmp_path / "1", monkeypatch) as disk:
        survey(network, pictures, to=parts[0], sites=SITES, workers=1, shard="1/2")
    check_old_or_new(disk, {}, tree_of(parts[0]))
    survey(network, pictures, to=parts[1], sites=SITES, workers=1, shard="2/2")
    with watched(tmp_path / "merged", monkeypatch) as disk:
        merge(parts, to=tmp_path / "merged")
    again = partial(merge, parts)
    whole = tree_of(tmp_path / "merged")
    check_survey(disk, lambda folder: again(to=folder), whole, tmp_path / "restored", resumed=resumed)


def tune(network: Network, path: Path, _pictures: Path, *, second: bool) -> None:
    tuning_session.LARGEST, kept = 8, tuning_session.LARGEST
    try:
        contrast = 0.5 if second else 1.0
        tuning_session.tuning(network, path, sites=["bn1"], contrast=contrast, null=1 + second, patches=2 + second)
    finally:
        tuning_session.LARGEST = kept


def listen(network: Network, path: Path, pictures: Path, *, second: bool) -> None:
    sharing(network, pictures, record=path, baselines=int(second), workers=1)


def filter_twice(network: Network, path: Path, _pictures: Path, *, second: bool) -> None:
    filters(network, record=path, mode="full" if second else "max_tap")
    couplings(path, permutations=9 + second)


def order(network: Network, path: Path, _pictures: Path, *, second: bool) -> None:
    maximize(network, [f"bn1:{int(second)}"], to=open_record(path), seeds=1)


def disturb(_network: Network, path: Path, _pictures: Path, *, second: bool) -> None:
    table = pandas.DataFrame({"site": ["bn1"], "delta_loss": [float(second)]})
    write_perturbation(path, table, table)


def measure_again(_network: Network, path: Path, _pictures: Path, *, second: bool) -> None:
    measure(path, pool="mean" if second else "max")


DEEDS = {
    "tuning": tune, "sharing": listen, "filters": filter_twice, "maximize": order, "perturb": disturb,
    "measure": measure_again,
}  # fmt: skip


@pytest.mark.parametrize("name", DEEDS)
def test_what_is_added_to_a_record(name, network, pictures, surveyed, tmp_path, monkeypatch):
    path = Path(shutil.copytree(surveyed, tmp_path / "record"))
    DEEDS[name](network, path, pictures, second=False)
    before = tree_of(path)
    with watched(path, monkeypatch) as disk:
        DEEDS[name](network, path, pictures, second=True)
    after = tree_of(path)
    assert after != before or name == "measure"
    assert after.keys() >= before.keys()
    check_old_or_new(disk, before, after)


def test_weights(network, tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    save(load("resnet18", width=4, classes=3, size=32, seed=2), tmp_path / "there" / "w.safetensors")
    before = tree_of(tmp_path / "there")
    with watched(tmp_path / "there", monkeypatch) as disk:
        save(network, tmp_path / "there" / "w.safetensors")
    check_old_or_new(disk, before, tree_of(tmp_path / "there"))


def test_the_disk_of_these_tests_loses_what_was_not_synced(tmp_path, monkeypatch):
    with watched(tmp_path, monkeypatch) as disk:
        (tmp_path / "a.tmp").write_bytes(b"abc")
        (tmp_path / "a.tmp").replace(tmp_path / "a")
        (tmp_path / "b").write_text(json.dumps([1]))
    _, last = disk.states[-1]
    assert last == {
        "killed": {"a": b"abc", "b": b"[1]"},
        "empty": {"a": b"", "b": b""},
        "zeros": {"a": bytes(3), "b": bytes(3)},
        "forgotten": {},
    }
