"""The pages of an atlas, from templates: the first page with all sites, and one page per network and site."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitscope.analysis.site_alignment import align_sites
from unitscope.atlas_pages.data_scripts import write_script
from unitscope.atlas_pages.panel_registry import overviews, panel_scripts, panel_styles
from unitscope.atlas_pages.sprites import PER_FILE
from unitscope.html_templates import render

if TYPE_CHECKING:
    from unitscope.analysis.site_alignment import Row
    from unitscope.atlas_pages.record_view import RecordView
    from unitscope.record import SiteFacts

SMALLEST_GLYPH = 5
"""A field in the small drawings is at least so large, in percent of the picture, that it can be seen."""

ASSETS = ("atlas.css", "atlas.js", "panels.js", "sheet.js", "unit.js")


def write_assets(folder: Path) -> None:
    """Copy style and scripts into the atlas, also those of the panels."""
    (folder / "assets").mkdir(parents=True, exist_ok=True)
    for name in (*ASSETS, *panel_scripts(), *panel_styles()):
        with resources.as_file(resources.files("unitscope.atlas_pages") / "static" / name) as path:
            shutil.copyfile(path, folder / "assets" / name)


def write_pages(views: Sequence[RecordView], folder: Path) -> Path:
    """Write the pages and the list of what there is (data/atlas.js); returns the first page."""
    listing = {"records": [_listed(view, views) for view in views]}
    write_script(folder / "data" / "atlas.js", "window.unitscope", {"atlas": listing, "sites": {}, "images": {}})
    for view in views:
        for number, site in enumerate(view.record.sites.values()):
            _write(
                folder / view.slug / f"{view.site_slugs[site.name]}.html",
                "atlas/site.html.j2",
                _site_page(views, view, number),
            )
    index = folder / "index.html"
    _write(index, "atlas/index.html.j2", _first_page(views, folder))
    return index


def _write(path: Path, template: str, values: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    page = render(template, **values, panels={"scripts": panel_scripts(), "styles": panel_styles()})
    path.write_text(page, encoding="utf-8", errors="replace")


def _rows(views: Sequence[RecordView]) -> list[Row]:
    return align_sites([list(view.record.sites.values()) for view in views])


def _beside(view: RecordView, views: Sequence[RecordView]) -> dict[str, dict[str, str]]:
    """For each site of a record, the names of the sites that stand beside it, by the slugs of the other records."""
    here = views.index(view)
    beside: dict[str, dict[str, str]] = {}
    for row in _rows(views):
        site = row[here]
        if site is not None:
            others = zip(views, row, strict=True)
            beside[site.name] = {one.slug: other.name for one, other in others if other and one is not view}
    return beside


def _listed(view: RecordView, views: Sequence[RecordView]) -> dict[str, Any]:
    """What every page knows of a record: enough to move between sites and to find the other network's unit."""
    sites, beside = list(view.record.sites.values()), _beside(view, views)
    return {
        "slug": view.slug,
        "title": view.title,
        "album": f"photographs/{view.album.folder.name}",
        "sites": [
            {
                "name": site.name,
                "slug": view.site_slugs[site.name],
                "beside": beside[site.name],
                "channels": site.channels,
                "operation": site.operation,
                "lattice": list(site.lattice),
                "field": list(site.field.size),
                "status": site.field.status,
                "classes": _classes(view, site) if site is sites[-1] else None,
            }
            for site in sites
        ],
    }


def _classes(view: RecordView, site: SiteFacts) -> list[str] | None:
    """The names of the logits, for the last site where it has one channel for each."""
    classes = view.record.facts["network"].get("classes")
    return classes if classes and len(classes) == site.channels else None


def _first_page(views: Sequence[RecordView], folder: Path) -> dict[str, Any]:
    return {
        "title": " & ".join(view.title for view in views),
        "records": [_record_facts(view) for view in views],
        "strip": views[0].strip,
        "rows": [_row(row, views) for row in _rows(views)],
        "overviews": overviews(views, folder),
        "demonstration": any("demonstration" in _note(view).lower() for view in views),
        "notes": sorted({_note(view) for view in views} - {""}),
        "units": sum(len(view.units) for view in views),
    }


def _note(view: RecordView) -> str:
    return str(view.record.facts["stimuli"].get("note") or "")


