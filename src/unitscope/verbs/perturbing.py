"""perturb: what the network loses when some of its units are disturbed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.types import NonNegativeFloat, NonNegativeInt, PositiveInt

from unitscope.options import DEFAULT_MODEL, ModelOptions, choose_device, one_or_many, open_network
from unitscope.text_tables import perturbation_table
from unitscope.verbs.manners import bars, columns, resumable

Several = Parameter(consume_multiple=True)


def perturb(
    model: str,
    images: list[str],
    /,
    *,
    record: Path | None = None,
    units: Annotated[list[str] | None, Several] = None,
    site: str | None = None,
    what: Annotated[list[Literal["noise", "zero", "mean", "resample"]] | None, Several] = None,
    which: Annotated[list[str] | None, Several] = None,
    path: Annotated[list[Literal["both", "branch", "skip"]] | None, Several] = None,
    dose: Annotated[list[NonNegativeFloat] | None, Several] = None,
    target: Annotated[list[Literal["chosen", "active"]] | None, Several] = None,
    seeds: PositiveInt = 20,
    count: PositiveInt | None = None,
    batch: PositiveInt = 256,
    seed: NonNegativeInt = 0,
    to: Path | None = None,
    resize: PositiveInt | None = None,
    device: str = "auto",
    workers: NonNegativeInt | None = None,
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
        what: noise, zero, mean (the unit's own), resample (from another picture).
        which: all, 'one per batch', 'each channel', 'channel 18'.
        path: Who reads the disturbed responses: both, branch, skip.
        dose: Factors of the noise. The paper's is 1.
        target: The chosen units, or as many active ones to compare with.
        seeds: How often what is random is repeated.
        count: Use so many of the images, drawn at random.
        batch: Images for which 'one per batch' keeps its unit.
        seed: Of order, noise and draws.
        to: Keep the tables in this folder, in place of the record.
        resize: Shorter side in pixels before the center crop. By default 256/224 of the network's size.
        device: auto, cpu, cuda or cuda:1.
        workers: How many decode images. By default as many as suit the machine.
    """
    from unitscope.perturbation.experiment import perturb as disturb

    network = open_network(model, options, table_of_classes=True).to(choose_device(device))
    asked = {"what": what, "which": which, "path": path, "dose": dose, "target": target}
    chosen: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    folder = to or record
    with resumable("Nothing is kept of an interrupted perturbation."), bars() as tell:
        table = disturb(
            network, one_or_many(images), record=record, units=units, site=site,
            **(chosen or {"conditions": "protocol"}),
            seeds=seeds, count=count, classes=options.table_of_classes, batch=batch, seed=seed, resize=resize,
            workers=workers, to=folder, progress=lambda done, total: tell(network.name, done, total),
        )  # fmt: skip
    print(perturbation_table(table, width=columns()))
    if folder is not None:
        print(f"\nThe table is {folder / 'perturbation.parquet'}; that of the classes is beside it.")
