"""Several writers of one record at once: nobody's result is lost, and a reader beside them sees the old or the new."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas
import pytest

from tests.recording.pictures import write_many
from unitscope.analysis.couplings import couplings, filter_array, read_filters
from unitscope.analysis.measures import measure, write_measures
from unitscope.networks import Network, load
from unitscope.optima import Light, Optimum, array_files, begin_set, read_entries, read_optima, read_scores, write_part
from unitscope.optima import write_scores as add_scores
from unitscope.record import Record, open_record
from unitscope.recording.filter_tables import Filtered, filters, keep
from unitscope.recording.survey import survey
from unitscope.vocabulary import Box


@pytest.fixture(scope="module")
def network() -> Network:
    return load("resnet18", width=4, classes=3, size=32, seed=1)


@pytest.fixture(scope="module")
def surveyed(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("surveyed")
    (folder / "pictures").mkdir()
    pictures = write_many(folder / "pictures", 4)
    return survey(network, pictures, to=folder / "record", sites=["bn1"], workers=1).path


@pytest.fixture
def record(surveyed: Path, tmp_path: Path) -> Record:
    return open_record(shutil.copytree(surveyed, tmp_path / "record"))


def together(*deeds: Callable[[], object]) -> None:
    """Do all at once; what one of them raises is raised."""
    raised: list[BaseException] = []
    start = threading.Barrier(len(deeds))

    def do(deed: Callable[[], object]) -> None:
        try:
            start.wait()
            deed()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=do, args=(deed,)) for deed in deeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]


def optimum(channel: int) -> Optimum:
    numbers = np.full((1, 3, 4, 4), channel, np.float32)
    return Optimum(
        f"bn1:{channel}", "bn1", channel, Box(0, 0, 4, 4), numbers, numbers[:, 0, 0, 0], numbers[:, 0, 0, :1],
        np.array([True]), Light((0.5,) * 3, (0.25,) * 3, False),
    )  # fmt: skip


FACTS = {
    "recipe": {"name": "contrast"}, "pole": "preferred", "seeds": 1, "seed": 0, "reads": "before the nonlinearity",
    "precision": "float32",
    "network": {"name": "n", "fingerprint": "f", "mean": [0.5] * 3, "std": [0.25] * 3, "order": "RGB"},
}  # fmt: skip


def test_runs_of_maximize_add_each_objective_once(tmp_path):
    folder = tmp_path / "optima" / "contrast-preferred"

    def run(first: int) -> None:
        begin_set(folder, FACTS)
        for channel in range(first, first + 6):
            write_part(folder, [optimum(channel)])
            add_scores(folder, pandas.DataFrame({"objective": [f"bn1:{channel}"], "score": [float(channel)]}))

    together(lambda: run(0), lambda: run(3), lambda: run(0))
    names = [entry["objective"] for file in array_files(folder) for entry in read_entries(file)]
    assert sorted(names) == [f"bn1:{channel}" for channel in range(9)]
    scores = read_scores(folder)
    assert scores is not None
    assert sorted(scores.objective) == sorted(names)
    assert [int(one.whitened[0, 0, 0, 0]) for one in read_optima(folder, ["bn1:0", "bn1:8"])] == [0, 8]


def test_measures_are_written_at_once(record):
    table = measure(record)["activity"]
    together(*[lambda: write_measures(record, "activity", table)] * 4)
    pandas.testing.assert_frame_equal(record.measures("activity"), table, check_dtype=False)
    assert sorted(path.name for path in (record.path / "measures").glob("*activity*")) == ["activity.parquet"]


def test_a_reader_beside_filters_sees_those_of_one_run(record, network):
    plain, full = (list(filters(network, mode=mode).values()) for mode in ("max_tap", "full"))
    keep(plain, record)
    ends = threading.Event()
    seen: set[str] = set()

    def write() -> None:
        for turn in range(8):
            keep((full, plain)[turn % 2], record)
        ends.set()

    def read() -> None:
        while not ends.is_set():
            (mode,) = {one["mode"] for one in read_filters(record)}
            seen.add(mode)
            couplings(record, permutations=1)

    together(write, write, read)
    wanted: list[Filtered] = {"max_tap": plain, "full": full}[read_filters(record)[0]["mode"]]
    for number, one in enumerate(wanted):
        np.testing.assert_allclose(filter_array(record, number, "pictures"), one.filters.pictures, rtol=1e-6)
    assert seen <= {"max_tap", "full"}
