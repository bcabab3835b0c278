"""Figures of shared channels: the similarity matrix of two sites, and what stands on its diagonal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unitscope.analysis.channel_sharing import Pair, pairs_of, plain_title
from unitscope.atlas_pages.data_scripts import slugs
from unitscope.record import Record, open_record

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

TEXT_COLOR, FAINT_COLOR, SAME_COLOR, OTHER_COLOR = "#22262b", "#9aa1a9", "#b3361e", "#7d8894"


def matrix_figure(pair: Pair, row: Any) -> Figure:
    """A pair's similarity matrix, beside it the distribution of the same channel's values and of all others'.

    `row` is the pair's row of the table that `compare` gives.
    """
    from matplotlib.figure import Figure

    defined = np.isfinite(np.diag(pair.similarity))
    matrix = pair.similarity[np.ix_(defined, defined)]
    figure = Figure(figsize=(7.2, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    picture = left.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    left.set(xlabel=f"channels of {pair.second}", ylabel=f"channels of {pair.first}", xticks=[], yticks=[])
    figure.colorbar(picture, ax=left, shrink=0.8, label="similarity")
    own, bins = np.eye(len(matrix), dtype=bool), np.linspace(-1, 1, 41)
    for values, color, label in (
        (matrix[~own], OTHER_COLOR, "different channels"),
        (matrix[own], SAME_COLOR, "the same channel"),
    ):
        if len(values):
            right.hist(
                values, bins, weights=np.full(len(values), 100 / len(values)), color=color, alpha=0.65, label=label
            )
    right.set(xlabel="similarity", ylabel="% of pairs", xlim=(-1, 1))
    right.spines[["top", "right"]].set_visible(False)
    right.legend(frameon=False, fontsize=8, loc="upper left")
    figure.suptitle(_title(pair, row), fontsize=9, x=0.01, ha="left", color=TEXT_COLOR)
    return figure


def _title(pair: Pair, row: Any) -> str:
    found = f"{100 * row.identified:.0f} % of {row.channels} channels found (chance {100 / max(row.channels, 1):.0f} %)"
    return (
        f"{pair.network}, {pair.what}: {pair.first} ~ {pair.second}\n"
        f"advantage {row.advantage:.2f} [{row.ci_low:.2f}, {row.ci_high:.2f}], p = {row.p:.4f}, {found}"
    )


def advantage_figure(table: pandas.DataFrame, *, what: str = "mean stimulus") -> Figure:
    """The diagonal advantage of each two sites, a row per pair, a mark per network; untrained ones hollow.

    Rows of a network pair ("a | b") and of other `what` are left out.
    """
    from matplotlib.figure import Figure

    rows = table[(table["what"] == what) & ~table["network"].str.contains(" | ", regex=False)]
    places: dict[tuple[str, str], int] = {}
    for row in rows.itertuples():
        places.setdefault(_place(row), len(places))
    names = list(dict.fromkeys(plain_title(name) for name in rows["network"]))
    colors = dict(zip(names, ("#b3361e", "#2b6cb0", "#4d7c3a", "#7b4fa3"), strict=False))
    figure = Figure(figsize=(6.6, 1.3 + 0.24 * len(places)), layout="constrained")
    axes = figure.subplots()
    for row, trained in zip(rows.itertuples(), rows["seed"].isna(), strict=True):
        name = plain_title(row.network)
        y = places[_place(row)] + 0.2 * (names.index(name) - (len(names) - 1) / 2)
        color = colors.get(name, TEXT_COLOR)
        if trained:
            axes.plot([row.ci_low, row.ci_high], [y, y], color=color, lw=1.6, solid_capstyle="butt")
        axes.plot(row.advantage, y, "o", ms=5 if trained else 4, mfc=color if trained else "none", mec=color, mew=1)
    for name in names:
        axes.plot([], [], "o", color=colors.get(name, TEXT_COLOR), label=name)
    axes.plot([], [], "o", mfc="none", mec=FAINT_COLOR, label="untrained")
    axes.axvline(0, color=FAINT_COLOR, lw=0.8)
    axes.set_yticks(range(len(places)), [" ~ ".join(place) for place in places], fontsize=7)
    axes.set(xlabel=f"advantage of the same channel ({what})")
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=4)
    return figure


def _place(row: Any) -> tuple[str, str]:
    """A pair's sites without their last words, so that a sum and what stands there without a skip share a row."""
    return tuple(str(site).rpartition(".")[0] or str(site) for site in (row.first, row.second))  # type: ignore[return-value]


def write_sharing_figures(
    records: Sequence[Record | str | Path],
    table: pandas.DataFrame,
    *,
    folder: Path,
    sites: Sequence[str] | None = None,
    least: int,
) -> list[Path]:
    """Write a matrix figure for each two sites (untrained copies left out), and one of all advantages, as SVG."""
    folder.mkdir(parents=True, exist_ok=True)
    opened = [one if isinstance(one, Record) else open_record(one) for one in records]
    pairs = [
        (pair, row) for pair, row in zip(pairs_of(opened, sites=sites, least=least), table.itertuples(), strict=True)
    ]
    shown = [(pair, row) for pair, row in pairs if pair.seed is None and row.channels]
    names = [f"{pair.network} {pair.what} {pair.first} {pair.second}" for pair, _ in shown]
    known = slugs(names)
    written = []
    for (pair, row), name in zip(shown, names, strict=True):
        written.append(folder / f"{known[name]}.svg")
        matrix_figure(pair, row).savefig(written[-1])
    for what in table["what"].unique():
        written.append(folder / f"advantage-{what.replace(' ', '-')}.svg")
        advantage_figure(table, what=what).savefig(written[-1])
    return written
