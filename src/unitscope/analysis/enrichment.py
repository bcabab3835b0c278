"""What stands at the two ends of a unit's responses: shares of a category, and whether chance gives as much.

An end is the set of images with the highest, or the lowest, responses; [unit image], true for those in it.

    responses of a unit    low  o o x o o o o x o x o x x  high       x: images of the category
                           |lower end|         |upper end|            share at the upper end: 3 of 4

Chance may exchange only what belongs together (a class, a photograph), never single images: see `Lottery`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from unitscope.resampling import merge_clusters, permutation_p

MOST = 1000
"""Images at an end, as in the dog study ..."""

SHARE = 0.05
"""... but at most this share of all."""

DRAWS = 2000
"""With how many other choices of blocks a category is compared at most."""

Ends = Bool[np.ndarray, "unit image"]
PerUnit = Float[np.ndarray, " unit"]


def size_of_end(images: int) -> int:
    """How many images make an end: 1000, or 5 % where there are fewer than 20,000; at least one."""
    return max(1, min(MOST, int(images * SHARE)))


def end(responses: Float[np.ndarray, "unit image"], *, highest: bool, count: int) -> Ends:
    """The `count` highest (or lowest) responses of each unit.

    Of responses that are equal at the border none is in: which came first must not decide. So an end may be smaller,
    and a unit that responds to all images alike has none.
    """
    signed = responses if highest else -responses
    if count >= signed.shape[1]:
        return np.ones(signed.shape, dtype=bool)
    # The highest response that no longer fits into the end: what equals it stays outside, too.
    border = np.partition(signed, signed.shape[1] - count - 1, axis=1)[:, signed.shape[1] - count - 1]
    return signed > border[:, None]


@dataclass(frozen=True, eq=False)
class Lottery:
    """What else could have been the category: blocks of images that belong together, and draws among them.

    Images of one class are alike, and crops of one photograph much more so. What may be exchanged by chance is thus a
    whole class, or a whole photograph, never a single image of it. For example: of six classes of 170 images one is the
    category. A unit that prefers it could have preferred any of the six, so that p is 1/6 and not smaller, whether
    the class has 170 or 17,000 images.

    `block` [image]; `sizes` [block]: images in each; `inside` [block]: those of the category; `draws` [draw block]:
    other choices of blocks, every one where `every` is true. No draw where blocks cannot be exchanged; `reason` says
    why.
    """

    block: Int[np.ndarray, " image"]
    sizes: Int[np.ndarray, " block"]
    inside: Bool[np.ndarray, " block"]
    draws: Bool[np.ndarray, "draw block"]
    every: bool
    reason: str = ""

    @property
    def smallest_p(self) -> float:
        """The smallest p that can come; NaN where there is no draw."""
        return 1 / (len(self.draws) + (not self.every)) if len(self.draws) else float("nan")


def lottery(
    member: Bool[np.ndarray, " image"],
    label: Int[np.ndarray, " image"],
    photograph: Int[np.ndarray, " image"],
    *,
    seed: int = 0,
) -> Lottery:
    """The blocks that chance may exchange for those of a category.

    A category that consists of whole labels is exchanged for as many other labels (labels that share a photograph count
    as one). One that cuts through labels is exchanged for as many photographs of the same labels; where it cuts through
    photographs, too, there is nothing to exchange. Images without a label (-1) count as images of one more label.
    """
    classes = merge_clusters(label, photograph)
    if _whole(member, classes):
        block = classes
        inside = np.bincount(block, weights=member) > 0
        draws, every = groups(len(inside), int(inside.sum()), seed)
        return Lottery(block, np.bincount(block), inside, draws, every)
    block = np.unique(photograph, return_inverse=True)[1]
    sizes, inside = np.bincount(block), np.bincount(block, weights=member) > 0
    if not _whole(member, block):
        nothing = np.zeros((0, len(sizes)), dtype=bool)
        return Lottery(block, sizes, inside, nothing, False, "the category has some crops of a photograph, not all")
    of_block = np.zeros(len(sizes), dtype=np.int64)
    # All images of a photograph are in one class (merge_clusters), so it does not matter which is written last.
    of_block[block] = classes
    return Lottery(block, sizes, inside, _permute_labels(inside, of_block, seed), False)


@lru_cache(maxsize=32)
def groups(blocks: int, chosen: int, seed: int) -> tuple[Bool[np.ndarray, "draw block"], bool]:
    """Choices of so many blocks, and whether these are all that there are: up to DRAWS all, else as many at random."""
    if math.comb(blocks, chosen) > DRAWS:
        first = np.arange(blocks) < chosen
        return np.random.default_rng(seed).permuted(np.tile(first, (DRAWS, 1)), axis=1), False
    draws = np.zeros((math.comb(blocks, chosen), blocks), dtype=bool)
    for draw, places in zip(draws, combinations(range(blocks), chosen), strict=True):
        draw[list(places)] = True
    return draws, True


def enrichment_p(
    chosen: Ends, lotteries: Sequence[Lottery], *, tail: Literal["above", "below"] = "above"
) -> list[PerUnit]:
    """The chance of so large a share of each category among the images at an end ("below": or so small a one).

    Compared is the share at the end, less the share of all images, with that of other choices of blocks (see
    `lottery`). NaN where the end is empty, and where nothing can be exchanged.
    """
    known: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # categories of as many labels share their draws
    found = []
    for one in lotteries:
        if id(one.draws) not in known:
            counts = counts_of_blocks(chosen, one)
            known[id(one.draws)] = counts, excess(counts, one.sizes, one.draws)
        counts, under = known[id(one.draws)]
        found.append(_chance(counts, under, one, tail))
    return found


def _chance(counts: np.ndarray, under: np.ndarray, lottery: Lottery, tail: Literal["above", "below"]) -> PerUnit:
    if not len(lottery.draws):
        return np.full(len(counts), np.nan)
    value = excess(counts, lottery.sizes, lottery.inside[None])[:, 0]
    return permutation_p(value, under, tail=tail, every=lottery.every)


def excess(
    counts: Int[np.ndarray, "unit block"], sizes: Int[np.ndarray, " block"], choices: Bool[np.ndarray, "draw block"]
) -> Float[np.ndarray, "unit draw"]:
    """The share of the chosen blocks at the end, less their share of all images. NaN where the end is empty."""
    from scipy.sparse import csr_array

    drawn = counts.sum(1, keepdims=True).astype(float)
    # Sparse: most blocks have no image at an end.
    hits = csr_array(counts.astype(float)) @ choices.T.astype(float)
    share = np.divide(hits, drawn, out=np.full(hits.shape, np.nan), where=drawn > 0)
    return share - (choices @ sizes) / sizes.sum()


def counts_of_blocks(chosen: Ends, lottery: Lottery) -> Int[np.ndarray, "unit block"]:
    """How many images of each block are at the end."""
    from scipy.sparse import csr_array

    images = len(lottery.block)
    into = csr_array((np.ones(images, int), (np.arange(images), lottery.block)), (images, len(lottery.sizes)))
    return (csr_array(chosen.astype(int)) @ into).toarray()


def _whole(member: np.ndarray, block: np.ndarray) -> bool:
    """Whether each block is in the category with all of its images, or with none."""
    inside, sizes = np.bincount(block, weights=member), np.bincount(block)
    return bool(((inside == 0) | (inside == sizes)).all())


def _permute_labels(inside: np.ndarray, stratum: np.ndarray, seed: int) -> Bool[np.ndarray, "draw block"]:
    """The blocks' memberships in random order, within each stratum."""
    draws, generator = np.zeros((DRAWS, len(inside)), dtype=bool), np.random.default_rng(seed)
    for number in np.unique(stratum):
        here = stratum == number
        draws[:, here] = generator.permuted(np.tile(inside[here], (DRAWS, 1)), axis=1)
    return draws


