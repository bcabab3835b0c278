"""Means, intervals and false discovery against scipy and brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from unitscope.perturbation.estimates import change, class_changes, false_discovery, paired_p


def test_mean_and_standard_error_are_those_of_scipy():
    values = np.random.default_rng(0).normal(0.3, 2, 500)
    found = change(values, generator=np.random.default_rng(1))
    assert found.mean == pytest.approx(values.mean(), abs=1e-14)
    assert found.se == pytest.approx(stats.sem(values), rel=1e-12)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=4000, rng=np.random.default_rng(2))
    assert found.low == pytest.approx(theirs.confidence_interval.low, abs=0.02)
    assert found.high == pytest.approx(theirs.confidence_interval.high, abs=0.02)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    draw = np.random.default_rng(3)
    inside = 0
    for _ in range(300):
        found = change(draw.exponential(1.0, 100), generator=draw, resamples=400)
        inside += found.low <= 1.0 <= found.high
    assert 0.88 <= inside / 300 <= 0.98


def test_clusters_are_drawn_whole():
    """Of values that are equal within clusters, only the clusters tell anything."""
    draw = np.random.default_rng(4)
    of_cluster = draw.normal(0, 1, 40)
    values, clusters = np.repeat(of_cluster, 25), np.repeat(np.arange(40), 25)
    found = change(values, clusters=clusters, generator=np.random.default_rng(5))
    alone = change(of_cluster, generator=np.random.default_rng(5))
    assert found.mean == pytest.approx(alone.mean)
    assert found.se == pytest.approx(alone.se)
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high))
    assert found.se > 4 * change(values, generator=np.random.default_rng(5)).se


def test_nothing_changed_and_too_few():
    assert change(np.zeros(5), generator=np.random.default_rng(0)) == change(
        np.zeros(9), generator=np.random.default_rng(1)
    )
    alone = change(np.array([2.0]), generator=np.random.default_rng(0))
    assert alone.mean == 2
    assert math.isnan(alone.se)
    assert math.isnan(alone.low)
    assert math.isnan(change(np.empty(0), generator=np.random.default_rng(0)).mean)


def test_false_discovery_after_benjamini_and_hochberg():
    p = np.array([0.001, 0.008, 0.039, 0.041, np.nan, 0.9])
    by_hand = [0.001 * 6, 0.008 * 6 / 2, 0.041 * 6 / 4, 0.041 * 6 / 4, np.nan, 1.0]
    np.testing.assert_allclose(false_discovery(p), by_hand)
    assert len(false_discovery(np.empty(0))) == 0


def test_a_class_that_is_hurt_is_found_and_the_others_are_not():
    draw = np.random.default_rng(6)
    labels = np.repeat(np.array(list("abcdefgh")), 50)
    losses = draw.normal(0, 1, len(labels)) + 2.0 * (labels == "c")
    found = class_changes(losses, -(labels == "c").astype(float), labels)
    assert [one.label for one in found if one.q < 0.01] == ["c"]
    hurt = found[2]
    assert hurt.p == pytest.approx(stats.ttest_1samp(losses[labels == "c"], 0).pvalue)
    assert (hurt.images, hurt.delta_top1) == (50, -1)
    assert math.isnan(paired_p(np.zeros(4)))
