"""Complexity and tiling of patterns whose nature we know."""

from __future__ import annotations

import numpy as np
import pytest

from unitscope.reproductions.zipser_patterns import complexity, tiling


def grating(cycles: tuple[int, int], *, side: int = 16) -> np.ndarray:
    at = np.arange(side) / side
    wave = np.cos(2 * np.pi * np.add.outer(cycles[0] * at, cycles[1] * at) + 0.3)
    return np.stack([wave, wave, 0.5 * wave])


@pytest.mark.parametrize("cycles", [(0, 3), (3, 0), (2, 5), (0, 8)])
def test_a_grating_takes_one_wave_and_two_of_them_take_two(cycles: tuple[int, int]) -> None:
    assert complexity(grating(cycles)) == pytest.approx(1)
    assert complexity(grating((2, 3)) + grating((4, 1)) + 7) == pytest.approx(2)


@pytest.mark.parametrize("side", [15, 16])
def test_noise_takes_almost_as_many_waves_as_there_are(side: int) -> None:
    rng = np.random.default_rng(0)
    found = np.mean([complexity(rng.standard_normal((3, side, side))) for _ in range(20)])
    assert 0.75 < found / ((side**2 - 1) / 2) < 1
    assert np.isnan(complexity(np.zeros((3, 8, 8))))


def test_an_outcome_is_found_again_where_a_picture_repeats_it() -> None:
    rng = np.random.default_rng(1)
    one, other = rng.standard_normal((2, 3, 7, 7))
    picture = 0.1 * rng.standard_normal((3, 30, 30))
    picture[:, 20:27, 4:11] += 0.3 * one
    assert tiling(one, picture) > 0.9
    assert tiling(other, picture) < 0.5
    assert np.isnan(tiling(rng.standard_normal((3, 30, 30)), picture))
    windows = [
        np.corrcoef(other.ravel(), picture[:, r : r + 7, c : c + 7].ravel())[0, 1] for r in range(24) for c in range(24)
    ]
    assert tiling(other, picture) == pytest.approx(max(windows))
