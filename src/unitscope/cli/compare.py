"""compare: do the layers of a stage share their channels, and does another network do it, too?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts.types import PositiveInt

from unitscope.cli.common import Several, require_package, terminal_width
from unitscope.cli.text_tables import paragraph, table

if TYPE_CHECKING:
    import pandas


def compare(
    records: list[Path],
    /,
    *,
    to: Path,
    sites: Several[str] = None,
    least: PositiveInt = 30,
    permutations: PositiveInt = 10_000,
    seed: int = 0,
) -> None:
    """Compare channels across the layers of a stage, within each record and between two networks.

    By mean preferred stimuli, and by responses where `unitscope sharing` has added them to a record.

    Args:
        records: Folders that `unitscope survey` made, also of untrained networks.
        to: The folder for the tables and figures.
        sites: Names or globs of the sites to compare. By default those along the skips of the first that has any.
        least: A mean over fewer stimuli is left out.
        permutations: How many permutations a test draws, and how many resamples an interval.
        seed: Of the permutations.
    """
    from unitscope.analysis.channel_sharing import compare as compare_records
    from unitscope.atlas_pages.sharing_figures import write_sharing_figures

    require_package("matplotlib", extra="analysis")
    found = compare_records(*records, to=to, sites=sites, least=least, permutations=permutations, seed=seed)
    write_sharing_figures(records, found, folder=to / "figures", sites=sites, least=least)
    print(sharing_table(found, width=terminal_width()))
    print(f"\nThe tables are in {to}, a figure per two sites in {to / 'figures'}")


def sharing_table(found: pandas.DataFrame, *, width: int) -> str:
    """A row per two sites; what untrained copies of a network give stands beside it as a range."""
    own = found[found["seed"].isna() | ~found["network"].isin(found[found["seed"].isna()]["network"])]
    others = found.drop(own.index)
    lines = []
    for (network, what), group in own.groupby(["network", "what"], sort=False):
        rows = []
        for row in group.itertuples():
            same = (others["network"] == network) & (others["what"] == what)
            beside = others[same & (others["first"] == row.first) & (others["second"] == row.second)]["advantage"]
            spread = f"{beside.min():.2f} to {beside.max():.2f}" if len(beside) else ""
            rows.append((
                f"{row.first} ~ {row.second}", f"{row.advantage:.2f}", f"{row.ci_low:.2f} to {row.ci_high:.2f}",
                f"{row.p:.4f}", f"{100 * row.identified:.0f} %", f"{row.auc:.2f}", spread,
            ))  # fmt: skip
        headings = (
            ("sites", "<"), ("advantage", ">"), ("interval", ">"), ("p", ">"), ("found", ">"), ("AUC", ">"),
            ("untrained", ">"),
        )  # fmt: skip
        lines += [f"{network}: {what}", "", table(headings, rows, width=width), ""]
    legend = (
        "Advantage: mean similarity of the same channel at both sites, less that of different channels; interval over "
        "channels (95 %), p by permutation of channels. Found: channels most similar to themselves. Untrained: the "
        "advantage in untrained copies, where the record holds them."
    )
    missing = [] if (found["what"] == "response").any() else [
        "Responses are not compared: no record holds them. `unitscope sharing MODEL --record RECORD` adds them."
    ]  # fmt: skip
    return "\n".join([*lines, *(paragraph(text, width=width) for text in [legend, *missing])])
