"""Panels: what the chapters beyond the survey add to an atlas. Each is a file of `panels/` and needs no torch.

A panel is a module with any of these; what a record does not hold, it answers with None:

* `unit_data(view, site, *, stem)`: what the unit pages and the sheet of one site need, as plain data. It comes to the
  panel's script as `data`. Pictures go to files whose names begin with that of `stem`, as sprites do.
* `extra_images(view)`: the numbers of photographs that it needs besides those that the record lists.
* `overview(view, home)`: what the first page says of one record, as `Overview`s.
* `compare(views, folder)`: what the first page says of all records together, as `Overview`s.

Beside it may stand `static/panel-NAME.js`, which tells `Panels.add` how units are drawn, and
`static/panel-NAME.css`.
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

    from unitscope.atlas_pages.record_view import RecordView
    from unitscope.record import SiteFacts

PANELS: tuple[str, ...] = (
    "inactivity",
    "tuning",
    "selectivity",
    "optima",
    "filters",
    "sharing",
)
"""The names of all panels, in the order in which a page shows them."""


@dataclass(frozen=True)
class Overview:
    """A section of the first page: a heading, and HTML in which all that came from names is escaped already."""

    title: str
    body: markupsafe.Markup


@cache
def panels() -> dict[str, ModuleType]:
    return {name: importlib.import_module(f"unitscope.atlas_pages.panels.{name}") for name in PANELS}


def panel_data(view: RecordView, site: SiteFacts, *, stem: Path) -> dict[str, Any]:
    """By panel: what it has to show of the units of one site. Left out where it has nothing."""
    shown = {
        name: panel.unit_data(view, site, stem=stem.with_name(f"{stem.name}-{name}"))
        for name, panel in panels().items()
        if hasattr(panel, "unit_data")
    }
    return {name: data for name, data in shown.items() if data is not None}


def panel_images(view: RecordView) -> set[int]:
    """The photographs that panels need besides those that the record lists."""
    return {image for one in panels().values() if hasattr(one, "extra_images") for image in one.extra_images(view)}


def overviews(views: Sequence[RecordView], folder: Path) -> list[dict[str, Any]]:
    """All sections of the first page, with the record's title where a section is about one of several."""
    found: list[dict[str, Any]] = []
    for panel in panels().values():
        if hasattr(panel, "compare"):
            found += _list_sections(panel.compare(views, folder), "")
        if hasattr(panel, "overview"):
            for view in views:
                sections = panel.overview(view, folder / view.slug)
                found += _list_sections(sections, view.title if len(views) > 1 else "")
    return found


def _list_sections(sections: Iterable[Overview] | None, record: str) -> list[dict[str, Any]]:
    return [{"title": section.title, "record": record, "body": section.body} for section in sections or ()]


def panel_scripts() -> list[str]:
    return _static("js")


def panel_styles() -> list[str]:
    return _static("css")


def _static(kind: str) -> list[str]:
    home = resources.files("unitscope.atlas_pages") / "static"
    names = [f"panel-{name}.{kind}" for name in PANELS]
    return [name for name in names if (home / name).is_file()]
