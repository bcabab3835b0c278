"""positions: does it matter where on the lattice a neuron is?"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from unitscope.cli.common import Several, progress_bars, require_package, resumable, terminal_width
from unitscope.cli.options import DEFAULT_MODEL, ModelOptions, choose_device, open_network
from unitscope.cli.text_tables import Column, paragraph, table
from unitscope.errors import BadInput
from unitscope.option_groups import PositionSearchOptions

if TYPE_CHECKING:
    from unitscope.vocabulary import Size

SEARCH = PositionSearchOptions()


def positions(
    model: str,
    units: list[str],
    /,
    *,
    to: Path,
    grid: str = "3x3",
    inside: bool = False,
    at: Several[str] = None,
    recipe: str = "zipser2015",
    pole: Literal["preferred", "antipreferred"] = "preferred",
    search: PositionSearchOptions = SEARCH,
    device: str = "auto",
    options: ModelOptions = DEFAULT_MODEL,
) -> None:
    """Find optimal stimuli of units at several positions, several outcomes each, and tell how alike they are.

    Tells whether outcomes of one position are more alike than those of different positions (with a permutation test),
    and how much of the response is kept when an outcome is moved to another position. The folder gets the optimal
    stimuli, and for each unit a figure (positions in rows, outcomes in columns) and a table of all pairs of positions.

    Args:
        model: What `unitscope sites` takes.
        units: layer1.0.relu:18, layer4.*:3-5.
        to: A folder, or the record of this network. The same command resumes a study that was interrupted.
        grid: Rows x columns of positions, spread evenly over the lattice, border included.
        inside: Spread the grid's positions without the border.
        at: Positions in place of a grid: 0,0 3,3.
        recipe: zipser2015, or another one of maximize's.
        pole: preferred or antipreferred.
        device: auto, cpu, cuda or cuda:1.
    """
    from unitscope.durable import whole_file, write_file
    from unitscope.synthesis.maximize import group_by_site
    from unitscope.synthesis.position_study import positions

    require_package("matplotlib", extra="analysis")
    spread, places = parse_grid(grid), None if at is None else [parse_position(text) for text in at]
    network = open_network(model, options).to(choose_device(device))
    asked = [one.terms[0].unit for group in group_by_site(network, units).values() for one in group]
    found = []
    with (
        resumable(f"What was found so far is kept in {to}; the same command resumes."),
        progress_bars() as show_progress,
    ):
        for unit in asked:
            study = positions(
                network, unit, spread, border=not inside, at=places, recipe=recipe, pole=pole, **vars(search), to=to,
                progress=lambda done, total, unit=unit: show_progress(str(unit), done, total),  # type: ignore[misc]
            )  # fmt: skip
            folder = to / "positions" / f"{recipe}-{pole}"
            stem = str(folder / f"{unit.site}-{unit.channel}")
            with whole_file(Path(f"{stem}.png")) as new:
                study.figure().savefig(new, dpi=150, format="png")
            write_file(Path(f"{stem}.csv"), study.table().to_csv(index=False).encode())
            found.append(study.facts())
    print(positions_table(found, width=terminal_width()))
    print(f"\nFigures and tables of all pairs are in {to / 'positions'}.")
    if all(row["positions"] < 2 or search.seeds < 2 for row in found):
        print(paragraph("An index needs at least two positions and two seeds.", width=terminal_width()))


def parse_grid(text: str) -> Size:
    """Understand "3x4"; "3" is 3x3. Raises BadInput."""
    found = re.fullmatch(r"\s*(\d+)\s*(?:[xX]\s*(\d+))?\s*", text)
    if found is None:
        raise BadInput(f"--grid was {text!r}; expected rows x columns of positions, such as 3x3.")
    return int(found[1]), int(found[2] or found[1])


def parse_position(text: str) -> Size:
    """Understand "28,28". Raises BadInput."""
    found = re.fullmatch(r"\s*(\d+)\s*,\s*(\d+)\s*", text)
    if found is None:
        raise BadInput(f"--at was {text!r}; expected positions ROW,COL, such as --at 0,0 28,28.")
    return int(found[1]), int(found[2])


PLACED: tuple[Column, ...] = (
    ("unit", "<"), ("field", ">"), ("off", ">"), ("within", ">"), ("across", ">"), ("specificity", ">"),
    ("95 % interval", ">"), ("p", ">"), ("kept", ">"),
)  # fmt: skip


def positions_table(studies: Sequence[Mapping[str, Any]], *, width: int = 80) -> str:
    """A line per unit: how alike its outcomes are within and across positions, and how far they carry over."""
    rows = []
    for facts in studies:
        numbers = [
            "–" if math.isnan(facts[name]) else f"{facts[name]:.2f}"
            for name in ("within", "across", "index", "low", "high", "p", "kept")
        ]
        within, across, index, low, high, _, kept = numbers
        p = "–" if math.isnan(facts["p"]) else f"{facts['p']:.3f}"
        off = f"{100 * facts['fall_off']:.0f} %"
        rows.append(
            (facts["unit"], f"{facts['field_ratio']:.2f}", off, within, across, index, f"{low} to {high}", p, kept)
        )
    note = (
        "field: its side over the picture's. off: the most of a field that lies off the picture. within, across: how "
        "alike outcomes of one position are, and of different ones, on what both see of the picture (correlation, "
        "blurred by half a stride). specificity: 0 where the position makes no difference, 1 where it decides. kept: "
        "the median share of the response that is left when an outcome is moved to another position."
    )
    return "\n".join([table(PLACED, rows, width=width), "", paragraph(note, width=width)])
