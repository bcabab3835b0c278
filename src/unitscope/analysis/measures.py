"""What a measure says of itself, and the verb that writes all measures that a record's summaries allow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unitscope.record import Record, open_record, write_table

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Measure:
    """One number per unit that condenses responses: what its smallest and largest value mean, and where it is from.

    Tables, the atlas's legends and the docs read it from here. `range` is None for a yes or no,
    `source` the key of docs/references.bib, or empty where the definition is ours.
    """

    name: str
    says: str
    range: tuple[float, float] | None
    low: str
    high: str
    source: str


@dataclass(frozen=True)
class Table:
    """A table of measures, `measures/NAME.parquet`: how it is made of a record, and what its columns say."""

    name: str
    make: Callable[[Record], pandas.DataFrame | None]
    "Gives None where the record lacks what it is made of."
    columns: tuple[Measure, ...]


def measure(record: Record | str | Path) -> dict[str, pandas.DataFrame]:
    """Make every table of measures that the record's summaries allow, write it to `measures/`, and return them by
    name.

    Raises BadInput where there is no record.
    """
    record = open_record(record) if not isinstance(record, Record) else record
    made = {}
    for name, table in tables().items():
        values = table.make(record)
        if values is not None:
            write_measures(record, name, values)
            made[name] = values
    return made


def write_measures(record: Record, name: str, values: pandas.DataFrame) -> None:
    """Write one table to the record's `measures/NAME.parquet`."""
    import pyarrow

    columns = pyarrow.Table.from_pandas(values, preserve_index=False)
    write_table(record.path / "measures" / f"{name}.parquet", columns.replace_schema_metadata(None))


def tables() -> Mapping[str, Table]:
    """All tables of measures that can be made of a record alone."""
    from unitscope.analysis.activity import ACTIVITY
    from unitscope.analysis.opponency import COLOR
    from unitscope.analysis.orientation import ORIENTATION

    return {table.name: table for table in (ACTIVITY, ORIENTATION, COLOR)}
