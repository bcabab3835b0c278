"""Shared channels on the first page: of each pair of layers a matrix of similarities, and what stands on its diagonal.

Matrices are small pictures, a pixel per pair of channels, transparent where nothing is similar; all else is HTML and
SVG.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import markupsafe
import numpy as np
from PIL import Image

from unitscope.analysis.channel_identity import Identity, identity
from unitscope.analysis.channel_sharing import WHAT, Pair, pairs_of, plain_title
from unitscope.atlas_pages.data_scripts import slugs
from unitscope.errors import BadInput
from unitscope.record import Record

PERMUTATIONS = 1000

SIMILAR, OPPOSITE = (182, 63, 39), (58, 118, 168)

ROW, LEFT, WIDTH = 15, 190, 330
"""Height of a row, where the axis begins and how long it is, in the figure of advantages."""


@dataclass(frozen=True, eq=False)
class Told:
    """A pair of layers with its statistics."""

    pair: Pair
    found: Identity

    @property
    def network(self) -> str:
        return plain_title(self.pair.network)

    @property
    def trained(self) -> bool:
        return self.pair.seed is None


def section_of(records: Sequence[Record], folder: Path) -> markupsafe.Markup | None:
    """The section, its matrices written to `folder`; None where no stage is known, or nothing of one."""
    try:
        pairs = list(pairs_of(records))
    except BadInput:
        return None
    generator = np.random.default_rng(0)
    told = [Told(pair, identity(pair.similarity, generator=generator, permutations=PERMUTATIONS,
                                resamples=PERMUTATIONS)) for pair in pairs]  # fmt: skip
    told = [one for one in told if one.found.channels >= 3]
    if not told:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    parts = [_legend()]
    for place, what in enumerate(dict.fromkeys(one.pair.what for one in told)):
        parts.append(_of_one_kind(what, [one for one in told if one.pair.what == what], folder, opened=place == 0))
    return markupsafe.Markup("").join(parts)


def _legend() -> markupsafe.Markup:
    return markupsafe.Markup(
        '<p class="caption">Does the same channel prefer the same thing in different layers? Rows and columns of a '
        "matrix are the channels of two layers; where channels keep their identity, the diagonal stands out. "
        "Advantage: mean similarity of the same channel less that of different ones, with a 95 % interval over "
        "channels. Found: channels most similar to themselves.</p>"
    )


def _of_one_kind(what: str, told: Sequence[Told], folder: Path, *, opened: bool) -> markupsafe.Markup:
    within = [one for one in told if " | " not in one.pair.network]
    networks = list(dict.fromkeys(one.network for one in within))
    shown = [_matrices(name, [one for one in within if one.network == name and one.trained], folder)
             for name in networks]  # fmt: skip
    between = [one for one in told if " | " in one.pair.network]
    if between:
        shown.append(_matrices(between[0].pair.network.replace(" | ", " against "), between, folder))
    return markupsafe.Markup(
        '<details class="kind"{}><summary>{}<small>{}</small></summary>{}{}</details>'
    ).format(
        markupsafe.Markup(" open") if opened else "", f"By {what}", WHAT[what], _advantages(within, networks),
        markupsafe.Markup("").join(shown),
    )  # fmt: skip


def _matrices(title: str, told: Sequence[Told], folder: Path) -> markupsafe.Markup:
    names = [f"{one.pair.network} {one.pair.what} {one.pair.first} {one.pair.second}" for one in told]
    known = slugs(names)
    cells = []
    for one, name in zip(told, names, strict=True):
        path = folder / f"{known[name]}.png"
        write_matrix(one.pair.similarity, path)
        cells.append(_cell(one, f"{folder.name}/{path.name}"))
    if not cells:
        return markupsafe.Markup("")
    return markupsafe.Markup('<h3>{}</h3><div class="matrices">{}</div>').format(
        title, markupsafe.Markup("").join(cells)
    )


def _cell(one: Told, source: str) -> markupsafe.Markup:
    found, pair = one.found, one.pair
    cka = "" if not np.isfinite(pair.alignment) else f" CKA {pair.alignment:.2f}."
    more = (
        f"p = {found.p:.3g} by permutation of channels; AUC {found.auc:.2f}; mean reciprocal rank "
        f"{found.reciprocal_rank:.2f}; the best matching (Hungarian) keeps {100 * found.kept_by_matching:.0f} %.{cka}"
    )
    return markupsafe.Markup(
        '<figure class="matrix" title="{}"><img src="{}" alt="{}" loading="lazy">{}<figcaption><strong>{} ~ {}</strong>'
        "<span>{} <small>({} to {})</small></span><span>{} found</span></figcaption></figure>"
    ).format(
        more, source, f"similarities of the channels of {pair.first} and {pair.second}",
        _distributions(pair.similarity), pair.first, pair.second,
        f"{found.advantage:.2f}", f"{found.ci_low:.2f}", f"{found.ci_high:.2f}",
        f"{100 * found.identified:.0f} % of {found.channels}",
    )  # fmt: skip


def write_matrix(similarity: np.ndarray, path: Path) -> None:
    """A pixel per pair of channels: red where similar, blue where opposite, the clearer the weaker."""
    values = np.clip(np.nan_to_num(similarity), -1, 1)
    color = np.where((values >= 0)[..., None], SIMILAR, OPPOSITE)
    Image.fromarray(np.dstack([color, np.rint(255 * np.abs(values))]).astype(np.uint8), "RGBA").save(
        path, optimize=True
    )


def _distributions(similarity: np.ndarray) -> markupsafe.Markup:
    """How the similarities on and off the diagonal are distributed from -1 to 1, each to its own height."""
    kept = np.flatnonzero(np.isfinite(np.diag(similarity)))
    matrix = similarity[np.ix_(kept, kept)]
    own = np.eye(len(matrix), dtype=bool)
    paths = []
    for kind, values in (("others", matrix[~own]), ("same", matrix[own])):
        counts = np.histogram(values[np.isfinite(values)], np.linspace(-1, 1, 29))[0]
        heights = 24 * counts / max(1, counts.max())
        steps = "".join(f"V{26 - height:.1f}H{4 * (place + 1)}" for place, height in enumerate(heights))
        paths.append(markupsafe.Markup('<path class="{}" d="M0 26{}V26Z"/>').format(kind, steps))
    return markupsafe.Markup(
        '<svg viewBox="0 0 112 27" preserveAspectRatio="none" aria-hidden="true"><path class="zero" d="M56 0V27"/>'
        "{}</svg>"
    ).format(markupsafe.Markup("").join(paths))


def _advantages(told: Sequence[Told], networks: Sequence[str]) -> markupsafe.Markup:
    """A row per pair of layers, a mark per network with its interval; untrained copies hollow."""
    rows = list(dict.fromkeys(map(_place, told)))
    lines = markupsafe.Markup("").join(_row(place, name) for place, name in enumerate(rows))
    low = float(min(0.0, *(np.floor(4 * one.found.ci_low) / 4 for one in told)))
    marks = markupsafe.Markup("").join(_mark(one, rows.index(_place(one)), networks, low) for one in told)
    height = ROW * len(rows)
    ticks = markupsafe.Markup("").join(
        markupsafe.Markup(
            '<path class="grid" d="M{x:.1f} 0V{h}"/><text x="{x:.1f}" y="{y}" text-anchor="middle">{v:g}</text>'
        ).format(x=_x(value, low), h=height, y=height + 12, v=value)
        for value in np.arange(low, 1.01, 0.25)
    )  # fmt: skip
    keys = markupsafe.Markup("").join(
        markupsafe.Markup('<span class="key network-{}">{}</span>').format(min(place, 3), name)
        for place, name in enumerate(networks)
    )
    hollow = (
        markupsafe.Markup('<span class="key hollow">untrained</span>') if any(not one.trained for one in told) else ""
    )
    return markupsafe.Markup(
        '<p class="caption keys">advantage of the same channel {}{}</p><div class="scrolls">'
        '<svg class="advantages" viewBox="0 -4 {} {}" '
        'role="img" aria-label="advantage of the same channel, pair by pair">{}{}{}</svg></div>'
    ).format(keys, hollow, LEFT + WIDTH + 12, height + 20, ticks, lines, marks)


def _row(place: int, name: tuple[str, str]) -> markupsafe.Markup:
    return markupsafe.Markup('<text x="{}" y="{}" text-anchor="end">{} ~ {}</text>').format(
        LEFT - 12, ROW * place + 11, *name
    )


def _mark(one: Told, row: int, networks: Sequence[str], low: float) -> markupsafe.Markup:
    place = networks.index(one.network)
    y = ROW * row + 7.5 + 3 * (place - (len(networks) - 1) / 2)
    kind = f"network-{min(place, 3)}"
    said = f"{one.pair.network}: {one.found.advantage:.2f} ({one.found.ci_low:.2f} to {one.found.ci_high:.2f})"
    interval = markupsafe.Markup('<path d="M{:.1f} {y:.1f}H{:.1f}"/>').format(
        _x(one.found.ci_low, low), _x(one.found.ci_high, low), y=y
    )
    return markupsafe.Markup('<g class="{}"><title>{}</title>{}<circle cx="{:.1f}" cy="{:.1f}" r="2.6"/></g>').format(
        kind if one.trained else f"{kind} hollow",
        said,
        interval if one.trained else "",
        _x(one.found.advantage, low),
        y,
    )


def _x(value: float, low: float) -> float:
    """Where a value stands on an axis from `low` to 1."""
    return LEFT + WIDTH * float(np.clip((value - low) / (1 - low), 0, 1))


def _place(one: Told) -> tuple[str, str]:
    """A pair's sites without their last words, so that a sum and what stands there without a skip share a row."""
    first, second = (site.rpartition(".")[0] or site for site in (one.pair.first, one.pair.second))
    return (first, second) if first != second else (one.pair.first, one.pair.second)
