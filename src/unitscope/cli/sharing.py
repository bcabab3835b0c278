"""sharing: how channels answer together in the layers of a stage."""

from __future__ import annotations

from pathlib import Path

from cyclopts.types import NonNegativeInt, PositiveInt

from unitscope.cli.common import Several, one_or_many, progress_bars, terminal_width
from unitscope.cli.compare import sharing_table
from unitscope.cli.options import DEFAULT_MODEL, ModelOptions, choose_device, open_network


def sharing(
    model: str,
    images: list[str] | None = None,
    /,
    *,
    record: Path,
    sites: Several[str] = None,
    untrained: NonNegativeInt = 3,
    batch: PositiveInt = 32,
    device: str = "auto",
    workers: NonNegativeInt | None = None,
    options: ModelOptions = DEFAULT_MODEL,
) -> None:
    """Show the images again, and record how channels answer together in the layers of a stage.

    The record keeps it; `unitscope compare` and the atlas read it there.

    Args:
        model: What `unitscope sites` takes; the network of the record.
        images: What `unitscope survey` takes. By default the record's own.
        record: A folder that `unitscope survey` made.
        sites: Names or globs of the sites to compare. By default those along skips.
        untrained: How many untrained copies of the network are recorded beside it.
        batch: Images shown at once.
        device: auto, cpu, cuda or cuda:1.
        workers: How many decode images. By default as many as suit the machine.
    """
    from unitscope.analysis.channel_sharing import compare as compare_records
    from unitscope.recording.channel_correlations import sharing as share

    network = open_network(model, options).to(choose_device(device))
    shown = None if images is None else one_or_many(images)
    with progress_bars() as show_progress:
        share(
            network, shown, record=record, sites=sites, baselines=untrained, batch=batch, workers=workers,
            progress=lambda done, total: show_progress(network.name, done, total),
        )  # fmt: skip
    print(sharing_table(compare_records(record, means=False, permutations=1000), width=terminal_width()))
    print(f"\nThe record {record} keeps it. Next: unitscope compare {record} OTHER --to comparison")
