"""The figures of the dog study, as files: arrays and pictures in, figures out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from unitscope.analysis.label_extremes import TwoSided

RED, GRAY, INK = "#b63f27", "#9b968d", "#1c1b1a"

RED_FROM = 0.7
"""Units of this selectivity or more are red in the study's figure 2."""


def figure_of_shares(found: Mapping[str, TwoSided], path: Path, *, category: str) -> None:
    """Figure 2, a panel per network: share among the highest against share among the lowest responses of each unit."""
    figure, panels = _panels(len(found), width=3.6, height=3.9)
    for (name, units), panel in zip(found.items(), panels, strict=True):
        red = units.selectivity >= RED_FROM
        for which, color, size in ((~red, GRAY, 5), (red, RED, 9)):
            x, y = units.preferred_share[which], units.antipreferred_share[which]
            panel.scatter(x, y, s=size, color=color, alpha=0.5, linewidths=0, rasterized=True)
        for line in (panel.axvline, panel.axhline):
            line(units.prevalence, color=INK, linewidth=0.7, linestyle=(0, (4, 3)))
        known = int(np.isfinite(units.preferred_share + units.antipreferred_share).sum())
        panel.set_title(f"{name}\n{known:,} units, {int(red.sum()):,} red", fontsize=9, loc="left")
        panel.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal", xlabel=f"{category} among the highest")
    panels[0].set_ylabel(f"{category} among the lowest")
    figure.savefig(path, dpi=200)


def figure_of_controls(
    found: Mapping[str, float], random: Mapping[str, Float[np.ndarray, " draw"]], path: Path, *, category: str
) -> None:
    """Per network the share of selective units with more of the category at the lower end than its prevalence, beside
    that of random groups of labels.
    """
    figure, (panel,) = _panels(1, width=7.2, height=0.9 + 0.55 * len(found))
    for place, (name, share) in enumerate(found.items()):
        draws = random[name][np.isfinite(random[name])]
        jitter = np.linspace(-0.22, 0.22, len(draws)) if len(draws) > 1 else np.zeros(len(draws))
        panel.scatter(draws, place + jitter, s=9, color=GRAY, alpha=0.5, linewidths=0)
        panel.plot([share] * 2, [place - 0.32, place + 0.32], color=RED, linewidth=3)
    panel.set(
        yticks=range(len(found)), yticklabels=list(found), xlim=(-0.02, 1.02), ylim=(len(found) - 0.5, -0.5),
        xlabel=f"share of selective units with more of the category among the lowest responses\n"
        f"(red: {category}; gray: groups of as many labels, drawn at random)",
    )  # fmt: skip
    figure.savefig(path, dpi=200)


def figure_of_axis(
    rows: Sequence[tuple[str, Sequence[tuple[UInt8[np.ndarray, "height width color"], str]]]], path: Path, *, title: str
) -> None:
    """Figure 1: pictures with captions, a row for the strongest, for no, and for the most negative response."""
    columns = max(len(pictures) for _, pictures in rows)
    figure, panels = _panels(columns, rows=len(rows), width=1.5, height=1.85)
    for place, (name, pictures) in enumerate(rows):
        own = panels[place * columns : (place + 1) * columns]
        for panel in own:
            panel.set(xticks=[], yticks=[])
            panel.spines[:].set_visible(False)
        for panel, (picture, caption) in zip(own, pictures, strict=False):
            panel.imshow(picture)
            panel.set_xlabel(caption, fontsize=6.5, loc="left", labelpad=2, color=INK)
        own[0].set_title(name, fontsize=9, loc="left")
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    figure.savefig(path, dpi=200)


def _panels(columns: int, *, rows: int = 1, width: float, height: float) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    panels = [figure.add_subplot(rows, columns, 1 + place) for place in range(rows * columns)]
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
        panel.xaxis.label.set_fontsize(8.5)
        panel.yaxis.label.set_fontsize(8.5)
    return figure, panels
