"""Units that never answer: at which level that holds, why, and what the network loses when they are disturbed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitscope.analysis.activity import LEVELS
from unitscope.atlas_pages.data_scripts import round_digits
from unitscope.atlas_pages.panel_registry import Overview
from unitscope.errors import UnknownName
from unitscope.html_templates import render

if TYPE_CHECKING:
    import pandas
    from markupsafe import Markup

    from unitscope.atlas_pages.record_view import RecordView
    from unitscope.record import Record, SiteFacts

LOSS_COLUMNS = ("what", "which", "path", "dose", "target", "units", "images", "seeds", "delta_loss", "ci_low",
                "ci_high", "delta_top1", "flips", "worst_class", "worst_delta_loss", "classes_changed")  # fmt: skip

WEIGHT_COLUMNS = ("highest_possible", "kernel_norm", "gain", "offset")

LEVEL_NAMES = ("never positive", "numerically dead", "rarely active", "certified dead")


def unit_data(view: RecordView, site: SiteFacts, *, stem: Path) -> dict[str, Any] | None:  # noqa: ARG001
    """The levels and the weights behind the site's units, and what the network lost when they were disturbed."""
    levels, losses = levels_of(view.record, site), losses_of(view.record, site)
    if levels is None and losses is None:
        return None
    return {"levels": levels, "losses": losses}


def levels_of(record: Record, site: SiteFacts) -> dict[str, Any] | None:
    """By level, and by what the weights say, a value per channel; None where no level holds for any unit."""
    table = activity_of(record)
    if table is None:
        return None
    here = table[table["site"] == site.name].set_index("channel").reindex(range(site.channels))
    flags = {name: [value is True for value in here[name].astype(object)] for name, *_ in LEVELS}
    if not any(any(values) for values in flags.values()):
        return None
    weights = {name: round_digits(here[name].to_numpy(), digits=4).tolist() for name in WEIGHT_COLUMNS if name in here}
    median = here["kernel_norm"].median() if "kernel_norm" in here else None
    shares = [_plain(value) for value in here["positive_share"]]
    return {"flags": flags, "weights": weights, "median_norm": _plain(median), "positive_share": shares}


def losses_of(record: Record, site: SiteFacts) -> dict[str, Any] | None:
    """The rows of the record's perturbation, if it was of this site or of units that are inactive here."""
    table = perturbation_of(record)
    if table is None:
        return None
    first = table.iloc[0]
    if site.name not in (first["site"], first.get("inactive_at")):
        return None
    rows = [{name: _plain(row[name]) for name in LOSS_COLUMNS} for row in table.to_dict("records")]
    chosen = next((row for row in table.to_dict("records") if row["target"] == "chosen"), None)
    facts = {name: _plain(first[name]) for name in ("site", "loss", "top1", "chosen")}
    channels = [] if chosen is None else [int(channel) for channel in chosen["channels"]]
    return facts | {"channels": channels, "rows": rows}


def overview(view: RecordView, _home: Path) -> list[Overview]:
    """Units per level and site, and the two conditions of kobayashi2020 beside the same in active units."""
    table = activity_of(view.record)
    sections = [] if table is None else [Overview("Units that never answer", levels_table(view, table))]
    losses = perturbation_of(view.record)
    if losses is not None:
        sections.append(Overview("What is lost by noise in units", losses_table(view, losses)))
    return sections


def levels_table(view: RecordView, table: pandas.DataFrame) -> Markup:
    """Units per level, a row for each site that has any."""
    counts = {str(site): _counts(units) for site, units in table.groupby("site", sort=False)}
    rows = [{"site": site, "href": _page(view, site), "counts": of} for site, of in counts.items() if any(of)]
    return render(
        "panels/levels.html.j2",
        units=len(table),
        photographs=view.record.facts["stimuli"]["count"],
        levels={name: says for name, (_, says, *_) in zip(LEVEL_NAMES, LEVELS, strict=True)},
        rows=rows,
        without=len(counts) - len(rows),
        total=_counts(table),
    )


def losses_table(view: RecordView, table: pandas.DataFrame) -> Markup:
    """The first table of kobayashi2020: noise in all of the units, and in one per batch; the same in active units."""
    first = table.iloc[0]
    paper = table[(table["what"] == "noise") & (table["dose"] == 1) & (table["path"] == "both")]
    paper = paper[paper["which"].isin(["all", "one per batch"])]
    where = next((name for name in (first.get("inactive_at"), first["site"]) if name in view.record.sites), None)
    return render(
        "panels/losses.html.j2",
        rows=[_losses_row(row) for row in paper.to_dict("records")],
        site=first["site"] if where is None else where,
        href=None if where is None else _page(view, str(where)),
        **{name: first[name] for name in ("chosen", "images", "loss", "top1")},
    )


def _losses_row(row: dict[str, Any]) -> dict[str, str]:
    changes = {name: format_change(row[name]) for name in ("delta_loss", "ci_low", "ci_high")}
    return {"units": _noise_in(row), **changes, "delta_top1": format_change(100 * row["delta_top1"], digits=2)}


def _noise_in(row: dict[str, Any]) -> str:
    kind = "active " if row["target"] == "active" else ""
    if row["which"] == "all":
        return f"{row['units']} {kind}unit{'s' * (row['units'] != 1)}"
    return f"one {kind}unit per batch"


def format_change(number: float, *, digits: int = 4) -> str:
    """A change as text, with its sign; what is 0 without rounding is a plain 0."""
    # Only NaN differs from itself.
    if number != number:
        return "–"
    if abs(number) < 1e-12:
        return "0"
    small = abs(number) < 10**-digits
    text = f"{abs(number):.1e}".replace("-", "−") if small else f"{abs(number):.{digits}f}"
    return f"{'−' if number < 0 else '+'}{text}"


def activity_of(record: Record) -> pandas.DataFrame | None:
    try:
        table = record.measures("activity")
    except UnknownName:
        return None
    return table if {name for name, *_ in LEVELS} <= set(table) else None


def perturbation_of(record: Record) -> pandas.DataFrame | None:
    """What `unitscope perturb` left in the record; None where there is nothing, or a table of another form."""
    import pandas

    path = record.path / "perturbation.parquet"
    if not path.exists():
        return None
    table = pandas.read_parquet(path)
    return table if len(table) and {*LOSS_COLUMNS, "site", "loss", "top1", "chosen", "channels"} <= set(table) else None


def _page(view: RecordView, site: str) -> str:
    return f"{view.slug}/{view.site_slugs[site]}.html"


def _counts(units: pandas.DataFrame) -> list[int | None]:
    """How many of the units are of each level; None where the level is not known of any."""
    return [_count(units[name]) for name, *_ in LEVELS]


def _count(flags: pandas.Series[Any]) -> int | None:
    return None if flags.isna().all() else int(flags.fillna(False).astype(bool).sum())


def _plain(value: Any) -> Any:
    """A value that can stand in a script."""
    plain = value.item() if hasattr(value, "item") else value
    return None if plain is None or plain != plain else plain
