"""What all verbs share: progress bars, interruption, the width of the terminal, and options of several values."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

from cyclopts import Parameter

from unitscope.errors import Failure

T = TypeVar("T")

Several = Annotated[list[T] | None, Parameter(consume_multiple=True)]
"""An option that takes all values up to the next option: `--sites maxpool layer1.0.relu`."""

BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}, {remaining} left, {rate_noinv_fmt}]"


@contextmanager
def progress_bars(unit: str = "") -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar on stderr for each task, where stderr is a terminal.

    A bar shows how many of the `unit` are done in a second, and how long the rest will take.

    Yields:
        A function of the task's name, how much is done, and how much there is to do. Another name begins another bar.
    """
    from tqdm import tqdm

    shown: dict[str, Any] = {}

    def show_progress(task: str, done: int, total: int) -> None:
        if task not in shown:
            close()
            quiet = not sys.stderr.isatty()
            shown[task] = tqdm(
                desc=task, total=total, initial=done, disable=quiet, dynamic_ncols=True, unit=unit, bar_format=BAR
            )
        else:
            shown[task].update(done - shown[task].n)

    def close() -> None:
        while shown:
            shown.popitem()[1].close()

    try:
        yield show_progress
    finally:
        close()


class Stopped(KeyboardInterrupt):
    """Ctrl-C, with a sentence that says what is kept."""


@contextmanager
def resumable(kept: str) -> Iterator[None]:
    """Say after Ctrl-C what is kept and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped(kept) from None


def require_package(name: str, *, extra: str) -> None:
    """Look for a package of an extra before the work begins, so that no long computation ends without its figures.

    Args:
        name: The package as it is imported: matplotlib.
        extra: The extra of this project that brings the package: analysis.

    Raises:
        Failure: Where the package is not installed.
    """
    if importlib.util.find_spec(name) is None:
        raise Failure(f"this needs {name}, which is not installed: pip install 'unitscope[{extra}]'.")


def terminal_width() -> int:
    """Columns of the terminal, between 40 and 100 so that lines read well; 80 where there is no terminal."""
    return min(max(shutil.get_terminal_size().columns, 40), 100)


def one_or_many(paths: list[str]) -> str | list[str]:
    """The only path, or the list of several: the shell turns a pattern into many paths."""
    return paths[0] if len(paths) == 1 else paths
