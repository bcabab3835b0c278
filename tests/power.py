"""A disk that loses what was not synced: the sequence of writes, renames, removals and syncs below a folder is noted,
and the folder can be had as it would be after a power cut at any point of it.

A file system promises little. What was synced is there; of the rest, names may have reached the disk without the data
behind them, or nothing may have. So after each event there are four folders that a power cut may leave:

    "killed"     everything is there: only the process ended
    "empty"      all names are there; files that were not synced are empty (ext4)
    "zeros"      the same, with zeros in their full length (XFS)
    "forgotten"  neither names nor data are there that were not synced

Writes by libraries in other languages (Parquet, safetensors) are seen as well, since the folder itself is looked at.
"""

from __future__ import annotations

import os
import resource
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from unitscope import durable

Tree = dict[str, bytes | None]
"""Contents by path below the root; None for a folder."""

LOSSES = ("killed", "empty", "zeros", "forgotten")
CHANGES = ("replace", "rename", "link", "unlink", "remove", "rmdir", "mkdir")


class Disk:
    """What is below `root`, and what of it is safe."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.kept: dict[int, bytes] = {}  # by inode: contents at the last sync
        self.names: dict[int, dict[str, int]] = {}  # by inode of a folder: names and inodes at the last sync
        self.folders: set[int] = set()
        self.states: list[tuple[str, dict[str, Tree]]] = []
        self.cache: dict[tuple[int, int, int, int], bytes] = {}
        self.held: list[int] = []
        self.lock = threading.RLock()
        for path, inode, contents in self._now():
            self._note(path, inode, contents)

    def _now(self) -> Iterator[tuple[Path, int, bytes | None]]:
        """All that is there: path, inode, contents."""
        for top, folders, files in os.walk(self.root):
            folders.sort()
            yield Path(top), os.stat(top).st_ino, None
            for name in sorted(files):
                path = Path(top) / name
                about = path.stat()
                key = (about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
                if key not in self.cache:
                    self.cache[key] = path.read_bytes()
                yield path, about.st_ino, self.cache[key]

    def _note(self, path: Path, inode: int, contents: bytes | None) -> None:
        """It is on the disk."""
        if contents is None:
            self.folders.add(inode)
            self.names[inode] = {entry.name: entry.inode() for entry in os.scandir(path)}
        else:
            self.kept[inode] = contents

    def synced(self, handle: int) -> None:
        inode = os.fstat(handle).st_ino
        for path, own, contents in self._now():
            if own == inode:
                self._note(path, inode, contents)
                self.event(f"sync {path.relative_to(self.root)}")
                return

    def hold(self, path: Any, dir_fd: int | None = None) -> None:
        """Keep the inode of what is going to vanish, so that nothing new gets its number."""
        try:
            self.held.append(os.open(path, os.O_RDONLY, dir_fd=dir_fd))
        except OSError:
            return

    def event(self, what: str) -> None:
        now = list(self._now())
        self.folders |= {inode for _, inode, contents in now if contents is None}
        trees: dict[str, Tree] = {"killed": {}, "empty": {}, "zeros": {}}
        for path, inode, contents in now[1:] if now else []:
            name = str(path.relative_to(self.root))
            for loss, tree in trees.items():
                if contents is None or loss == "killed":
                    tree[name] = contents
                else:
                    tree[name] = self.kept.get(inode, b"" if loss == "empty" else b"\0" * len(contents))
        trees["forgotten"] = {}
        self._add_safe(self.root.stat().st_ino, "", trees["forgotten"])
        self.states.append((what, trees))

    def _add_safe(self, folder: int, prefix: str, tree: Tree) -> None:
        for name, inode in self.names.get(folder, {}).items():
            if inode in self.folders:
                tree[prefix + name] = None
                self._add_safe(inode, f"{prefix}{name}/", tree)
            else:
                tree[prefix + name] = self.kept.get(inode, b"")

    def after(self, losses: tuple[str, ...] = LOSSES) -> Iterator[tuple[str, Tree]]:
        """Every folder that a power cut may leave, without temporary files, each once."""
        seen = set()
        for number, (what, trees) in enumerate(self.states):
            for loss in losses:
                tree = bare(trees[loss])
                key = hash(tuple(sorted((name, contents or b"/") for name, contents in tree.items())))
                if key not in seen:
                    seen.add(key)
                    yield f"{number}: {what}, {loss}", tree


def bare(tree: Tree) -> Tree:
    """Without what is under temporary names, which the next writer removes."""
    return {
        name: contents
        for name, contents in tree.items()
        if not any(durable.TEMPORARY.fullmatch(part) for part in Path(name).parts)
    }


@contextmanager
def watched(root: Path, patch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """Note what happens below a folder."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 1 << 16), hard))
    root.mkdir(parents=True, exist_ok=True)
    disk = Disk(root)
    fsync, exchange = os.fsync, durable.exchange

    def noted_sync(handle: Any) -> None:
        number = handle if isinstance(handle, int) else handle.fileno()
        fsync(number)
        with disk.lock:
            disk.synced(number)

    def noted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def change(*arguments: Any, **named: Any) -> Any:
            with disk.lock:
                if name in ("unlink", "remove", "rmdir"):
                    disk.hold(arguments[0], named.get("dir_fd"))
                elif name in ("replace", "rename"):
                    disk.hold(arguments[1])
                done = real(*arguments, **named)
                disk.event(f"{name} {' '.join(str(one) for one in arguments[:2])}")
                return done

        return change

    with patch.context() as patched:
        patched.setattr(os, "fsync", noted_sync)
        for name in CHANGES:
            patched.setattr(os, name, noted(name, getattr(os, name)))
        patched.setattr(durable, "exchange", noted("exchange", exchange))
        try:
            disk.event("begin")
            yield disk
            disk.event("end")
        finally:
            for handle in disk.held:
                os.close(handle)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def restored(tree: Tree, folder: Path) -> Path:
    """The folder as it would be found."""
    folder.mkdir(parents=True)
    for name, contents in sorted(tree.items()):
        if contents is None:
            (folder / name).mkdir(exist_ok=True)
        else:
            (folder / name).write_bytes(contents)
    return folder


def tree_of(folder: Path) -> Tree:
    """What a folder holds now."""
    return {
        str(path.relative_to(folder)): None if stat.S_ISDIR(path.stat().st_mode) else path.read_bytes()
        for path in sorted(folder.rglob("*"))
    }
