"""Build an atlas: a folder of static pages that show records, and open by double-click.

The problem: a page opened from the disk (file://) may not fetch data, a network has thousands of units with pictures
each, and several records may show the same photographs.

The idea: data are scripts that assign to one object (`data_scripts.py`), the pictures of all units of a site are a few
sprites (`sprites.py`), and records of the same stimuli share one album in which each photograph is decoded once
(`photographs.py`).

    index.html                     all sites of all records            data/atlas.js
    RECORD/SITE.html               the sheet and the unit pages        RECORD/data/SITE.js, RECORD/sprites/SITE-*.webp
    photographs/ALBUM/000/*.webp   the photographs as they were shown  photographs/ALBUM/images.js
    assets/                        style and scripts, the same in every atlas
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitscope.atlas_pages import figures, means, pages, photographs, sprites
from unitscope.atlas_pages.data_scripts import as_script, round_digits, write_script
from unitscope.atlas_pages.panel_registry import panel_data, panel_images
from unitscope.atlas_pages.photographs import Cut
from unitscope.atlas_pages.record_view import POLES, RecordView, view_records
from unitscope.errors import BadInput, Failure
from unitscope.record import Record, SiteFacts, open_record
from unitscope.vocabulary import Box

if TYPE_CHECKING:
    import pandas as pd

Progress = Callable[[int, int, str], None]
"""Called as progress(done, all, what) after each of the "photographs" and each of the "sites"."""

TEASER = 56
"""The side of a patch on the first page, pixels."""


def build_atlas(records: Sequence[Record | str | Path], *, to: str | Path, progress: Progress | None = None) -> Path:
    """Make the atlas of one or more records in the folder `to`, and return the path of its first page.

    Records are compared by the names of their sites and by channel. Photographs that can no longer be read are left
    out, and the pages say so.

    Args:
        records: records or their folders.
        to: the folder of the atlas; one that is there already is written over.
        progress: called as progress(done, all, what) after each of the "photographs" and each of the "sites".

    Raises:
        BadInput: no record came, or `to` is a record or a file.
        Failure: `to` cannot be written.

    Example:
        >>> unitscope.atlas([record], to="atlas")
        PosixPath('atlas/index.html')
    """
    if not records:
        raise BadInput("no record came; an atlas needs at least one.")
    opened = [record if isinstance(record, Record) else open_record(record) for record in records]
    folder = _try_place(Path(to))
    views = view_records(opened, folder)
    plans = _plans(views)
    _read_photographs(views, plans, _steps(sum(map(len, plans.values())), "photographs", progress))
    step = _steps(sum(len(view.record.sites) for view in views), "sites", progress)
    work = [(view, site) for view in views for site in view.record.sites.values()]
    for _ in photographs.map_parallel(lambda place: _write_site(*work[place], folder), range(len(work))):
        step()
    for view in views:
        _write_teasers(view, folder)
    return pages.write_pages(views, folder)


def _steps(total: int, what: str, progress: Progress | None) -> Callable[[], None]:
    """To be called after each step."""
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total, what)

    return step


def _try_place(folder: Path) -> Path:
    """Try the place before the work is done."""
    if (folder / "record.json").exists():
        raise BadInput(f"{folder} is a record; give the atlas a folder of its own.")
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is a file; an atlas needs a folder.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "assets" / "atlas.css").exists():
        raise BadInput(f"{folder} holds other things and no atlas; give the atlas a folder of its own.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        pages.write_assets(folder)
    except OSError as error:
        raise Failure(f"the atlas cannot be written to {folder}: {error.strerror or error}.") from error
    return folder


def _plans(views: Sequence[RecordView]) -> dict[Path, dict[int, list[Cut]]]:
    """For each album what is to be cut from its photographs. Records of the same stimuli share one."""
    return {folder: _cuts(sharing) for folder, sharing in _albums(views).items()}


def _albums(views: Sequence[RecordView]) -> dict[Path, list[RecordView]]:
    albums: dict[Path, list[RecordView]] = {}
    for view in views:
        albums.setdefault(view.album.folder, []).append(view)
    return albums


def _read_photographs(
    views: Sequence[RecordView], plans: dict[Path, dict[int, list[Cut]]], step: Callable[[], None]
) -> None:
    """Store the photographs of all records and cut the patches that the sheets show, album by album."""
    for folder, sharing in _albums(views).items():
        found = photographs.read_once(sharing[0].album, plans[folder], done=step)
        for key, tile in found.patches.items():
            sharing[key[0]].patches[key[1:]] = tile
        for view in sharing:
            view.mean_photograph, view.photographs = found.mean(), found.count
        _write_images(sharing[0], plans[folder], found.missing, folder)


def _cuts(sharing: Sequence[RecordView]) -> dict[int, list[Cut]]:
    """For each image that any table names: the patches of the sheets that lie on it."""
    cuts: dict[int, list[Cut]] = {}
    for place, view in enumerate(sharing):
        for image in {*view.stimuli["image"].unique().tolist(), *panel_images(view)}:
            cuts.setdefault(int(image), [])
        tiles = {site.name: view.tile(site) for site in view.record.sites.values()}
        best = view.stimuli[view.stimuli["rank"] == 0]
        for row in best.itertuples(index=False):
            box = Box(int(row.top), int(row.left), int(row.bottom), int(row.right))
            cuts[int(row.image)].append(Cut((place, int(row.unit), row.pole), box, tiles[row.site]))
    return cuts


def _write_images(view: RecordView, stored: dict[int, list[Cut]], missing: set[int], folder: Path) -> None:
    table = view.record.images()
    labels = [label if isinstance(label, str) else None for label in table["label"]]
    known = sorted({label for label in labels if label is not None})
    number = {label: i for i, label in enumerate(known)}
    value = {
        "size": list(view.album.picture),
        "scale": view.album.scale,
        "uris": list(table["uri"]),
        "labels": known,
        "label": [None if label is None else number[label] for label in labels],
        "stored": [int(image in stored and image not in missing) for image in range(len(table))],
    }
    write_script(folder / "images.js", f"unitscope.images[{as_script(folder.name)}]", value)


def _write_site(view: RecordView, site: SiteFacts, folder: Path) -> None:
    home = folder / view.slug
    slug = view.site_slugs[site.name]
    stem = home / "sprites" / slug
    stem.parent.mkdir(parents=True, exist_ok=True)
    units = view.units_of(site)
    value = {
        "columns": [{**about, "values": _values(units[about["key"]])} for about in view.about],
        "stimuli": {pole: _ranked(view, site, pole) for pole in POLES},
        "patches": {pole: _write_patches(view, site, pole, stem) for pole in POLES},
        "mean": means.write_means(view, site, stem=stem),
        "further": means.write_further_means(view.record, site, stem=stem),
        "map": means.write_response_maps(view.record, site, stem=stem),
        "kernel": means.write_kernels(view.record, site, stem=stem),
        "panels": panel_data(view, site, stem=stem),
    }
    write_script(home / "data" / f"{slug}.js", f"unitscope.sites[{as_script(f'{view.slug}/{slug}')}]", value)


def _values(column: pd.Series[Any]) -> list[Any]:
    values = round_digits(column.to_numpy()) if column.dtype.kind == "f" else column
    return [None if missing else value for value, missing in zip(values.tolist(), column.isna(), strict=True)]


def _ranked(view: RecordView, site: SiteFacts, pole: str) -> list[list[list[Any]]]:
    """For each unit its stimuli by rank: image, row, col, value, top, left, bottom, right."""
    table = view.stimuli
    # The table is sorted by unit (record_view.py): a site's rows are a run.
    first = table["unit"].searchsorted(site.first_unit)
    last = table["unit"].searchsorted(site.first_unit + site.channels)
    table = table.iloc[first:last]
    table = table[table["pole"] == pole]
    rows: list[list[list[Any]]] = [[] for _ in range(site.channels)]
    names = ["image", "row", "col", "value", "top", "left", "bottom", "right"]
    values = [
        table[name].tolist() if name != "value" else round_digits(table[name].to_numpy()).tolist() for name in names
    ]
    for unit, *stimulus in zip(table["unit"].tolist(), *values, strict=True):
        rows[unit - site.first_unit].append(stimulus)
    return rows


def _write_patches(view: RecordView, site: SiteFacts, pole: str, stem: Path) -> dict[str, Any]:
    tiles = [view.patches.get((site.first_unit + channel, pole)) for channel in range(site.channels)]
    sharp = view.sharp(site)
    written = sprites.write_sprites(tiles, stem=stem.with_name(f"{stem.name}-{pole}"), lossless=sharp)
    return {**written, "sharp": sharp}


def _write_teasers(view: RecordView, folder: Path) -> None:
    """A few best patches of every site in one sprite, for the first page; `pages` knows which by the same rule."""
    home = folder / view.slug
    tiles = []
    for site in view.record.sites.values():
        for channel in view.teasers(site):
            tile = view.patches.get((site.first_unit + channel, "preferred"))
            tiles.append(None if tile is None else figures.fit_square(tile, side=TEASER))
        # Each site takes one row of the sprite, even if it has fewer units than there are places.
        tiles += [None] * (view.strip - len(view.teasers(site)))
    sprites.write_sprites(tiles, stem=home / "sprites" / "teasers", columns=view.strip)
