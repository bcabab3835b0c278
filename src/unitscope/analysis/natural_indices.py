"""Color, orientation and symmetry on natural patches: how much of its answer a unit loses when the patches that it
prefers lose their color, are turned or mirrored (rafegas2020).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from unitscope.analysis.categories import photographs_of
from unitscope.analysis.measure_declarations import Measure, Table, ends_of
from unitscope.durable import read_table
from unitscope.record import Record
from unitscope.resampling import mean_interval, pseudo_values

if TYPE_CHECKING:
    import pandas

TIMES = 1000
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
    answers = pandas.concat(shown).merge(_photographs(record), how="left", on=["unit", "rank"])
    rows = [_row(record, int(unit), part) for unit, part in answers.groupby("unit")]
    return pandas.DataFrame(rows).sort_values("unit", ignore_index=True)


def _photographs(record: Record) -> pandas.DataFrame:
    """The photograph of each unit's preferred patches, by rank."""
    listed = record.stimuli(pole="preferred")[["unit", "rank", "image"]]
    numbers = photographs_of(record.images())
    return listed.assign(photograph=numbers[listed["image"].to_numpy()]).drop(columns="image")


def _row(record: Record, unit: int, part: pandas.DataFrame) -> dict[str, object]:
    answers = part.pivot_table(index="rank", columns="change", values="value", sort=False)
    kept = record.unit(unit)
    row: dict[str, object] = {"unit": unit, "site": kept.site, "channel": kept.channel, "natural_patches": len(answers)}
    columns, photographs = list(answers.columns), part.groupby("rank", sort=False)["photograph"].first()
    of_patch = photographs.loc[answers.index].to_numpy()
    for name, (changes, loss) in INDICES.items():
        those = [number for number, change in enumerate(columns) if change.startswith(changes)]
        numbers = index_of(answers.to_numpy(np.float64), columns.index("none"), those, loss=loss, photographs=of_patch)
        row |= dict(zip((name, f"{name}_low", f"{name}_high"), numbers, strict=True))
    return row


INDICES = {
    "natural_color": ("gray", True), "natural_orientation": ("rotated", True), "natural_symmetry": ("mirrored", False)
}  # fmt: skip


def index_of(
    answers: Answers,
    unchanged: int,
    changes: list[int],
    *,
    loss: bool,
    photographs: Int[np.ndarray, " patch"] | None = None,
) -> tuple[float, float, float]:
    """1 - sum a(changed) / sum a over patches, a negative answer counting as none, the mean over several changes; or
    where not `loss` the share that is left. With its 95 % interval over patches, or `photographs`, from what each
    contributes. NaN for too few patches; no interval for fewer than three photographs.

    Source: rafegas2020. Unlike there, it is not clipped at 0: a unit may answer more to a changed patch.
    """
    if len(answers) < FEWEST:
        return (float("nan"),) * 3
    groups = np.arange(len(answers)) if photographs is None else np.unique(photographs, return_inverse=True)[1]
    rates = np.zeros((int(groups.max()) + 1, answers.shape[1]))
    # Not `rates[groups] += ...`: with repeated indices numpy would add only one patch per photograph.
    np.add.at(rates, groups, np.maximum(answers, 0))
    with np.errstate(invalid="ignore", divide="ignore"):
        whole, *without = (
            sums[changes].mean() / sums[unchanged] for sums in (rates.sum(0), *(rates.sum(0) - one for one in rates))
        )
    values = pseudo_values(whole, np.array(without))
    found = mean_interval(values, generator=np.random.default_rng(0), resamples=TIMES)
    # For a loss the interval is reversed: the upper end becomes the lower one.
    return (1 - whole, 1 - found.high, 1 - found.low) if loss else (whole, found.low, found.high)


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
