"""Figures of filters: the layout of kobayashi2020, figure 3, and grids of kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float
    from matplotlib.figure import Figure

SHOWN_FILTERS = 8
"""How many of the filters that a unit is coupled to are shown, the most strongly coupled first."""


def coupling_figure(
    pictures: Float[np.ndarray, "unit color height width"],
    basis: Float[np.ndarray, "mid color rows cols"],
    coupling: Float[np.ndarray, "unit mid"],
    *,
    units: Sequence[int],
    title: str = "",
) -> Figure:
    """A row for each of `units`: its virtual filter, and the filters that it reads, by |coupling|, with its value.

    All filters that are read share one symmetric scale around gray; each virtual filter has its own, since its unit is
    arbitrary.
    """
    from matplotlib.figure import Figure

    count = min(SHOWN_FILTERS, len(basis))
    figure = Figure(figsize=(0.95 * (count + 1) + 0.6, 1.06 * len(units) + 0.4), layout="constrained")
    axes = figure.subplots(len(units), count + 1, squeeze=False)
    largest = float(np.percentile(np.abs(basis), 99.5)) or 1.0
    for row, unit in zip(axes, units, strict=True):
        order = np.argsort(-np.abs(coupling[unit]), kind="stable")[:count]
        row[0].imshow(gray(pictures[unit], float(np.abs(pictures[unit]).max()) or 1.0))
        row[0].set_ylabel(str(unit), rotation=0, ha="right", va="center", fontsize=9)
        for axis, channel in zip(row[1:], order, strict=True):
            axis.imshow(gray(basis[channel], largest))
            axis.set_title(
                f"{channel}: {coupling[unit, channel]:+.2f}".replace("-", "\N{MINUS SIGN}"), fontsize=7, pad=2
            )
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    axes[0, 0].set_title("virtual filter", fontsize=8, pad=2)
    if title:
        figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    return figure


def gray(kernel: Float[np.ndarray, "color height width"], largest: float) -> Float[np.ndarray, "height width rgb"]:
    """A kernel as a picture around middle gray: 0.5 + kernel / (2 largest), clipped; of other than three inputs, the
    mean of all.
    """
    color = kernel if len(kernel) == 3 else np.repeat(kernel.mean(0, keepdims=True), 3, 0)
    return np.moveaxis(np.clip(0.5 + color / (2 * largest), 0, 1), 0, -1)
