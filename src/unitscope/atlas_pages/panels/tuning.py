"""What gratings and colors say of each unit, and of each site beside macaque V1."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unitscope.analysis.macaque import COMPARISONS, Comparison
from unitscope.analysis.opponency import hue_curves
from unitscope.analysis.orientation import contrast_curves, frequency_curves, orientation_curves, size_curves
from unitscope.analysis.tuning_curves import Session, sessions
from unitscope.atlas_pages import sprites
from unitscope.atlas_pages.data_scripts import round_digits
from unitscope.atlas_pages.panel_registry import Overview
from unitscope.durable import read_table
from unitscope.html_templates import render

if TYPE_CHECKING:
    import pandas
    from jaxtyping import UInt8

    from unitscope.atlas_pages.record_view import RecordView
    from unitscope.record import SiteFacts

GRATING_SIDE = 64
"""Pixels of the pictures of best gratings."""

ORIENTATION_COLUMNS = ("responsive", "preferred_orientation", "orientation_error", "orientation_selectivity",
               "orientation_selectivity_low", "orientation_selectivity_high", "bandwidth", "preferred_frequency",
               "frequency_low", "frequency_high", "frequency_octaves", "f1_f0", "simple", "preferred_phase",
               "preferred_size", "suppression", "contrast_saturates", "reliability")  # fmt: skip
COLOR_COLUMNS = ("responsive", "cone_l", "cone_m", "cone_s", "color_preference", "color_preference_low",
         "color_preference_high", "color_class", "opponency", "cone_opponency", "low_pass",
         "hue_axis", "preferred_hue", "hue_selectivity", "channel_red", "channel_green", "channel_blue",
         "channel_preference", "channel_opponency", "opponency_harris", "center_surround")  # fmt: skip


def unit_data(view: RecordView, site: SiteFacts, *, stem: Path) -> dict[str, Any] | None:
    """Curves and measures of all units of a site that were shown gratings, and a sprite of their best gratings."""
    found = sessions(view.record, site=site.name)
    if not found:
        return None
    tables = {name: measures_at(view, name, site) for name in ("orientation", "color")}
    orientation = tables["orientation"]
    if orientation is None:
        return None
    curves = {
        name: _by_channel(found, site, make)
        for name, make in {
            "orientation": orientation_curves, "frequency": frequency_curves,
            "size": lambda s: size_curves(s)[1], "contrast": lambda s: contrast_curves(s)[1],
        }.items()
    }  # fmt: skip
    color = tables["color"]
    if color is not None and "cone_opponency" not in color:  # an earlier version's `opponency` was that of cones alone
        color = color.drop(columns=["opponency", "color_class"], errors="ignore")
    if color is not None:
        curves["hue"] = _by_channel(found, site, lambda s: hue_curves(s)[1])
    axes = [
        {"frequency": s.gratings.values["frequency"], "size": size_curves(s)[0], "contrast": contrast_curves(s)[0],
         "field": list(s.field)} for s in found
    ]  # fmt: skip
    tiles = [best_grating(row) for row in orientation.itertuples()]
    return {
        "curves": curves,
        "axes": axes,
        "axis": _axis_of(found, site),
        "orientation": {name: _plain(orientation[name]) for name in ORIENTATION_COLUMNS if name in orientation},
        "color": None if color is None else {name: _plain(color[name]) for name in COLOR_COLUMNS if name in color},
        "best": sprites.write_sprites(tiles, stem=stem, quality=80),
        "rectified": site.preactivation,
    }


def measures_at(view: RecordView, name: str, site: SiteFacts) -> pandas.DataFrame | None:
    """The measures of a site, a row per channel; None where there are none."""
    path = view.record.path / "measures" / f"{name}.parquet"
    if not path.exists():
        return None
    table = view.record.measures(name)
    here = table[table["site"] == site.name]
    return here.set_index("channel").reindex(range(site.channels)) if len(here) else None


def _by_channel(found: list[Session], site: SiteFacts, make: Any) -> list[Any]:
    """For each channel its curve as a share of its largest value, or None."""
    curves: list[Any] = [None] * site.channels
    for session in found:
        values = make(session)
        for place, channel in enumerate(session.channels.tolist()):
            highest = float(values[:, place].max())
            if highest > 0:
                curves[channel] = round_digits(values[:, place] / highest, digits=3).tolist()
    return curves


def _axis_of(found: list[Session], site: SiteFacts) -> list[int | None]:
    """For each channel the number of its session, whose axes are its own."""
    which: list[int | None] = [None] * site.channels
    for number, session in enumerate(found):
        for channel in session.channels.tolist():
            which[channel] = number
    return which


def _plain(values: pandas.Series) -> list[Any]:
    if values.dtype.kind == "f":
        return round_digits(values.to_numpy(), digits=4).tolist()
    return [None if missing else value for value, missing in zip(values.tolist(), values.isna(), strict=True)]


def best_grating(row: Any) -> UInt8[np.ndarray, "height width 4"] | None:
    """A picture of a unit's best grating, at its orientation, frequency and phase, as 24 x 24 pixels of a stimulus."""
    if not row.responsive or np.isnan(row.preferred_frequency):
        return None
    axis = (np.arange(GRATING_SIDE) - (GRATING_SIDE - 1) / 2) * 24 / GRATING_SIDE
    angle = np.radians(row.preferred_orientation)
    across = -axis[:, None] * np.cos(angle) - axis[None, :] * np.sin(angle)
    wave = np.cos(2 * np.pi * row.preferred_frequency * across + np.radians(row.preferred_phase))
    # The contrast shows how selective the unit is.
    gray = np.uint8(np.clip(127.5 + 127.5 * wave * min(1.0, 0.15 + row.orientation_selectivity), 0, 255))
    return np.stack([gray, gray, gray, np.full_like(gray, 255)], axis=-1)


