"""Which units never answer, hardly answer, or only with rounding noise (methods 5).

L0  never_positive     no response above zero in the images shown
L1  numerically_dead   responses that are rounding noise beside those of the site
L2  rarely_active      above zero at fewer than 1 in 10,000 positions
L3  certified_dead     no picture at all can activate the unit: proven from the weights, for any image
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from unitscope.analysis.measure_declarations import Measure, Table
from unitscope.errors import UnknownName
from unitscope.record import Record

if TYPE_CHECKING:
    import pandas

DEAD_SHARE = 1e-6
"""A unit is numerically dead where its highest response is at most this share of its site's median."""

RARE = 1e-4
"""A unit is rarely active where it is above zero at fewer than this share of (image, position) pairs."""


def activity(record: Record) -> pandas.DataFrame:
    """A row per unit: the levels of inactivity L0 to L2 over the record's images; null for units that were shown
    nothing.

    `certified_dead` (L3) is proven where the survey found a bound from the weights (`highest_possible`) that is at most
    0; false is not proven, and null is what a record of an earlier version does not know. Why: `kernel_norm`, `gain`
    and `offset`.
    """
    import pandas

    units = record.units()
    shown = units["images"] > 0
    median = units.groupby("site", sort=False)["peak_max"].transform("median")
    levels = {
        "never_positive": units["positive_images"] == 0,
        # A site's median may be below 0: then only units that never rise above 0 count.
        "numerically_dead": units["peak_max"] <= DEAD_SHARE * median.clip(lower=0),
        "rarely_active": units["positive_positions_share"] < RARE,
    }
    table = units[["unit", "site", "channel"]].copy()
    for name, level in levels.items():
        table[name] = level.astype("boolean").where(shown)
    weights = {name: of_weights(record, name) for name, *_ in WEIGHTS}
    highest = weights["highest_possible"]
    known = np.full(len(units), highest is not None)
    dead = np.zeros(len(units), dtype=bool) if highest is None else highest <= 0
    table["certified_dead"] = pandas.Series(dead).astype("boolean").where(known).to_numpy()
    table["positive_share"] = np.where(shown, units["positive_images"] / units["images"].clip(lower=1), np.nan)
    table["firing_rate"] = units["positive_positions_share"]
    for name, values in weights.items():
        table[name] = np.nan if values is None else values.astype(np.float64)
    return table


def of_weights(record: Record, name: str) -> np.ndarray | None:
    """What the survey kept of the weights, per unit; None in a record that does not hold it."""
    try:
        return np.asarray(record.array(name)[...])
    except UnknownName:
        return None


LEVELS = (
    ("never_positive", "no response above zero at any position of any image (L0)", "never answers", "kobayashi2020"),
    ("numerically_dead", "highest response at most a millionth of its site's median (L1)", "rounding noise", ""),
    ("rarely_active", "above zero at fewer than 1 in 10,000 positions (L2)", "hardly answers", ""),
    ("certified_dead", "proven from the weights that no picture can activate it (L3); else not proven", "proven", ""),
)
SHARES = (
    ("positive_share", "share of images with a response above zero", "for every image"),
    ("firing_rate", "share of positions, over all images, with a response above zero", "always, everywhere"),
)
WEIGHTS = (
    (
        "highest_possible",
        "a bound from the weights that no response exceeds",
        (-math.inf, math.inf),
        "dead where at most 0",
    ),
    ("kernel_norm", "Euclidean norm of the unit's kernel", (0, math.inf), "no kernel"),
    ("gain", "gain of the unit's batch normalization", (-math.inf, math.inf), ""),
    ("offset", "offset of the unit's batch normalization, else of its convolution", (-math.inf, math.inf), ""),
)
ACTIVITY = Table(
    "activity",
    activity,
    (
        *(Measure(name, says, None, "not so", high, source) for name, says, high, source in LEVELS),
        *(Measure(name, says, (0, 1), "never", high, "") for name, says, high in SHARES),
        *(Measure(name, says, ends, low, "", "") for name, says, ends, low in WEIGHTS),
    ),
)
