"""Files and folders are replaced in one step, by one writer at a time, and readers never wait."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from unitscope import durable
from unitscope.durable import (
    lock_folder,
    read_array,
    read_json,
    read_table,
    read_whole,
    whole_file,
    whole_folder,
    write_arrays,
    write_file,
)
from unitscope.errors import BadInput, Failure


class Stop(Exception):
    pass


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_that_was_not_finished_leaves_the_old_one(tmp_path):
    write_file(tmp_path / "a", b"old")

    def write() -> None:
        with whole_file(tmp_path / "a") as temporary:
            temporary.write_bytes(b"ne")
            raise Stop

    with pytest.raises(Stop):
        write()
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_folder_is_replaced_whole(tmp_path, monkeypatch, can_exchange):
    if not can_exchange:
        monkeypatch.setattr(durable, "exchange", lambda one, other: False)
    for turn in ("old", "new"):
        with whole_folder(tmp_path / "a") as temporary:
            (temporary / turn).write_text(turn)
    assert names(tmp_path) == ["a"]
    assert names(tmp_path / "a") == ["new"]
    with pytest.raises(Stop), whole_folder(tmp_path / "a"):
        raise Stop
    assert names(tmp_path / "a") == ["new"]
    assert names(tmp_path) == ["a"]


def test_two_writers_have_temporary_files_of_their_own(tmp_path):
    with whole_file(tmp_path / "a") as one, whole_file(tmp_path / "a") as other:
        one.write_bytes(b"one")
        other.write_bytes(b"other")
    assert (tmp_path / "a").read_bytes() == b"one"
    assert names(tmp_path) == ["a"]


def test_what_a_killed_writer_left_goes_with_the_next_lock(tmp_path):
    (tmp_path / "measures").mkdir()
    (tmp_path / "measures" / ".color.parquet.0123abcd.tmp").write_text("")
    (tmp_path / ".arrays.zarr.0123abcd.tmp").mkdir()
    (tmp_path / ".box.0123abcd-old.tmp").mkdir()
    (tmp_path / ".box.0123abcd-old.tmp" / "kept").write_text("")
    (tmp_path / ".mine.tmp").write_text("")
    with lock_folder(tmp_path):
        assert names(tmp_path) == [".mine.tmp", "box", "measures"]  # the old folder had lost its name
    assert names(tmp_path / "box") == ["kept"]
    assert names(tmp_path / "measures") == []


HOLD = """
import sys
from pathlib import Path
from unitscope.durable import lock_folder
with lock_folder(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_another_process_has_to_wait_and_a_killed_one_holds_nothing(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(Failure, match=r"another survey is writing to .*\. Wait for it"),
            lock_folder(tmp_path, wait=0.1, what="survey"),
        ):
            pass
        other.kill()
    with (
        lock_folder(tmp_path, wait=0),
        lock_folder(tmp_path),  # who has it may ask again, unless it does not wait
        pytest.raises(Failure, match="another run is writing"),
        lock_folder(tmp_path, wait=0),
    ):
        pass
    assert names(tmp_path) == []


def test_where_folders_cannot_be_locked_a_file_in_them_is(tmp_path, monkeypatch):
    real = durable.fcntl.flock

    def only_files(handle: int, operation: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            raise OSError(9, "Bad file descriptor")
        real(handle, operation)

    monkeypatch.setattr(durable.fcntl, "flock", only_files)
    with lock_folder(tmp_path):
        refused = []
        thread = threading.Thread(target=lambda: refused.append(durable._try_lock(tmp_path)))
        thread.start()
        thread.join()
        assert refused == [None]
    with lock_folder(tmp_path, wait=0):
        assert names(tmp_path) == [".lock"]


def test_a_reader_beside_a_writer_gets_the_old_arrays_or_the_new(tmp_path):
    def write(value: int) -> None:
        arrays = {f"{i}": (np.full((64 + value, 3), value, np.int64), ("unit", "x")) for i in range(3)}
        with lock_folder(tmp_path):
            write_arrays(tmp_path / "a.zarr", arrays, attributes={"value": value})

    write(0)
    writer = threading.Thread(target=lambda: [write(value) for value in range(1, 12)])
    writer.start()
    seen = set()
    while writer.is_alive():
        found = read_whole(tmp_path / "a.zarr", lambda: [read_array(tmp_path / "a.zarr", str(i)) for i in range(3)])
        (value,) = {int(number) for array in found for number in array.ravel()}
        assert {array.shape for array in found} == {(64 + value, 3)}
        seen.add(value)
    writer.join()
    assert seen
    assert names(tmp_path) == ["a.zarr"]


def test_a_reader_of_what_never_rests_is_told(tmp_path):
    turn = iter(range(10**6))

    def read() -> None:
        with whole_folder(tmp_path / "a") as temporary:
            (temporary / str(next(turn))).write_text("")

    read()
    with pytest.raises(Failure, match="again and again"):
        read_whole(tmp_path / "a", read)


@pytest.mark.parametrize(
    ("text", "story"),
    [
        ("{", "is damaged"),
        (b"\xff\xfe\xff", "is damaged"),
        ("[" * 100_000, "nested too deep"),
        ('{"a": ' * 100_000, "nested too deep"),
        ("9" * 5000, "is damaged"),
        (bytes(100), "is damaged"),
    ],
)
def test_damaged_json_is_told(tmp_path, text, story):
    (tmp_path / "a.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BadInput, match=story):
        read_json(tmp_path / "a.json")
    assert read_json(tmp_path / "b.json") is None


def test_damaged_tables_and_arrays_are_told(tmp_path):
    (tmp_path / "a.parquet").write_bytes(bytes(500))
    with pytest.raises(Failure, match=r"a\.parquet is damaged"):
        read_table(tmp_path / "a.parquet")
    with pytest.raises(Failure, match="there is no table"):
        read_table(tmp_path / "b.parquet")
    write_arrays(tmp_path / "a.zarr", {"x": (np.arange(5), ("unit",))})
    with pytest.raises(Failure, match=r"array y of .* is damaged"):
        read_array(tmp_path / "a.zarr", "y")
    (tmp_path / "a.zarr" / "x" / "c" / "0").write_bytes(bytes(20))
    with pytest.raises(Failure, match=r"array x of .* is damaged"):
        read_array(tmp_path / "a.zarr", "x")
