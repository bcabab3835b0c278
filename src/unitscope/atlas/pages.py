"""The pages of an atlas, from templates: the first page with all sites, and one page per network and site."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitscope.analysis.site_alignment import aligned
from unitscope.atlas.data_scripts import as_script, write_script
from unitscope.atlas.exhibition import overviews, scripts_of_exhibits, styles_of_exhibits
from unitscope.atlas.sprites import PER_FILE

if TYPE_CHECKING:
    import jinja2

    from unitscope.analysis.site_alignment import Row
    from unitscope.atlas.record_view import Shelf
    from unitscope.record import SiteFacts

SMALLEST = 5
"""A field in the small drawings is at least so large, in percent of the picture, that it can be seen."""

ASSETS = ("atlas.css", "atlas.js", "exhibits.js", "sheet.js", "unit.js")


def write_assets(folder: Path) -> None:
    """Copy style and scripts into the atlas, also those of the exhibits."""
    (folder / "assets").mkdir(parents=True, exist_ok=True)
    for name in (*ASSETS, *scripts_of_exhibits(), *styles_of_exhibits()):
        with resources.as_file(resources.files("unitscope.atlas") / "static" / name) as path:
            shutil.copyfile(path, folder / "assets" / name)


def write_pages(shelves: Sequence[Shelf], folder: Path) -> Path:
    """Write the pages and the list of what there is (data/atlas.js); returns the first page."""
    listing = {"records": [_listed(shelf, shelves) for shelf in shelves]}
    write_script(folder / "data" / "atlas.js", "window.unitscope", {"atlas": listing, "sites": {}, "images": {}})
    for shelf in shelves:
        for number, site in enumerate(shelf.record.sites.values()):
            _write(
                folder / shelf.slug / f"{shelf.site_slugs[site.name]}.html",
                "site.html.j2",
                _site_page(shelves, shelf, number),
            )
    index = folder / "index.html"
    _write(index, "index.html.j2", _first_page(shelves, folder))
    return index


def _write(path: Path, template: str, values: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_templates().get_template(template).render(values), encoding="utf-8", errors="replace")


@cache
def _templates() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("unitscope.atlas", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["script"] = as_script
    environment.globals["exhibits"] = {"scripts": scripts_of_exhibits(), "styles": styles_of_exhibits()}
    environment.filters["count"] = lambda number: f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return environment


def _rows(shelves: Sequence[Shelf]) -> list[Row]:
    return aligned([list(shelf.record.sites.values()) for shelf in shelves])


def _beside(shelf: Shelf, shelves: Sequence[Shelf]) -> dict[str, dict[str, str]]:
    """For each site of a record, the names of the sites that stand beside it, by the slugs of the other records."""
    here = shelves.index(shelf)
    beside: dict[str, dict[str, str]] = {}
    for row in _rows(shelves):
        site = row[here]
        if site is not None:
            others = zip(shelves, row, strict=True)
            beside[site.name] = {one.slug: other.name for one, other in others if other and one is not shelf}
    return beside


def _listed(shelf: Shelf, shelves: Sequence[Shelf]) -> dict[str, Any]:
    """What every page knows of a record: enough to move between sites and to find the other network's unit."""
    sites, beside = list(shelf.record.sites.values()), _beside(shelf, shelves)
    return {
        "slug": shelf.slug,
        "title": shelf.title,
        "album": f"photographs/{shelf.album.folder.name}",
        "sites": [
            {
                "name": site.name,
                "slug": shelf.site_slugs[site.name],
                "beside": beside[site.name],
                "channels": site.channels,
                "operation": site.operation,
                "lattice": list(site.lattice),
                "field": list(site.field.size),
                "status": site.field.status,
                "classes": _classes(shelf, site) if site is sites[-1] else None,
            }
            for site in sites
        ],
    }


def _classes(shelf: Shelf, site: SiteFacts) -> list[str] | None:
    """The names of the logits, for the last site where it has one channel for each."""
    classes = shelf.record.facts["network"].get("classes")
    return classes if classes and len(classes) == site.channels else None


def _first_page(shelves: Sequence[Shelf], folder: Path) -> dict[str, Any]:
    return {
        "title": " & ".join(shelf.title for shelf in shelves),
        "records": [_record_facts(shelf) for shelf in shelves],
        "strip": shelves[0].strip,
        "rows": [_row(row, shelves) for row in _rows(shelves)],
        "overviews": overviews(shelves, folder),
        "demonstration": any("demonstration" in _note(shelf).lower() for shelf in shelves),
        "notes": sorted({_note(shelf) for shelf in shelves} - {""}),
        "units": sum(len(shelf.units) for shelf in shelves),
    }


