"""How many units are selective for orientation, prefer color, or are opponent: by several definitions side by side,
with intervals, and beside untrained networks of the same shape. For how many units a claim holds depends on its
definition.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unitscope.durable import read_table
from unitscope.errors import BadInput
from unitscope.record import Record, open_record

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Definition:
    """One meaning of a claim: of which `table`, and which of its responsive units are so, a boolean per unit.

    It is given the units and the untrained units of the same site (None where there are none); null where this is
    not known.
    """

    claim: str
    says: str
    table: str
    of: Callable[[pandas.DataFrame, pandas.DataFrame | None], pandas.Series]


def _sharper_than_untrained(units: pandas.DataFrame, null: pandas.DataFrame | None) -> pandas.Series:
    if null is None:
        return units["orientation_selectivity"] * np.nan
    return units["orientation_selectivity"] > null["orientation_selectivity"].quantile(0.95)


DEFINITIONS = (
    Definition("orientation", "1 - CV above 0.4", "orientation", lambda t, _: t["orientation_selectivity"] > 0.4),
    Definition("orientation", "orthogonal below half of best", "orientation", lambda t, _: t["orthogonal_ratio"] < 0.5),
    # Where the curve never falls that low, the width is null. NaN < 45 is false, so such a unit does not count.
    Definition("orientation", "half width below 45 deg", "orientation", lambda t, _: t["bandwidth"] < 45),
    Definition("orientation", "1 - CV beyond 95 % of untrained", "orientation", _sharper_than_untrained),
    Definition("color", "over 2, equal cone contrast", "color", lambda t, _: t["color_preference"] > 2),
    Definition("color", "over 2, equal pixel change", "color", lambda t, _: t["channel_preference"] > 2),
    Definition("color", "over 1, equal pixel change", "color", lambda t, _: t["channel_preference"] > 1),
    Definition("single-opponent", "cones and channels", "color", lambda t, _: t["opponency"] == "single"),
    Definition("single-opponent", "cones alone", "color", lambda t, _: t["cone_opponency"] == "single"),
    Definition("single-opponent", "channels alone", "color", lambda t, _: t["channel_opponency"] == "single"),
    Definition("double-opponent", "cones and channels", "color", lambda t, _: t["opponency"] == "double"),
    Definition("double-opponent", "cones alone", "color", lambda t, _: t["cone_opponency"] == "double"),
    Definition("double-opponent", "channels alone", "color", lambda t, _: t["channel_opponency"] == "double"),
    Definition("double-opponent", "center and surround", "color", lambda t, _: t["center_surround"].astype(bool)),
    Definition("double-opponent", "harris2020", "color", lambda t, _: t["opponency_harris"] == "double"),
)


def shares(record: Record | str | Path) -> pandas.DataFrame:
    """A row per site and definition: `site`, `claim`, `definition`, `units` that respond, `of` all, the `share` of
    those that respond, its 95 % interval `low` to `high`, and of untrained networks `untrained_units`,
    `untrained`, `untrained_low`, `untrained_high` (NaN where none was shown the same).

    Raises BadInput where the record holds no tuning, or one that an earlier version measured.
    """
    import pandas

    record = record if isinstance(record, Record) else open_record(record)
    tables = {name: _tables(record, name) for name in ("orientation", "color")}
    if any(table is not None and "cone_opponency" not in table for table in tables["color"]):
        raise BadInput(
            f"colors in {record.path} were measured by an earlier version, which called gray units opponent; "
            "repeat the command `unitscope tuning` that made it: responses are kept, measures are made anew."
        )
    rows = []
    for site in record.sites:
        for one in DEFINITIONS:
            own, null = (_responsive(table, site) for table in tables[one.table])
            if own is not None and len(own[0]):
                rows.append({"site": site, "claim": one.claim, "definition": one.says, **_row(one, own, null)})
    if not rows:
        raise BadInput(f"the record {record.path} holds no tuning; `unitscope tuning MODEL --record` adds it.")
    return pandas.DataFrame(rows)


def _tables(record: Record, name: str) -> tuple[pandas.DataFrame | None, pandas.DataFrame | None]:
    paths = record.path / "measures" / f"{name}.parquet", record.path / "tuning" / f"null-{name}.parquet"
    own, null = (read_table(path).to_pandas() if path.exists() else None for path in paths)
    return own, null


def _responsive(table: pandas.DataFrame | None, site: str) -> tuple[pandas.DataFrame, int] | None:
    """The responsive units of a site, and how many there are in all."""
    if table is None:
        return None
    here = table[table["site"] == site]
    return (here[here["responsive"].astype(bool)], len(here)) if len(here) else None


def _row(
    one: Definition, own: tuple[pandas.DataFrame, int], null: tuple[pandas.DataFrame, int] | None
) -> dict[str, float]:
    blank = None if null is None else null[0]
    units, every = own
    share, low, high, count = _share(one.of(units, blank))
    nothing = (np.nan, np.nan, np.nan, 0)
    others = nothing if blank is None or not len(blank) else _share(one.of(blank, blank))
    names = ("untrained", "untrained_low", "untrained_high", "untrained_units")
    return {
        "units": count,
        "of": every,
        "share": share,
        "low": low,
        "high": high,
        **dict(zip(names, others, strict=True)),
    }


def _share(answers: pandas.Series) -> tuple[float, float, float, int]:
    known = answers.dropna().astype(float)
    if not len(known):
        return np.nan, np.nan, np.nan, 0
    return (*wilson(float(known.sum()), len(known)), len(known))


def wilson(hits: float, count: int, *, z: float = 1.959964) -> tuple[float, float, float]:
    """A share and its 95 % interval. Source: wilson1927."""
    share = hits / count
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    return share, max(0.0, float(middle - half)), min(1.0, float(middle + half))


def shares_text(table: pandas.DataFrame) -> str:
    """The table as text: share, interval and untrained share in per cent."""
    lines = [f"{'site':<24}{'claim':<17}{'definition':<33}{'n':>4}{'share':>7}{'95 %':>10}{'untrained':>20}"]
    for row in table.itertuples():
        ends = f"{100 * row.low:.0f}-{100 * row.high:.0f}"
        other = "-" if not row.untrained_units else (
            f"{100 * row.untrained:.0f} ({100 * row.untrained_low:.0f}-{100 * row.untrained_high:.0f}), "
            f"n {row.untrained_units}"
        )  # fmt: skip
        lines.append(
            f"{row.site:<24}{row.claim:<17}{row.definition:<33}{row.units:>4}{100 * row.share:>7.0f}{ends:>10}"
            f"{other:>20}"
        )
    return "\n".join(lines)
