"""reproduce: a paper's tables and figures, on given networks and images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from unitscope.errors import BadInput
from unitscope.options import DEFAULT_MODEL, ModelOptions, choose_device, one_or_many, open_network
from unitscope.text_tables import report_table
from unitscope.verbs.manners import bars, columns, resumable

Paper = Literal["dogs", "kobayashi2020", "zipser2015"]


def reproduce(
    paper: Paper,
    images: list[str] | None = None,
    /,
    *,
    to: Path,
    models: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    channels: Annotated[list[int] | None, Parameter(consume_multiple=True)] = None,
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
    chosen = {"channels": channels} if channels else {}
    study = importlib.import_module(f"unitscope.reproductions.{paper}")
    names = models or ["shipped:resnet34", "shipped:plainnet34"]
    networks = [open_network(name, options).to(choose_device(device)) for name in names]
    with resumable(f"What was done so far is kept in {to}; the same command resumes."), bars() as tell:
        report, page = study.reproduce(networks, one_or_many(images or ["builtin"]), to=to, progress=tell, **chosen)
    print(report_table(report, width=columns()))
    print(f"\nThe report is {page.resolve()}")
