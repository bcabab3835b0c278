"""reproduce: a paper's tables and figures, on given networks and images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from unitscope.cli.common import Several, one_or_many, progress_bars, require_package, resumable, terminal_width
from unitscope.cli.options import DEFAULT_MODEL, ModelOptions, choose_device, open_network
from unitscope.cli.text_tables import paragraph
from unitscope.errors import BadInput

if TYPE_CHECKING:
    from unitscope.report import Report


Paper = Literal["dogs", "kobayashi2020", "zipser2015"]


def reproduce(
    paper: Paper,
    images: list[str] | None = None,
    /,
    *,
    to: Path,
    models: Several[str] = None,
    channels: Several[int] = None,
    device: str = "auto",
    options: ModelOptions = DEFAULT_MODEL,
) -> None:
    """Repeat a study on given networks and images: what the paper says, what is found, and its figures.

    Args:
        paper: dogs (category selectivity at both poles), kobayashi2020 (preferred stimuli, virtual filters, shared
            channels, inactive units), zipser2015 (does the position of a neuron matter?).
        images: A folder with a sub-folder per class, a list, tar files, or builtin, which is where none is given.
        to: The folder for records, figures and the report.
        models: What `unitscope sites` takes, one or several. By default the shipped pair.
        channels: Those that the figures of kobayashi2020 show. By default a few that answer.
        device: auto, cpu, cuda or cuda:1.
    """
    import importlib

    if channels and paper != "kobayashi2020":
        raise BadInput(f"channels are shown in the figures of kobayashi2020 only; {paper} draws its units by chance.")
    require_package("matplotlib", extra="analysis")
    chosen = {"channels": channels} if channels else {}
    study = importlib.import_module(f"unitscope.reproductions.{paper}")
    names = models or ["shipped:resnet34", "shipped:plainnet34"]
    networks = [open_network(name, options).to(choose_device(device)) for name in names]
    with (
        resumable(f"What was done so far is kept in {to}; the same command resumes."),
        progress_bars() as show_progress,
    ):
        report, page = study.reproduce(
            networks, one_or_many(images or ["builtin"]), to=to, progress=show_progress, **chosen
        )
    print(report_table(report, width=terminal_width()))
    print(f"\nThe report is {page.resolve()}")


def report_table(report: Report, *, width: int = 80) -> str:
    """What a paper says and what we find, claim by claim."""
    lines = [paragraph(report.title, width=width), paragraph(report.circumstances, width=width)]
    for claim in report.claims:
        where = f" ({claim.where})" if claim.where else ""
        parts = [f"{claim.what}{where}", f"  the paper says: {claim.paper}", f"  we find: {claim.found}"]
        parts += [f"  {claim.verdict}"] if claim.verdict else []
        lines += ["", *(paragraph(line, width=width) for line in parts)]
    return "\n".join([*lines, "", paragraph(report.conclusion, width=width)])
