"""Optimal stimuli, always beside the photographs with the highest or lowest responses (borowski2021)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from unitscope.atlas_pages import figures, sprites
from unitscope.atlas_pages.data_scripts import round_digits
from unitscope.atlas_pages.panel_registry import Overview
from unitscope.html_templates import render
from unitscope.network_facts import difference
from unitscope.optima import Optimum, read_optima, read_recipe, sets_of
from unitscope.vocabulary import Box

if TYPE_CHECKING:
    import pandas
    from jaxtyping import UInt8

    from unitscope.atlas_pages.record_view import RecordView
    from unitscope.record import SiteFacts

OPTIMUM_SIDE = 144
"""The longest side of a picture on the unit pages, pixels."""

PAIR_GAP = 3
"""Pixels between the natural patch and the optimal stimulus on a sheet."""

RIVALS = ("response", "natural", "mean_stimulus", "noise", "exact", "blank")


@dataclass
class OptimaGroup:
    """The optima of one set and one place on the lattice ("center", "all", or "ROW,COL"), by channel."""

    name: str
    facts: dict[str, Any]
    at: str
    optima: dict[int, Optimum] = field(default_factory=dict)
    scores: pandas.DataFrame | None = None

    @property
    def pole(self) -> str:
        return str(self.facts["pole"])

    @property
    def seeds(self) -> int:
        return max(len(one.responses) for one in self.optima.values())


def unit_data(view: RecordView, site: SiteFacts, *, stem: Path) -> dict[str, Any] | None:
    """All optima of a site's single units: pictures of every seed, responses, scores, and pairs for the sheet."""
    found = []
    for number, group in enumerate(optima_groups(view, site)):
        place = stem.with_name(f"{stem.name}-{number}")
        found.append(
            {
                "set": group.name, "recipe": group.facts["recipe"]["name"], "pole": group.pole, "at": group.at,
                "reads": group.facts["reads"], "seeds": group.seeds,
                "pictures": write_pictures(view, site, group, place),
                "pairs": write_pairs(view, site, group, place.with_name(f"{place.name}-pairs")),
                "responses": [_plain(group, channel, "responses") for channel in range(site.channels)],
                "moved": [_plain(group, channel, "moved") for channel in range(site.channels)],
                "best": [group.optima[c].best if c in group.optima else None for c in range(site.channels)],
                "scores": [scores_of(group, channel) for channel in range(site.channels)],
            }
        )  # fmt: skip
    return {"groups": found} if found else None


def optima_groups(view: RecordView, site: SiteFacts) -> Iterator[OptimaGroup]:
    """The optima of a site's single units, set by set, preferred ones first: neurons, then what is tiled."""
    home = view.record.path / "optima"

    def rank(name: str) -> tuple[bool, str]:
        return (read_recipe(home / name) or {}).get("pole") != "preferred", name

    for name in sorted(sets_of(home), key=rank):
        optima = read_optima(home / name, site=site.name)
        if difference(optima.facts["network"], view.record.facts["network"]):
            continue
        groups: dict[str, OptimaGroup] = {}
        for one in optima:
            at = lattice_place(one.objective, site.name, one.channel)
            if at is not None:
                group = groups.setdefault(at, OptimaGroup(name, dict(optima.facts), at, scores=optima.scores))
                group.optima[one.channel] = one
        # index gives the first place that is equal: 0 for "center", 2 for "all", and 1 for any other.
        yield from sorted(groups.values(), key=lambda group: ("center", group.at, "all").index(group.at))


def lattice_place(objective: str, site: str, channel: int) -> str | None:
    """Where on the lattice a single unit was maximized; None for sums and differences."""
    text = re.fullmatch(re.escape(f"{site}:{channel}") + r"(?:@(all|\d+,\d+))?", objective)
    return None if text is None else text[1] or "center"


def write_pictures(view: RecordView, site: SiteFacts, group: OptimaGroup, stem: Path) -> dict[str, Any]:
    """A sprite with all seeds of all channels: channel x seeds + seed."""
    tiles: list[np.ndarray | None] = []
    for channel in range(site.channels):
        one = group.optima.get(channel)
        for seed in range(group.seeds):
            here = one is not None and seed < len(one.responses)
            tiles.append(tile_of(view, group, one, seed, longest=OPTIMUM_SIDE) if one is not None and here else None)
    sharp = group.at != "all" and max(site.field.size) <= figures.SHARP_PIXELS
    return {**sprites.write_sprites(tiles, stem=stem, lossless=sharp, quality=88), "sharp": sharp}


