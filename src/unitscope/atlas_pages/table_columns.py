"""The columns of a record's tables as the atlas shows them: a name, a meaning, a unit, and one value per unit."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

    from unitscope.analysis.measure_declarations import Measure


class Meaning(NamedTuple):
    """How a column introduces itself: its name, what it says, and in what unit."""

    name: str
    says: str
    unit: str = ""


MEANINGS = {
    "peak_max": Meaning("highest response", "the largest, of any position and photograph"),
    "peak_mean": Meaning("mean peak", "the largest on the lattice, over photographs"),
    "peak_sd": Meaning("spread of peaks", "standard deviation over photographs"),
    "not_finite_images": Meaning("not finite", "photographs with a response that is no number"),
    "trough_min": Meaning("lowest response", "the smallest, of any position and photograph"),
    "positive_images": Meaning("positive photographs", "with a response above 0 anywhere"),
    "inactive": Meaning("inactive", "never a response above 0, anywhere"),
    "mean_response": Meaning("mean response", "over all positions and photographs"),
    "mean_response_sd": Meaning("spread of means", "standard deviation over photographs of the mean on the lattice"),
    "positive_positions_share": Meaning("positive positions", "share of all positions with a response above 0"),
    "images": Meaning("photographs seen", "how many it was shown"),
    "field_height": Meaning("field height", "rows of the picture that a neuron sees", "px"),
    "field_width": Meaning("field width", "columns of the picture that a neuron sees", "px"),
    "orientation/preferred_orientation": Meaning(
        "preferred orientation", "of the bar, counterclockwise from horizontal", "degrees"
    ),
    "orientation/orientation_selectivity": Meaning(
        "orientation selectivity", "1 - circular variance: 0 all orientations alike, 1 one orientation only"
    ),
    "orientation/bandwidth": Meaning("orientation bandwidth", "half width of the tuning curve", "degrees"),
    "orientation/preferred_frequency": Meaning("preferred frequency", "spatial frequency", "cycles/pixel"),
    "orientation/f1_f0": Meaning("F1/F0", "modulation by the phase of a grating over the mean response"),
    "orientation/responsive": Meaning("responds to gratings", "whether gratings drive it at all"),
    "color/cone_l": Meaning("L cone weight", "weight of the long-wavelength cones", "share"),
    "color/cone_m": Meaning("M cone weight", "weight of the middle-wavelength cones", "share"),
    "color/cone_s": Meaning("S cone weight", "weight of the short-wavelength cones", "share"),
    "color/color_preference": Meaning("color preference", "response to color over response to luminance"),
    "color/opponency": Meaning("opponency", "none, single or double, in cones and in channels"),
    "sharing/skip_fraction": Meaning("skip fraction", "of what is added, how much came by the skip; 0: none, 1: all"),
    "sharing/similarity_through_block": Meaning(
        "like itself before", "correlation of responses with the same channel before the block"
    ),
    "sharing/similarity_of_branch": Meaning(
        "branch like skip", "correlation of what the branch adds with what skips it"
    ),
    "color/responsive": Meaning("responds to colors", "whether colored stimuli drive it at all"),
}

CATEGORY_COLUMNS = 6
"""For how many categories the measures become columns."""

SORTED_BY = ("selectivity", "preferred_share", "antipreferred_share", "dichotomy")
"""Of measures with a row per unit and category: those by which units are sorted."""


def describe_columns(record_path: Path, units: pd.DataFrame) -> tuple[pd.DataFrame, list[dict[str, str]]]:
    """The unit table with all measures that have one row per unit joined to it, and what to call its columns.

    Returns:
        The table, indexed by `unit`, and for each column its key, name, meaning, unit and kind: "number", "flag" or
        "text".
    """
    table = units.set_index("unit").drop(columns=["site", "channel"])
    for measures in _measures(record_path, len(table)):
        table = table.join(measures)
    return table, [_describe_column(key, table[key]) for key in table.columns]


def _measures(record_path: Path, count: int) -> list[pd.DataFrame]:
    """The tables in measures/ whose rows are units, with columns named TABLE/COLUMN."""
    import pandas as pd

    found = []
    for path in sorted((record_path / "measures").glob("*.parquet")):
        table = pd.read_parquet(path)
        if "unit" in table and table["unit"].is_unique and len(table) <= count:
            table = table.set_index("unit").drop(columns=["site", "channel"], errors="ignore")
            found.append(table.rename(columns=lambda name, stem=path.stem: f"{stem}/{name}"))
        elif {"unit", "category"} <= set(table):
            found.append(_by_category(table, path.stem))
    return found


def _by_category(table: pd.DataFrame, stem: str) -> pd.DataFrame:
    """A table with a row per unit and category as columns TABLE/COLUMN/CATEGORY: those one sorts by, of the first few
    categories.
    """
    import pandas as pd

    shown = {}
    for category, rows in list(table.groupby("category", sort=False))[:CATEGORY_COLUMNS]:
        for name in (name for name in SORTED_BY if name in rows):
            shown[f"{stem}/{name}/{category}"] = rows.set_index("unit")[name]
    return pd.DataFrame(shown)


def _describe_column(key: str, values: pd.Series[Any]) -> dict[str, str]:
    of, _, category = key.partition("/")[2].partition("/")
    declared = _declared_meanings().get(f"{key.partition('/')[0]}/{of}") if category else None
    if declared:
        return {
            "key": key,
            "name": f"{declared.name}: {category}",
            "says": declared.says,
            "unit": "",
            "kind": _kind(values),
        }
    meaning = (
        _declared_meanings().get(key) or MEANINGS.get(key) or Meaning(key.rpartition("/")[2].replace("_", " "), "")
    )
    return {"key": key, "name": meaning.name, "says": meaning.says, "unit": meaning.unit, "kind": _kind(values)}


def _declared_meanings() -> dict[str, Meaning]:
    """What the measures say of themselves, by TABLE/COLUMN."""
    from unitscope.analysis.measures import TABLES

    return {f"{table.name}/{measure.name}": _meaning(measure) for table in TABLES.values() for measure in table.columns}


def _meaning(measure: Measure) -> Meaning:
    if measure.range is None:
        return Meaning(measure.name.replace("_", " "), measure.says)
    ends = zip(measure.range, (measure.low, measure.high), strict=True)
    meant = ", ".join(f"{end:g}: {word}" for end, word in ends if word and math.isfinite(end))
    says = "; ".join(filter(None, [measure.says, meant]))
    return Meaning(measure.name.replace("_", " "), says)


def _kind(values: pd.Series[Any]) -> str:
    from pandas.api import types

    known = values.dropna()
    # Booleans with missing values are a column of objects.
    if types.is_bool_dtype(values) or (len(known) and known.map(lambda value: isinstance(value, bool)).all()):
        return "flag"
    return "number" if types.is_numeric_dtype(values) else "text"
