"""demo: the shipped pair of networks and the built-in photographs, from the survey to the atlas."""

from __future__ import annotations

from pathlib import Path

from unitscope.cli.atlas import opening_text
from unitscope.cli.common import progress_bars, resumable, terminal_width
from unitscope.cli.survey import survey_facts


def demo(*, to: Path = Path("unitscope-demo")) -> None:
    """All of it, on the shipped pair of networks and the built-in photographs: two records, one atlas.

    Args:
        to: The folder for records and atlas.
    """
    from unitscope.demo import demo as demonstrate
    from unitscope.record import open_record

    with (
        resumable(f"What was done so far is kept in {to}; the same command resumes."),
        progress_bars() as show_progress,
    ):
        page = demonstrate(to, progress=show_progress)
    for record in sorted((to / "records").iterdir()):
        print(f"{survey_facts(open_record(record), width=terminal_width())}\n")
    print(opening_text(page))
