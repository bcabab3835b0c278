"""How alike optimal stimuli are within a position of the lattice and between positions (methods 3.6). No torch.

An outcome is an optimal stimulus found for one position, with one seed. Outcomes of different positions are aligned by
the shift of their fields, and compared on the rectangle that lies in both fields and on the network's picture; what
hangs over the edge would else pass for a difference:

    field of A, at the corner       . . . |x x        the picture begins at |; A sees x
    field of B                      y y y  y y        B sees all of it
    compared on                            x x

How alike outcomes of one position are depends on the rectangle, too: outcomes agree in the middle of a field and differ
at its edge. So likeness within a position is taken on the same rectangles as likeness across, for each pair of
positions anew, and leaving a position out leaves out all rectangles that were shared with it.

Example: a corner A, which sees a quarter of its field, and B and C, which see theirs whole. B is compared with itself
on the quarter shared with A when A and B are compared, and on the whole field when B and C are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from unitscope.resampling import percentile_interval, permutation_p
from unitscope.vocabulary import Box, Size

SimilarityFunction = Callable[
    [Float[np.ndarray, "picture color height width"], Box, tuple[int, ...]], Float64[np.ndarray, "picture other"]
]
"""How alike pictures are, from the pictures, their rectangle relative to the field, and their positions."""

LEAST = 1 / 16
"""Positions are not compared where the rectangle they share is a smaller part of what either sees than this."""


SAME = 0.05
"""Outcomes more alike than 1 less this count as the same: the index is not divided by less."""


@dataclass(frozen=True, eq=False)
class PlacedPictures:
    """The outcomes of one position: contrast pictures (RGB less the color of rest) of `box`, with what is `seen` of it.

    `origin` is where the pixel (0, 0) of the field without borders would be; boxes of other positions are compared
    relative to it. `seen` is the part of the field that lies on the network's picture.
    """

    contrast: Float[np.ndarray, "seed color height width"]
    box: Box
    seen: Box
    origin: Size

    @property
    def frame(self) -> Box:
        """`seen`, relative to the field."""
        return self.seen.shift(-self.origin[0], -self.origin[1])

    def cut(self, frame: Box) -> Float[np.ndarray, "seed color rows cols"]:
        """The part of the pictures in a box relative to the field, which must lie within `frame`."""
        place = frame.shift(self.origin[0] - self.box.top, self.origin[1] - self.box.left)
        return self.contrast[:, :, place.top : place.bottom, place.left : place.right]


def compare_positions(
    placed: Sequence[PlacedPictures], similarity: SimilarityFunction, *, least: float = LEAST
) -> Float64[np.ndarray, "position other_position picture other_picture"]:
    """How alike the outcomes of each two positions are, aligned, on the rectangle that the two share.

    [i, j] has the outcomes of position i, then those of j, both ways; [i, i] those of i on all that it sees, then NaN.
    NaN for an outcome with itself, and where two positions share less than `least` of what either sees.
    """
    count, seeds = len(placed), len(placed[0].contrast)
    found = np.full((count, count, 2 * seeds, 2 * seeds), np.nan)
    for i in range(count):
        found[i, i, :seeds, :seeds] = similarity(placed[i].cut(placed[i].frame), placed[i].frame, (i,))
        for j in range(i + 1, count):
            frame = placed[i].frame & placed[j].frame
            areas = [one.frame.height * one.frame.width for one in (placed[i], placed[j])]
            if frame.height * frame.width > max(1, least * max(areas)):
                both = similarity(np.concatenate([placed[i].cut(frame), placed[j].cut(frame)]), frame, (i, j))
                # Rolled by half along both axes: the outcomes of j first, then those of i.
                found[i, j], found[j, i] = both, np.roll(both, seeds, (0, 1))
    found[:, :, range(2 * seeds), range(2 * seeds)] = np.nan
    return found


def similarities(
    comparisons: Float64[np.ndarray, "position other_position picture other_picture"],
) -> Float64[np.ndarray, "position seed other_position other_seed"]:
    """How alike all outcomes are: between positions on the rectangle that the two share; within a position the mean
    over the rectangles that it shares with the others, or on all that it sees where it shares none.
    """
    count, seeds = len(comparisons), comparisons.shape[2] // 2
    found = comparisons[:, :, :seeds, seeds:].transpose(0, 2, 1, 3).copy()
    others = compared_pairs(comparisons)
    for i in range(count):
        on = np.flatnonzero(others[i]) if others[i].any() else [i]
        found[i, :, i, :] = comparisons[i, on, :seeds, :seeds].mean(0)
    return found


def compared_pairs(
    comparisons: Float64[np.ndarray, "position other_position picture other_picture"],
) -> Bool[np.ndarray, "position other_position"]:
    """Which positions share enough to be compared; none with itself."""
    known = np.isfinite(comparisons).any((2, 3))
    np.fill_diagonal(known, False)
    return known


# --- how alike two pictures are -----------------------------------------------------------------------------


def blurred_correlation(
    pictures: Float[np.ndarray, "picture color height width"], stride: Size
) -> Float64[np.ndarray, "picture other"]:
    """Pearson correlation of contrast pictures, blurred with sigma = half a stride, over all pixels and colors."""
    return correlations(blur_pictures(pictures, stride).reshape(len(pictures), -1))


def blur_pictures(
    pictures: Float[np.ndarray, "*many color height width"], stride: Size
) -> Float[np.ndarray, "*many color height width"]:
    """Pictures blurred with sigma = half a stride."""
    rows, cols = (_gaussian_weights(length, step / 2) for length, step in zip(pictures.shape[-2:], stride, strict=True))
    found: np.ndarray = rows @ pictures.astype(np.float32) @ cols.T
    return found


def _gaussian_weights(length: int, sigma: float) -> Float[np.ndarray, "out length"]:
    """Gaussian weights that sum to 1 over what there is."""
    at = np.arange(length)
    weights = np.exp(-0.5 * ((at[:, None] - at[None, :]) / max(sigma, 1e-6)) ** 2)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def shifted_correlation(
    pictures: Float[np.ndarray, "picture color height width"], stride: Size
) -> Float64[np.ndarray, "picture other"]:
    """The largest normalized cross-correlation of contrast pictures over shifts by up to a stride each way."""
    from scipy.fft import irfft2, next_fast_len, rfft2

    centered = pictures - pictures.mean((1, 2, 3), keepdims=True)
    norms = np.sqrt((centered.astype(np.float64) ** 2).sum((1, 2, 3)))
    reach = [min(step, length - 1) for step, length in zip(stride, pictures.shape[2:], strict=True)]
    # Filled up with zeros by the largest shift: what is shifted out on one side must not come in on the other.
    size = [next_fast_len(length + step, real=True) for step, length in zip(reach, pictures.shape[2:], strict=True)]
    waves = rfft2(centered, s=size)
    found = np.empty((len(pictures), len(pictures)))
    # Of the correlation, shifts of 0 and more are the first places, and negative shifts the last ones.
    near = np.ix_(*(np.r_[0 : step + 1, length - step : length] for step, length in zip(reach, size, strict=True)))
    for n, wave in enumerate(waves):
        crossed = irfft2((wave.conj() * waves).sum(1), s=size)
        with np.errstate(invalid="ignore", divide="ignore"):
            found[n] = crossed[(slice(None), *near)].max((1, 2)) / (norms[n] * norms)
    return found


SIMILARITIES = {"blurred": blurred_correlation, "shifted": shifted_correlation}
"""By name. A third, "features", is the cosine of what the network makes of the pictures: see transfer.py."""


def correlations(rows: Float[np.ndarray, "picture value"]) -> Float64[np.ndarray, "picture other"]:
    """Pearson correlations of all rows; NaN with one that does not vary."""
    centered = (rows - rows.mean(1, keepdims=True)).astype(np.float64)
    return cosines(centered)


def cosines(rows: Float[np.ndarray, "picture value"]) -> Float64[np.ndarray, "picture other"]:
    """Cosines of all rows; NaN with one that is 0."""
    norms = np.linalg.norm(rows.astype(np.float64), axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.clip((rows @ rows.T) / (norms[:, None] * norms[None, :]), -1, 1)


# --- the index ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Specificity:
    """How much more alike outcomes are within positions than across them.

    `index` is (within - across) / (1 - across): 0 where the position makes no difference, 1 where outcomes of a
    position are the same and those of others are not. `p` is the share of permutations of the position labels with as
    large a difference; `low` and `high` bound the middle 95 % of bootstrap resamples of the seeds. NaN where nothing
    compares.
    """

    positions: int
    index: float = float("nan")
    within: float = float("nan")
    across: float = float("nan")
    p: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")

    def __str__(self) -> str:
        if np.isnan(self.index):
            return f"position-specificity not defined ({self.positions} positions)"
        return f"position-specificity {self.index:.2f} ({self.low:.2f} to {self.high:.2f}, p = {self.p:.3g})"


def specificity(
    comparisons: Float64[np.ndarray, "position other_position picture other_picture"],
    *,
    rng: np.random.Generator,
    permutations: int = 999,
    resamples: int = 999,
) -> Specificity:
    """The position-specificity index (methods 3.6) of outcomes compared by `compare_positions`.

    Within and across are means over the pairs of positions that are compared, both on the rectangle of each pair. The
    test compares their difference with that under permuted labels of position, as PERMANOVA does with distances; the
    smallest p is 1 / (1 + permutations). It is exact where all positions see the same part of their fields; else it
    rejects too seldom. The bootstrap draws seeds anew within each position; a picture is never compared with itself.
    """
    count, seeds = len(comparisons), comparisons.shape[2] // 2
    if count < 2 or seeds < 2:
        return Specificity(count)
    flat = similarities(comparisons).reshape(count * seeds, count * seeds)
    labels = np.repeat(np.arange(count), seeds)
    weights = _weights(compared_pairs(comparisons)[labels][:, labels], labels)
    own = np.arange(len(labels))
    within, across = (float(mean[0]) for mean in _means(flat, weights, labels[None], own[None]))
    if np.isnan(within) or np.isnan(across):
        return Specificity(count, within=within, across=across)
    shuffled = rng.permuted(np.tile(labels, (permutations, 1)), axis=1)
    differences = np.subtract(*_means(flat, weights, shuffled, np.tile(own, (permutations, 1))))
    (p,) = permutation_p(np.array([within - across]), differences[None])
    # Numbers of outcomes: the seeds of position p are p * seeds, .., p * seeds + seeds - 1.
    chosen = (rng.integers(seeds, size=(resamples, count, seeds)) + seeds * np.arange(count)[:, None]).reshape(
        resamples, count * seeds
    )
    spread = _index(*_means(flat, weights, np.tile(labels, (resamples, 1)), chosen))
    spread = spread[np.isfinite(spread)]
    (low,), (high,) = percentile_interval(spread[:, None]) if len(spread) else ((np.nan,), (np.nan,))
    index = float(_index(np.array([within]), np.array([across]))[0])
    return Specificity(count, index, within, across, float(p), float(low), float(high))


def _weights(
    compared: Bool[np.ndarray, "picture other"], labels: Int64[np.ndarray, " picture"]
) -> Float64[np.ndarray, "picture other"]:
    """1 across, and within a position the share of the others that it is compared with: the number of rectangles that
    count is then the same within and across.
    """
    count = labels[-1] + 1
    others = compared.sum(1) / np.sum(labels == 0) / (count - 1)
    return np.where(labels[:, None] == labels[None, :], others[:, None], 1.0)


def _index(within: np.ndarray, across: np.ndarray) -> np.ndarray:
    found: np.ndarray = (within - across) / np.maximum(1 - across, SAME)
    return found


def _means(
    flat: Float64[np.ndarray, "picture other"],
    weights: Float64[np.ndarray, "picture other"],
    labels: Int64[np.ndarray, "draw picture"],
    pictures: Int64[np.ndarray, "draw picture"],
) -> tuple[Float64[np.ndarray, " draw"], Float64[np.ndarray, " draw"]]:
    """For each draw of pictures and their labels: the weighted mean similarity, of what is known, of those with the
    same label, and of those with different ones.
    """
    within, across = np.full((2, len(labels)), np.nan)
    # An outcome drawn twice would meet itself; its similarity with itself is NaN, and so weighs nothing.
    weights = np.where(np.isfinite(flat), weights, 0)
    weighted = np.where(weights > 0, flat, 0) * weights
    # Some draws at a time, so that memory holds them.
    step = max(1, 2_000_000 // flat.size)
    for first in range(0, len(labels), step):
        part = slice(first, first + step)
        chosen = (pictures[part, :, None], pictures[part, None, :])
        same = labels[part, :, None] == labels[part, None, :]
        for mean, those in ((within, same), (across, ~same)):
            weight = np.where(those, weights[chosen], 0).sum((1, 2))
            total = np.where(those, weighted[chosen], 0).sum((1, 2))
            mean[part] = np.divide(total, weight, out=np.full(len(weight), np.nan), where=weight > 0)
    return within, across


def means_by_pair(
    comparisons: Float64[np.ndarray, "position other_position picture other_picture"],
) -> tuple[Float64[np.ndarray, "position other"], Float64[np.ndarray, "position other"]]:
    """Of each pair of positions, on the rectangle that they share: W, the mean similarity within the first, and A, that
    across (NaN where not compared).
    """
    seeds = comparisons.shape[2] // 2
    apart = ~np.eye(len(comparisons), dtype=bool)
    parts = (comparisons[:, :, :seeds, :seeds], comparisons[:, :, :seeds, seeds:])
    within, across = (_mean_of_known(np.where(apart[:, :, None, None], part, np.nan)) for part in parts)
    return within, across


def _mean_of_known(
    values: Float64[np.ndarray, "position other seed other_seed"],
) -> Float64[np.ndarray, "position other"]:
    known = np.isfinite(values)
    sums, numbers = np.where(known, values, 0).sum((2, 3)), known.sum((2, 3))
    return np.divide(sums, numbers, out=np.full(sums.shape, np.nan), where=numbers > 0)
