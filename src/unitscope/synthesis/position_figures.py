"""Figures of position studies: matplotlib figures of given arrays. Nothing is computed here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from unitscope.vocabulary import Box, Size

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from unitscope.synthesis.position_study import PositionStudy

OFF = (0.86, 0.86, 0.86)
"""The color of what lies off the picture."""


def outcomes_by_position(study: PositionStudy, *, side: float = 1.05) -> Figure:
    """Positions in rows, outcomes in columns, fall-off beside; at the bottom all positions at once (zipser2015).

    Each row begins with where the field lies on the picture. Outcomes are shown in their fields, gray where these hang
    over the edge; a field larger than the picture is shown as the picture. `side` is that of a picture in inches.
    """
    from matplotlib.figure import Figure

    rows = len(study.places) + (study.tiled is not None)
    wide = side * (study.seeds + 1) + 1.9
    figure = Figure(figsize=(wide, side * rows + 0.75), layout=None)
    for number, (place, box, fall, one) in enumerate(
        zip(study.places, study.boxes, study.fall_off, study.outcomes, strict=True)
    ):
        axes = _add_row(figure, number, rows, study.seeds, side)
        _draw_field(axes[0], box, study.picture)
        for axis, picture in zip(axes[1:], one.pictures, strict=True):
            axis.imshow(frame_picture(picture, one.box, box, study.picture), interpolation="nearest")
        _label_row(axes[-1], f"{place[0]}, {place[1]}", f"fall-off {fall:.0%}")
    if study.tiled is not None:
        axes = _add_row(figure, rows - 1, rows, study.seeds, side)
        _draw_field(axes[0], Box(0, 0, *study.picture), study.picture)
        for axis, picture in zip(axes[1:], study.tiled.pictures, strict=True):
            axis.imshow(_as_image(picture), interpolation="nearest")
        _label_row(axes[-1], "tiled", "all positions")
    ratio = f"field {study.field} px, {study.field_ratio:.2f} of the picture"
    figure.text(0.08 / wide, 1 - 0.06 / figure.get_figheight(), f"{study.unit}", size=10, weight="bold", va="top")
    figure.text(0.08 / wide, 1 - 0.30 / figure.get_figheight(), ratio, size=8, color="0.35", va="top")
    return figure


def _add_row(figure: Figure, number: int, rows: int, seeds: int, side: float) -> list[Any]:
    """The axes of a row: the field's place, then the outcomes."""
    wide, high = figure.get_size_inches()
    bottom = (side * (rows - 1 - number) + 0.1) / high
    size = (side * 0.92 / wide, side * 0.92 / high)
    axes = [figure.add_axes((0.08 / wide + n * side / wide, bottom, *size)) for n in range(seeds + 1)]
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
        for spine in axis.spines.values():
            spine.set_visible(False)
    return axes


def _label_row(axis: Any, first: str, second: str) -> None:
    axis.text(1.08, 0.5, first, transform=axis.transAxes, size=9, va="bottom")
    axis.text(1.08, 0.47, second, transform=axis.transAxes, size=8, color="0.35", va="top")


def _draw_field(axis: Any, box: Box, picture: Size) -> None:
    """The picture's outline, and the field upon it."""
    from matplotlib.patches import Rectangle

    height, width = picture
    axis.add_patch(Rectangle((box.left, box.top), box.width, box.height, color="#d1495b", alpha=0.28, lw=0))
    axis.add_patch(Rectangle((0, 0), width, height, fill=False, ec="0.45", lw=0.8))
    axis.set_xlim(-width * 0.35, width * 1.35)
    axis.set_ylim(height * 1.35, -height * 0.35)
    axis.set_aspect("equal")


def frame_picture(
    picture: Float[np.ndarray, "color height width"], box: Box, field: Box, size: Size
) -> Float[np.ndarray, "row col 3"]:
    """A picture of `box` in the frame of the field, gray where that hangs over the edge of a picture of `size`; in the
    frame of the picture where the field is larger.
    """
    frame = field if field.height <= size[0] and field.width <= size[1] else Box(0, 0, *size)
    result = np.full((frame.height, frame.width, 3), OFF, dtype=np.float32)
    inside = frame.clip(size)
    part = _as_image(picture)[inside.top - box.top : inside.bottom - box.top, inside.left - box.left :]
    result[inside.top - frame.top : inside.bottom - frame.top, inside.left - frame.left : inside.right - frame.left] = (
        part[:, : inside.width]
    )
    return result


def _as_image(picture: Float[np.ndarray, "color height width"]) -> Float[np.ndarray, "height width 3"]:
    color = np.repeat(picture[:1], 3, 0) if len(picture) != 3 else picture
    return np.ascontiguousarray(color.transpose(1, 2, 0), dtype=np.float32)


# --- many studies ----------------------------------------------------------------------------------------


def index_by_field(
    rows: Sequence[tuple[str, float, float, float, float]], *, title: str = "position-specificity"
) -> Figure:
    """The index of each unit against its field over the picture: rows of (network, ratio, index, low, high)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.7), layout="constrained")
    axis = figure.subplots()
    networks = list(dict.fromkeys(row[0] for row in rows))
    for number, name in enumerate(networks):
        mine = np.array([row[1:] for row in rows if row[0] == name], dtype=float)
        x, index, low, high = mine.T
        x = x * (1 + 0.03 * (number - (len(networks) - 1) / 2))
        errors = np.maximum(0, [index - low, high - index])
        axis.errorbar(
            x, index, yerr=errors, fmt=MARKERS[number % 4], color=COLORS[number % 4], ms=5, lw=0.8, label=name
        )
    axis.axhline(0, color="0.6", lw=0.8)
    axis.axvline(1, color="0.8", lw=0.8, ls=":")
    axis.set_xscale("log")
    ticks = [
        t for t in (0.05, 0.1, 0.2, 0.5, 1, 2, 5) if min(r[1] for r in rows) * 0.6 < t < 1.6 * max(r[1] for r in rows)
    ]
    axis.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axis.minorticks_off()
    axis.set_xlabel("side of the field / side of the picture")
    axis.set_ylabel(title)
    return _finish_figure(figure, axis)


def transfer_by_fall_off(rows: Sequence[tuple[str, float, float]], *, ylabel: str) -> Figure:
    """A value of pairs of positions against the fall-off of the second: rows of (network, fall-off, value)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.7), layout="constrained")
    axis = figure.subplots()
    for number, name in enumerate(dict.fromkeys(row[0] for row in rows)):
        x, y = np.array([row[1:] for row in rows if row[0] == name], dtype=float).T
        axis.plot(x, y, MARKERS[number % 4], color=COLORS[number % 4], ms=3.5, alpha=0.5, mew=0, label=name)
    axis.axhline(1, color="0.6", lw=0.8)
    axis.set_xlabel("share of the field off the picture, where the outcome is moved to")
    axis.set_ylabel(ylabel)
    return _finish_figure(figure, axis)


def _finish_figure(figure: Figure, axis: Any) -> Figure:
    axis.spines[["top", "right"]].set_visible(False)
    if len(axis.get_legend_handles_labels()[1]) > 1:
        axis.legend(frameon=False, fontsize=8)
    return figure


MARKERS = ("o", "s", "^", "D")
COLORS = ("#00798c", "#d1495b", "#8a6fb0", "#7f7f1f")