def overview(view: RecordView, home: Path) -> list[Overview] | None:  # noqa: ARG001  (the same call for all panels)
    """Every site beside macaque V1, and beside untrained networks where these were shown the same."""
    joined = joined_table(view)
    if joined is None:
        return None
    null = null_table(view)
    rows = [_row(view, str(name), table, null) for name, table in joined.groupby("site", sort=False)]
    return [
        Overview("Tuning, beside macaque V1", render("panels/tuning.html.j2", comparisons=_known(joined), rows=rows))
    ]


def _known(table: pandas.DataFrame) -> list[Comparison]:
    return [c for c in COMPARISONS if c.column in table]


def joined_table(view: RecordView) -> pandas.DataFrame | None:
    """Orientation and color of all units, a row each; None where the record holds no tuning."""
    path = view.record.path / "measures"
    if not (path / "orientation.parquet").exists():
        return None
    table = view.record.measures("orientation")
    if not {"responsive", "preferred_orientation", "orientation_selectivity"} <= set(table):
        return None  # of that name, but of another origin
    if (path / "color.parquet").exists():
        color = view.record.measures("color").drop(columns=["site", "channel"])
        table = table.merge(color, on="unit", how="left", suffixes=("", "_color"))
    return table


def null_table(view: RecordView) -> pandas.DataFrame | None:
    path = view.record.path / "tuning" / "null-orientation.parquet"
    if not path.exists():
        return None
    return read_table(path).to_pandas()


def _row(view: RecordView, name: str, table: pandas.DataFrame, null: pandas.DataFrame | None) -> dict[str, Any]:
    answers = table[table["responsive"].astype(bool)]
    opponent = "–"
    if "cone_opponency" in table:  # an earlier version's `opponency` was that of cones alone
        opponent = ", ".join(f"{kind} {_opponent(table, kind)}" for kind in ("single", "double"))
    chance = None if null is None else null[null["site"] == name]["orientation_selectivity"].dropna().to_numpy()
    # Four bins of 45 degrees, around 0, 45, 90 and 135.
    counts = np.bincount(((answers["preferred_orientation"].dropna() + 22.5) % 180 // 45).astype(int), minlength=4)
    return {
        "site": name,
        "href": f"{view.slug}/{view.site_slugs[name]}.html",
        "responsive": len(answers),
        "units": len(table),
        "histogram": histogram_bars(answers["orientation_selectivity"].dropna().to_numpy(), chance),
        "rose": rose_bars(counts),
        "cells": [_in_short(c, answers) for c in _known(table)],
        "opponency": opponent,
    }


def _opponent(table: pandas.DataFrame, kind: str) -> str:
    """The share of units of a kind of opponency, and in parentheses that by cones alone."""
    shares = [
        100 * float((known == kind).mean()) if len(known := table[name].dropna()) else 0
        for name in ("opponency", "cone_opponency")
    ]
    return "{:.0f} % ({:.0f} %)".format(*shares)


def _in_short(comparison: Comparison, answers: pandas.DataFrame) -> str:
    values = comparison.of(answers[comparison.column]).dropna()
    if not len(values):
        return "–"
    return f"{100 * values.mean():.0f} %" if comparison.share else f"{values.median():.3g}"


def histogram_bars(values: np.ndarray, chance: np.ndarray | None) -> dict[str, Any]:
    """A small drawing of the distribution of 1 - circular variance, with that of untrained networks as a line."""
    width, height, bins = 120, 26, 20

    def shape(of: np.ndarray) -> np.ndarray:
        counts, _ = np.histogram(of, bins=bins, range=(0, 1))
        return counts / max(counts.sum(), 1)

    own = shape(values)
    other = shape(chance) if chance is not None and len(chance) else None
    most = max(own.max(initial=0), 0 if other is None else other.max(), 1e-9)
    step = width / bins
    line = []
    if other is not None:
        heights = height - height * other / most
        # Both ends of each bin: a line in steps.
        line = [(end * step, y) for i, y in enumerate(heights) for end in (i, i + 1)]
    bars = [{"x": i * step, "height": height * share / most} for i, share in enumerate(own) if share]
    return {"width": width, "height": height, "units": len(values), "step": step, "bars": bars, "line": line}


def rose_bars(counts: np.ndarray) -> list[dict[str, float]]:
    """Four bars through a point, as long as there are units that prefer their orientation."""
    longest = max(int(counts.max()), 1)
    bars = []
    for number, count in enumerate(counts):
        angle, radius = np.radians(45 * number), 12 * count / longest
        bars.append(
            {"angle": 45 * number, "units": int(count), "x": radius * np.cos(angle), "y": -radius * np.sin(angle)}
        )
    return bars
