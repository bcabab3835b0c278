"""measure: what a record's summaries allow to be said of its units."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from unitscope.text_tables import measure_table, selectivity_table, silent_table
from unitscope.verbs.manners import columns
from unitscope.verbs.scripts import measure_facts, tell


def measure(
    record: Path,
    /,
    *,
    categories: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    pool: Literal["max", "mean", "min"] = "max",
    json: bool = False,
) -> None:
    """Make all measures that a record's summaries allow, and keep them in it as tables.

    Neither the network nor the images are needed.

    Args:
        record: A folder that a survey left.
        categories: What units may be selective for: labels, groups of ImageNet's classes such as dogs, CSV files with
            the columns category and label (or uri), or "labels" for each label by itself.
        pool: Which response of a map counts for that. mean and min need a survey with --responses.
        json: Tell in short what the tables hold as JSON, for scripts.
    """
    from unitscope.analysis.measures import measure as measure_record

    made = measure_record(record, categories=categories or (), pool=pool)
    if json:
        tell(measure_facts(record, made))
        return
    for name, table in made.items():
        show = selectivity_table if name == "selectivity" else measure_table
        print(show(name, table, width=columns()))
        silent = silent_table(name, table, width=columns()) if name == "activity" else ""
        if silent:
            print(f"\n{silent}")
        print(f"\nThe table is {record / 'measures' / f'{name}.parquet'}.")