def write_pairs(view: RecordView, site: SiteFacts, group: OptimaGroup, stem: Path) -> dict[str, Any]:
    """A sprite for the sheet, a tile per channel: the first natural patch of the pole, and the best optimum beside it.
    Missing where either is.
    """
    tiles: list[np.ndarray | None] = []
    height, width = view.tile(site)
    for channel in range(site.channels):
        natural, one = view.patches.get((site.first_unit + channel, group.pole)), group.optima.get(channel)
        if natural is None or one is None:
            tiles.append(None)
            continue
        made = figures.fit_square(tile_of(view, group, one, one.best, longest=max(height, width)), side=height)
        pair = np.zeros((height, width + PAIR_GAP + height, 4), np.uint8)
        pair[:, :width], pair[:, width + PAIR_GAP :] = natural, made
        tiles.append(pair)
    sharp = view.sharp(site) and group.at != "all"
    return {**sprites.write_sprites(tiles, stem=stem, lossless=sharp, quality=84), "sharp": sharp}


def tile_of(
    view: RecordView, group: OptimaGroup, one: Optimum, seed: int, *, longest: int
) -> UInt8[np.ndarray, "height width 4"]:
    """One picture as it lies in the neuron's field, transparent where that hangs over the edge; a tiled one whole."""
    size = view.album.picture
    color = one.light.color(one.whitened[seed])
    color = np.repeat(color[:1], 3, 0) if len(color) != 3 else color
    canvas = np.zeros((*size, 3), np.uint8)
    inside = one.box.clip(size)
    part = color[:, inside.top - one.box.top : inside.bottom - one.box.top, inside.left - one.box.left :]
    canvas[inside.top : inside.bottom, inside.left : inside.right] = np.uint8(
        np.round(255 * part[:, :, : inside.width].transpose(1, 2, 0))
    )
    box = Box(0, 0, *size) if group.at == "all" else one.box
    tile = figures.tile_size((box.height, box.width), size, 1.0, longest=longest)
    return figures.cut_patch(Image.fromarray(canvas), box, picture=size, tile=tile)


def _plain(group: OptimaGroup, channel: int, what: str) -> list[Any] | None:
    one = group.optima.get(channel)
    if one is None:
        return None
    values = getattr(one, what)
    return [bool(value) for value in values] if values.dtype == bool else round_digits(values).tolist()


def scores_of(group: OptimaGroup, channel: int) -> dict[str, Any] | None:
    """What the best seed's scores say, at the first contrast that was asked for; None where it was not scored."""
    one = group.optima.get(channel)
    if one is None or group.scores is None:
        return None
    rows = group.scores[(group.scores["objective"] == one.objective) & (group.scores["seed"] == one.best)]
    if not len(rows):
        return None
    row = rows.iloc[0]
    numbers = {name: float(row[name]) for name in ("contrast", *RIVALS)}
    known = {name: round_digits(np.array([value])).tolist()[0] for name, value in numbers.items() if np.isfinite(value)}
    return known | {"natural_n": int(row["natural_n"])}


def overview(view: RecordView, home: Path) -> list[Overview] | None:  # noqa: ARG001  (the same call for all panels)
    """Which sets there are, and how often an optimum is ahead of the best natural patch at equal contrast."""
    rows = [_row(view, site, group) for site in view.record.sites.values() for group in optima_groups(view, site)]
    return [Overview("Optimal stimuli", render("panels/optima.html.j2", rows=rows))] if rows else None


def _row(view: RecordView, site: SiteFacts, group: OptimaGroup) -> dict[str, Any]:
    """One set of optima on the first page: where it is shown, and what it is of."""
    return {
        "site": site.name,
        "href": f"{view.slug}/{view.site_slugs[site.name]}.html#show={sheet_key(group)}",
        "cells": [
            PLACE_WORDS.get(group.at, f"neuron {group.at}"), group.facts["recipe"]["name"], group.pole,
            f"{len(group.optima)} of {site.channels}", group.seeds, count_ahead(group),
        ],
    }  # fmt: skip


PLACE_WORDS = {"center": "center neuron", "all": "all positions"}


def sheet_key(group: OptimaGroup) -> str:
    """The key by which a sheet shows a group, the same as in panel-optima.js."""
    return re.sub(r"\W+", "-", f"optima-{group.name}-{group.at}")


def count_ahead(group: OptimaGroup) -> str:
    """How many of the best seeds are ahead of the best natural patch, of all that have such a patch."""
    scores = [scores_of(group, channel) for channel in group.optima]
    pairs = [(one["response"], one["natural"]) for one in scores if one and "natural" in one and "response" in one]
    if not pairs:
        return "not scored"
    sign = 1 if group.pole == "preferred" else -1
    return f"{sum(sign * (own - natural) > 0 for own, natural in pairs)} of {len(pairs)}"