def _note(shelf: Shelf) -> str:
    return str(shelf.record.facts["stimuli"].get("note") or "")


def _record_facts(shelf: Shelf) -> dict[str, Any]:
    facts = shelf.record.facts
    stimuli, network = facts["stimuli"], facts["network"]
    source = stimuli["source"]
    return {
        "slug": shelf.slug,
        "title": shelf.title,
        "network": network,
        "weights": Path(str(network.get("weights") or "")).name or "none (as initialized)",
        "shown": stimuli["count"] - stimuli.get("unreadable", 0),
        "unreadable": stimuli.get("unreadable", 0),
        "source": ", ".join(source) if isinstance(source, list) else str(source),
        "fingerprint": stimuli["fingerprint"],
        "size": stimuli["size"],
        "note": _note(shelf),
        "sites": len(shelf.record.sites),
        "units": len(shelf.units),
        "inactive": sum(shelf.inactive()),
        "created": str(facts.get("created", ""))[:10],
        "version": facts.get("versions", {}).get("unitscope", ""),
        "gone": shelf.album.originals is None,
        "first": next(iter(shelf.site_slugs.values()), ""),
    }


def _row(row: Row, shelves: Sequence[Shelf]) -> dict[str, Any]:
    cells = [None if site is None else _cell(shelf, site) for shelf, site in zip(shelves, row, strict=True)]
    known = [cell for cell in cells if cell]
    return {
        "name": known[0]["site"].name,
        "others": [cell for cell in known if cell["site"].name != known[0]["site"].name],
        "cells": cells,
        "site": known[0]["site"],
        "href": known[0]["href"],
        "glyph": known[0]["glyph"],
    }


def _cell(shelf: Shelf, site: SiteFacts) -> dict[str, Any]:
    place = list(shelf.record.sites).index(site.name)
    return {
        "record": shelf.title,
        "site": site,
        "href": f"{shelf.slug}/{shelf.site_slugs[site.name]}.html",
        "inactive": sum(shelf.inactive(site)),
        "glyph": _glyph(site, shelf.album.picture),
        "teasers": [_teaser(shelf, place, rank, channel) for rank, channel in enumerate(shelf.teasers(site))],
    }


def _teaser(shelf: Shelf, place: int, rank: int, channel: int) -> dict[str, Any]:
    """Where patch `rank` of the site at `place` lies in the first page's sprite, in tiles."""
    file, within = divmod(place * shelf.strip + rank, PER_FILE // shelf.strip * shelf.strip)
    return {
        "channel": channel,
        "file": f"{shelf.slug}/sprites/teasers-{file}.webp",
        "row": within // shelf.strip,
        "col": rank,
    }


def _glyph(site: SiteFacts, picture: tuple[int, int]) -> dict[str, float]:
    """The center neuron's field within the picture, in percent of the picture's longer side, for a small drawing."""
    unit = 100 / max(picture)
    box = site.field.box(site.lattice[0] // 2, site.lattice[1] // 2).clip(picture)
    rows, cols = max(box.height * unit, SMALLEST), max(box.width * unit, SMALLEST)
    return {
        "height": round(picture[0] * unit, 2),
        "width": round(picture[1] * unit, 2),
        "y": round((box.top + box.bottom) / 2 * unit - rows / 2, 2),
        "x": round((box.left + box.right) / 2 * unit - cols / 2, 2),
        "rows": round(rows, 2),
        "cols": round(cols, 2),
    }


def _site_page(shelves: Sequence[Shelf], shelf: Shelf, number: int) -> dict[str, Any]:
    sites = list(shelf.record.sites.values())
    site = sites[number]
    beside = _beside(shelf, shelves)[site.name]

    def link(neighbor: SiteFacts) -> dict[str, str]:
        return {"name": neighbor.name, "href": f"{shelf.site_slugs[neighbor.name]}.html"}

    return {
        "record": _record_facts(shelf),
        "site": site,
        "slug": shelf.site_slugs[site.name],
        "number": number,
        "sites": [link(other) for other in sites],
        "before": link(sites[number - 1]) if number > 0 else None,
        "after": link(sites[number + 1]) if number + 1 < len(sites) else None,
        "others": [
            {"title": other.title, "href": f"../{other.slug}/{other.site_slugs[beside[other.slug]]}.html"}
            for other in shelves
            if other.slug in beside
        ],
        "inactive": sum(shelf.inactive(site)),
        "glyph": _glyph(site, shelf.album.picture),
        "album": f"../photographs/{shelf.album.folder.name}",
        "here": {"record": shelf.slug, "site": shelf.site_slugs[site.name]},
    }
