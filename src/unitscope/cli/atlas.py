"""atlas: a static site of records, to be browsed offline."""

from __future__ import annotations

from pathlib import Path

from unitscope.cli.common import progress_bars, resumable


def atlas(records: list[Path], /, *, to: Path) -> None:
    """Make a static site of one or several records, to be browsed offline.

    Args:
        records: Folders that `unitscope survey` made; several are shown side by side.
        to: The folder of the atlas. An atlas that is there already is made anew.
    """
    from unitscope.atlas_pages.site import build_atlas

    with (
        resumable("Records are untouched; the atlas is made anew by the same command."),
        progress_bars() as show_progress,
    ):
        page = build_atlas(records, to=to, progress=lambda done, total, what: show_progress(what, done, total))
    print(opening_text(page))


def opening_text(page: Path) -> str:
    """Where the atlas is, and how to open it."""
    return f"The atlas is {page.resolve()}\nOpen it by double-click, or: unitscope view {page.parent}"
