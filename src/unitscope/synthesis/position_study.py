"""One unit, optimal stimuli at many positions of its lattice: does it matter where a neuron is? (zipser2015)

All neurons of a unit have the same weights, so that their optimal stimuli differ for two reasons only: chance, and what
their fields lose at the edge of the picture (there the network pads maps with zeros, and a neuron may learn to answer
to that). Several outcomes per position tell the two apart:

    position      outcomes, one per seed
    3,3           a0  a1  a2        alike within a position and across: the position does not matter
    0,0           b0  b1  b2        alike within, different across: it does

Similarity and the index are in position_similarity.py, responses to outcomes at other positions in transfer.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from dataclasses import field as held
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64

from unitscope.errors import BadInput, unknown_name
from unitscope.networks import Network
from unitscope.optima import Optima, Optimum
from unitscope.option_groups import PositionSearchOptions
from unitscope.synthesis import position_similarity
from unitscope.synthesis.canvases import Dots
from unitscope.synthesis.maximize import maximize
from unitscope.synthesis.network_cache import cache_of
from unitscope.synthesis.objectives import check_term, neuron
from unitscope.synthesis.objectives import unit as everywhere
from unitscope.synthesis.position_similarity import PlacedPictures, Specificity
from unitscope.synthesis.recipes import Recipe, recipe_of
from unitscope.synthesis.transfer import feature_similarity, gram_similarity, transferred_responses
from unitscope.vocabulary import Box, ReceptiveField, Site, Size, Unit

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from unitscope.record import Record

Progress = Callable[[int, int], None]

SIMILARITIES = (*position_similarity.SIMILARITIES, "features")


@dataclass(frozen=True, eq=False, repr=False)
class PositionStudy:
    """Optimal stimuli of one unit at some positions of its lattice, several outcomes each.

    Attributes:
        unit: what was maximized.
        lattice: of its site.
        field: by whose stride pictures are moved.
        picture: the size of the network's picture.
        places: the positions (row, col), in the order of all arrays.
        outcomes: an Optimum per position, with a picture per seed.
        tiled: pictures for all positions of the lattice at once.
        transferred: what the neuron at `other_position` answers to the outcome of `position`, moved there.
        features: how alike other units find the outcomes of each two positions: see `comparisons`.
        gram: the cosine of the Gram matrices of other units' responses to the tiled pictures.
        rest: the color, in the module's order of channels, at which pictures begin; where pictures have it still, they
            say nothing.
    """

    unit: Unit
    lattice: Size
    field: ReceptiveField
    picture: Size
    places: tuple[Size, ...]
    outcomes: Optima
    tiled: Optimum | None
    transferred: Float64[np.ndarray, "position other_position seed"]
    features: Float64[np.ndarray, "position other_position picture other_picture"]
    gram: Float64[np.ndarray, "seed other_seed"] | None = None
    rest: tuple[float, ...] = ()
    _known: dict[str, np.ndarray] = held(default_factory=dict)

    # --- the facts of the positions

    @property
    def boxes(self) -> tuple[Box, ...]:
        """The fields of the neurons; they may hang over the picture's edge."""
        return tuple(self.field.box(*place) for place in self.places)

    @property
    def fall_off(self) -> Float64[np.ndarray, " position"]:
        """The share of each field that lies off the picture, 0..1."""
        return np.array([box.fall_off(self.picture) for box in self.boxes])

    @property
    def interior(self) -> tuple[int, ...]:
        """Which of the positions have their whole field on the picture."""
        return tuple(int(n) for n in np.flatnonzero(self.fall_off == 0))

    @property
    def field_ratio(self) -> float:
        """The field's side over the picture's (geometric mean of both axes)."""
        return float(np.sqrt(np.prod(self.field.size) / np.prod(self.picture)))

    @property
    def seeds(self) -> int:
        return self.transferred.shape[2]

    # --- how alike the outcomes are

    def comparisons(
        self, kind: str = "blurred", *, among: Sequence[int] | None = None
    ) -> Float64[np.ndarray, "position other_position picture other_picture"]:
        """How alike the outcomes of each two positions are, aligned, on what their fields share on the picture
        (methods 3.6), for all positions or `among` some (their numbers, for instance `study.interior`).

        [i, j] has the outcomes of position i, then those of j, both ways. `kind` is "blurred" (Pearson correlation of
        contrast pictures, blurred by half a stride), "shifted" (the largest normalized cross-correlation over shifts up
        to a stride) or "features" (the cosine of what other units add to their answers to the blank picture, where the
        same part of both is shown at the same position, for either of the two). NaN for an outcome with itself, and for
        positions that share too little.
        """
        if kind not in SIMILARITIES:
            raise unknown_name("similarity", kind, SIMILARITIES, advice=f"There are {', '.join(SIMILARITIES)}.")
        if kind not in self._known:
            measure = position_similarity.SIMILARITIES.get(kind)
            self._known[kind] = self.features if measure is None else position_similarity.compare_positions(
                placed_pictures(self.outcomes, self.boxes, self.picture, rest=self.rest),
                lambda pictures, _frame, _positions: measure(pictures, self.field.stride),
            )  # fmt: skip
        found = self._known[kind]
        return found if among is None else found[np.ix_(among, among)]

    def similarity(
        self, kind: str = "blurred", *, among: Sequence[int] | None = None
    ) -> Float64[np.ndarray, "position seed other_position other_seed"]:
        """How alike all outcomes are, all or those `among` some positions: between positions as in `comparisons`,
        within a position the mean over the rectangles that it shares with the others of these.
        """
        return position_similarity.similarities(self.comparisons(kind, among=among))

    def specificity(
        self,
        kind: str = "blurred",
        *,
        among: Sequence[int] | None = None,
        seed: int = 0,
        permutations: int = 999,
        resamples: int = 999,
    ) -> Specificity:
        """The position-specificity index, its permutation test and bootstrap interval, over all positions or `among`
        some; positions that are left out count for nothing, also not by what the others share with them.
        """
        rng = np.random.default_rng(seed)
        return position_similarity.specificity(
            self.comparisons(kind, among=among), rng=rng, permutations=permutations, resamples=resamples
        )

    # --- what they do at other positions

    @property
    def responses(self) -> Float64[np.ndarray, "position seed"]:
        """What each neuron answers to its own outcomes."""
        return np.einsum("ppS->pS", self.transferred)

    @property
    def transfer(self) -> Float64[np.ndarray, "position other_position"]:
        """T(p, p'): what the neuron at p' answers to the outcomes of p, over what it answers to its own (methods 3.6),
        each the mean over seeds. NaN where it does not rise above 0 for its own.

        Between positions with their whole field on the picture it differs from 1 only as outcomes differ by chance.
        """
        return _positive_ratio(self.transferred.mean(2), self.responses.mean(1)[None, :])

    @property
    def kept(self) -> Float64[np.ndarray, "position other_position"]:
        """What the neuron at p' answers to the outcomes of p, over what the neuron at p answers: the mean over seeds.

        Exactly 1 between positions with their whole field on the picture, whatever the search found.
        """
        return _positive_ratio(self.transferred.mean(2), self.responses.mean(1)[:, None])

    # --- tables and figures

    def table(self, kind: str = "blurred") -> pd.DataFrame:
        """A row per ordered pair of positions: where, fall-off of both, similarity within and across, all on the
        rectangle that the two share, transfer."""
        import pandas as pd

        within, across = position_similarity.means_by_pair(self.comparisons(kind))
        transfer, kept, fall = self.transfer, self.kept, self.fall_off
        rows = []
        for i, (row, col) in enumerate(self.places):
            for j, (other_row, other_col) in enumerate(self.places):
                if i != j:
                    both = (within[i, j] + within[j, i]) / 2
                    index = (both - across[i, j]) / max(1 - across[i, j], position_similarity.SAME)
                    alike = (within[i, j], within[j, i], across[i, j], index)
                    rows.append((row, col, other_row, other_col, fall[i], fall[j], *alike, transfer[i, j], kept[i, j]))
        names = ["row", "col", "other_row", "other_col", "fall_off", "other_fall_off", "within", "other_within"]
        return pd.DataFrame(rows, columns=[*names, "across", "specificity", "transfer", "kept"])

    def facts(self, kind: str = "blurred") -> dict[str, Any]:
        """The study in numbers: unit, positions, seeds, field_ratio, fall_off (the most), within, across, index, low,
        high, p, and the medians over pairs of positions of transfer and kept.
        """
        found = self.specificity(kind)
        apart = ~np.eye(len(self.places), dtype=bool)
        medians = {
            name: float(np.median(known)) if len(known := both[apart & np.isfinite(both)]) else float("nan")
            for name, both in (("transfer", self.transfer), ("kept", self.kept))
        }
        return {
            "unit": str(self.unit), "positions": len(self.places), "seeds": self.seeds,
            "field_ratio": self.field_ratio, "fall_off": float(self.fall_off.max()),
            **{name: getattr(found, name) for name in ("within", "across", "index", "low", "high", "p")}, **medians,
        }  # fmt: skip

    def figure(self) -> Figure:
        """Positions in rows, outcomes in columns, and at the bottom those of all positions at once (zipser2015)."""
        from unitscope.synthesis.position_figures import outcomes_by_position

        return outcomes_by_position(self)

    def __repr__(self) -> str:
        field = f"field {self.field} px, {self.field_ratio:.2f} of the picture"
        size = f"{len(self.places)} positions x {self.seeds} outcomes"
        fall = self.fall_off
        return (
            f"<PositionStudy {self.unit}: {size}, {field}, fall-off {fall.min():.0%} to {fall.max():.0%}; "
            f"{self.specificity()}>"
        )


