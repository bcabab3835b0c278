"""How alike outcomes are: alignment, the three similarities, the index and its test (methods 10, checks 22)."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from unitscope.synthesis import placement
from unitscope.synthesis.placement import View
from unitscope.vocabulary import Box

SIDE, STRIDE = 12, (4, 4)


def views(pictures: np.ndarray) -> list[View]:
    """Pictures [position seed color height width], each position's whole field on the picture."""
    boxes = [Box(0, 40 * n, SIDE, 40 * n + SIDE) for n in range(len(pictures))]
    return [
        View(one.astype(np.float32), box, box, (box.top, box.left)) for one, box in zip(pictures, boxes, strict=True)
    ]


def drawn(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal((*shape, 3, SIDE, SIDE))


def blurred(pictures: np.ndarray, _frame: Box, _positions: tuple[int, ...]) -> np.ndarray:
    return placement.blurred(pictures, STRIDE)


def index_of(pictures: np.ndarray, *, seed: int = 0, permutations: int = 99) -> placement.Specificity:
    similarity = placement.similarities(views(pictures), blurred)
    rng = np.random.default_rng(seed)
    return placement.specificity(similarity, rng=rng, permutations=permutations, resamples=99)


def test_outcomes_of_one_distribution_have_an_index_around_zero_and_every_p_is_as_likely() -> None:
    found = [index_of(drawn(np.random.default_rng(n), 4, 3), seed=n) for n in range(80)]
    assert abs(np.mean([one.index for one in found])) < 0.02
    assert stats.kstest([one.p for one in found], "uniform").pvalue > 0.01
    assert np.mean([one.low <= 0 <= one.high for one in found]) > 0.7


def test_templates_planted_at_positions_have_an_index_near_one() -> None:
    rng = np.random.default_rng(0)
    found = index_of(drawn(rng, 4, 1) + 0.1 * drawn(rng, 4, 3))
    assert found.index > 0.95
    assert found.p == pytest.approx(1 / 100)
    assert found.low > 0.9
    assert found.low <= found.index <= found.high


def test_the_index_is_the_difference_over_what_is_left_to_differ() -> None:
    similarity = np.full((2, 2, 2, 2), 0.2)
    similarity[0, :, 0, :] = similarity[1, :, 1, :] = 0.6
    for p in range(2):
        np.fill_diagonal(similarity[p, :, p, :], np.nan)
    found = placement.specificity(similarity, rng=np.random.default_rng(0))
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
        View(pictures, inner, inner, (inner.top, inner.left)),
        View(at_the_edge, seen, seen, (edge.top, edge.left)),
    ]
    found = placement.similarities(both, blurred)
    np.testing.assert_allclose([found[0, s, 1, s] for s in range(3)], 1, atol=1e-6)
    expected = placement.blurred(at_the_edge, STRIDE)
    np.testing.assert_allclose(found[0, 0, 0, 1], expected[0, 1], atol=1e-6)
    np.testing.assert_allclose(found[0, 0, 1, 1], expected[0, 1], atol=1e-6)


def test_positions_that_share_too_little_are_not_compared() -> None:
    pictures = drawn(np.random.default_rng(0), 2, 3).astype(np.float32)
    corners = [Box(0, 0, SIDE, SIDE), Box(0, 0, SIDE, SIDE)]
    seen = [Box(0, 0, 2, 2), Box(1, 1, SIDE, SIDE)]
    two = [View(p, b, s, (0, 0)) for p, b, s in zip(pictures, corners, seen, strict=True)]
    found = placement.similarities(two, blurred)
    assert np.isnan(found[0, :, 1, :]).all()
    assert np.isfinite(found[0, 0, 0, 1])
    assert np.isnan(placement.specificity(found, rng=np.random.default_rng(0)).index)


def test_shifted_finds_what_blurred_misses() -> None:
    picture = np.random.default_rng(2).standard_normal((3, 40, 40))
    pair = np.stack([picture[:, 3:35, 4:36], picture[:, :32, :32]]).astype(np.float32)
    assert abs(placement.blurred(pair, (2, 2))[0, 1]) < 0.2
    assert placement.shifted(pair, (4, 4))[0, 1] > 0.75  # what moved out of the frame is lost
    assert placement.shifted(pair, (2, 2))[0, 1] < 0.2
    np.testing.assert_allclose(np.diag(placement.shifted(pair, (4, 4))), 1, atol=1e-5)


def test_blurring_is_by_half_a_stride() -> None:
    from scipy.ndimage import gaussian_filter1d

    line = np.random.default_rng(3).standard_normal(64)
    np.testing.assert_allclose(
        (placement._blur(64, 2.0) @ line)[16:48], gaussian_filter1d(line, 2.0, truncate=8)[16:48], atol=1e-5
    )


def test_one_position_or_one_seed_leaves_the_index_undefined() -> None:
    pictures = drawn(np.random.default_rng(0), 2, 1)
    found = index_of(pictures)
    assert np.isnan(found.index)
    assert "not defined" in str(found)
