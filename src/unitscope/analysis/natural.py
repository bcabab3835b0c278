"""Color, orientation and symmetry on natural patches: how much of its answer a unit loses when the patches that it
prefers lose their color, are turned or mirrored (rafegas2020).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from unitscope.analysis.measures import Measure, Table, ends_of
from unitscope.durable import read_table
from unitscope.record import Record

if TYPE_CHECKING:
    import pandas

TIMES = 200
"""How often patches are drawn anew for an interval."""

FEWEST = 4
"""With fewer patches a unit has no numbers."""

Answers = Float[np.ndarray, "patch change"]


def natural(record: Record) -> pandas.DataFrame | None:
    """A row per unit whose preferred patches were shown again; null for fewer than FEWEST. None where none was."""
    import pandas

    paths = sorted((record.path / "tuning").glob("box-*/natural.parquet"))
    shown = [table for path in paths if len(table := read_table(path).to_pandas())]
    if not shown:
        return None
    rows = [_row(record, int(unit), part) for unit, part in pandas.concat(shown).groupby("unit")]
    return pandas.DataFrame(rows).sort_values("unit", ignore_index=True)


def _row(record: Record, unit: int, part: pandas.DataFrame) -> dict[str, object]:
    answers = part.pivot_table(index="rank", columns="change", values="value", sort=False)
    kept = record.unit(unit)
    row: dict[str, object] = {"unit": unit, "site": kept.site, "channel": kept.channel, "natural_patches": len(answers)}
    columns = list(answers.columns)
    for name, (changes, loss) in INDICES.items():
        those = [number for number, change in enumerate(columns) if change.startswith(changes)]
        numbers = index_of(answers.to_numpy(np.float64), columns.index("none"), those, loss=loss)
        row |= dict(zip((name, f"{name}_low", f"{name}_high"), numbers, strict=True))
    return row


INDICES = {
    "natural_color": ("gray", True), "natural_orientation": ("rotated", True), "natural_symmetry": ("mirrored", False)
}  # fmt: skip


def index_of(answers: Answers, unchanged: int, changes: list[int], *, loss: bool) -> tuple[float, float, float]:
    """1 - sum a(changed) / sum a over patches, a negative answer counting as none, the mean over several changes; or
    where not `loss` the share that is left. With its 95 % interval over patches drawn anew. NaN for too few patches.

    Source: rafegas2020. Unlike there, it is not clipped at 0: a unit may answer more to a changed patch.
    """
    if len(answers) < FEWEST:
        return (float("nan"),) * 3
    rates = np.maximum(answers, 0)
    drawn = np.random.default_rng(0).multinomial(len(rates), np.full(len(rates), 1 / len(rates)), size=TIMES)
    draws = np.concatenate([np.ones((1, len(rates))), drawn]) @ rates
    with np.errstate(invalid="ignore", divide="ignore"):
        left = draws[:, changes].mean(1) / draws[:, unchanged]
    values = 1 - left if loss else left
    low, high = np.percentile(values[1:], [2.5, 97.5])
    return float(values[0]), float(low), float(high)


def _both(name: str, says: str, low: str, high: str) -> tuple[Measure, ...]:
    own = Measure(name, says, (0, 1), low, high, "rafegas2020")
    return own, *ends_of(name, (0, 1), low, high, over="patches drawn anew")


NATURAL = Table(
    "natural",
    natural,
    (
        Measure("natural_patches", "preferred patches that were shown again", (0, np.inf), "none", "many", ""),
        *_both("natural_color", "loss when its preferred patches are shown in gray of the same luminance",
               "color does not matter", "silent without color"),
        *_both("natural_orientation", "loss when they are turned, mean over turns by 15 degrees",
               "turning does not matter", "silent when turned"),
        *_both("natural_symmetry", "what is left when they are mirrored, mean over four axes",
               "silent when mirrored", "mirroring does not matter"),
    ),
)  # fmt: skip