def dichotomy(preferred: PerUnit, antipreferred: PerUnit) -> PerUnit:
    """The smaller of the two shares over the larger: 1 where the category stands at both ends alike, 0 where at one
    only.
    """
    low, high = np.minimum(preferred, antipreferred), np.maximum(preferred, antipreferred)
    return np.divide(low, high, out=np.full(len(low), np.nan), where=high > 0)


def overlap(one: Ends, other: Ends) -> PerUnit:
    """Jaccard's index of two ends: images in both over images in either."""
    either = (one | other).sum(1)
    both = (one & other).sum(1).astype(float)
    return np.divide(both, either, out=np.full(len(either), np.nan), where=either > 0)


def evenness(counts: Int[np.ndarray, "unit label"]) -> PerUnit:
    """Entropy of the labels at an end over that of equal shares: 1 where all labels stand there alike, 0 where one
    does. NaN where none does, and for a category of one label.
    """
    total = counts.sum(1, keepdims=True)
    if counts.shape[1] < 2:
        return np.full(len(counts), np.nan)
    shares = counts / np.maximum(total, 1)
    entropy = -(shares * np.log(np.where(shares > 0, shares, 1))).sum(1)
    return np.where(total[:, 0] > 0, np.clip(entropy / np.log(counts.shape[1]), 0, 1), np.nan)
