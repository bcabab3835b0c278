"""The figures of kobayashi2020: patches and mean stimuli in three layers, virtual filters, optimal stimuli."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt8

from unitscope.analysis.channel_sharing import means_of
from unitscope.atlas_pages.figures import contrast_gain, draw_contrast
from unitscope.atlas_pages.filter_figures import coupling_figure
from unitscope.errors import BadInput, Failure
from unitscope.recording.patches import patches

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from unitscope.optima import Optimum
    from unitscope.record import Record
    from unitscope.recording.filter_tables import Filtered

BEST = 16
"""So many patches of each unit are shown, as the paper's 16."""

FIGURE_TILE = 64
"""Patches are shown at this many pixels."""

FIGURE_GAP = 4
"""White pixels between patches."""


def preferred_figure(
    record: Record,
    places: Mapping[str, str],
    units: Sequence[int],
    kernels: Float[np.ndarray, "unit color height width"] | None = None,
) -> Figure:
    """A row a channel; for each layer its best patches and, set apart, its mean preferred stimulus as contrast; beside
    those of the first layer the first filters, where there are any.
    """
    from matplotlib.figure import Figure

    blocks = [[2.0, 1.0, *([1.0] if kernels is not None and n == 0 else [])] for n in range(len(places))]
    widths = [width for block in blocks for width in (*block, 0.25)]
    figure = Figure(figsize=(0.75 * sum(widths) + 0.4, 1.5 * len(units) + 0.4), layout="constrained")
    grid = figure.add_gridspec(len(units), len(widths), width_ratios=widths, wspace=0.02)
    first = 0
    for number, ((name, site), block) in enumerate(zip(places.items(), blocks, strict=True)):
        shown = mean_contrasts(record, site, units)
        for row, unit in enumerate(units):
            pictures = {"": mosaic(best_patches(record, f"{site}:{unit}")), "mean": shown[row]}
            if len(block) == 3 and kernels is not None:
                pictures["first filter"] = draw_contrast(kernels[unit], gain=contrast_gain(kernels[unit][None]))
            for place, (title, picture) in enumerate(pictures.items()):
                axes = figure.add_subplot(grid[row, first + place])
                show_picture(axes, picture)
                if row == 0 and place:
                    axes.set_title(title, fontsize=7, pad=2)
                if row == 0 and place == 0:
                    size = record.sites[site].field.size[0]
                    said = axes.text(0, 1.04, f"{name}: {site}, {size} px", transform=axes.transAxes, fontsize=8)
                    said.set_in_layout(False)  # else the column would be made as wide as its title
                if number == 0 and place == 0:
                    axes.set_ylabel(str(unit), rotation=0, ha="right", va="center", fontsize=8)
        first += len(block) + 1
    return figure


