"""Means over positions against sums of patches taken one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unitscope.recording.position_means import (
    FieldScale,
    PositionSums,
    best_positions,
    correlate_patches,
    fast_length,
    gather_patches,
    multiply_patches,
)
from unitscope.vocabulary import ReceptiveField


def patches_one_by_one(mask: np.ndarray, pictures: np.ndarray, scale: FieldScale) -> tuple[np.ndarray, np.ndarray]:
    """Sums [unit color row col] of all patches at the positions of a mask; how many had each pixel on the picture."""
    units, colors = mask.shape[1], pictures.shape[1]
    total, n = np.zeros((units, colors, *scale.shape), np.int64), np.zeros((units, *scale.shape), np.int64)
    rows, cols = scale.starts(mask.shape[2:])
    for stimulus, unit, i, j in zip(*np.nonzero(mask), strict=True):
        for a in range(scale.shape[0]):
            for b in range(scale.shape[1]):
                row, col = rows[i] + a, cols[j] + b
                if 0 <= row < pictures.shape[2] and 0 <= col < pictures.shape[3]:
                    total[unit, :, a, b] += pictures[stimulus, :, row, col]
                    n[unit, a, b] += 1
    return total, n


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 1000),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    stride=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    start=st.tuples(st.integers(-5, 2), st.integers(-5, 2)),
    lattice=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    where=st.sampled_from(["best", "all"]),
)
def test_sums_are_exact(seed, size, stride, start, lattice, where):
    generator = torch.Generator().manual_seed(seed)
    pictures = torch.randint(0, 256, (3, 2, 14, 17), generator=generator, dtype=torch.uint8)
    responses = torch.randn(3, 4, *lattice, generator=generator)
    scale = FieldScale.of(ReceptiveField(size, stride, start), (14, 17))
    sums = PositionSums(
        where,
        scale,
        lattice,
        np.arange(4),
        np.zeros((4, 2, *size), np.int64),
        np.zeros((4, *size), np.int64),
        np.zeros(4, np.int64),
    )
    counted = torch.tensor([[True] * 4, [False, True, True, True], [True] * 4])
    for part in (slice(0, 1), slice(1, 3)):
        sums.add(responses[part], pictures[part], counted[part])
    mask = (best_positions(responses) if where == "best" else responses > 0) & counted[:, :, None, None]
    total, n = patches_one_by_one(mask.numpy(), pictures.numpy(), scale)
    np.testing.assert_array_equal(sums.total, total)
    np.testing.assert_array_equal(sums.n, n)
    np.testing.assert_array_equal(sums.patches, mask.sum((0, 2, 3)))
    framed = torch.cat([pictures, torch.ones_like(pictures[:, :1])], dim=1)
    for way in (gather_patches, multiply_patches, correlate_patches):
        found = way(mask, framed, scale, lattice)
        np.testing.assert_array_equal(found[:, :-1], total, err_msg=way.__name__)
        np.testing.assert_array_equal(found[:, -1], n, err_msg=way.__name__)


def test_a_large_field_is_reduced_to_about_32_pixels():
    scale = FieldScale.of(ReceptiveField((899, 899), (32, 32), (-449, -449)), (224, 224))
    assert scale.by == 29
    assert scale.shape == (31, 31)
    assert scale.reduce(torch.zeros(1, 3, 224, 224, dtype=torch.uint8)).shape == (1, 3, 8, 8)
    assert scale.starts((7, 7))[0].tolist() == [round((-449 + 32 * i) / 29) for i in range(7)]


def test_the_best_position_is_the_first_of_equal_ones_and_only_above_zero():
    responses = torch.tensor([[[[1.0, 3.0], [3.0, 0.0]], [[-1.0, -2.0], [0.0, -3.0]]]])
    assert best_positions(responses).tolist() == [[[[False, True], [False, False]], [[False, False], [False, False]]]]


@pytest.mark.parametrize(("n", "expected"), [(1, 1), (7, 8), (72, 72), (283, 288), (301, 320), (11, 12)])
def test_fast_lengths(n, expected):
    assert fast_length(n) == expected
