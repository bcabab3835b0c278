"""A channel's way through its stage: the same place in every block, and how alike it is from one to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from unitscope.analysis.channel_sharing import LEAST, Pair, channels_of, mean_similarity, means_of, response_similarity
from unitscope.record import Record, SiteFacts

if TYPE_CHECKING:
    from jaxtyping import Float


def family(record: Record, site: SiteFacts) -> list[SiteFacts]:
    """The sites that hold a site's place in the other blocks of its stage: of its name but for the block's number, its
    operation, channels and lattice. A max-pooling of these channels and lattice stands before a stage's first sums (and
    their rectifications).
    """
    alike = [s for s in record.sites.values() if (s.channels, s.lattice) == (site.channels, site.lattice)]
    if site.operation == "max_pool2d":
        behind = next((s for s in alike if s.first_unit > site.first_unit and _leaves_block(record, s)), None)
        return [site] if behind is None else family(record, behind)
    found = [s for s in alike if s.operation == site.operation and _placeless(s.name) == _placeless(site.name)]
    pooled = [s for s in alike if s.operation == "max_pool2d" and s.first_unit < found[0].first_unit]
    return [*pooled[-1:], *found] if pooled and len(found) > 1 and _leaves_block(record, found[0]) else found


def _placeless(name: str) -> str:
    return ".".join("*" if word.isdecimal() else word for word in name.split("."))


def _leaves_block(record: Record, site: SiteFacts) -> bool:
    """Whether a site is what leaves a block: its sum, or the last of its blocks' sites, as in a plain twin."""
    block = site.name.rpartition(".")[0]
    own = [other.name for other in record.sites.values() if other.name.rpartition(".")[0] == block]
    return site.operation == "add" or site.name == own[-1]


@dataclass(frozen=True, eq=False)
class Step:
    """From one site to the next of a stage, [unit] each: similarity of a channel to itself, NaN where undefined; the
    rank of that among all channels (1: the highest); and the most similar channel (-1 where undefined).
    """

    what: str
    same: Float[np.ndarray, " unit"]
    rank: Float[np.ndarray, " unit"]
    most_similar: Any


def step(record: Record, first: str, second: str, *, least: int = LEAST) -> list[Step]:
    """How alike each channel is at two sites of a record: by mean preferred stimuli, and by responses where it holds
    them. Nothing that is not known.
    """
    found = [
        ("mean stimulus", mean_similarity(means_of(record, first), means_of(record, second), least=least)),
        ("response", response_similarity(record, first, second)),
    ]
    return [_step(what, matrix) for what, matrix in found if matrix is not None]


def _step(what: str, similarity: Float[np.ndarray, "unit other"]) -> Step:
    same, rank, similar = np.diag(similarity).copy(), np.full(len(similarity), np.nan), np.full(len(similarity), -1)
    table = channels_of([Pair("", what, "", "", similarity)])
    if len(table):
        rank[table["channel"]], similar[table["channel"]] = table["rank"], table["most_similar"]
    return Step(what, same, rank, similar)