def _positive_ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below; NaN where `below` is not positive."""
    below = np.broadcast_to(below, above.shape)
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)


def _single_unit(unit: str | Unit | Sequence[str | Unit]) -> Unit:
    """The unit that is asked for, also where it stands alone in a list. Raises BadInput."""
    if not isinstance(unit, str | Unit):
        if len(unit) != 1:
            raise BadInput(f"positions are those of one unit, and {len(unit)} came. Ask for each of them in a call.")
        unit = unit[0]
    return unit if isinstance(unit, Unit) else Unit.parse(unit)


def positions(
    network: Network,
    unit: str | Unit | Sequence[str | Unit],
    grid: Size = (3, 3),
    *,
    border: bool = True,
    at: Sequence[Size] | None = None,
    seeds: int = PositionSearchOptions.seeds,
    seed: int = PositionSearchOptions.seed,
    recipe: str | Recipe = "zipser2015",
    pole: str = "preferred",
    after: bool = PositionSearchOptions.after,
    tiled: bool = True,
    features: str | None = PositionSearchOptions.features,
    batch: int | None = PositionSearchOptions.batch,
    to: str | Path | Record | None = None,
    name: str | None = None,
    progress: Progress | None = None,
) -> PositionStudy:
    """Optimal stimuli of a unit at several positions of its lattice, several outcomes each, and how alike they are.

    Each outcome begins at random dots of its own, and nothing shifts or blurs it on the way (methods 3.2), so that what
    outcomes of one position share, and those of others lack, is the position's.

    Args:
        network: it is left as it was.
        unit: SITE:CHANNEL, or a Unit; also alone in a list.
        grid: rows x cols of positions, evenly spread over the lattice.
        border: whether the grid begins and ends at the lattice's border; else its positions are the middles of equal
            parts.
        at: the positions themselves, in place of a grid.
        seeds: outcomes per position. Fewer than two leave the index undefined.
        seed: from which all chance is drawn.
        recipe: as in `maximize`.
        pole: "preferred" or "antipreferred".
        after: read responses after the nonlinearity.
        tiled: also search for pictures that drive the unit at all positions of the lattice at once.
        features: the site whose units describe the outcomes for the similarity "features"; by default the unit's own,
            the unit itself left out.
        batch: at most so many pictures in a pass.
        to: a record or a folder, which keeps the optima, and from which an interrupted study goes on.
        name: the name of the set of optima; by default that of recipe and pole.
        progress: called as progress(done, all).

    Raises:
        UnknownName: the network has no such site, or there is no such recipe.
        BadInput: no such channel or position, more positions asked for than there are, or a site without positions.

    Source: zipser2015. Unlike the paper, similarity is a number (methods 3.6), and "stable" has one (methods 3.2).

    Example:
        >>> study = unitscope.positions(network, "maxpool:1", (1, 2), seeds=1, tiled=False)
        >>> study
        <PositionStudy maxpool:1: 2 positions x 1 outcomes, field 11 x 11 px, ...>
    """
    unit = _single_unit(unit)
    cache = cache_of(network)
    check_term(everywhere(unit).terms[0], cache.sites)
    site = cache.sites[unit.site]
    seen = _moving_field(site, unit.channel)
    places = grid_of(site, grid, border=border) if at is None else _checked_positions(at)
    asked = [neuron(unit, at=place) for place in places]
    for objective in asked:
        check_term(objective.terms[0], cache.sites)
    shown = site if features is None else cache.sites.get(features)
    if shown is None:
        raise unknown_name("site", str(features), cache.sites, where="the network")
    found = maximize(
        network, [*asked, everywhere(unit)] if tiled else asked, recipe=recipe, pole=pole, seeds=seeds, seed=seed,
        after=after, batch=batch, to=to, name=name, progress=progress,
    )  # fmt: skip
    rest = rest_of(recipe_of(recipe, size=network.size), network)
    outcomes = found[: len(asked)]
    whole = found[len(asked)] if tiled else None
    return PositionStudy(
        unit, site.lattice, seen, network.size, places, outcomes, whole,
        transferred=transferred_responses(cache, asked, outcomes, seen, places, post_activation=after),
        features=position_similarity.compare_positions(
            placed_pictures(outcomes, [seen.box(*place) for place in places], network.size, rest=rest),
            feature_similarity(cache, unit, site, shown, seen, places, rest=rest),
        ),
        gram=None if whole is None else gram_similarity(cache, shown, whole),
        rest=rest,
    )  # fmt: skip


def grid_of(site: Site, grid: Size, *, border: bool) -> tuple[Size, ...]:
    """Positions spread evenly over a lattice, row by row. Raises BadInput where the lattice has fewer."""
    axes = []
    for count, length in zip(grid, site.lattice, strict=True):
        if not 1 <= count <= length:
            raise BadInput(
                f"a grid of {grid[0]} x {grid[1]} positions was asked for; the lattice of {site.name} has "
                f"{site.lattice[0]} x {site.lattice[1]}."
            )
        if border and count > 1:
            axes.append([round(n * (length - 1) / (count - 1)) for n in range(count)])
        else:
            # The middle of part n of `count` equal parts.
            axes.append([(2 * n + 1) * length // (2 * count) for n in range(count)])
    return tuple((row, col) for row in axes[0] for col in axes[1])


def _checked_positions(at: Sequence[Size]) -> tuple[Size, ...]:
    places = tuple((int(row), int(col)) for row, col in at)
    if not places or len(set(places)) < len(places):
        raise BadInput(f"the positions were {list(at)}; expected at least one, and each once.")
    return places


def _moving_field(site: Site, channel: int) -> ReceptiveField:
    """The field by whose stride pictures are moved. Where only factors are taken from the whole picture, without these.

    Raises BadInput for a site whose neurons all see the same.
    """
    if site.lattice == (1, 1):
        raise BadInput(f"{site.name} is a vector, without positions; there is nothing to compare.")
    seen = site.field(channel)
    # Behind squeeze-and-excitation every neuron sees the whole picture, but its map's own field moves along with it.
    if 0 in seen.stride and site.views is not None:
        seen = site.field(channel, gating=False)
    if 0 in seen.stride:
        raise BadInput(f"all neurons of {site.name} see the same ({seen.status}); their positions cannot be compared.")
    return seen


def rest_of(recipe: Recipe, network: Network) -> tuple[float, ...]:
    """The color at which pictures begin: middle gray for random dots, else the mean color."""
    return (0.5,) * len(network.mean) if isinstance(recipe.start, Dots) else tuple(network.mean)


def placed_pictures(
    outcomes: Iterable[Optimum], boxes: Sequence[Box], picture: Size, *, rest: Sequence[float]
) -> list[PlacedPictures]:
    """Outcomes as they are compared: contrast to the color of rest, and what of their fields lies on the picture."""
    placed = []
    for box, one in zip(boxes, outcomes, strict=True):
        std, mean, gray = (np.asarray(n, np.float32)[:, None, None] for n in (one.light.std, one.light.mean, rest))
        contrast = one.whitened * std + (mean - gray)
        placed.append(PlacedPictures(contrast, one.box, box.clip(picture) & one.box, (box.top, box.left)))
    return placed
