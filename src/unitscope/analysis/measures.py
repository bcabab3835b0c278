"""What a measure says of itself, and the verb that writes all measures that a record's summaries allow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unitscope.durable import lock_folder, write_table
from unitscope.record import Record, open_record

if TYPE_CHECKING:
    import pandas
    from numpy.typing import ArrayLike

    from unitscope.analysis.categories import Asked
    from unitscope.analysis.selectivity import Pool


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
    make: Callable[[Record], pandas.DataFrame | None]
    "Gives None where the record lacks what it is made of."
    columns: tuple[Measure, ...]


def circular_mean(values: ArrayLike, period: float) -> tuple[float, float]:
    """The mean of a circular quantity, 0 to `period`, and how far values agree on it: the length of the mean of their
    unit vectors, 1 where all are alike, 0 where they are spread evenly (then the mean is NaN). NaN and NaN of nothing.
    """
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    if not len(known):
        return float("nan"), float("nan")
    mean = np.exp(2j * np.pi * known / period).mean()
    length = float(abs(mean))
    return float(np.angle(mean) / (2 * np.pi) * period % period) if length > 1e-9 else float("nan"), length


def ends_of(name: str, span: tuple[float, float], low: str, high: str, *, over: str = "redrawn phases"
            ) -> tuple[Measure, Measure]:  # fmt: skip
    """Both ends of a measure's interval, as measures `name`_low and `name`_high."""
    return (
        Measure(f"{name}_low", f"lower end of its 95 % interval over {over}", span, low, high, ""),
        Measure(f"{name}_high", f"upper end of its 95 % interval over {over}", span, low, high, ""),
    )


def measure(
    record: Record | str | Path, *, categories: Asked | Iterable[Asked] = (), pool: Pool = "max"
) -> dict[str, pandas.DataFrame]:
    """Make every table of measures that the record's summaries allow, write it to `measures/`, and return them by
    name.

    With `categories` (see `analysis.categories.categories_of`) also how selective units are for these, with `pool` of
    the map's maximum, mean or minimum. Raises BadInput where there is no record, and for what is no category of it.
    """
    record = open_record(record) if not isinstance(record, Record) else record
    made = {}
    for name, table in tables().items():
        values = table.make(record)
        if values is not None:
            write_measures(record, name, values)
            made[name] = values
    if categories := [categories] if isinstance(categories, str | Path) else categories:
        from unitscope.analysis.selectivity import selectivity

        made["selectivity"] = selectivity(record, categories, pool=pool)
        write_measures(record, "selectivity", made["selectivity"])
    return made


def write_measures(record: Record, name: str, values: pandas.DataFrame) -> None:
    """Write one table to the record's `measures/NAME.parquet`."""
    import pyarrow

    columns = pyarrow.Table.from_pandas(values, preserve_index=False)
    with lock_folder(record.path):
        write_table(record.path / "measures" / f"{name}.parquet", columns.replace_schema_metadata(None))


def tables() -> Mapping[str, Table]:
    """All tables of measures; those that a record alone does not give have a `make` that gives None."""
    from unitscope.analysis.activity import ACTIVITY
    from unitscope.analysis.color_measures import COLOR
    from unitscope.analysis.natural_indices import NATURAL
    from unitscope.analysis.orientation import ORIENTATION
    from unitscope.analysis.profile_tables import PROFILES
    from unitscope.analysis.selectivity_measures import SELECTIVITY
    from unitscope.analysis.sharing_measures import SHARING

    return {table.name: table for table in (ACTIVITY, ORIENTATION, COLOR, NATURAL, *PROFILES, SELECTIVITY, SHARING)}
