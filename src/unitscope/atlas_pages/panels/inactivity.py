"""Units that never answer: at which level that holds, why, and what the network loses when they are disturbed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import markupsafe

from unitscope.analysis.activity import LEVELS
from unitscope.atlas_pages.data_scripts import rounded
from unitscope.atlas_pages.panel_registry import Overview
from unitscope.errors import UnknownName

if TYPE_CHECKING:
    import pandas

    from unitscope.atlas_pages.record_view import RecordView
    from unitscope.record import Record, SiteFacts

SHOWN = ("what", "which", "path", "dose", "target", "units", "images", "seeds", "delta_loss", "ci_low", "ci_high",
         "delta_top1", "flips", "worst_class", "worst_delta_loss", "classes_changed")  # fmt: skip

MEASURED = ("highest_possible", "kernel_norm", "gain", "offset")

NAMES = ("never positive", "numerically dead", "rarely active", "certified dead")


def show(view: RecordView, site: SiteFacts, *, stem: Path) -> dict[str, Any] | None:  # noqa: ARG001
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
    weights = {name: rounded(here[name].to_numpy(), digits=4).tolist() for name in MEASURED if name in here}
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
    rows = [{name: _plain(row[name]) for name in SHOWN} for row in table.to_dict("records")]
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


def levels_table(view: RecordView, table: pandas.DataFrame) -> markupsafe.Markup:
    counts = {site: [_count(units[name]) for name, *_ in LEVELS] for site, units in table.groupby("site", sort=False)}
    rows = [_levels_row(_linked(view, str(site)), of) for site, of in counts.items() if any(of)]
    total = _levels_row("all sites", [_count(table[name]) for name, *_ in LEVELS])
    if not rows:
        words = "Each of {:,} units answered some of the {:,} photographs shown; none is proven dead from the weights."
        told = markupsafe.escape(words.format(len(table), view.record.facts["stimuli"]["count"]))
        return markupsafe.Markup('<p class="caption">{}</p>').format(told)
    head = markupsafe.Markup("").join(
        markupsafe.Markup('<th scope="col" class="number" title="{}">{}</th>').format(says, name)
        for name, (_, says, *_) in zip(NAMES, LEVELS, strict=True)
    )
    without = len(counts) - len(rows)
    words = f"At {without} of {len(counts)} sites no unit is of any of these levels." if without else ""
    caption = (
        f"{len(table):,} units. Never positive is said of the {view.record.facts['stimuli']['count']:,} photographs "
        "shown; certified dead is proven from the weights for every picture. Where a unit is not certified, nothing is "
        "proven."
    )
    return markupsafe.Markup(
        '<p class="caption">{} {}</p><div class="wide"><table class="levels"><thead><tr><th scope="col">site</th>{}'
        "</tr></thead><tbody>{}{}</tbody></table></div>"
    ).format(caption, words, head, markupsafe.Markup("").join(rows), total)


def _levels_row(name: str | markupsafe.Markup, counts: list[int | None]) -> markupsafe.Markup:
    cells = markupsafe.Markup("").join(
        markupsafe.Markup('<td class="number{}">{}</td>').format("" if count else " none", _counted(count))
        for count in counts
    )
    return markupsafe.Markup('<tr><th scope="row">{}</th>{}</tr>').format(name, cells)


def _counted(count: int | None) -> str:
    return "–" if count is None else f"{count:,}"


def losses_table(view: RecordView, table: pandas.DataFrame) -> markupsafe.Markup:
    """The first table of kobayashi2020: noise in all of the units, and in one per batch; the same in active units."""
    first = table.iloc[0]
    paper = table[(table["what"] == "noise") & (table["dose"] == 1) & (table["path"] == "both")]
    paper = paper[paper["which"].isin(["all", "one per batch"])]
    rows = markupsafe.Markup("").join(
        markupsafe.Markup(
            '<tr><th scope="row">noise in {}</th><td class="number">{}</td><td class="number">{} to {}</td>'
            '<td class="number">{}</td></tr>'
        ).format(
            _noise_in(row), signed(row["delta_loss"]), signed(row["ci_low"]), signed(row["ci_high"]),
            signed(100 * row["delta_top1"], digits=2),
        )
        for row in paper.to_dict("records")
    )  # fmt: skip
    where = next((name for name in (first.get("inactive_at"), first["site"]) if name in view.record.sites), None)
    site = first["site"] if where is None else _linked(view, str(where))
    return markupsafe.Markup(
        '<p class="caption">Rectified normal noise in units of {} ({}), {} photographs; undisturbed the loss is {:.4f} '
        "and {:.1f} % are right. Intervals of 95 % over photographs. All controls are on the page of the site.</p>"
        '<div class="wide"><table class="levels"><thead><tr><th scope="col"></th><th scope="col" class="number">change '
        'of loss</th><th scope="col" class="number">95 % interval</th><th scope="col" class="number">top-1, points</th>'
        "</tr></thead><tbody>{}</tbody></table></div>"
    ).format(site, first["chosen"], f"{first['images']:,}", first["loss"], 100 * first["top1"], rows)


def _noise_in(row: dict[str, Any]) -> str:
    kind = "active " if row["target"] == "active" else ""
    if row["which"] == "all":
        return f"{row['units']} {kind}unit{'s' * (row['units'] != 1)}"
    return f"one {kind}unit per batch"


def signed(number: float, *, digits: int = 4) -> str:
    """A change as text, with its sign; what is 0 without rounding is a plain 0."""
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
    return table if len(table) and {*SHOWN, "site", "loss", "top1", "chosen", "channels"} <= set(table) else None


def _linked(view: RecordView, site: str) -> markupsafe.Markup:
    return markupsafe.Markup('<a href="{}/{}.html">{}</a>').format(view.slug, view.site_slugs[site], site)


def _count(flags: pandas.Series[Any]) -> int | None:
    return None if flags.isna().all() else int(flags.fillna(False).astype(bool).sum())


def _plain(value: Any) -> Any:
    """A value that can stand in a script."""
    plain = value.item() if hasattr(value, "item") else value
    return None if plain is None or plain != plain else plain