def mosaic(patches: Sequence[UInt8[np.ndarray, "height width color"]]) -> UInt8[np.ndarray, "rows cols color"]:
    """Patches in a square, row by row; white where there are fewer."""
    side = round(BEST**0.5)
    whole = np.full(
        (side * (FIGURE_TILE + FIGURE_GAP) - FIGURE_GAP, side * (FIGURE_TILE + FIGURE_GAP) - FIGURE_GAP, 3),
        255,
        np.uint8,
    )
    for n, patch in enumerate(patches[: side * side]):
        top, left = (FIGURE_TILE + FIGURE_GAP) * (n // side), (FIGURE_TILE + FIGURE_GAP) * (n % side)
        whole[top : top + FIGURE_TILE, left : left + FIGURE_TILE] = patch
    return whole


def show_picture(axes: Axes, picture: np.ndarray) -> None:
    axes.imshow(picture, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def best_patches(record: Record, unit: str) -> list[np.ndarray]:
    """The unit's best patches, square; none where the photographs are gone."""
    try:
        found = patches(record, unit, count=BEST, size=(FIGURE_TILE, FIGURE_TILE))
    except (BadInput, Failure):
        return []
    return [np.asarray(patch.convert("RGB")) for patch in found]


def mean_contrasts(record: Record, site: str, units: Sequence[int]) -> list[np.ndarray]:
    """Mean preferred stimuli less the mean over all channels of the site, around gray at one gain for all."""
    means = means_of(record, site)
    if means is None:
        return [np.full((1, 1, 3), 255, np.uint8)] * len(units)
    known = means.pictures[np.asarray(means.n) > 0]
    deltas = means.pictures - known.mean(0)
    gain = contrast_gain(deltas[list(units)])
    return [draw_contrast(deltas[unit], gain=gain) for unit in units]


def figure_3(one: Filtered, title: str) -> Figure:
    """The virtual filters of the units with the largest ones, with the filters that they are made of."""
    length = np.linalg.norm(one.filters.pictures.reshape(len(one.filters.pictures), -1), axis=1)
    units = sorted(np.argsort(-length, kind="stable")[:8].tolist())
    own = one.filters
    return coupling_figure(own.pictures, own.basis, own.coupling, units=units, title=f"{title}, {own.site}")


def optima_figure(rows: Mapping[str, Sequence[Optimum]]) -> Figure:
    """A row a layer, a column a channel: the optimal stimulus of the unit, at its own contrast."""
    from matplotlib.figure import Figure

    columns = len(next(iter(rows.values())))
    figure = Figure(figsize=(1.15 * columns + 0.9, 1.2 * len(rows) + 0.2), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for row, (name, optima) in zip(axes, rows.items(), strict=True):
        row[0].set_ylabel(name, fontsize=8)
        for axis, optimum in zip(row, optima, strict=True):
            show_picture(axis, stretch_contrast(optimum))
            axis.set_title(str(optimum.channel), fontsize=8, pad=2)
    return figure


def stretch_contrast(optimum: Optimum) -> np.ndarray:
    """The picture of the first seed around its mean color, its contrast raised to fill the range."""
    picture = np.asarray(optimum.pictures[0], np.float64)
    middle = np.asarray(optimum.light.mean)[:, None, None]
    delta = picture - (middle[::-1] if optimum.light.bgr else middle)
    return draw_contrast(delta, gain=contrast_gain(delta[None]))


def losses_figure(table: pandas.DataFrame, printed: Sequence[tuple[str, str, float]]) -> Figure:
    """A row per network and condition: the change of loss with its interval; what the paper printed, hollow."""
    from matplotlib.figure import Figure

    rows: list[tuple[str, float, tuple[float, float] | None, bool]] = [
        (row_label(row), row.delta_loss, (row.ci_low, row.ci_high), row.target == "chosen")
        for row in table.itertuples()
    ]
    rows += [(f"{name}: inactive, {which}", value, None, False) for name, which, value in printed]
    figure = Figure(figsize=(6.6, 0.7 + 0.26 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, (_, value, interval, chosen) in enumerate(rows):
        color = "#b3361e" if chosen else "#2b6cb0" if interval else "#6b7178"
        if interval:
            axes.plot(interval, [place, place], color=color, lw=1.8, solid_capstyle="butt")
        axes.plot(value, place, "o", ms=5, mfc=color if interval else "none", mec=color)
    axes.axvline(0, color="#9aa1a9", lw=0.8)
    axes.set_xscale("symlog", linthresh=1e-3)
    axes.set_yticks(range(len(rows)), [name for name, *_ in rows], fontsize=7)
    axes.invert_yaxis()
    axes.margins(x=0.08)
    axes.set_xlabel("change of the mean loss (linear within 0.001 of 0, logarithmic beyond)", fontsize=8)
    axes.tick_params(axis="x", labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def row_label(row: Any) -> str:
    """Of which network, in which units, and in how many at a time."""
    kind = "active" if row.target == "active" else "inactive" if row.chosen.startswith("inactive") else "least active"
    return f"{row.network}: {row.units if row.which == 'all' else ''} {kind}, {row.which}".replace(":  ", ": ")
