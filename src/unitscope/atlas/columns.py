"""The columns of a record's tables as the atlas shows them: a name, a meaning, a unit, and one value per unit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pandas as pd


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
    "images": Meaning("photographs seen", "how many it was shown"),
    "field_height": Meaning("field height", "rows of the picture that a neuron sees", "px"),
    "field_width": Meaning("field width", "columns of the picture that a neuron sees", "px"),
    "activity/never_positive": Meaning("never positive", "no response above 0 was observed"),
    "activity/numerically_dead": Meaning("numerically dead", "no response above what rounding can produce"),
    "activity/rarely_active": Meaning("rarely active", "active for a very small share of photographs"),
    "activity/certified_dead": Meaning("certified dead", "no picture at all can drive it: proved by bounds"),
    "activity/positive_share": Meaning("positive share", "share of photographs with a response above 0", "0 to 1"),
    "orientation/preferred_orientation": Meaning(
        "preferred orientation", "of the bar, counterclockwise from horizontal", "degrees"
    ),
    "orientation/orientation_selectivity": Meaning(
        "orientation selectivity", "1 - circular variance: 0 all orientations alike, 1 one orientation only", "0 to 1"
    ),
    "orientation/bandwidth": Meaning("orientation bandwidth", "half width of the tuning curve", "degrees"),
    "orientation/preferred_frequency": Meaning("preferred frequency", "spatial frequency", "cycles/pixel"),
    "orientation/f1_f0": Meaning("F1/F0", "modulation by the phase of a grating: above 1 simple, below 1 complex"),
    "orientation/responsive": Meaning("responds to gratings", "whether gratings drive it at all"),
    "color/cone_l": Meaning("L cone weight", "weight of the long-wavelength cones", "share"),
    "color/cone_m": Meaning("M cone weight", "weight of the middle-wavelength cones", "share"),
    "color/cone_s": Meaning("S cone weight", "weight of the short-wavelength cones", "share"),
    "color/color_preference": Meaning("color preference", "response to color over response to luminance"),
    "color/opponency": Meaning("opponency", "none, single or double"),
    "color/responsive": Meaning("responds to colors", "whether colored stimuli drive it at all"),
}


def describe(record_path: Path, units: pd.DataFrame) -> tuple[pd.DataFrame, list[dict[str, str]]]:
    """The unit table with all measures that have one row per unit joined to it, and what to call its columns.

    Returns:
        The table, indexed by `unit`, and for each column its key, name, meaning, unit and kind: "number", "flag" or
        "text".
    """
    table = units.set_index("unit").drop(columns=["site", "channel"])
    for measures in _measures(record_path, len(table)):
        table = table.join(measures)
    return table, [_described(key, table[key]) for key in table.columns]


def _measures(record_path: Path, count: int) -> list[pd.DataFrame]:
    """The tables in measures/ whose rows are units, with columns named TABLE/COLUMN."""
    import pandas as pd

    found = []
    for path in sorted((record_path / "measures").glob("*.parquet")):
        table = pd.read_parquet(path)
        if "unit" in table and table["unit"].is_unique and len(table) <= count:
            table = table.set_index("unit").drop(columns=["site", "channel"], errors="ignore")
            found.append(table.rename(columns=lambda name, stem=path.stem: f"{stem}/{name}"))
    return found


def _described(key: str, values: pd.Series[Any]) -> dict[str, str]:
    plain = key.rpartition("/")[2].replace("_", " ")
    meaning = MEANINGS.get(key, Meaning(plain, ""))
    return {"key": key, "name": meaning.name, "says": meaning.says, "unit": meaning.unit, "kind": _kind(values)}


def _kind(values: pd.Series[Any]) -> str:
    from pandas.api import types

    known = values.dropna()
    if types.is_bool_dtype(values) or (len(known) and known.map(lambda value: isinstance(value, bool)).all()):
        return "flag"
    return "number" if types.is_numeric_dtype(values) else "text"
