"""atlas, view, demo: records made visible."""

from __future__ import annotations

from pathlib import Path

from unitscope.errors import BadInput, Failure
from unitscope.text_tables import survey_facts
from unitscope.verbs.manners import bars, columns, resumable


def atlas(records: list[Path], /, *, to: Path) -> None:
    """Make a static site of one or several records, to be browsed offline.

    Args:
        records: Folders that `unitscope survey` made; several are shown side by side.
        to: The folder of the atlas. An atlas that is there already is made anew.
    """
    from unitscope.atlas_pages.site import build_atlas

    with resumable("Records are untouched; the atlas is made anew by the same command."), bars() as tell:
        page = build_atlas(records, to=to, progress=lambda done, total, what: tell(what, done, total))
    print(how_to_open(page))


def demo(*, to: Path = Path("unitscope-demo")) -> None:
    """All of it, on the shipped pair of networks and the built-in photographs: two records, one atlas.

    Args:
        to: The folder for records and atlas.
    """
    from unitscope.demo import demo as demonstrate
    from unitscope.record import open_record

    with resumable(f"What was done so far is kept in {to}; the same command resumes."), bars() as tell:
        page = demonstrate(to, progress=tell)
    for record in sorted((to / "records").iterdir()):
        print(f"{survey_facts(open_record(record), width=columns())}\n")
    print(how_to_open(page))


def how_to_open(page: Path) -> str:
    """The last words of who makes an atlas."""
    return f"The atlas is {page.resolve()}\nOpen it by double-click, or: unitscope view {page.parent}"


def view(folder: Path, /) -> None:
    """Open an atlas in the browser.

    Args:
        folder: What `unitscope atlas` or `unitscope demo` made.
    """
    import webbrowser

    page = next((page for page in (folder / "index.html", folder / "atlas" / "index.html") if page.is_file()), None)
    if page is None:
        there = "there is no such folder" if not folder.exists() else "it holds no index.html"
        raise BadInput(f"{folder} is not an atlas: {there}. `unitscope atlas RECORD --to {folder}` makes one.")
    address = page.resolve().as_uri()
    if not webbrowser.open(address):
        raise Failure(f"no browser could be started here. Open {page.resolve()} in one, by double-click.")
    print(address)
