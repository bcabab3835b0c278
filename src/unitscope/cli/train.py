"""train: the recipe, from random weights."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cyclopts.types import NonNegativeInt, PositiveInt

from unitscope.cli.common import one_or_many, resumable
from unitscope.cli.options import choose_device
from unitscope.errors import BadInput
from unitscope.training_recipe import Recipe

DEFAULT = Recipe()


def train(
    network: str,
    data: list[str],
    /,
    *,
    to: Path,
    validation: str | None = None,
    width: PositiveInt | None = None,
    recipe: Recipe = DEFAULT,
    device: str = "auto",
    workers: NonNegativeInt = 1,
    checkpoint_every: PositiveInt = 500,
) -> None:
    """Train a network from random weights. The same command resumes a training that was interrupted, exactly.

    Several processes share every batch out: torchrun --nproc-per-node 8 -m unitscope train ...

    Args:
        network: resnet34, plainnet34, or another of 18, 34, 50, 101 and 152.
        data: Labeled images: a folder with a sub-folder per class, a list, or tar shards.
        to: The folder for weights, log and checkpoint.
        validation: Labeled images to measure accuracy on after every epoch.
        width: Channels of the first stage; 64, as in the papers, unless given.
        recipe: The numbers of the training.
        device: auto, cpu, cuda or cuda:1.
        workers: How many processes decode and crop.
        checkpoint_every: Steps between checkpoints; there is one after every epoch, too.
    """
    from unitscope.networks import load
    from unitscope.stimuli.images import open_images
    from unitscope.training import train as train_network

    images = open_images(one_or_many(data))
    labels = sorted({item.label for item in images.items if item.label is not None})
    if not labels:
        raise BadInput(
            f"training needs labels, and {' '.join(data)} has none: put the images of each class into a folder."
        )
    made = load(network, classes=labels, width=width, size=recipe.size, seed=recipe.seed)
    with (
        resumable(f"The last checkpoint is kept in {to}; the same command resumes from it."),
        epoch_progress() as progress,
    ):
        weights = train_network(
            made, images, to=to, recipe=recipe, validation=open_images(validation) if validation else None,
            workers=workers, device=choose_device(device), checkpoint_every=checkpoint_every, progress=progress,
        )  # fmt: skip
    print(f"The weights are {weights}; load them with unitscope.load({network!r}, weights={str(weights)!r}).")


@contextmanager
def epoch_progress() -> Iterator[Callable[[dict[str, Any]], None]]:
    """A bar for the steps of each epoch, and a line for each epoch that is finished."""
    from tqdm import tqdm

    with tqdm(unit="step", disable=not sys.stderr.isatty(), dynamic_ncols=True, leave=False) as shown:

        def progress(facts: dict[str, Any]) -> None:
            if "step" in facts:
                shown.total, shown.n = facts["steps"], facts["step"]
                shown.set_description(f"epoch {facts['epoch']}", refresh=False)
                shown.set_postfix(loss=f"{facts['loss']:.3f}", refresh=False)
                shown.update(0)
            else:
                shown.clear()
                print(epoch_line(facts), flush=True)

        yield progress


def epoch_line(row: Mapping[str, Any]) -> str:
    """A row of the training log, in words."""
    line = f"epoch {row['epoch']:>3}  loss {row['train_loss']:.3f}  top-1 {100 * row['train_top1']:5.1f} %"
    if "val_top1" in row:
        line += f"  | validation: loss {row['val_loss']:.3f}  top-1 {100 * row['val_top1']:5.1f} %"
    return line + f"  {row['images_per_second']:.0f}/s"
