"""Writing that outlasts a kill and a power cut, one writer at a time, and readers that never wait. Never imports torch.

A file system may keep a new name and lose the data behind it: after a power cut, a file that was written and renamed
can be empty. So a file is written under a temporary name of its own, synced, renamed, and its folder is synced: the
name stands for the old contents or for the new ones, whole, at any moment. A folder of files (arrays, a tuning
session) is written beside the old one, synced, and exchanged with it in one step. What names other files
(`record.json`, `session.json`) is written after them.

    with lock_folder(record):                      # everybody who writes; readers do not ask
        write_table(record / "a.parquet", table)
        write_arrays(record / "b.zarr", arrays)

A reader of several files of one folder reads them through `read_whole`: all of the old folder, or all of the new one.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import re
import shutil
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from unitscope.errors import BadInput, Failure

if TYPE_CHECKING:
    import numpy as np
    import pyarrow

CHUNK = 64
"""Units in a chunk of an array."""

TOGETHER = 16
"""Files that are synced at once: a disk commits them together, and one by one they take ten times as long."""

TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{8}(-old)?\.tmp")
"""Names of what is being written, or was when its writer was killed."""

LARGEST_JSON = 1 << 28
"""Bytes of a JSON file; what is larger was not written by this package."""

Found = TypeVar("Found")


# --- files and folders ------------------------------------------------------------------------------------


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path; what is written there becomes the file `path` in one step, on the disk, or nothing changes."""
    make_folder(path.parent)
    temporary = _temporary(path)
    try:
        yield temporary
        sync(temporary)
        replace_file(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """An empty temporary folder; what is written there becomes the folder `path` in one step, on the disk."""
    make_folder(path.parent)
    temporary = _temporary(path)
    try:
        temporary.mkdir()
        yield temporary
        sync_tree(temporary)
        replace_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # what came of it: the old folder, or what was not finished


def write_file(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any, *, indent: int | None = 1) -> None:
    """Write a JSON file, whole or not at all."""
    write_file(path, (json.dumps(value, indent=indent, ensure_ascii=False) + "\n").encode())


def write_table(path: Path, table: pyarrow.Table) -> None:
    """Write a Parquet table, whole or not at all. The same table gives the same bytes."""
    import pyarrow.parquet

    with whole_file(path) as temporary:
        pyarrow.parquet.write_table(table, temporary, compression="zstd", row_group_size=1 << 16)


@dataclass(frozen=True)
class Pieces:
    """An array that is never whole in memory: its pieces along the first axis, in order."""

    shape: tuple[int, ...]
    dtype: Any
    pieces: Iterable[Any]


def write_arrays(
    path: Path,
    arrays: Mapping[str, tuple[Any, tuple[str, ...]]],
    *,
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Write a Zarr group anew from {name: (values or Pieces, dimension names)}, whole or not at all."""
    import numpy as np
    import zarr

    with whole_folder(path) as temporary:
        group = zarr.create_group(str(temporary), attributes=dict(attributes or {}))
        for name, (values, dimensions) in arrays.items():
            dtype = np.dtype(values.dtype)
            chunks = (min(256 if len(values.shape) == 1 else CHUNK, max(1, values.shape[0])), *values.shape[1:])
            array = group.create_array(
                name,
                shape=values.shape,
                chunks=chunks,
                dtype=dtype,
                # zarr leaves out chunks that hold nothing but the fill value.
                fill_value=np.nan if dtype.kind == "f" else 0,
                dimension_names=dimensions,
            )
            first = 0
            for piece in values.pieces if isinstance(values, Pieces) else [values]:
                array[first : first + len(piece)] = piece
                first += len(piece)


def make_folder(path: Path) -> None:
    """Make a folder and those above it that are missing; their names are on the disk."""
    missing = [one for one in (path, *path.parents) if not one.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for one in missing:
        sync(one.parent)


def replace_file(new: Path, path: Path) -> None:
    """Let a file that is on the disk take the name of another."""
    os.replace(new, path)
    sync(path.parent)


def replace_folder(new: Path, path: Path) -> None:
    """Put the folder `new` in the place of `path` in one step; what was there is then called `new`, if there was any.

    Where the file system cannot exchange two folders, there is a moment without any, and a kill at that moment leaves
    the old one under a temporary name; the next `lock_folder` gives it its name again.
    """
    if not path.exists():
        os.rename(new, path)
    elif not exchange(new, path):
        # Named after its place, so that `_settle` can tell which folder this was.
        aside = path.with_name(f"{new.name.removesuffix('.tmp')}-old.tmp")
        os.rename(path, aside)
        os.rename(new, path)
        os.rename(aside, new)
    sync(path.parent)


def exchange(one: Path, other: Path) -> bool:
    """Let two folders change places in one step; False where the system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(other)
    if sys.platform == "darwin":
        return bool(libc.renamex_np(*names, ctypes.c_uint(2)) == 0)
    here, swap = ctypes.c_int(-100), ctypes.c_uint(2)  # AT_FDCWD, RENAME_EXCHANGE
    return hasattr(libc, "renameat2") and bool(libc.renameat2(here, names[0], here, names[1], swap) == 0)


def sync(path: Path) -> None:
    """Make sure that a file's contents, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        if not path.is_dir():  # some file systems cannot sync a folder
            raise
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """The same of a folder and everything in it."""
    files, folders = [], [folder]
    for top, inside, names in os.walk(folder):
        folders += [Path(top) / name for name in inside]
        files += [Path(top) / name for name in names]
    with ThreadPoolExecutor(TOGETHER) as pool:
        list(pool.map(sync, [*files, *folders]))


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")


# --- one writer at a time ---------------------------------------------------------------------------------

_own = threading.local()
"""The folders that this thread has locked."""


@contextmanager
def lock_folder(folder: Path, *, wait: float = 60.0, what: str = "run") -> Iterator[None]:
    """Hold the one lock of a folder against all other writers.

    The folder is made where it is missing. What a killed writer left under temporary names is removed. A thread that
    holds the lock may ask again, unless it does not wait.

    Args:
        folder: The folder.
        wait: So many seconds are waited for another writer.
        what: What writes there, for the message.

    Raises:
        Failure: Another writer still holds the lock.
    """
    make_folder(folder)
    key, held = folder.resolve(), _own.__dict__.setdefault("held", set())
    if key in held:
        if not wait:
            raise _lock_failure(folder, what)
        yield
        return
    handle = _acquire_lock(folder, wait, what)
    held.add(key)
    try:
        _remove_leftovers(folder)
        yield
    finally:
        held.discard(key)
        os.close(handle)  # and with it the lock goes


def _acquire_lock(folder: Path, wait: float, what: str) -> int:
    until = time.monotonic() + wait
    while (handle := _try_lock(folder)) is None:
        if time.monotonic() >= until:
            raise _lock_failure(folder, what)
        time.sleep(0.02)
    return handle


def _lock_failure(folder: Path, what: str) -> Failure:
    return Failure(f"another {what} is writing to {folder}. Wait for it, or choose another folder.")


def _try_lock(folder: Path) -> int | None:
    """The lock on the folder itself or, where the file system has no such locks, on a file `.lock` in it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # Another writer has the lock. Any other error means that this file system has no locks on folders.
            if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
                raise BlockingIOError from None
            os.close(handle)
            handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def _remove_leftovers(folder: Path) -> None:
    """Remove what is under temporary names: only who holds the lock writes, so that nobody is writing there."""
    for top, inside, names in os.walk(folder):
        for name in filter(TEMPORARY.fullmatch, names):
            (Path(top) / name).unlink(missing_ok=True)
        for name in filter(TEMPORARY.fullmatch, inside):
            _settle(Path(top) / name)
        # os.walk enters only the folders that are left in this list. Arrays are skipped: they are replaced as a whole,
        # and have many files.
        inside[:] = [name for name in inside if not TEMPORARY.fullmatch(name) and not name.endswith(".zarr")]


def _settle(leftover: Path) -> None:
    """Remove a temporary folder, or give it its name again where it is the only one there is (replace_folder)."""
    own = TEMPORARY.fullmatch(leftover.name)
    if own is not None and own[2] and not (place := leftover.with_name(own[1])).exists():
        os.rename(leftover, place)
    else:
        shutil.rmtree(leftover, ignore_errors=True)


# --- readers ----------------------------------------------------------------------------------------------


def read_whole(folder: Path, read: Callable[[], Found]) -> Found:
    """What `read` gives of a folder that may be replaced meanwhile: of the old one or of the new one, never of both."""
    for _ in range(100):
        # Compared before and after: a change in between means that `read` may have seen parts of both folders.
        before = _identity(folder)
        try:
            found = read()
        except Exception:
            if _identity(folder) == before:
                raise
        else:
            if _identity(folder) == before:
                return found
    raise Failure(f"{folder} is written anew again and again while it is read. Read it when that has ended.")


def _identity(folder: Path) -> tuple[int, int, int] | None:
    try:
        there = folder.stat()
    except OSError:
        return None
    # A file system may reuse the inode of a deleted folder, but not with the same time of change.
    return there.st_dev, there.st_ino, there.st_ctime_ns


def read_json(path: Path) -> Any:
    """The value in a JSON file, or None where there is no file. Raises BadInput where it cannot be read."""
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise BadInput(f"{path} is damaged (it has {path.stat().st_size} bytes).")
        return json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}.") from error
    except RecursionError:
        raise BadInput(f"{path} is damaged (it is nested too deep).") from None
    except ValueError as error:  # no JSON, no UTF-8, integers of thousands of digits
        raise BadInput(f"{path} is damaged ({error}).") from error


def read_table(path: Path, *, filters: list[tuple[str, str, Any]] | None = None) -> pyarrow.Table:
    """A Parquet table. Raises Failure where it is not there or damaged."""
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(path, filters=filters)
    except FileNotFoundError:
        raise Failure(f"there is no table {path}.") from None
    except (OSError, pyarrow.ArrowException) as error:
        raise Failure(f"the table {path} is damaged ({_first_line(error)}). Make it again.") from error


def read_attributes(path: Path) -> dict[str, Any] | None:
    """What a Zarr group says of itself, or None where there is no group. Raises Failure where it is damaged."""
    if not path.exists():
        return None
    import zarr

    try:
        return dict(zarr.open_group(str(path), mode="r").attrs)
    except Exception as error:
        raise Failure(f"the arrays {path} are damaged ({_first_line(error)}). Make them again.") from error


def read_array(path: Path, name: str) -> np.ndarray:
    """One array of a Zarr group. Raises Failure where it is not there or damaged."""
    import numpy as np
    import zarr

    def read() -> np.ndarray:
        return np.asarray(zarr.open_array(str(path), path=name, mode="r")[...])

    try:
        return read_whole(path, read)
    except Exception as error:
        raise Failure(f"the array {name} of {path} is damaged ({_first_line(error)}). Make it again.") from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
