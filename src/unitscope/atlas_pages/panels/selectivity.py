"""Category selectivity at both poles: the dog study's figure 2 on the first page, its figure 1 on the unit pages."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from unitscope.analysis.categories import readable_name
from unitscope.analysis.index_conflicts import SELECTIVE
from unitscope.analysis.response_axis import quiet
from unitscope.analysis.selectivity import SELECTIVITY
from unitscope.atlas_pages.data_scripts import round_digits
from unitscope.atlas_pages.panel_registry import Overview
from unitscope.errors import UnknownName
from unitscope.html_templates import render

if TYPE_CHECKING:
    import pandas as pd

    from unitscope.atlas_pages.record_view import RecordView
    from unitscope.record import Record, SiteFacts

SILENT_PHOTOGRAPHS = 4
"""How many of the photographs that leave a unit at zero are shown."""

BANDS = ((0.0, 0.5), (0.5, 0.65), (0.65, 0.7), (0.7, math.inf))
"""Of selectivity; each has a color. From 0.65 on the study calls a unit selective, from 0.7 on it is red."""

CATEGORY_FIGURES = 4
"""How many categories have a figure of their own."""

LISTED_UNITS = 8

NEEDED = (
    "unit", "site", "channel", "category", "images", "category_images", "selectivity", "preferred_share",
    "preferred_q", "antipreferred_share", "antipreferred_q",
)  # fmt: skip

SCATTER_SIDE = 200


def unit_data(view: RecordView, site: SiteFacts, *, stem: Path) -> dict[str, Any] | None:  # noqa: ARG001
    """The measures of the site's units per category, what they say, and the photographs that leave a unit at zero."""
    table = read_selectivity(view.record)
    if table is None:
        return None
    here = table[(table["unit"] >= site.first_unit) & (table["unit"] < site.first_unit + site.channels)]
    silent = quiet(view.record, site, count=SILENT_PHOTOGRAPHS)
    return {
        "measures": [
            {"key": column.name, "says": column.says, "range": _ends(column.range), "low": column.low,
             "high": column.high}
            for column in SELECTIVITY.columns
        ],
        "categories": [
            {"name": str(name), "prevalence": rows["category_images"].iloc[0] / max(rows["images"].iloc[0], 1)}
            | {"values": {column: _values(rows[column]) for column in _shown(rows)}}
            for name, rows in here.groupby("category", sort=False)
        ],
        "names": {label: readable_name(label) for label in view.record.facts["settings"].get("labels") or ()},
        "silent": None if silent is None else {
            "image": silent.image.tolist(), "value": [round_digits(row).tolist() for row in silent.value],
        },
    }  # fmt: skip


def extra_images(view: RecordView) -> Iterable[int]:
    """The photographs that `unit_data` needs beyond those that a record lists."""
    if read_selectivity(view.record) is None:
        return []
    found = (quiet(view.record, site, count=SILENT_PHOTOGRAPHS) for site in view.record.sites.values())
    return sorted({int(image) for one in found if one is not None for image in one.image.ravel() if image >= 0})


def overview(view: RecordView, _home: Path) -> list[Overview]:
    """Figure 2 for the first categories, for the first one also site by site, and the units to look at."""
    table = read_selectivity(view.record)
    if table is None:
        return []
    before = {name for name, site in view.record.sites.items() if site.preactivation}
    table = table[table["site"].isin(before)] if before else table
    if not (table["antipreferred_share"].notna() & table["preferred_share"].notna()).any():
        return []
    categories = [(str(name), rows) for name, rows in table.groupby("category", sort=False)]
    body = render(
        "panels/selectivity.html.j2",
        says={column.name: column.says for column in SELECTIVITY.columns},
        bands=[f"{low:g} to {high:g}" if math.isfinite(high) else f"{low:g} and more" for low, high in BANDS],
        side=SCATTER_SIDE,
        categories=[_scatter(name, rows) for name, rows in categories[:CATEGORY_FIGURES]],
        sites=_sites(view, *categories[0]),
        lists=_most_selective(view, *categories[0]),
    )
    return [Overview("Selectivity at both poles", body)]


def read_selectivity(record: Record) -> pd.DataFrame | None:
    """What `unitscope measure --categories` wrote; None where there is none, or a table of another form."""
    try:
        table = record.measures("selectivity")
    except UnknownName:
        return None
    return table if set(NEEDED) <= set(table) else None


def _scatter(name: str, rows: pd.DataFrame) -> dict[str, Any]:
    """Share among the highest against share among the lowest, a point per unit that has both ends.

    One path per color holds all points of that color, so that thousands of units make a small page.
    """
    return {
        "name": name,
        "units": len(rows),
        "selective": int((rows["selectivity"] >= SELECTIVE["selectivity"]).sum()),
        "chance": SCATTER_SIDE * float(rows["category_images"].iloc[0] / max(rows["images"].iloc[0], 1)),
        "bands": [_points(rows, low, high) for low, high in BANDS],
    }


def _points(rows: pd.DataFrame, low: float, high: float) -> str:
    index = rows["selectivity"].fillna(0)
    chosen = rows[(index >= low) & (index < high)].dropna(subset=["preferred_share", "antipreferred_share"])
    x, y = chosen["preferred_share"] * SCATTER_SIDE, SCATTER_SIDE - chosen["antipreferred_share"] * SCATTER_SIDE
    # A path of no length (h0) with round caps (panel-selectivity.css) is a dot.
    return "".join(f"M{a:.4g} {b:.4g}h0" for a, b in zip(x, y, strict=True))


def _sites(view: RecordView, name: str, rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The same for each site, with a link to the site's page."""
    column = quote(f"selectivity/selectivity/{name}", safe="")
    return [
        {"href": f"{view.slug}/{view.site_slugs[site]}.html#sort=-{column}", **_scatter(site, of)}
        for site, of in ((str(site), of) for site, of in rows.groupby("site", sort=False))
    ]


def _most_selective(view: RecordView, name: str, rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The most selective units: those with the category at the lower end, too, and those without."""
    selective = rows[rows["selectivity"] >= SELECTIVE["selectivity"]]
    both = (selective["preferred_q"] < 0.05) & (selective["antipreferred_q"] < 0.05)
    return [
        {"title": f"Most selective for {name}, {words}", "count": len(of), "units": _first_units(view, of)}
        for words, of in (
            ("with more of it than chance at the lower end, too", selective[both]),
            ("without", selective[~both]),
        )
    ]


def _first_units(view: RecordView, rows: pd.DataFrame) -> list[dict[str, str]]:
    first = rows.sort_values("selectivity", ascending=False, kind="stable")[:LISTED_UNITS]
    return [
        {
            "name": f"{row.site}:{row.channel}",
            "href": f"{view.slug}/{view.site_slugs[row.site]}.html#{row.channel}",
        }
        for row in first.itertuples()
    ]


def _shown(rows: pd.DataFrame) -> list[str]:
    return [*(column.name for column in SELECTIVITY.columns if column.name in rows), "preferred_label", "note"]


def _values(column: pd.Series[Any]) -> list[Any]:
    values = round_digits(column.to_numpy(), digits=4) if column.dtype.kind == "f" else column
    return [None if missing else value for value, missing in zip(values.tolist(), column.isna(), strict=True)]


def _ends(range: tuple[float, float] | None) -> list[float | None] | None:
    return None if range is None else [end if math.isfinite(end) else None for end in range]
