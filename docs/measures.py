"""Writes docs/reference/measures.md from what measures say of themselves. A test compares."""

from __future__ import annotations

import math
from pathlib import Path

from unitscope.analysis.measure_declarations import Measure, Table
from unitscope.analysis.measures import TABLES

PAGE = Path(__file__).parent / "reference" / "measures.md"

HEAD = """# Measures

A measure condenses a unit's responses into one number. Measures are tables in a record's `measures/` folder:
`NAME.parquet`, with the columns `unit`, `site`, `channel` and those below. Undefined is null. The atlas shows them, and
sorts units by them. Sources are in [](../references.md); where none is given, the definition is ours. This page is
written from the code (`docs/measures.py`).
"""

FROM = {
    "activity": "Written by `unitscope measure`.",
    "orientation": "Written by `unitscope tuning`: responses to gratings.",
    "color": "Written by `unitscope tuning`: responses to colors.",
    "natural": "Written by `unitscope tuning`: preferred patches shown again in gray, turned and mirrored.",
    "kernel": "Written by `unitscope measure`: first-layer kernels as pictures.",
    "virtual_filter": "Written by `unitscope measure` after `unitscope filters`: virtual filters as pictures.",
    "mean_stimulus": "Written by `unitscope measure`: mean preferred stimuli as pictures.",
    "optimum": "Written by `unitscope measure` after `unitscope maximize`: optimal stimuli as pictures.",
    "selectivity": "Written by `unitscope measure --categories`: a row per unit and category (`category`).",
    "sharing": "Written by `unitscope sharing`: a row per unit at a sum behind a skip.",
}
"""Where a table comes from."""


def page() -> str:
    return "\n".join([HEAD, *(_section(table) for table in TABLES.values())])


def _section(table: Table) -> str:
    rows = [_row(measure) for measure in table.columns]
    head = ["| column | says | range | low | high | source |", "|---|---|---|---|---|---|"]
    return "\n".join(
        [f"## {table.name}", "", FROM.get(table.name, "Written by `unitscope measure`."), "", *head, *rows, ""]
    )


def _row(measure: Measure) -> str:
    cells = (f"`{measure.name}`", measure.says, _range(measure), measure.low, measure.high, measure.source)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _range(measure: Measure) -> str:
    if measure.range is None:
        return "yes or no" if measure.low else "a word"
    return " to ".join(f"{end:g}" if math.isfinite(end) else "any" for end in measure.range)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
