"""Shared channels: a unit's row through its stage, and on the first page similarity matrices of the layers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unitscope.analysis.residual_stages import family, step
from unitscope.atlas_pages import figures, sprites
from unitscope.atlas_pages.data_scripts import round_digits
from unitscope.atlas_pages.means import contrasts
from unitscope.atlas_pages.panel_registry import Overview
from unitscope.atlas_pages.sharing_section import section_of
from unitscope.errors import UnknownName

if TYPE_CHECKING:
    from unitscope.atlas_pages.record_view import RecordView
    from unitscope.record import SiteFacts

STAGE_TILE = 64
"""Pixels of a picture in the row."""


def unit_data(view: RecordView, site: SiteFacts, *, stem: Path) -> dict[str, Any] | None:
    """The sites of the stage that hold this one's place, with the pictures of its units, and how alike each channel is
    from one to the next. None where a site stands alone.
    """
    row = family(view.record, site)
    if len(row) < 2:
        return None
    for name, tiles in _pictures(view, site).items():
        sprites.write_sprites(tiles, stem=stem.with_name(f"{stem.name}-{name}"), quality=88)
    steps = [step(view.record, first.name, second.name) for first, second in pairwise(row)]
    return {
        "channels": site.channels,
        "sites": [{"name": one.name, "slug": view.site_slugs[one.name], "field": list(one.field.size),
                   "sprites": _sprites(view, one)} for one in row],
        "steps": [
            [{"what": one.what, "same": _values(one.same), "rank": _values(one.rank),
              "mostSimilar": one.most_similar.tolist()} for one in found]
            for found in steps
        ],
    }  # fmt: skip


def compare(views: Sequence[RecordView], folder: Path) -> list[Overview]:
    """The similarity matrices of all pairs of layers, network by network, and how far the diagonal stands out."""
    body = section_of([view.record for view in views], folder / "sharing")
    return [] if body is None else [Overview("Shared channels", body)]


def _pictures(view: RecordView, site: SiteFacts) -> dict[str, list[np.ndarray | None]]:
    """The mean preferred stimulus of each unit of a site, and its best patch, as tiles of one size."""
    means = contrasts(view, site) or [None] * site.channels
    best = [view.patches.get((site.first_unit + channel, "preferred")) for channel in range(site.channels)]
    enlarged = [None if tile is None else figures.enlarge(tile, longest=STAGE_TILE) for tile in means]
    return {name: [None if tile is None else figures.fit_square(tile, side=STAGE_TILE) for tile in tiles]
            for name, tiles in (("mean", enlarged), ("best", best))}  # fmt: skip


def _sprites(view: RecordView, site: SiteFacts) -> dict[str, Any]:
    """Where the pictures of a site's units are that `unit_data` writes of it, by what they are."""
    stem, units = f"{view.site_slugs[site.name]}-sharing", range(site.first_unit, site.first_unit + site.channels)
    seen = {
        "mean": _averaged(view, site),
        "best": [(unit, "preferred") in view.patches for unit in units],
    }
    return {
        name: {
            "files": [f"{stem}-{name}-{number}.webp" for number in range(-(-len(here) // sprites.PER_FILE))],
            "tile": [STAGE_TILE, STAGE_TILE], "gutter": sprites.GUTTER, "columns": sprites.SPRITE_COLUMNS,
            "per_file": sprites.PER_FILE, "count": len(here), "sharp": False,
            "missing": [channel for channel, known in enumerate(here) if not known],
        }
        for name, here in seen.items()
        if any(here)
    }  # fmt: skip


def _averaged(view: RecordView, site: SiteFacts) -> list[bool]:
    """Of which units there is a mean to be shown."""
    try:
        n = view.record.array("mean_stimulus_center_n")[site.first_unit : site.first_unit + site.channels]
    except (UnknownName, FileNotFoundError):
        return [False] * site.channels
    return [bool(view.mean_photograph is not None and count) for count in np.asarray(n)]


def _values(values: np.ndarray) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in round_digits(values, digits=4)]
