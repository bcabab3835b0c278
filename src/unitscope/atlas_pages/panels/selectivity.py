"""Category selectivity at both poles: the dog study's figure 2 on the first page, its figure 1 on the unit pages."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import markupsafe

from unitscope.analysis.categories import readable_name
from unitscope.analysis.index_conflicts import SELECTIVE
from unitscope.analysis.response_axis import quiet
from unitscope.analysis.selectivity import SELECTIVITY
from unitscope.atlas_pages.data_scripts import rounded
from unitscope.atlas_pages.panel_registry import Overview
from unitscope.errors import UnknownName

if TYPE_CHECKING:
    import pandas as pd

    from unitscope.atlas_pages.record_view import RecordView
    from unitscope.record import Record, SiteFacts

SILENT = 4
"""So many photographs that a unit leaves at zero are shown."""

BANDS = ((0.0, 0.5), (0.5, 0.65), (0.65, 0.7), (0.7, math.inf))
"""Of selectivity; each has a color. From 0.65 on the study calls a unit selective, from 0.7 on it is red."""

CATEGORIES = 4
"""So many categories have a figure of their own."""

LISTED = 8

NEEDED = (
    "unit", "site", "channel", "category", "images", "category_images", "selectivity", "preferred_share",
    "preferred_q", "antipreferred_share", "antipreferred_q",
)  # fmt: skip

SIDE = 200


def show(view: RecordView, site: SiteFacts, *, stem: Path) -> dict[str, Any] | None:  # noqa: ARG001
    """The measures of the site's units per category, what they say, and the photographs that leave a unit at zero."""
    table = table_of(view.record)
    if table is None:
        return None
    here = table[(table["unit"] >= site.first_unit) & (table["unit"] < site.first_unit + site.channels)]
    silent = quiet(view.record, site, count=SILENT)
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
            "image": silent.image.tolist(), "value": [rounded(row).tolist() for row in silent.value],
        },
    }  # fmt: skip


def images(view: RecordView) -> Iterable[int]:
    """The photographs that `show` needs beyond those that a record lists."""
    if table_of(view.record) is None:
        return []
    found = (quiet(view.record, site, count=SILENT) for site in view.record.sites.values())
    return sorted({int(image) for one in found if one is not None for image in one.image.ravel() if image >= 0})


def overview(view: RecordView, _home: Path) -> list[Overview]:
    """Figure 2 for the first categories, for the first one also site by site, and the units to look at."""
    table = table_of(view.record)
    if table is None:
        return []
    before = {name for name, site in view.record.sites.items() if site.preactivation}
    table = table[table["site"].isin(before)] if before else table
    if not (table["antipreferred_share"].notna() & table["preferred_share"].notna()).any():
        return []
    categories = [(str(name), rows) for name, rows in table.groupby("category", sort=False)]
    parts = [_legend(), markupsafe.Markup('<div class="two-sided">')]
    parts += [_figure(name, rows) for name, rows in categories[:CATEGORIES]]
    parts += [markupsafe.Markup("</div>"), _sites(view, *categories[0]), _looked_at(view, *categories[0])]
    return [Overview("Selectivity at both poles", markupsafe.Markup("").join(parts))]


def table_of(record: Record) -> pd.DataFrame | None:
    """What `unitscope measure --categories` wrote; None where there is none, or a table of another form."""
    try:
        table = record.measures("selectivity")
    except UnknownName:
        return None
    return table if set(NEEDED) <= set(table) else None


def _legend() -> markupsafe.Markup:
    said = {column.name: column.says for column in SELECTIVITY.columns}
    words = [f"{low:g} to {high:g}" if math.isfinite(high) else f"{low:g} and more" for low, high in BANDS]
    keys = markupsafe.Markup("").join(
        markupsafe.Markup('<span class="key band-{}">{}</span>').format(place, word) for place, word in enumerate(words)
    )
    return markupsafe.Markup(
        '<p class="caption">A point is a unit before a nonlinearity. Across: {}; up: {}. Dashed: the category\'s share '
        "of all labeled photographs, which chance gives. A unit in the upper right corner has the category at both "
        'ends.</p><p class="caption bands">selectivity {}</p>'
    ).format(said["preferred_share"], said["antipreferred_share"], keys)


