"""tuning: gratings and colors before every unit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter, validators
from cyclopts.types import NonNegativeInt

from unitscope.cli.common import Several, progress_bars, resumable, terminal_width
from unitscope.cli.options import DEFAULT_MODEL, ModelOptions, choose_device, open_network
from unitscope.cli.text_tables import paragraph, table

if TYPE_CHECKING:
    import pandas


Contrast = Annotated[float, Parameter(validator=validators.Number(gt=0, lte=1))]


def tuning(
    model: str,
    /,
    *,
    record: Path,
    sites: Several[str] = None,
    contrast: Contrast = 1.0,
    color_contrast: Contrast = 0.14,
    null: NonNegativeInt = 0,
    patches: NonNegativeInt = 0,
    device: str = "auto",
    options: ModelOptions = DEFAULT_MODEL,
) -> None:
    """Show gratings, patches and colors to every unit, as in the laboratory, and measure its tuning.

    Each unit sees, in its own receptive field, on gray:
    - gray gratings of 24 orientations, from one cycle per field to 0.4 cycles
      per pixel, at 32 phases;
    - colored gratings of equal cone contrast: luminance, L-M, S, L, M; and the
      same in red, green and blue pixel values;
    - uniform fields, hues, discs with surrounds; at its best grating growing
      patches, growing contrast, plaids.

    Measured: preferred orientation, 1 - circular variance, bandwidth; preferred
    spatial frequency, cut-offs, octaves; simple or complex (F1/F0); size and
    suppression; contrast response; weights of cones and of red, green and blue,
    color against luminance, hue, single or double opponency (in cones and in
    channels). Numbers have intervals over redrawn phases.

    Units that gratings do not drive are counted and have no numbers. Networks of
    one input channel have no color. The same command resumes a session that was
    interrupted.

    Args:
        model: What `unitscope sites` takes.
        record: A record of this network, to which responses and measures are added; a new one where there is none.
        sites: Names or globs of sites of the record. By default all with fields of up to 64 pixels.
        contrast: Of gray gratings, 0 to 1, in pixel values around middle gray.
        color_contrast: Pooled cone contrast of colored stimuli; an sRGB display ends at 0.1418 for L - M.
        null: Show the same to so many untrained networks of the same shape: what wiring alone explains.
        patches: Show so many of each unit's preferred patches of photographs again: in gray, turned, mirrored.
        device: auto, cpu, cuda or cuda:1.
    """
    from unitscope.tuning_session import tuning as show_and_measure

    network = open_network(model, options).to(choose_device(device))
    with (
        resumable(f"Sessions that were completed are kept in {record}; the same command resumes."),
        progress_bars() as show_progress,
    ):
        found = show_and_measure(
            network,
            record,
            sites=sites,
            contrast=contrast,
            color_contrast=color_contrast,
            null=null,
            patches=patches,
            progress=show_progress,
        )
    print(tuning_table(found, width=terminal_width()))
    print(f"\nThe tables are in {record / 'measures'}. Next: unitscope atlas {record} --to atlas")


def tuning_table(found: dict[str, pandas.DataFrame], *, width: int = 80) -> str:
    """A line per site: how many units respond, and what they are tuned to."""
    orientation, color = found["orientation"], found.get("color")
    rows = []
    for site, units in orientation.groupby("site", sort=False):
        row = [str(site), str(len(units)), str(int(units["responsive"].sum())),
               _median_text(units["orientation_selectivity"]), _median_text(units["preferred_frequency"]),
               _median_text(units["f1_f0"]), _share_text(units["simple"])]  # fmt: skip
        if color is not None:
            here = color[color["site"] == site]
            row += [_opponency_shares(here, kind) for kind in ("single", "double")]
        rows.append(row)
    names = [
        "units",
        "respond",
        "1-CV",
        "c/px",
        "F1/F0",
        "simple",
        *(["single", "double"] if color is not None else []),
    ]
    headings = [("site", "<"), *((name, ">") for name in names)]
    legend = (
        "respond: units that gratings drive. 1-CV: 1 - circular variance, c/px: preferred spatial frequency in cycles "
        "per pixel, F1/F0: modulation by phase (medians). simple: share of simple cells among them. "
    )
    legend += (
        "single, double: share of single- and double-opponent units among those that colors drive; in parentheses by "
        "cones alone, for which most gray units are opponent."
        if color is not None
        else "Color is undefined: the network has one input channel, not three."
    )
    return "\n".join([table(headings, rows, width=width), "", paragraph(legend, width=width)])


def _opponency_shares(colors: pandas.DataFrame, kind: str) -> str:
    """The share of units of a kind of opponency by cones and channels, and by cones alone."""
    strict, cones = (_share_text(colors[name].dropna() == kind) for name in ("opponency", "cone_opponency"))
    return strict if strict == "–" else f"{strict.removesuffix(' %')} ({cones.removesuffix(' %')}) %"


def _median_text(values: pandas.Series) -> str:
    return f"{values.median():.2f}" if values.notna().any() else "–"


def _share_text(values: pandas.Series) -> str:
    known = values.dropna()
    return f"{100 * known.mean():.0f} %" if len(known) else "–"
