"""Optimal stimuli of many objectives in one call: searched for, kept in a folder, resumed and scored.

    units --parse--> objectives --less those in the folder--> searches in batches --> parts in the folder --> Optima

The search is in optimize.py, its parts in recipes.py, the folder in optima.py, scores in evaluate.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from unitscope.errors import BadInput
from unitscope.networks import Network
from unitscope.optima import Optima, begin_set, read_optima, read_scores, refuse_foreign, write_part, write_scores
from unitscope.option_groups import SearchOptions
from unitscope.record import open_record
from unitscope.synthesis.canvases import STARTS, Photograph, Start
from unitscope.synthesis.evaluate import score
from unitscope.synthesis.network_cache import NetworkCache, cache_of
from unitscope.synthesis.objectives import At, Objective, ObjectiveLike, parse_objectives
from unitscope.synthesis.optimize import Progress, Search
from unitscope.synthesis.recipes import Recipe, recipe_of

if TYPE_CHECKING:
    from unitscope.record import Record

POLES = {"preferred": 1.0, "antipreferred": -1.0}


def maximize(
    network: Network,
    units: ObjectiveLike | Iterable[ObjectiveLike],
    *,
    at: At = "center",
    recipe: str | Recipe = "contrast",
    pole: str = "preferred",
    seeds: int = SearchOptions.seeds,
    seed: int = SearchOptions.seed,
    after: bool = SearchOptions.after,
    start: str | Start | Float[Tensor, "color height width"] | None = None,
    bf16: bool = SearchOptions.bf16,
    batch: int | None = SearchOptions.batch,
    to: str | Path | Record | None = None,
    name: str | None = None,
    scores: bool | None = None,
    progress: Progress | None = None,
) -> Optima:
    """Optimal stimuli: pictures to which units or neurons respond most, or with the pole "antipreferred" least.

    Args:
        network: it is left as it was.
        units: SITE:CHANNEL, SITE:* or SITE:3-7 (globs allowed), each with @ROW,COL for a neuron, or objectives
            (objectives.py).
        at: the position where none is given: "center" (the neuron at the lattice's center), "all" (the mean of the
            unit's map), (row, col), or several of these.
        recipe: one of recipes.RECIPES, or a Recipe.
        pole: "preferred" or "antipreferred".
        seeds: searches per objective. Each has random numbers of its own, drawn from `seed`, its objective and its
            number, so that a result does not depend on what else is asked for.
        seed: from which all chance is drawn.
        after: read responses after the nonlinearity of the site, not before it. (Before a maximum of a nonlinearity is
            the maximum of what enters the nonlinearity.)
        start: in place of the recipe's: "zeros", "dots", "noise", or a photograph, RGB in 0..1 of the network's size.
        bf16: search in half precision. The final responses are measured in float32 always.
        batch: at most so many pictures in one pass; by default as many as fit into half a gigabyte.
        to: a record or a folder, in whose `optima/NAME` the optima are kept. Those there already are not made anew, and
            the same call resumes one that was interrupted.
        name: by default that of recipe and pole.
        scores: whether `optima.scores` says how good they are (evaluate.score), against the record's natural stimuli
            where there is a record; by default where `to` is a record.
        progress: called as progress(done, all).

    Returns:
        An Optimum per objective, in the order in which they were asked for.

    Raises:
        UnknownName: the network has no such site, or there is no such recipe.
        BadInput: there is no such channel, position or pole; the response depends on weights that are not finite, on
            other pictures, on chance or on state; or no gradient leads from it to the picture.
        Failure: the folder is the record of another network, or holds optima that were made otherwise.

    Example:
        >>> optima = unitscope.maximize(network, "maxpool:1", recipe="zipser2015", seeds=2)
        >>> optima.pictures.shape, optima[0].responses.shape  # unit seed color height width
        ((1, 2, 3, 11, 11), (2,))
    """
    cache = cache_of(network)
    objectives = parse_objectives(units, cache.sites, at=at)
    cache.check_steadiness(dict.fromkeys(term.unit.site for one in objectives for term in one.terms))
    recipe = recipe_of(recipe, size=network.size)
    if start is not None:
        recipe = with_start(recipe, start)
    _check_arguments(pole, seeds, batch)
    facts = facts_of(cache, recipe, pole=pole, seeds=seeds, seed=seed, after=after, bf16=bf16)
    search = Search(cache, recipe, POLES[pole], seeds, seed, after, bf16, batch)
    if to is None:
        # Batches come in an order of their own; the caller's is restored by the names.
        by_name = {one.objective: one for part in search.run(objectives, progress) for one in part}
        optima = Optima(tuple(by_name[str(objective)] for objective in objectives), facts)
        return replace(optima, scores=score(network, optima)) if scores else optima
    place = Path(to) if isinstance(to, str | Path) else to.path
    refuse_foreign(place, facts["network"])
    folder = place / "optima" / (name or f"{recipe.name}-{pole}")
    there = begin_set(folder, facts)
    waiting = [objective for objective in objectives if str(objective) not in there]
    # Each part is on the disk before the next begins, so that an interrupted call loses one part at most.
    for part in search.run(waiting, progress):
        write_part(folder, part)
    record = _record_at(to)
    if scores or (scores is None and record is not None):
        keep_scores(network, folder, [str(objective) for objective in objectives], record)
    return read_optima(folder, [str(objective) for objective in objectives])


def keep_scores(
    network: Network,
    folder: Path,
    objectives: Sequence[str],
    record: Record | None,
    *,
    progress: Progress | None = None,
) -> None:
    """Score those of a set of optima that have no scores yet."""
    there = read_scores(folder)
    known = set() if there is None else set(there.objective)
    waiting = [objective for objective in objectives if objective not in known]
    if waiting:
        write_scores(folder, score(network, read_optima(folder, waiting), record=record, progress=progress))


def _record_at(to: str | Path | Record) -> Record | None:
    """The record that optima are kept in, where it is one."""
    if not isinstance(to, str | Path):
        return to
    return open_record(to) if (Path(to) / "record.json").is_file() else None


def group_by_site(
    network: Network, units: ObjectiveLike | Iterable[ObjectiveLike], *, at: At = "center"
) -> dict[str, list[Objective]]:
    """The objectives that are asked for, by site, in the order of execution: the optima of one site fit into memory."""
    sites = cache_of(network).sites
    asked: dict[str, list[Objective]] = {}
    for objective in parse_objectives(units, sites, at=at):
        asked.setdefault(objective.terms[0].unit.site, []).append(objective)
    return {name: asked[name] for name in sites if name in asked}


def load_photograph(path: str | Path, network: Network) -> Float[Tensor, "color height width"]:
    """An image file as the network is shown it, RGB in 0..1. Raises BadInput where it cannot be read."""
    from unitscope.stimuli.items import Unreadable
    from unitscope.stimuli.presentation import Presentation

    try:
        shown = Presentation(network.size).present(Path(path).read_bytes())
    except (OSError, Unreadable) as error:
        raise BadInput(f"{path} cannot be read as a picture to start from: {error}") from error
    return torch.from_numpy(shown).permute(2, 0, 1).float() / 255


def _check_arguments(pole: str, seeds: int, batch: int | None) -> None:
    if pole not in POLES:
        raise BadInput(f"{pole!r} is no pole; there are 'preferred' and 'antipreferred'.")
    if seeds < 1 or (batch is not None and batch < 1):
        raise BadInput(f"seeds was {seeds} and batch {batch}; expected whole numbers of at least 1.")


def with_start(recipe: Recipe, start: str | Start | Tensor) -> Recipe:
    """The recipe with another start."""
    if isinstance(start, str):
        if start not in STARTS:
            raise BadInput(
                f"{start!r} is no start; there are {', '.join(STARTS)}, and a photograph (a tensor, RGB 0..1)."
            )
        start = STARTS[start]
    elif isinstance(start, Tensor):
        start = Photograph(start)
    return replace(recipe, start=start)


def facts_of(
    cache: NetworkCache, recipe: Recipe, *, pole: str, seeds: int, seed: int, after: bool, bf16: bool
) -> dict[str, Any]:
    """How optima were made, for the record."""
    network = cache.network
    return {
        "format": 1,
        "recipe": recipe.facts(),
        "pole": pole,
        "seeds": seeds,
        "seed": seed,
        "reads": "after the nonlinearity" if after else "before the nonlinearity",
        "precision": "bfloat16" if bf16 else "float32",
        "network": {
            "name": network.name,
            **cache.identity,
            "size": list(network.size),
            "mean": list(network.mean),
            "std": list(network.std),
            "order": network.order,
        },
        "versions": {package: version(package) for package in ("unitscope", "torch")},
    }