def _figure(name: str, rows: pd.DataFrame, *, small: bool = False) -> markupsafe.Markup:
    """Share among the highest against share among the lowest, a point per unit that has both ends; a path per color,
    so that thousands of units make a small page.
    """
    prevalence = float(rows["category_images"].iloc[0] / max(rows["images"].iloc[0], 1))
    at = SIDE * prevalence
    lines = markupsafe.Markup('<path class="chance" d="M{x:.1f} 0V{s}M0 {y:.1f}H{s}"/>').format(
        x=at, y=SIDE - at, s=SIDE
    )
    paths = markupsafe.Markup("").join(
        markupsafe.Markup('<path class="band-{}" d="{}"/>').format(place, _points(rows, low, high))
        for place, (low, high) in enumerate(BANDS)
    )
    selective = int((rows["selectivity"] >= SELECTIVE["selectivity"]).sum())
    says = f"{name}: {len(rows):,} units, {selective:,} selective"
    axes = "" if small else markupsafe.Markup(
        '<text x="{s}" y="{below}" text-anchor="end">share among the highest →</text>'
        '<text x="-6" y="0" text-anchor="end" transform="rotate(-90 -6 0)">among the lowest →</text>'
    ).format(s=SIDE, below=SIDE + 16)  # fmt: skip
    return markupsafe.Markup(
        '<figure class="shares{}"><svg viewBox="-20 -6 {} {}" role="img" aria-label="{}"><rect width="{}" height="{}"/>'
        "{}{}{}</svg><figcaption><strong>{}</strong> {}</figcaption></figure>"
    ).format(
        " small" * small, SIDE + 28, SIDE + 28, says, SIDE, SIDE, lines, paths, axes, name,
        f"{selective:,} of {len(rows):,} units selective" if not small else f"{selective:,} of {len(rows):,}",
    )  # fmt: skip


def _points(rows: pd.DataFrame, low: float, high: float) -> str:
    index = rows["selectivity"].fillna(0)
    chosen = rows[(index >= low) & (index < high)].dropna(subset=["preferred_share", "antipreferred_share"])
    x, y = chosen["preferred_share"] * SIDE, SIDE - chosen["antipreferred_share"] * SIDE
    return "".join(f"M{a:.4g} {b:.4g}h0" for a, b in zip(x, y, strict=True))


def _sites(view: RecordView, name: str, rows: pd.DataFrame) -> markupsafe.Markup:
    """The same site by site, small, each a link."""
    cells = [
        markupsafe.Markup('<a href="{}/{}.html#sort=-{}">{}</a>').format(
            view.slug,
            view.site_slugs[site],
            quote(f"selectivity/selectivity/{name}", safe=""),
            _figure(site, of, small=True),
        )
        for site, of in ((str(site), of) for site, of in rows.groupby("site", sort=False))
    ]
    return markupsafe.Markup('<h3>{}, site by site</h3><div class="site-by-site">{}</div>').format(
        name, markupsafe.Markup("").join(cells)
    )


def _looked_at(view: RecordView, name: str, rows: pd.DataFrame) -> markupsafe.Markup:
    """The most selective units: those with the category at the lower end, too, and those without."""
    selective = rows[rows["selectivity"] >= SELECTIVE["selectivity"]]
    both = (selective["preferred_q"] < 0.05) & (selective["antipreferred_q"] < 0.05)
    lists = [
        (f"Most selective for {name}, with more of it than chance at the lower end, too", selective[both]),
        (f"Most selective for {name}, without", selective[~both]),
    ]
    return markupsafe.Markup("").join(
        markupsafe.Markup('<p class="looked-at">{} ({}): {}</p>').format(words, f"{len(of):,}", _links(view, of))
        for words, of in lists
    )


def _links(view: RecordView, rows: pd.DataFrame) -> markupsafe.Markup:
    first = rows.sort_values("selectivity", ascending=False, kind="stable")[:LISTED]
    links = [
        markupsafe.Markup('<a href="{}/{}.html#{}">{}</a>').format(
            view.slug, view.site_slugs[row.site], row.channel, f"{row.site}:{row.channel}"
        )
        for row in first.itertuples()
    ]
    return markupsafe.Markup(", ").join(links) if links else markupsafe.Markup("none")


def _shown(rows: pd.DataFrame) -> list[str]:
    return [*(column.name for column in SELECTIVITY.columns if column.name in rows), "preferred_label", "note"]


def _values(column: pd.Series[Any]) -> list[Any]:
    values = rounded(column.to_numpy(), digits=4) if column.dtype.kind == "f" else column
    return [None if missing else value for value, missing in zip(values.tolist(), column.isna(), strict=True)]


def _ends(range: tuple[float, float] | None) -> list[float | None] | None:
    return None if range is None else [end if math.isfinite(end) else None for end in range]
