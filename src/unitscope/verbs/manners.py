"""Progress, interruption, and how wide the terminal is: what all verbs share."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}, {remaining} left, {rate_noinv_fmt}]"


@contextmanager
def bars(unit: str = "") -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar on stderr, where that is a terminal, for each thing that is done: told what, how many, of all.

    It shows how many of the `unit` a second are done, and how long the rest will take.
    """
    from tqdm import tqdm

    shown: dict[str, Any] = {}

    def progress(what: str, done: int, total: int) -> None:
        if what not in shown:
            close()
            quiet = not sys.stderr.isatty()
            shown[what] = tqdm(
                desc=what, total=total, initial=done, disable=quiet, dynamic_ncols=True, unit=unit, bar_format=BAR
            )
        else:
            shown[what].update(done - shown[what].n)

    def close() -> None:
        while shown:
            shown.popitem()[1].close()

    try:
        yield progress
    finally:
        close()


class Stopped(KeyboardInterrupt):
    """Ctrl-C, with what is kept."""


@contextmanager
def resumable(kept: str) -> Iterator[None]:
    """Say after Ctrl-C what is kept and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped(kept) from None


def columns() -> int:
    """Width of the terminal, as far as lines read well; 80 where there is none."""
    return min(max(shutil.get_terminal_size().columns, 40), 100)
