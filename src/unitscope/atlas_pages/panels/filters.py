"""Virtual filters: on unit pages beside the filters they are made of, as a sheet, and the coupling tests on the first
page. First-layer kernels are shown by the atlas itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from unitscope.analysis.couplings import TESTS, filter_array, read_filters
from unitscope.atlas_pages import figures, sprites
from unitscope.atlas_pages.data_scripts import round_digits
from unitscope.atlas_pages.filter_figures import SHOWN_FILTERS
from unitscope.atlas_pages.panel_registry import Overview
from unitscope.errors import BadInput
from unitscope.html_templates import render

if TYPE_CHECKING:
    import pandas
    from jaxtyping import Float

    from unitscope.atlas_pages.record_view import RecordView
    from unitscope.record import Record, SiteFacts

FILTER_TILE = 72
"""The longest side of a tile, pixels."""

MODE_WORDS = {
    "max_tap": "strongest taps, without their places (the paper's)",
    "max_tap_shifted": "strongest taps, in their places",
    "full": "all taps",
}


def unit_data(view: RecordView, site: SiteFacts, *, stem: Path) -> list[dict[str, Any]] | None:
    """The virtual filters whose channels are those of the site, each with the filters that it reads most strongly."""
    listed = [
        (number, about)
        for number, about in own_filters(view.record)
        if site.name in (about["site"], *about["shown_at"])
    ]
    return [_shown(view.record, number, about, stem=stem) for number, about in listed] or None


def overview(view: RecordView, _home: Path) -> list[Overview] | None:
    """The coupling tests of every convolution beside those of untrained networks, and how near its filters come."""
    own, tests = own_filters(view.record), tests_of(view.record)
    if not own or tests is None:
        return None
    rows = [_row(view, number, about, tests) for number, about in own]
    return [Overview("Virtual filters", render("panels/filters.html.j2", tests=TESTS, rows=rows))]


def own_filters(record: Record) -> list[tuple[int, dict[str, Any]]]:
    """What the record keeps of its own network's filters, by number; none of untrained copies."""
    try:
        kept = read_filters(record)
    except BadInput:
        return []
    return [(number, about) for number, about in enumerate(kept) if about["seed"] is None]


def tests_of(record: Record) -> pandas.DataFrame | None:
    """The coupling tests, where they were made."""
    import pandas

    path = record.path / "filters.parquet"
    return pandas.read_parquet(path) if path.is_file() else None


def _shown(record: Record, number: int, about: dict[str, Any], *, stem: Path) -> dict[str, Any]:
    pictures, basis, coupling, cosine, error = (
        filter_array(record, number, name, of=about) for name in ("pictures", "basis", "coupling", "cosine", "error")
    )
    swapped = record.facts["network"].get("order") == "BGR"
    strongest = np.argsort(-np.abs(coupling), axis=1, kind="stable")[:, :SHOWN_FILTERS]
    return {
        "site": about["site"], "reads": about["reads"], "chain": about["chain"][:-1],
        "mode": MODE_WORDS.get(about["mode"], about["mode"]), "folded": about["folded"], "weighted": about["weighted"],
        "size": list(pictures.shape[2:]), "why": about["why"],
        "filters": _write(pictures, stem.with_name(f"{stem.name}-{number}-virtual"), swapped=swapped),
        "basis": _write(basis, stem.with_name(f"{stem.name}-{number}-basis"), swapped=swapped),
        "read": [[int(k) for k in row if coupling[unit, k] != 0] for unit, row in enumerate(strongest)],
        "coupling": [
            round_digits(coupling[unit, row[coupling[unit, row] != 0]], digits=3).tolist()
            for unit, row in enumerate(strongest)
        ],
        "cosine": _listed(cosine), "error": _listed(error),
    }  # fmt: skip


def _listed(values: Float[np.ndarray, " unit"]) -> list[float | None]:
    return [value if np.isfinite(value) else None for value in round_digits(values, digits=3).tolist()]


def _write(kernels: Float[np.ndarray, "unit color height width"], stem: Path, *, swapped: bool) -> dict[str, Any]:
    """Kernels around gray at one gain; of other than three inputs the mean of all."""
    color = kernels if kernels.shape[1] == 3 else kernels.mean(1, keepdims=True)
    color = color[:, ::-1] if swapped else color
    gain = figures.contrast_gain(color)
    tiles = [figures.enlarge(figures.draw_contrast(kernel, gain=gain), longest=FILTER_TILE) for kernel in color]
    sharp = max(kernels.shape[2:]) <= figures.SHARP_PIXELS // 2
    return {**sprites.write_sprites(tiles, stem=stem, lossless=sharp, quality=88), "sharp": sharp, "gain": gain}


def _row(view: RecordView, number: int, about: dict[str, Any], tests: pandas.DataFrame) -> dict[str, Any]:
    """A convolution: a link to the page of its units, its cosine, and z of each test over those of untrained copies."""
    here = tests[tests["site"] == about["site"]]
    cosine = filter_array(view.record, number, "cosine", of=about)
    known = cosine[np.isfinite(cosine)]
    place = next((name for name in (about["site"], *about["shown_at"]) if name in view.site_slugs), None)
    page = None if place is None else f"{quote(view.slug)}/{quote(view.site_slugs[place])}.html"
    return {
        "site": about["site"],
        "reads": about["reads"],
        "href": page and f"{page}#show=virtual-{number}",
        "cosine": f"{np.median(known):.2f}" if len(known) else "–",
        "cells": [_cell(here[here["test"] == test]) for test in TESTS],
    }


def _cell(rows: pandas.DataFrame) -> dict[str, Any] | None:
    """The result of one test; None where z is undefined."""
    own, others = rows[rows["seed"].isna()], rows[rows["seed"].notna()]["z"].dropna()
    if own.empty or not np.isfinite(own["z"].iloc[0]):
        return None
    z, p = own["z"].iloc[0], own["p"].iloc[0]
    untrained = f"{_signed(others.min())} to {_signed(others.max())}" if len(others) else ""
    return {"z": _signed(z), "p": p, "sure": p < 0.05, "untrained": untrained}


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "\N{MINUS SIGN}")
