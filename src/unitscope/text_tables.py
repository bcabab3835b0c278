"""How facts look on a terminal: tables and paragraphs as text, 80 columns wide where that can be. Prints nothing."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from unitscope.errors import few

if TYPE_CHECKING:
    import pandas

    from unitscope.analysis.measures import Measure
    from unitscope.networks import Network
    from unitscope.optima import Optimum
    from unitscope.record import Record
    from unitscope.report import Report
    from unitscope.vocabulary import Site, Size

Column = tuple[str, str]
"""A heading, and "<" or ">": on which side its cells stand."""

SITES: tuple[Column, ...] = (
    ("site", "<"), ("operation", "<"), ("units", ">"), ("lattice", ">"), ("field", ">"), ("stride", ">"),
    ("start", ">"), ("status", "<"),
)  # fmt: skip
SURVEYED: tuple[Column, ...] = (
    ("site", "<"), ("field", ">"), ("units", ">"), ("inactive", ">"), ("median peak", ">"), ("highest", ">"),
)  # fmt: skip


def paragraph(text: str, *, width: int = 80) -> str:
    """One paragraph, wrapped. Names and paths are never broken."""
    return textwrap.fill(" ".join(text.split()), width, break_long_words=False, break_on_hyphens=False)


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, width: int = 80) -> str:
    """Rows under headings. A first cell that would make its line longer than `width` stands on a line of its own."""
    widths = [max(len(heading), *(len(row[i]) for row in rows)) for i, (heading, _) in enumerate(columns)]
    gap = 2 if sum(widths) + 2 * (len(columns) - 1) <= width else 1
    others = sum(widths[1:]) + sum(_gaps(columns, gap))
    widths[0] = min(widths[0], max(len(columns[0][0]), width - others))
    lines = [_line(columns, widths, [heading for heading, _ in columns], gap=gap)]
    for row in rows:
        fits = len(row[0]) <= widths[0]
        lines += [] if fits else [row[0]]
        lines.append(_line(columns, widths, row if fits else ("", *row[1:]), gap=gap))
    return "\n".join(lines)


def _gaps(columns: Sequence[Column], gap: int) -> list[int]:
    """Spaces before each column but the first. Numbers may stand close to each other, words may not."""
    return [gap if side == ">" else 2 for _, side in columns[1:]]


def _line(columns: Sequence[Column], widths: Sequence[int], cells: Sequence[str], *, gap: int) -> str:
    sides = [side for _, side in columns]
    padded = [f"{cell:{side}{width}}" for cell, side, width in zip(cells, sides, widths, strict=True)]
    return "".join(
        [padded[0], *(" " * n + cell for n, cell in zip(_gaps(columns, gap), padded[1:], strict=True))]
    ).rstrip()


def site_table(network: Network, sites: Mapping[str, Site], surveyed: Iterable[str], *, width: int = 80) -> str:
    """All sites of a network: what they are, what their neurons see, and which of them a survey records by default."""
    surveyed = set(surveyed)
    head = f"{network.name}, weights {network.weights}, pictures of {between(network.size)} pixels"
    foot = (
        f"{_several(len(sites), 'site')}. The {len(surveyed)} marked * are recorded unless a survey is told otherwise: "
        "what enters a nonlinearity, and max-poolings. Fields, strides and starts are in pixels, rows x columns where "
        "these differ."
    )
    reasons = [f"{cause}: {few(names)}." for cause, names in _causes(sites.values()).items()]
    modules = {site.module for site in sites.values()}
    renamed = [f"{site.name} of {site.module}" for site in sites.values() if not _named_after_module(site, modules)]
    if renamed:
        reasons.append(f"Sites with a name that is not that of their module: {few(renamed, most=20)}.")
    rows = [_site_row(site, starred=site.name in surveyed) for site in sites.values()]
    return "\n".join(
        [head, "", table(SITES, rows, width=width), "", *(paragraph(text, width=width) for text in [foot, *reasons])]
    )


def _site_row(site: Site, *, starred: bool) -> tuple[str, ...]:
    field = site.field()
    seen = field.status in ("exact", "upper bound")
    return (
        site.name + " *" * starred,
        _brief(site.operation),
        str(site.channels),
        between(site.lattice, "x"),
        square(field.size),
        square(field.stride) if seen else "",
        square(field.start) if seen else "",
        field.status,
    )


def _named_after_module(site: Site, modules: set[str]) -> bool:
    """Whether a site's name tells its module: it is the path, with a number where the module runs again."""
    again = re.fullmatch(re.escape(site.module) + r"_\d+", site.name) and site.name not in modules
    return site.module in ("", site.name) or bool(again)


