"""All tables of measures, and the function that makes those that a record's summaries allow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unitscope.analysis.activity import ACTIVITY
from unitscope.analysis.categories import Asked
from unitscope.analysis.color_table import COLOR
from unitscope.analysis.measure_declarations import Table
from unitscope.analysis.natural_indices import NATURAL
from unitscope.analysis.orientation import ORIENTATION
from unitscope.analysis.profile_tables import PROFILES
from unitscope.analysis.selectivity import SELECTIVITY, Pool, selectivity
from unitscope.analysis.sharing_measures import SHARING
from unitscope.durable import lock_folder, write_table
from unitscope.record import Record, open_record

if TYPE_CHECKING:
    import pandas
    from numpy.typing import ArrayLike


TABLES: Mapping[str, Table] = {
    table.name: table for table in (ACTIVITY, ORIENTATION, COLOR, NATURAL, *PROFILES, SELECTIVITY, SHARING)
}
"""Every table by its name, in the order in which the tables are made and shown."""


def measure(
    record: Record | str | Path, *, categories: Asked | Iterable[Asked] = (), pool: Pool = "max"
) -> dict[str, pandas.DataFrame]:
    """Make every table of measures that the record's summaries allow, and write the tables to `measures/`.

    Args:
        record: a record or its folder.
        categories: categories of labels, for which the table "selectivity" is made (see
            `analysis.categories.categories_of`).
        pool: which response of a map counts for a category: "max", "mean" or "min".

    Returns:
        Tables by name: columns `unit`, `site`, `channel`, and one column a measure. What is undefined is null.

    Raises:
        BadInput: there is no record, or a category is none of the record's labels.

    Example:
        >>> tables = unitscope.measure(record)
        >>> sorted(tables)
        ['activity', 'kernel']
        >>> tables["activity"][["site", "channel", "never_positive"]].head(1)
              site  channel  never_positive
        0  maxpool        0           False
    """
    record = open_record(record) if not isinstance(record, Record) else record
    made = {}
    for name, table in TABLES.items():
        values = table.make(record) if table.make else None
        if values is not None:
            write_measures(record, name, values)
            made[name] = values
    if categories := [categories] if isinstance(categories, str | Path) else categories:
        made["selectivity"] = selectivity(record, categories, pool=pool)
        write_measures(record, "selectivity", made["selectivity"])
    return made


def write_measures(record: Record, name: str, values: pandas.DataFrame) -> None:
    """Write one table to the record's `measures/NAME.parquet`."""
    import pyarrow

    columns = pyarrow.Table.from_pandas(values, preserve_index=False)
    with lock_folder(record.path):
        write_table(record.path / "measures" / f"{name}.parquet", columns.replace_schema_metadata(None))


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
