"""measure: all measures that the summaries of a record allow, as tables."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from unitscope.cli.common import Several, terminal_width
from unitscope.cli.json_output import describe_measures, print_json
from unitscope.cli.text_tables import Column, paragraph, table, wide_table

if TYPE_CHECKING:
    import pandas

    from unitscope.analysis.measure_declarations import Measure


def measure(
    record: Path,
    /,
    *,
    categories: Several[str] = None,
    pool: Literal["max", "mean", "min"] = "max",
    json: bool = False,
) -> None:
    """Make all measures that a record's summaries allow, and keep them in it as tables.

    Neither the network nor the images are needed.

    Args:
        record: A folder that a survey left.
        categories: What units may be selective for: labels, groups of ImageNet's classes such as dogs, CSV files with
            the columns category and label (or uri), or "labels" for each label by itself.
        pool: Which response of a map counts for that. mean and min need a survey with --responses.
        json: Tell in short what the tables hold as JSON, for scripts.
    """
    from unitscope.analysis.measures import measure as measure_record

    made = measure_record(record, categories=categories or (), pool=pool)
    if json:
        print_json(describe_measures(record, made))
        return
    for name, measures in made.items():
        as_text = selectivity_table if name == "selectivity" else measure_table
        print(as_text(name, measures, width=terminal_width()))
        silent = silent_table(name, measures, width=terminal_width()) if name == "activity" else ""
        if silent:
            print(f"\n{silent}")
        print(f"\nThe table is {record / 'measures' / f'{name}.parquet'}.")


def measure_table(name: str, table: pandas.DataFrame, *, width: int = 80) -> str:
    """A table of measures in short: for each site how many units a column holds for, or its median (of circular
    quantities their circular mean); what it says.
    """
    from unitscope.analysis.measures import TABLES

    declared = {column.name: column for column in TABLES[name].columns}
    known = [column for column in declared if not table[column].isna().all()]
    shown = [column for column in known if math.isfinite((declared[column].range or (0, 1))[1])]
    headings: list[Column] = [("site", "<"), ("units", ">"), *((column.replace("_", " "), ">") for column in shown)]
    rows = []
    for site, units in table.groupby("site", sort=False):
        rows.append((str(site), str(len(units)), *(_summarize(units[column], declared[column]) for column in shown)))
    if len(rows) > 1:
        rows.append(("all", str(len(table)), *(_summarize(table[column], declared[column]) for column in shown)))
    legend = [
        f"{column.replace('_', ' ')}: {declared[column].says} ({_summary_kind(table[column], declared[column])})."
        for column in shown
    ]
    further = [column for column in known if column not in shown]
    legend += [f"{column.replace('_', ' ')}: {declared[column].says} (in the table)." for column in further]
    empty = [column for column in declared if column not in known]
    legend += [f"{column.replace('_', ' ')}: not known: the record does not hold what it needs." for column in empty]
    return "\n".join([wide_table(headings, rows, width), "", *(paragraph(text, width=width) for text in legend)])


SILENT_UNITS: tuple[Column, ...] = (
    ("unit", "<"), ("level", "<"), ("at most", ">"), ("kernel norm", ">"), ("of median", ">"), ("gain", ">"),
    ("offset", ">"),
)  # fmt: skip


LISTED = 24
"""So many silent units are printed; all are in the table."""


def silent_table(name: str, activity: pandas.DataFrame, *, width: int = 80) -> str:
    """The units that never answer, or only numerically, and what their weights say of why; empty where there are none.

    `of median` is the norm of the unit's kernel over the median of its site.
    """
    medians = activity.groupby("site", sort=False)["kernel_norm"].transform("median")
    levels = {"L0": "never_positive", "L1": "numerically_dead", "L3": "certified_dead"}
    holds = {level: activity[column].fillna(False).astype(bool) for level, column in levels.items()}
    rows = []
    for place, unit in activity.iterrows():
        level = " ".join(level for level, flags in holds.items() if flags[place])
        if level:
            share = unit["kernel_norm"] / medians[place] if medians[place] else float("nan")
            numbers = (unit["highest_possible"], unit["kernel_norm"], share, unit["gain"], unit["offset"])
            cells = ["" if number != number else f"{number:.3g}" for number in numbers]
            rows.append((f"{unit['site']}:{unit['channel']}", level, *cells))
    if not rows:
        return ""
    more = f" The first {LISTED} of {len(rows):,} are shown; all are in {name}.parquet." * (len(rows) > LISTED)
    note = (
        "Silent units, and why. at most: a bound from the weights that no response exceeds. of median: the norm of the "
        f"kernel over the median of the site.{more}"
    )
    return "\n".join([table(SILENT_UNITS, rows[:LISTED], width=width), "", paragraph(note, width=width)])


TWO_SIDED: tuple[Column, ...] = (
    ("site", "<"), ("units", ">"), ("selective", ">"), ("median", ">"), ("preferred", ">"), ("anti-", ">"),
    ("both", ">"),
)  # fmt: skip


def selectivity_table(name: str, measures: pandas.DataFrame, *, width: int = 80) -> str:
    """How many units of each site are selective for a category, and at which ends it is enriched; category by
    category.
    """
    parts = []
    for category, units in measures.groupby("category", sort=False):
        rows = [_selectivity_row(str(site), of_site) for site, of_site in units.groupby("site", sort=False)]
        first = units.iloc[0]
        share = f"{100 * first['category_images'] / first['images']:.1f} %"
        head = f"{category}: {first['category_images']:,} of {first['images']:,} labeled images, {share}."
        head += _permutation_note(units)
        text = table(TWO_SIDED, [*rows, _selectivity_row("all", units)], width=width)
        parts.append("\n".join([paragraph(head, width=width), "", text]))
    note = (
        "selective: selectivity of 0.65 or more (1: answers to the category only, 0.5: no difference). median: of "
        "selectivity. preferred, anti-, both: selective units whose highest, lowest and highest as well as lowest "
        "responses have more images of the category than as many other labels, drawn at random, would have (q < 0.05 "
        f"over all units). {name}.parquet holds further indices, and notes on units about which they disagree."
    )
    return "\n\n".join([*parts, paragraph(note, width=width)])


def _permutation_note(units: pandas.DataFrame) -> str:
    """Why no share of the category can differ from chance, where that is so; else nothing."""
    blocks, chosen = int(units["blocks"].iloc[0]), int(units["category_blocks"].iloc[0])
    ways = math.comb(blocks, chosen)
    if units["preferred_p"].isna().all() and units["antipreferred_p"].isna().all():
        return " Whether its share at an end is chance cannot be told: it has some crops of a photograph, not all."
    if ways < 20:
        return (
            f" Images of one label, or of one photograph, are not independent: of {blocks} it is {chosen}, no p can be "
            f"below 1/{ways}, and no share at an end can be told from chance."
        )
    return ""


def _selectivity_row(site: str, units: pandas.DataFrame) -> tuple[str, ...]:
    from unitscope.analysis.index_conflicts import SELECTIVE

    selective = units["selectivity"] >= SELECTIVE["selectivity"]
    high, low = (selective & (units[f"{pole}_q"] < 0.05) for pole in ("preferred", "antipreferred"))
    known, ends = units["selectivity"].notna().any(), units["antipreferred_share"].notna().any()
    counts = [selective.sum(), f"{units['selectivity'].median():.3f}", high.sum()] if known else ["", "", ""]
    return (site, str(len(units)), *map(str, counts), *(str(n.sum()) if ends else "" for n in (low, high & low)))


def _summarize(values: pandas.Series, measure: Measure) -> str:
    """How many flags are set, the most frequent of some words, or the median of numbers, of circular ones their mean
    and how far they agree on it; "–" where none is known.
    """
    from unitscope.analysis.measures import circular_mean

    known = values.dropna()
    if not len(known):
        return "–"
    if measure.period is not None:
        mean, length = circular_mean(known, measure.period)
        direction = "–" if math.isnan(mean) else f"{round(mean) % measure.period:.0f}"
        return f"{direction} ({length:.2f})"
    how = _summary_kind(values, measure)
    return (
        str(int(known.sum()))
        if how == "units"
        else known.mode()[0]
        if how == "most frequent"
        else f"{known.median():.3g}"
    )


def _summary_kind(values: pandas.Series, measure: Measure) -> str:
    """What `_summarize` makes of a column, in words."""
    known = values.dropna()
    if measure.period is not None:
        return "circular mean; in parentheses 1 where all are alike, 0 where they are spread evenly"
    if known.map(lambda value: isinstance(value, str)).any():
        return "most frequent"
    return "units" if known.map(lambda value: value is True or value is False).all() else "median"