def _causes(sites: Iterable[Site]) -> dict[str, list[str]]:
    """What keeps fields from being exact, and the sites where it does."""
    found: dict[str, list[str]] = {}
    for site in sites:
        field = site.field()
        if field.status in ("upper bound", "unknown") and field.cause:
            found.setdefault(f"{field.status} ({field.cause})", []).append(site.name)
    return found


def survey_table(record: Record, *, width: int = 80) -> str:
    """What a survey found, a line per site, and in all."""
    units = _columns(record, "units.parquet", ("site", "inactive", "peak_max"))
    rows = []
    for site in record.sites.values():
        here = slice(site.first_unit, site.first_unit + site.channels)
        peaks = sorted(peak for peak in units["peak_max"][here] if peak is not None)
        rows.append(
            (
                site.name,
                str(site.field) if site.field.status in ("exact", "upper bound") else site.field.status,
                str(site.channels),
                str(sum(units["inactive"][here])),
                _number(peaks[len(peaks) // 2]) if peaks else "",
                _number(peaks[-1]) if peaks else "",
            )
        )
    return "\n".join([table(SURVEYED, rows, width=width), "", survey_facts(record, width=width)])


def _number(value: float) -> str:
    """Two decimals, so that points stand below each other; very large and very small ones otherwise."""
    return f"{value:.2f}" if value == 0 or 0.01 <= abs(value) < 10000 else f"{value:.1e}"


def measure_table(name: str, table: pandas.DataFrame, *, width: int = 80) -> str:
    """A table of measures in short: for each site how many units a column holds for, or its median (of circular
    quantities their circular mean); what it says.
    """
    from unitscope.analysis.measures import tables

    said = {column.name: column for column in tables()[name].columns}
    known = [column for column in said if not table[column].isna().all()]
    shown = [column for column in known if math.isfinite((said[column].range or (0, 1))[1])]
    headings: list[Column] = [("site", "<"), ("units", ">"), *((column.replace("_", " "), ">") for column in shown)]
    rows = []
    for site, units in table.groupby("site", sort=False):
        rows.append((str(site), str(len(units)), *(_in_short(units[column], said[column]) for column in shown)))
    if len(rows) > 1:
        rows.append(("all", str(len(table)), *(_in_short(table[column], said[column]) for column in shown)))
    legend = [
        f"{column.replace('_', ' ')}: {said[column].says} ({_condensed(table[column], said[column])})."
        for column in shown
    ]
    further = [column for column in known if column not in shown]
    legend += [f"{column.replace('_', ' ')}: {said[column].says} (in the table)." for column in further]
    empty = [column for column in said if column not in known]
    legend += [f"{column.replace('_', ' ')}: not known: the record does not hold what it needs." for column in empty]
    return "\n".join([_table_on_lines(headings, rows, width), "", *(paragraph(text, width=width) for text in legend)])


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
    told = (
        "Silent units, and why. at most: a bound from the weights that no response exceeds. of median: the norm of the "
        f"kernel over the median of the site.{more}"
    )
    return "\n".join([table(SILENT_UNITS, rows[:LISTED], width=width), "", paragraph(told, width=width)])


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
        rows = [_two_sided(str(site), of_site) for site, of_site in units.groupby("site", sort=False)]
        first = units.iloc[0]
        share = f"{100 * first['category_images'] / first['images']:.1f} %"
        head = f"{category}: {first['category_images']:,} of {first['images']:,} labeled images, {share}."
        head += _exchanged(units)
        text = table(TWO_SIDED, [*rows, _two_sided("all", units)], width=width)
        parts.append("\n".join([paragraph(head, width=width), "", text]))
    told = (
        "selective: selectivity of 0.65 or more (1: answers to the category only, 0.5: no difference). median: of "
        "selectivity. preferred, anti-, both: selective units whose highest, lowest and highest as well as lowest "
        "responses have more images of the category than as many other labels, drawn at random, would have (q < 0.05 "
        f"over all units). {name}.parquet holds further indices, and notes on units about which they disagree."
    )
    return "\n\n".join([*parts, paragraph(told, width=width)])


def _exchanged(units: pandas.DataFrame) -> str:
    """What chance may exchange, and whether it can be told from the category at all."""
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


def _two_sided(site: str, units: pandas.DataFrame) -> tuple[str, ...]:
    from unitscope.analysis.index_conflicts import SELECTIVE

    selective = units["selectivity"] >= SELECTIVE["selectivity"]
    high, low = (selective & (units[f"{pole}_q"] < 0.05) for pole in ("preferred", "antipreferred"))
    known, ends = units["selectivity"].notna().any(), units["antipreferred_share"].notna().any()
    counts = [selective.sum(), f"{units['selectivity'].median():.3f}", high.sum()] if known else ["", "", ""]
    return (site, str(len(units)), *map(str, counts), *(str(n.sum()) if ends else "" for n in (low, high & low)))


def _table_on_lines(headings: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> str:
    """A table whose headings are broken over several lines, a word a line. Columns for which there is no room stand in
    further tables below, each with the first two columns.
    """
    count = len(headings)
    while count > 3 and max(map(len, _broken(headings[:count], [row[:count] for row in rows], width))) > width:
        count -= 1
    lines = _broken(headings[:count], [row[:count] for row in rows], width)
    if count == len(headings):
        return "\n".join(lines)
    rest = [(*row[:2], *row[count:]) for row in rows]
    return "\n".join([*lines, "", _table_on_lines([*headings[:2], *headings[count:]], rest, width)])


def _broken(headings: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    words = [heading.split() for heading, _ in headings]
    height = max(map(len, words))
    top = [tuple(([""] * (height - len(w)) + w)[i] for w in words) for i in range(height)]
    columns = [(cell, side) for cell, (_, side) in zip(top[0], headings, strict=True)]
    return table(columns, [*top[1:], *rows], width=width).split("\n")


def _in_short(values: pandas.Series, measure: Measure) -> str:
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
    how = _condensed(values, measure)
    return (
        str(int(known.sum()))
        if how == "units"
        else known.mode()[0]
        if how == "most frequent"
        else f"{known.median():.3g}"
    )


def _condensed(values: pandas.Series, measure: Measure) -> str:
    """What `_in_short` makes of a column, in words."""
    known = values.dropna()
    if measure.period is not None:
        return "circular mean; in parentheses 1 where all are alike, 0 where they are spread evenly"
    if known.map(lambda value: isinstance(value, str)).any():
        return "most frequent"
    return "units" if known.map(lambda value: value is True or value is False).all() else "median"


OPTIMA: tuple[Column, ...] = (
    ("site", "<"), ("sought", ">"), ("field", ">"), ("start", ">"), ("median end", ">"), ("strongest", ">"),
    ("unmoved", ">"), ("ahead", ">"),
)  # fmt: skip


def optima_table(optima: Sequence[Optimum], scores: pandas.DataFrame | None = None, *, width: int = 80) -> str:
    """What was found, a line per site: responses at the start of the search and at its end, dead starts, and how many
    are ahead of the best natural stimulus.
    """
    sites: dict[str, list[Optimum]] = {}
    for one in optima:
        sites.setdefault(one.site, []).append(one)
    rows = []
    for site, group in sites.items():
        ends = sorted(float(value) for one in group for value in one.responses)
        begins = sorted(float(value) for one in group for value in one.history[:, 0])
        unmoved = sum(int((~one.moved).sum()) for one in group)
        box = group[0].box
        strongest = ends[-1] if ends[len(ends) // 2] >= begins[len(begins) // 2] else ends[0]
        numbers = [_number(n) for n in (begins[len(begins) // 2], ends[len(ends) // 2], strongest)]
        cells = (site, str(len(group)), square((box.height, box.width)), *numbers, str(unmoved))
        rows.append((*cells, _ahead(group, scores)))
    ways: dict[str, dict[str, None]] = {}
    for one in optima:
        if one.way != "cone":
            ways.setdefault(one.way, {})[one.site] = None
    notes = [f"Heard on the {way}: {few(names)}." for way, names in ways.items()]
    notes += [f"{one.objective}: {one.reason}." for one in [one for one in optima if one.reason][:1]]
    if any(row[-1] != "–" for row in rows):
        notes.append("Ahead: how many are answered more strongly than the best natural stimulus at the same contrast.")
    text = [table(OPTIMA, rows, width=width), *([""] if notes else [])]
    return "\n".join([*text, *(paragraph(note, width=width) for note in notes)])


def _ahead(optima: Sequence[Optimum], scores: pandas.DataFrame | None) -> str:
    """Of how many optima the best seed beats the best natural stimulus."""
    if scores is None:
        return "–"
    known = scores[scores.objective.isin([one.objective for one in optima]) & scores.beats_natural.notna()]
    best = known.groupby(["objective", "contrast"]).beats_natural.max().groupby("objective").max()
    return f"{int(best.sum())} of {len(best)}" if len(best) else "–"


PLACED: tuple[Column, ...] = (
    ("unit", "<"), ("field", ">"), ("off", ">"), ("within", ">"), ("across", ">"), ("specificity", ">"),
    ("95 % interval", ">"), ("p", ">"), ("kept", ">"),
)  # fmt: skip


def positions_table(studies: Sequence[Mapping[str, Any]], *, width: int = 80) -> str:
    """A line per unit: how alike its outcomes are within and across positions, and how far they carry over."""
    rows = []
    for facts in studies:
        numbers = [
            "–" if math.isnan(facts[name]) else f"{facts[name]:.2f}"
            for name in ("within", "across", "index", "low", "high", "p", "kept")
        ]
        within, across, index, low, high, _, kept = numbers
        p = "–" if math.isnan(facts["p"]) else f"{facts['p']:.3f}"
        off = f"{100 * facts['fall_off']:.0f} %"
        rows.append(
            (facts["unit"], f"{facts['field_ratio']:.2f}", off, within, across, index, f"{low} to {high}", p, kept)
        )
    note = (
        "field: its side over the picture's. off: the most of a field that lies off the picture. within, across: how "
        "alike outcomes of one position are, and of different ones, on what both see of the picture (correlation, "
        "blurred by half a stride). specificity: 0 where the position makes no difference, 1 where it decides. kept: "
        "the median share of the response that is left when an outcome is moved to another position."
    )
    return "\n".join([table(PLACED, rows, width=width), "", paragraph(note, width=width)])


def survey_facts(record: Record, *, width: int = 80) -> str:
    """What a survey found, in a sentence."""
    inactive = _columns(record, "units.parquet", ("inactive",))["inactive"]
    share = f"{100 * sum(inactive) / max(len(inactive), 1):.1f} %"
    facts = f"{record.facts['network']['name']}: {_several(len(inactive), 'unit')} at "
    facts += (
        f"{_several(len(record.sites), 'site')}; {sum(inactive):,} ({share}) never had a response above 0 to any of "
    )
    return paragraph(facts + _shown(record) + _way(record), width=width)


def _way(record: Record) -> str:
    """Why the network was read in the plain way; nothing where it was not."""
    calibration = record.facts.get("calibration")
    reason = calibration.get("reason") if isinstance(calibration, dict) else None
    return f" The network was read in the plain way, which takes longer: {reason}." if reason else ""


def _shown(record: Record) -> str:
    stimuli = record.facts["stimuli"]
    unreadable = stimuli.get("unreadable", 0)
    text = _several(stimuli["count"] - unreadable, "image")
    if unreadable:
        text += f" ({unreadable:,} more could not be read)"
    return text + (f" ({stimuli['note']})." if stimuli.get("note") else ".")


def _columns(record: Record, name: str, columns: Sequence[str]) -> dict[str, list[Any]]:
    import pyarrow.parquet

    return pyarrow.parquet.read_table(record.path / name, columns=list(columns)).to_pydict()


def _several(count: int, what: str) -> str:
    return f"{count:,} {what}" + "s" * (count != 1)


def report_table(report: Report, *, width: int = 80) -> str:
    """What a paper says and what we find, claim by claim."""
    lines = [paragraph(report.title, width=width), paragraph(report.circumstances, width=width)]
    for claim in report.claims:
        where = f" ({claim.where})" if claim.where else ""
        told = [f"{claim.what}{where}", f"  the paper says: {claim.paper}", f"  we find: {claim.found}"]
        told += [f"  {claim.verdict}"] if claim.verdict else []
        lines += ["", *(paragraph(line, width=width) for line in told)]
    return "\n".join([*lines, "", paragraph(report.conclusion, width=width)])


PERTURBED: tuple[Column, ...] = (
    ("what", "<"), ("which", "<"), ("path", "<"), ("units", ">"), ("change of loss", ">"), ("95 % interval", ">"),
    ("top-1, %", ">"), ("flips, %", ">"),
)  # fmt: skip


def perturbation_table(table: pandas.DataFrame, *, width: int = 80) -> str:
    """A line per condition: the change of loss with its interval over images, of accuracy, and flipped predictions."""
    first = table.iloc[0]
    chosen = table[table["target"] == "chosen"]
    head = (
        f"{_several(int(chosen['units'].max() if len(chosen) else first['units']), 'unit')} of {first['site']} "
        f"({first['chosen']}), {_several(int(first['images']), 'image')}; undisturbed the loss is {first['loss']:.4f}, "
        f"top-1 {100 * first['top1']:.1f} %. Random conditions: {_several(int(table['seeds'].max()), 'seed')}."
    )
    lines = []
    for target, rows in table.groupby("target", sort=False):
        title = "the chosen units" if target == "chosen" else "as many active units, drawn anew for each seed"
        lines += ["", title, _perturbed(rows, width)]
    foot = (
        "Changes are means over images of paired differences (float64), averaged over seeds; intervals are "
        f"over {', '.join(table['ci_over'].unique())}. A change whose interval holds 0 is none that could be seen."
    )
    return "\n".join([paragraph(head, width=width), *lines, "", paragraph(foot, width=width)])


def _perturbed(rows: pandas.DataFrame, width: int) -> str:
    cells = [
        (
            f"noise x {row.dose:g}" if row.what == "noise" else row.what,
            row.which,
            row.path,
            str(row.units),
            change_text(row.delta_loss),
            interval_text(row.ci_low, row.ci_high),
            f"{100 * row.delta_top1:+.2f}",
            f"{100 * row.flips:.1f}",
        )
        for row in rows.itertuples()
    ]
    return table(PERTURBED, cells, width=width)


def change_text(value: float) -> str:
    """A change with its sign: "+0.0123", "-1.7e-06", "0"."""
    return "0" if value == 0 else f"{value:+.4f}" if abs(value) >= 0.001 else f"{value:+.1e}"


def interval_text(low: float, high: float) -> str:
    """Both ends of an interval, or "unknown"."""
    return "unknown" if low != low or high != high else f"{change_text(low)} ... {change_text(high)}"


def epoch_line(row: Mapping[str, Any]) -> str:
    """A row of the training log, in words."""
    line = f"epoch {row['epoch']:>3}  loss {row['train_loss']:.3f}  top-1 {100 * row['train_top1']:5.1f} %"
    if "val_top1" in row:
        line += f"  | validation: loss {row['val_loss']:.3f}  top-1 {100 * row['val_top1']:5.1f} %"
    return line + f"  {row['images_per_second']:.0f}/s"


def between(size: Size, by: str = " x ") -> str:
    """Rows and columns: "56 x 56"."""
    return f"{size[0]}{by}{size[1]}"


def square(size: Size) -> str:
    """One number where rows and columns agree: "27", else "27x31"."""
    return str(size[0]) if size[0] == size[1] else between(size, "x")


def _brief(operation: str) -> str:
    """The operation's name, in twelve letters or fewer."""
    brief = re.sub(r"^adaptive_", "", operation).strip("_")
    return brief if len(brief) <= 12 else brief[:11] + "…"
