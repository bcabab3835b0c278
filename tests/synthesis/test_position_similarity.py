"""How alike outcomes are: alignment, the three similarities, the index and its test (methods 10, checks 22)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from unitscope.synthesis import position_similarity
from unitscope.synthesis.position_similarity import PlacedPictures
from unitscope.vocabulary import Box

SIDE, STRIDE = 12, (4, 4)


def views(pictures: np.ndarray) -> list[PlacedPictures]:
    """Pictures [position seed color height width], each position's whole field on the picture."""
    boxes = [Box(0, 40 * n, SIDE, 40 * n + SIDE) for n in range(len(pictures))]
    return [
        PlacedPictures(one.astype(np.float32), box, box, (box.top, box.left))
        for one, box in zip(pictures, boxes, strict=True)
    ]


def draw_numbers(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal((*shape, 3, SIDE, SIDE))


def blurred(pictures: np.ndarray, _frame: Box, _positions: tuple[int, ...]) -> np.ndarray:
    return position_similarity.blurred_correlation(pictures, STRIDE)


def index_of(pictures: np.ndarray, *, seed: int = 0, permutations: int = 99) -> position_similarity.Specificity:
    comparisons = position_similarity.compare_positions(views(pictures), blurred)
    rng = np.random.default_rng(seed)
    return position_similarity.specificity(comparisons, rng=rng, permutations=permutations, resamples=99)


def test_outcomes_of_one_distribution_have_an_index_around_zero_and_every_p_is_as_likely() -> None:
    found = [index_of(draw_numbers(np.random.default_rng(n), 4, 3), seed=n) for n in range(80)]
    assert abs(np.mean([one.index for one in found])) < 0.02
    assert stats.kstest([one.p for one in found], "uniform").pvalue > 0.01
    assert np.mean([one.low <= 0 <= one.high for one in found]) > 0.7


def test_templates_planted_at_positions_have_an_index_near_one() -> None:
    rng = np.random.default_rng(0)
    found = index_of(draw_numbers(rng, 4, 1) + 0.1 * draw_numbers(rng, 4, 3))
    assert found.index > 0.95
    assert found.p == pytest.approx(1 / 100)
    assert found.low > 0.9
    assert found.low <= found.index <= found.high


def scenes(rng: np.random.Generator, count: int, *, middle: float) -> np.ndarray:
    """Outcomes that agree in the middle of their field by `middle`, and differ by smooth noise, at its edge most."""
    from scipy.ndimage import gaussian_filter

    at = np.arange(SIDE) - (SIDE - 1) / 2
    bump = np.exp(-(at[:, None] ** 2 + at[None, :] ** 2) / (2 * (SIDE / 6) ** 2))
    noise = gaussian_filter(rng.standard_normal((count, 3, SIDE, SIDE)), (0, 0, 1.5, 1.5))
    return (noise / noise.std() + middle * bump * np.sign(np.add.outer(at, at))).astype(np.float32)


def seen_at(pictures: np.ndarray, frames: list[Box]) -> list[PlacedPictures]:
    """Views of outcomes [position seed color height width], of which only a frame in the field lies on the picture."""
    return [
        PlacedPictures(one[:, :, f.top : f.bottom, f.left : f.right], f, f, (0, 0))
        for one, f in zip(pictures, frames, strict=True)
    ]


WHOLE, HALF = Box(0, 0, SIDE, SIDE), SIDE // 2
CORNER = [Box(HALF, HALF, SIDE, SIDE), WHOLE, WHOLE, WHOLE]
"""A corner that sees a quarter of its field, and three positions that see the whole."""
BORDERS = [
    Box(HALF * (r == 0), HALF * (c == 0), HALF if r == 2 else SIDE, HALF if c == 2 else SIDE)
    for r in range(3) for c in range(3)
]  # fmt: skip
"""Three times three positions, of which only the middle one sees its whole field."""


def nulls(frames: list[Box], among: list[int], draws: int) -> list[position_similarity.Specificity]:
    """Indices where outcomes come from one distribution at all positions, `among` some of which they are compared."""
    found = []
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        pictures = scenes(rng, 3 * len(frames), middle=3.0).reshape(len(frames), 3, 3, SIDE, SIDE)
        comparisons = position_similarity.compare_positions(seen_at(pictures, frames), blurred)[np.ix_(among, among)]
        found.append(position_similarity.specificity(comparisons, rng=rng, permutations=99, resamples=20))
    return found


def centered(found: list[position_similarity.Specificity]) -> np.ndarray:
    """The p of indices whose mean does not differ from 0."""
    apart = np.array([one.within - one.across for one in found])
    assert abs(apart.mean()) < 3 * apart.std() / np.sqrt(len(apart))
    return np.array([one.p for one in found])


def test_the_null_is_exact_among_inner_positions_whatever_a_corner_shares_with_them() -> None:
    p = centered(nulls(CORNER, [1, 2, 3], 60))
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_where_positions_see_different_parts_the_test_rejects_no_more_than_it_says() -> None:
    p = centered(nulls(CORNER, [0, 1, 2, 3], 40))
    assert np.mean(p <= 0.05) <= 0.125


@pytest.mark.long
@pytest.mark.parametrize(
    ("frames", "among", "least"), [(CORNER, (1, 2, 3), 0.03), (CORNER, (0, 1, 2, 3), 0.02), (BORDERS, range(9), 0.005)]
)
def test_nulls_at_length(frames: list[Box], among: Sequence[int], least: float) -> None:
    p = centered(nulls(frames, list(among), 500))
    assert least <= np.mean(p <= 0.05) <= 0.07


def test_likeness_within_a_position_is_taken_on_the_rectangles_of_likeness_across() -> None:
    """The middle is alike and the edge is not: what is shared with the corner is less alike than the whole field."""
    rng = np.random.default_rng(4)
    pictures = scenes(rng, 12, middle=6.0).reshape(4, 3, 3, SIDE, SIDE)
    comparisons = position_similarity.compare_positions(seen_at(pictures, CORNER), blurred)
    quarter, whole = (
        position_similarity.blurred_correlation(pictures[1][:, :, part, part], STRIDE)
        for part in (slice(HALF, None), slice(None))
    )
    np.testing.assert_allclose(comparisons[1, 0, 0, 1], quarter[0, 1], atol=1e-6)
    np.testing.assert_allclose(comparisons[1, 2, 0, 1], whole[0, 1], atol=1e-6)
    similarity = position_similarity.similarities(comparisons)
    np.testing.assert_allclose(similarity[1, 0, 1, 1], (quarter[0, 1] + 2 * whole[0, 1]) / 3, atol=1e-6)
    inner = position_similarity.similarities(comparisons[1:, 1:])
    np.testing.assert_allclose(inner[0, 0, 0, 1], whole[0, 1], atol=1e-6)
    within, across = position_similarity.means_by_pair(comparisons)
    assert within[1, 0] == pytest.approx(np.mean(quarter[np.triu_indices(3, 1)]), abs=1e-6)
    assert within[1, 2] == pytest.approx(np.mean(whole[np.triu_indices(3, 1)]), abs=1e-6)
    assert across[1, 2] == pytest.approx(np.nanmean(comparisons[1, 2, :3, 3:]))
    assert np.isnan(np.diag(within)).all()


def test_where_not_all_positions_compare_the_same_rectangles_count_within_and_across() -> None:
    """A compares with B, B with C, C with D only; likeness depends on the rectangle, not on the position."""
    comparisons = np.full((4, 4, 4, 4), np.nan)
    for i, j, alike in ((0, 1, 0.2), (1, 2, 0.8), (2, 3, 0.2)):
        comparisons[i, j] = comparisons[j, i] = np.where(np.eye(4, dtype=bool), np.nan, alike)
    found = position_similarity.specificity(comparisons, rng=np.random.default_rng(0))
    assert (found.within, found.across) == pytest.approx((0.4, 0.4))
    assert found.index == pytest.approx(0)


@pytest.mark.long
def test_intervals_hold_the_index_of_many_outcomes_in_most_draws() -> None:
    held = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        apart = (0.0, 0.7)[seed % 2]
        templates = [scenes(rng, 1, middle=3.0) + apart * scenes(rng, 1, middle=0.0) for _ in range(4)]
        many = np.stack([one + 0.7 * scenes(rng, 33, middle=0.0) for one in templates])
        truth = index_of(many[:, 3:], permutations=1).index
        found = index_of(many[:, :3], seed=seed)
        held.append(found.low <= truth <= found.high)
    assert np.mean(held) > 0.92


def test_the_index_is_the_difference_over_what_is_left_to_differ() -> None:
    comparisons = np.full((2, 2, 4, 4), 0.2)
    comparisons[:, :, :2, :2] = comparisons[:, :, 2:, 2:] = 0.6
    comparisons[:, :, range(4), range(4)] = np.nan
    found = position_similarity.specificity(comparisons, rng=np.random.default_rng(0))
    assert (found.within, found.across) == pytest.approx((0.6, 0.2))
    assert found.index == pytest.approx(0.5)


def test_what_hangs_over_the_edge_is_no_difference() -> None:
    """One scene, seen by all positions in their own field; at the border only a part of it lies on the picture."""
    rng = np.random.default_rng(1)
    scene = rng.standard_normal((1, 3, SIDE, SIDE)).astype(np.float32)
    pictures = np.concatenate(
        [scene + 0.5 * rng.standard_normal((1, 3, SIDE, SIDE)).astype(np.float32) for _ in range(3)]
    )
    inner = Box(20, 20, 20 + SIDE, 20 + SIDE)
    edge = Box(-5, -3, SIDE - 5, SIDE - 3)
    seen = edge.clip((64, 64))
    at_the_edge = pictures[:, :, 5:, 3:]
    both = [
        PlacedPictures(pictures, inner, inner, (inner.top, inner.left)),
        PlacedPictures(at_the_edge, seen, seen, (edge.top, edge.left)),
    ]
    found = position_similarity.similarities(position_similarity.compare_positions(both, blurred))
    np.testing.assert_allclose([found[0, s, 1, s] for s in range(3)], 1, atol=1e-6)
    expected = position_similarity.blurred_correlation(at_the_edge, STRIDE)
    np.testing.assert_allclose(found[0, 0, 0, 1], expected[0, 1], atol=1e-6)
    np.testing.assert_allclose(found[0, 0, 1, 1], expected[0, 1], atol=1e-6)


def test_positions_that_share_too_little_are_not_compared() -> None:
    pictures = draw_numbers(np.random.default_rng(0), 2, 3).astype(np.float32)
    corners = [Box(0, 0, SIDE, SIDE), Box(0, 0, SIDE, SIDE)]
    seen = [Box(0, 0, 2, 2), Box(1, 1, SIDE, SIDE)]
    two = [PlacedPictures(p, b, s, (0, 0)) for p, b, s in zip(pictures, corners, seen, strict=True)]
    comparisons = position_similarity.compare_positions(two, blurred)
    found = position_similarity.similarities(comparisons)
    assert np.isnan(found[0, :, 1, :]).all()
    assert np.isfinite(found[0, 0, 0, 1])
    assert np.isnan(position_similarity.specificity(comparisons, rng=np.random.default_rng(0)).index)


def test_shifted_finds_what_blurred_misses() -> None:
    picture = np.random.default_rng(2).standard_normal((3, 40, 40))
    pair = np.stack([picture[:, 3:35, 4:36], picture[:, :32, :32]]).astype(np.float32)
    assert abs(position_similarity.blurred_correlation(pair, (2, 2))[0, 1]) < 0.2
    assert position_similarity.shifted_correlation(pair, (4, 4))[0, 1] > 0.75  # what moved out of the frame is lost
    assert position_similarity.shifted_correlation(pair, (2, 2))[0, 1] < 0.2
    np.testing.assert_allclose(np.diag(position_similarity.shifted_correlation(pair, (4, 4))), 1, atol=1e-5)


def test_blurring_is_by_half_a_stride() -> None:
    from scipy.ndimage import gaussian_filter1d

    line = np.random.default_rng(3).standard_normal(64)
    np.testing.assert_allclose(
        (position_similarity._gaussian_weights(64, 2.0) @ line)[16:48],
        gaussian_filter1d(line, 2.0, truncate=8)[16:48],
        atol=1e-5,
    )


def test_one_position_or_one_seed_leaves_the_index_undefined() -> None:
    pictures = draw_numbers(np.random.default_rng(0), 2, 1)
    found = index_of(pictures)
    assert np.isnan(found.index)
    assert "not defined" in str(found)
