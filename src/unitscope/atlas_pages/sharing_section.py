"""Shared channels on the first page: of each pair of layers a matrix of similarities, and what stands on its diagonal.

A matrix is a small picture with a pixel per pair of channels, transparent where nothing is similar. Everything else is
HTML and SVG from `templates/panels/sharing.html.j2`, for which this file computes places and heights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from unitscope.analysis.channel_identity import Identity, identity
from unitscope.analysis.channel_sharing import WHAT, Pair, pairs_of, plain_title
from unitscope.atlas_pages.data_scripts import slugs
from unitscope.errors import BadInput
from unitscope.html_templates import render
from unitscope.record import Record

if TYPE_CHECKING:
    from markupsafe import Markup

CHANNEL_PERMUTATIONS = 1000

SIMILAR_COLOR, OPPOSITE_COLOR = (182, 63, 39), (58, 118, 168)

ROW, LEFT, WIDTH = 15, 190, 330
"""Height of a row, where the axis begins and how long it is, in the figure of advantages."""


@dataclass(frozen=True, eq=False)
class LayerPair:
    """A pair of layers with the statistics of its diagonal."""

    pair: Pair
    found: Identity

    @property
    def network(self) -> str:
        return plain_title(self.pair.network)

    @property
    def trained(self) -> bool:
        return self.pair.seed is None

    @property
    def between_networks(self) -> bool:
        return " | " in self.pair.network

    @property
    def row(self) -> tuple[str, str]:
        """The two sites without their last words: a sum, and the site at its place in a network without skips, share a
        row of the figure.
        """
        first, second = (site.rpartition(".")[0] or site for site in (self.pair.first, self.pair.second))
        return (first, second) if first != second else (self.pair.first, self.pair.second)


def section_of(records: Sequence[Record], folder: Path) -> Markup | None:
    """The section, its matrices written to `folder`; None where no stage is known, or nothing of one."""
    try:
        pairs = list(pairs_of(records))
    except BadInput:
        return None
    generator = np.random.default_rng(0)
    tested = [LayerPair(pair, identity(pair.similarity, generator=generator, permutations=CHANNEL_PERMUTATIONS,
                                        resamples=CHANNEL_PERMUTATIONS)) for pair in pairs]  # fmt: skip
    tested = [one for one in tested if one.found.channels >= 3]
    if not tested:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    kinds = [
        _one_kind(what, [one for one in tested if one.pair.what == what], folder)
        for what in dict.fromkeys(one.pair.what for one in tested)
    ]
    return render("panels/sharing.html.j2", kinds=kinds)


def _one_kind(what: str, tested: Sequence[LayerPair], folder: Path) -> dict[str, Any]:
    """All pairs whose similarity is of one kind: the figure of advantages, and a group of matrices per network."""
    within = [one for one in tested if not one.between_networks]
    networks = list(dict.fromkeys(one.network for one in within))
    groups = {name: [one for one in within if one.network == name and one.trained] for name in networks}
    between = [one for one in tested if one.between_networks]
    if between:
        groups[between[0].pair.network.replace(" | ", " against ")] = between
    return {
        "what": what,
        "says": WHAT[what],
        "advantages": _advantages(within, networks),
        "groups": [{"title": title, "matrices": _matrices(of, folder)} for title, of in groups.items() if of],
    }


def _matrices(tested: Sequence[LayerPair], folder: Path) -> list[dict[str, Any]]:
    """Write the matrices as pictures, and give what stands below each."""
    names = [f"{one.pair.network} {one.pair.what} {one.pair.first} {one.pair.second}" for one in tested]
    known = slugs(names)
    matrices = []
    for one, name in zip(tested, names, strict=True):
        path = folder / f"{known[name]}.png"
        write_matrix(one.pair.similarity, path)
        matrices.append(
            {
                "source": f"{folder.name}/{path.name}",
                "first": one.pair.first,
                "second": one.pair.second,
                "found": one.found,
                "cka": one.pair.alignment if np.isfinite(one.pair.alignment) else None,
                "distributions": _distributions(one.pair.similarity),
            }
        )
    return matrices


def write_matrix(similarity: np.ndarray, path: Path) -> None:
    """A pixel per pair of channels: red where similar, blue where opposite, the clearer the weaker."""
    values = np.clip(np.nan_to_num(similarity), -1, 1)
    # The sign sets the color, the magnitude the alpha channel: 0 is transparent on any background.
    color = np.where((values >= 0)[..., None], SIMILAR_COLOR, OPPOSITE_COLOR)
    Image.fromarray(np.dstack([color, np.rint(255 * np.abs(values))]).astype(np.uint8), "RGBA").save(
        path, optimize=True
    )


def _distributions(similarity: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """How the similarities off and on the diagonal are distributed from -1 to 1, each to its own height."""
    kept = np.flatnonzero(np.isfinite(np.diag(similarity)))
    matrix = similarity[np.ix_(kept, kept)]
    own = np.eye(len(matrix), dtype=bool)
    heights = []
    for kind, values in (("others", matrix[~own]), ("same", matrix[own])):
        counts = np.histogram(values[np.isfinite(values)], np.linspace(-1, 1, 29))[0]
        heights.append((kind, 24 * counts / max(1, counts.max())))
    return heights


def _advantages(tested: Sequence[LayerPair], networks: Sequence[str]) -> dict[str, Any]:
    """A figure with a row per pair of layers, and in it a mark per network with its interval; untrained copies hollow.

    layer1.0 ~ layer1.1        |      o   --x--
    layer1.1 ~ layer1.2        |   o    ----x--
                               0                 1
    """
    rows = list(dict.fromkeys(one.row for one in tested))
    low = float(min(0.0, *(np.floor(4 * one.found.ci_low) / 4 for one in tested)))
    return {
        "networks": networks,
        "untrained": any(not one.trained for one in tested),
        "width": LEFT + WIDTH + 12,
        "height": ROW * len(rows),
        "ticks": [{"x": _x(value, low), "value": value} for value in np.arange(low, 1.01, 0.25)],
        "rows": [
            {"x": LEFT - 12, "y": ROW * place + 11, "first": first, "second": second}
            for place, (first, second) in enumerate(rows)
        ],
        "marks": [_mark(one, rows.index(one.row), networks, low) for one in tested],
    }


def _mark(one: LayerPair, row: int, networks: Sequence[str], low: float) -> dict[str, Any]:
    place = networks.index(one.network)
    return {
        "place": place,
        "network": one.pair.network,
        "trained": one.trained,
        "found": one.found,
        "x": _x(one.found.advantage, low),
        "low": _x(one.found.ci_low, low),
        "high": _x(one.found.ci_high, low),
        "y": ROW * row + 7.5 + 3 * (place - (len(networks) - 1) / 2),
    }


def _x(value: float, low: float) -> float:
    """Where a value stands on an axis from `low` to 1."""
    return LEFT + WIDTH * float(np.clip((value - low) / (1 - low), 0, 1))
