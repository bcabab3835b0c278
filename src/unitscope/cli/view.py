"""view: an atlas, opened in the browser."""

from __future__ import annotations

from pathlib import Path

from unitscope.errors import BadInput, Failure


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