def _record_facts(view: RecordView) -> dict[str, Any]:
    facts = view.record.facts
    stimuli, network = facts["stimuli"], facts["network"]
    source = stimuli["source"]
    return {
        "slug": view.slug,
        "title": view.title,
        "network": network,
        "weights": Path(str(network.get("weights") or "")).name or "none (as initialized)",
        "shown": stimuli["count"] - stimuli.get("unreadable", 0),
        "unreadable": stimuli.get("unreadable", 0),
        "source": ", ".join(source) if isinstance(source, list) else str(source),
        "fingerprint": stimuli["fingerprint"],
        "size": stimuli["size"],
        "note": _note(view),
        "sites": len(view.record.sites),
        "units": len(view.units),
        "inactive": sum(view.inactive()),
        "created": str(facts.get("created", ""))[:10],
        "version": facts.get("versions", {}).get("unitscope", ""),
        "gone": view.album.originals is None,
        "first": next(iter(view.site_slugs.values()), ""),
    }


def _row(row: Row, views: Sequence[RecordView]) -> dict[str, Any]:
    cells = [None if site is None else _cell(view, site) for view, site in zip(views, row, strict=True)]
    known = [cell for cell in cells if cell]
    return {
        "name": known[0]["site"].name,
        "others": [cell for cell in known if cell["site"].name != known[0]["site"].name],
        "cells": cells,
        "site": known[0]["site"],
        "href": known[0]["href"],
        "glyph": known[0]["glyph"],
    }


def _cell(view: RecordView, site: SiteFacts) -> dict[str, Any]:
    place = list(view.record.sites).index(site.name)
    return {
        "record": view.title,
        "site": site,
        "href": f"{view.slug}/{view.site_slugs[site.name]}.html",
        "inactive": sum(view.inactive(site)),
        "glyph": _glyph(site, view.album.picture),
        "teasers": [_teaser(view, place, rank, channel) for rank, channel in enumerate(view.teasers(site))],
    }


def _teaser(view: RecordView, place: int, rank: int, channel: int) -> dict[str, Any]:
    """Where patch `rank` of the site at `place` lies in the first page's sprite, in tiles."""
    # As `write_sprites` cuts tiles into files: whole rows of `view.strip` tiles.
    file, within = divmod(place * view.strip + rank, PER_FILE // view.strip * view.strip)
    return {
        "channel": channel,
        "file": f"{view.slug}/sprites/teasers-{file}.webp",
        "row": within // view.strip,
        "col": rank,
    }


def _glyph(site: SiteFacts, picture: tuple[int, int]) -> dict[str, float]:
    """The center neuron's field within the picture, in percent of the picture's longer side, for a small drawing."""
    unit = 100 / max(picture)
    box = site.field.box(site.lattice[0] // 2, site.lattice[1] // 2).clip(picture)
    rows, cols = max(box.height * unit, SMALLEST_GLYPH), max(box.width * unit, SMALLEST_GLYPH)
    return {
        "height": round(picture[0] * unit, 2),
        "width": round(picture[1] * unit, 2),
        "y": round((box.top + box.bottom) / 2 * unit - rows / 2, 2),
        "x": round((box.left + box.right) / 2 * unit - cols / 2, 2),
        "rows": round(rows, 2),
        "cols": round(cols, 2),
    }


def _site_page(views: Sequence[RecordView], view: RecordView, number: int) -> dict[str, Any]:
    sites = list(view.record.sites.values())
    site = sites[number]
    beside = _beside(view, views)[site.name]

    def link(neighbor: SiteFacts) -> dict[str, str]:
        return {"name": neighbor.name, "href": f"{view.site_slugs[neighbor.name]}.html"}

    return {
        "record": _record_facts(view),
        "site": site,
        "slug": view.site_slugs[site.name],
        "number": number,
        "sites": [link(other) for other in sites],
        "before": link(sites[number - 1]) if number > 0 else None,
        "after": link(sites[number + 1]) if number + 1 < len(sites) else None,
        "others": [
            {"title": other.title, "href": f"../{other.slug}/{other.site_slugs[beside[other.slug]]}.html"}
            for other in views
            if other.slug in beside
        ],
        "inactive": sum(view.inactive(site)),
        "glyph": _glyph(site, view.album.picture),
        "album": f"../photographs/{view.album.folder.name}",
        "here": {"record": view.slug, "site": view.site_slugs[site.name]},
    }
