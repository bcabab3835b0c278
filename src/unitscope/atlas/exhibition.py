"""Exhibits: what the chapters beyond the survey add to an atlas. Each is a file of `exhibits/` and needs no torch.

An exhibit is a module with any of these; what a record does not hold, it answers with None:

* `show(shelf, site, *, stem)`: what the unit pages and the sheet of one site need, as plain data. It comes to the
  exhibit's script as `data`. Pictures go to files whose names begin with that of `stem`, as sprites do.
* `images(shelf)`: the numbers of photographs that it needs besides those that the record lists.
* `overview(shelf, home)`: what the first page says of one record, as `Overview`s.
* `compare(shelves, folder)`: what the first page says of all records together, as `Overview`s.

Beside it may stand `static/exhibit-NAME.js`, which tells `Exhibits.add` how units are drawn, and
`static/exhibit-NAME.css`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import markupsafe

    from unitscope.atlas.record_view import Shelf
    from unitscope.record import SiteFacts

EXHIBITS: tuple[str, ...] = (
    "inactivity",
    "tuning",
    "selectivity",
    "optima",
    "filters",
    "sharing",
)
"""The names of all exhibits, in the order in which a page shows them."""


@dataclass(frozen=True)
class Overview:
    """A section of the first page: a heading, and HTML in which all that came from names is escaped already."""

    title: str
    body: markupsafe.Markup


@cache
def exhibits() -> dict[str, ModuleType]:
    return {name: importlib.import_module(f"unitscope.atlas.exhibits.{name}") for name in EXHIBITS}


def exhibits_of(shelf: Shelf, site: SiteFacts, *, stem: Path) -> dict[str, Any]:
    """By exhibit: what it has to show of the units of one site. Left out where it has nothing."""
    shown = {
        name: exhibit.show(shelf, site, stem=stem.with_name(f"{stem.name}-{name}"))
        for name, exhibit in exhibits().items()
        if hasattr(exhibit, "show")
    }
    return {name: data for name, data in shown.items() if data is not None}


def images_of_exhibits(shelf: Shelf) -> set[int]:
    """The photographs that exhibits need besides those that the record lists."""
    return {image for one in exhibits().values() if hasattr(one, "images") for image in one.images(shelf)}


def overviews(shelves: Sequence[Shelf], folder: Path) -> list[dict[str, Any]]:
    """All sections of the first page, with the record's title where a section is about one of several."""
    found: list[dict[str, Any]] = []
    for exhibit in exhibits().values():
        if hasattr(exhibit, "compare"):
            found += _told(exhibit.compare(shelves, folder), "")
        if hasattr(exhibit, "overview"):
            for shelf in shelves:
                told = exhibit.overview(shelf, folder / shelf.slug)
                found += _told(told, shelf.title if len(shelves) > 1 else "")
    return found


def _told(sections: Iterable[Overview] | None, record: str) -> list[dict[str, Any]]:
    return [{"title": section.title, "record": record, "body": section.body} for section in sections or ()]


def scripts_of_exhibits() -> list[str]:
    return _static("js")


def styles_of_exhibits() -> list[str]:
    return _static("css")


def _static(kind: str) -> list[str]:
    home = resources.files("unitscope.atlas") / "static"
    names = [f"exhibit-{name}.{kind}" for name in EXHIBITS]
    return [name for name in names if (home / name).is_file()]
