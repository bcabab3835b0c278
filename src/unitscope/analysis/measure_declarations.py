"""What a measure says of itself: its range, what its ends mean, its source.

Each table of measures is declared beside the function that makes it (`ACTIVITY` in `activity.py`), once; the command
line, the atlas's legends and the documentation read the declarations. `measures.py` knows all tables.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unitscope.record import Record

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Measure:
    """One number per unit that condenses responses: what its smallest and largest value mean, and where it is from.

    Tables, the atlas's legends and the docs read it from here. `range` is None for a yes or no,
    `source` the key of docs/references.bib, or empty where the definition is ours. Of a circular quantity, such as an
    orientation, `period` is after how much it is the same again; it has no median, since 1 and 179 degrees are close.
    """

    name: str
    says: str
    range: tuple[float, float] | None
    low: str
    high: str
    source: str
    period: float | None = None


@dataclass(frozen=True)
class Table:
    """A table of measures, `measures/NAME.parquet`: how it is made of a record, and what its columns say."""

    name: str
    make: Callable[[Record], pandas.DataFrame | None] | None
    "Gives None where the record lacks what it is made of. No function where a record alone never gives the table."
    columns: tuple[Measure, ...]


def ends_of(name: str, span: tuple[float, float], low: str, high: str, *, over: str = "redrawn phases"
            ) -> tuple[Measure, Measure]:  # fmt: skip
    """Both ends of a measure's interval, as measures `name`_low and `name`_high."""
    return (
        Measure(f"{name}_low", f"lower end of its 95 % interval over {over}", span, low, high, ""),
        Measure(f"{name}_high", f"upper end of its 95 % interval over {over}", span, low, high, ""),
    )
