"""Which units never answer, hardly answer, or only with rounding noise (methods 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from unitscope.analysis.measures import Measure, Table
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

    `certified_dead` (L3) is a proof from the weights, which a record does not hold: null, that is not proven.
    """
    import pandas

    units = record.units()
    shown = units["images"] > 0
    median = units.groupby("site", sort=False)["peak_max"].transform("median")
    levels = {
        "never_positive": units["positive_images"] == 0,
        "numerically_dead": units["peak_max"] <= DEAD_SHARE * median.clip(lower=0),
        "rarely_active": units["positive_positions_share"] < RARE,
    }
    table = units[["unit", "site", "channel"]].copy()
    for name, level in levels.items():
        table[name] = level.astype("boolean").where(shown)
    table["certified_dead"] = pandas.array([None] * len(units), dtype="boolean")
    table["positive_share"] = np.where(shown, units["positive_images"] / units["images"].clip(lower=1), np.nan)
    table["firing_rate"] = units["positive_positions_share"]
    return table


LEVELS = (
    ("never_positive", "no response above zero at any position of any image (L0)", "never answers", "kobayashi2020"),
    ("numerically_dead", "highest response at most a millionth of its site's median (L1)", "rounding noise", ""),
    ("rarely_active", "above zero at fewer than 1 in 10,000 positions (L2)", "hardly answers", ""),
    ("certified_dead", "proven from the weights that no picture can activate it (L3)", "proven", ""),
)
SHARES = (
    ("positive_share", "share of images with a response above zero", "for every image"),
    ("firing_rate", "share of positions, over all images, with a response above zero", "always, everywhere"),
)
ACTIVITY = Table(
    "activity",
    activity,
    (
        *(Measure(name, says, None, "not so", high, source) for name, says, high, source in LEVELS),
        *(Measure(name, says, (0, 1), "never", high, "") for name, says, high in SHARES),
    ),
)
