"""measure: what a record's summaries allow to be said of its units."""

from __future__ import annotations

from pathlib import Path

from unitscope.terminal import measure_table
from unitscope.verbs.manners import columns


def measure(record: Path, /) -> None:
    """Make all measures that a record's summaries allow, and keep them in it as tables.

    Neither the network nor the images are needed.

    Args:
        record: A folder that a survey left.
    """
    from unitscope.analysis.measures import measure as measure_record

    for name, table in measure_record(record).items():
        print(measure_table(name, table, width=columns()))
        print(f"\nThe table is {record / 'measures' / f'{name}.parquet'}.")
