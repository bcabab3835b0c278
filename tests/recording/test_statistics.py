"""Sums in fixed point: right, or not told."""

from __future__ import annotations

import numpy as np
import pytest

from tests.recording.fast.test_reader import environment
from unitscope.recording.accumulator import Block
from unitscope.recording.statistics import Counts, LabelSums, ResponseMap, to_fixed_point


def block_of(peaks: np.ndarray) -> Block:
    """A block of stimuli, labeled 0 and 1 in turn, with these peaks [stimulus unit] and troughs of as much below 0."""
    count, units = peaks.shape
    return Block(
        number=0, peak=peaks, trough=-peaks, mean=peaks, positive_positions=(peaks > 0).astype(np.float32),
        center=peaks > 0, counted=np.isfinite(peaks), readable=np.ones(count, bool), labels=np.arange(count) % 2,
        response_sum=peaks.sum(0).reshape(units, 1, 1), candidates={}, patches={},
    )  # fmt: skip


def taken(block: Block) -> tuple[Counts, LabelSums, ResponseMap]:
    kept = Counts.empty(4), LabelSums.empty(4, labels=2), ResponseMap.empty(4, (1, 1))
    for statistic in kept:
        statistic.take(block)
    return kept


@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_sums_that_64_bits_may_not_hold_are_not_told():
    peaks = np.ones((8, 4), np.float32) * np.array([1, 2.0**34, 2.0**36, 3e38], np.float32)
    counts, labels, maps = taken(block_of(peaks))
    assert counts.unsummed().tolist() == [False, False, True, True]  # 8 images of 2^35 are 2^62 steps of 2^-24
    means = maps.mean(counts.unsummed())
    assert means[:2, 0, 0].tolist() == [1, 2.0**34]
    assert np.isnan(means[2:]).all()
    assert (labels.peak[:, 1] == 4 * 2**58).all()
    with environment(UNITSCOPE_COMPILE="0"):
        plain = taken(block_of(peaks))
    for quick, other in zip((counts, labels, maps), plain, strict=True):
        for name, values in quick.arrays().items():
            np.testing.assert_array_equal(values, other.arrays()[name], err_msg=name)


def test_a_unit_with_a_response_that_is_not_finite_has_no_sums_and_one_never_seen_does_no_harm():
    peaks = np.array([[1, np.nan, np.inf, 2]] * 2, np.float32)
    counts, _, _ = taken(block_of(peaks))
    assert counts.unsummed().tolist() == [False, True, True, False]
    assert not Counts.empty(4).unsummed().any()


def test_fixed_point_keeps_to_what_64_bits_hold():
    values = np.array([1.5, -1.5, np.nan, np.inf, 1e30, -1e30])
    assert to_fixed_point(values).tolist() == [3 * 2**23, -3 * 2**23, 0, 0, 2**63 - 2**10, -(2**63)]
