"""perturb: what the network loses when some of its units are disturbed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cyclopts import Parameter
from cyclopts.types import NonNegativeFloat

from unitscope.cli.common import Several, one_or_many, progress_bars, resumable, terminal_width
from unitscope.cli.options import DEFAULT_MODEL, ModelOptions, choose_device, open_network
from unitscope.cli.text_tables import Column, count_text, paragraph, table
from unitscope.option_groups import RepeatOptions

if TYPE_CHECKING:
    import pandas


@Parameter(name="*")
@dataclass(frozen=True)
class ConditionOptions:
    """What is done to the units. Where nothing is given, the protocol is; in Python one condition is the default."""

    what: Several[Literal["noise", "zero", "mean", "resample"]] = None
    "noise, zero, mean (the unit's own), resample (from another picture)."
    which: Several[str] = None
    "all, 'one per batch', 'each channel', 'channel 18'."
    path: Several[Literal["both", "branch", "skip"]] = None
    "Who reads the disturbed responses: both, branch, skip."
    dose: Several[NonNegativeFloat] = None
    "Factors of the noise. The paper's is 1."
    target: Several[Literal["chosen", "active"]] = None
    "The chosen units, or as many active ones to compare with."


CONDITIONS, REPEATS = ConditionOptions(), RepeatOptions()


def perturb(
    model: str,
    images: list[str],
    /,
    *,
    record: Path | None = None,
    units: Several[str] = None,
    site: str | None = None,
    conditions: ConditionOptions = CONDITIONS,
    repeats: RepeatOptions = REPEATS,
    to: Path | None = None,
    device: str = "auto",
    options: ModelOptions = DEFAULT_MODEL,
) -> None:
    """Noise or silence in inactive (or chosen) units: what the loss and the accuracy change by.

    Without --what, --which, --path, --dose and --target, everything is done that tells whether a change means anything:
    rectified normal noise in all units, in one per batch and in each by itself; a dose curve, with the dose at which
    noise varies as much as active units do; zero, mean and resample ablation; noise into the skip and into the branch
    alone; and the same in as many active units. Labels are found by --classes CSV, by the names of the network's
    classes, or, of 1000 logits, by ImageNet's WordNet ids or names; never by the order of the folders.

    Args:
        model: What `unitscope sites` takes.
        images: Labeled images: a folder with a sub-folder per class, a list (CSV), tar or Parquet files.
        record: The record that says which units are inactive; the table is kept in it, too.
        units: The units to disturb, in place of inactive ones: maxpool:18, maxpool:3-7, 'maxpool:*'.
        site: Disturb the units that are inactive here. By default the record's first max-pooling.
        to: Keep the tables in this folder, in place of the record.
        device: auto, cpu, cuda or cuda:1.
    """
    from unitscope.perturbation.experiment import perturb as disturb

    network = open_network(model, options, table_of_classes=True).to(choose_device(device))
    chosen: dict[str, Any] = {name: value for name, value in vars(conditions).items() if value is not None}
    folder = to or record
    with resumable("Nothing is kept of an interrupted perturbation."), progress_bars() as show_progress:
        results = disturb(
            network, one_or_many(images), record=record, units=units, site=site,
            **(chosen or {"conditions": "protocol"}),
            **vars(repeats), classes=options.table_of_classes, to=folder,
            progress=lambda done, total: show_progress(network.name, done, total),
        )  # fmt: skip
    print(perturbation_table(results, width=terminal_width()))
    if folder is not None:
        print(f"\nThe table is {folder / 'perturbation.parquet'}; that of the classes is beside it.")


PERTURBED: tuple[Column, ...] = (
    ("what", "<"), ("which", "<"), ("path", "<"), ("units", ">"), ("change of loss", ">"), ("95 % interval", ">"),
    ("top-1, %", ">"), ("flips, %", ">"),
)  # fmt: skip


def perturbation_table(results: pandas.DataFrame, *, width: int = 80) -> str:
    """A line per condition: the change of loss with its interval over images, of accuracy, and flipped predictions."""
    first = results.iloc[0]
    chosen = results[results["target"] == "chosen"]
    units = int(chosen["units"].max() if len(chosen) else first["units"])
    head = (
        f"{count_text(units, 'unit')} of {first['site']} ({first['chosen']}), "
        f"{count_text(int(first['images']), 'image')}; undisturbed the loss is {first['loss']:.4f}, "
        f"top-1 {100 * first['top1']:.1f} %. Random conditions: {count_text(int(results['seeds'].max()), 'seed')}."
    )
    lines = []
    for target, rows in results.groupby("target", sort=False):
        title = "the chosen units" if target == "chosen" else "as many active units, drawn anew for each seed"
        lines += ["", title, _condition_rows(rows, width)]
    foot = (
        "Changes are means over images of paired differences (float64), averaged over seeds; intervals are "
        f"over {', '.join(results['ci_over'].unique())}. A change whose interval holds 0 is none that could be seen."
    )
    return "\n".join([paragraph(head, width=width), *lines, "", paragraph(foot, width=width)])


def _condition_rows(rows: pandas.DataFrame, width: int) -> str:
    cells = [
        (
            f"noise x {row.dose:g}" if row.what == "noise" else row.what,
            row.which,
            row.path,
            str(row.units),
            change_text(row.delta_loss),
            interval_text(row.ci_low, row.ci_high),
            f"{100 * row.delta_top1:+.2f}",
            f"{100 * row.flips:.1f}",
        )
        for row in rows.itertuples()
    ]
    return table(PERTURBED, cells, width=width)


def change_text(value: float) -> str:
    """A change with its sign: "+0.0123", "-1.7e-06", "0"."""
    return "0" if value == 0 else f"{value:+.4f}" if abs(value) >= 0.001 else f"{value:+.1e}"


def interval_text(low: float, high: float) -> str:
    """Both ends of an interval, or "unknown"."""
    return "unknown" if low != low or high != high else f"{change_text(low)} ... {change_text(high)}"
