"""Means, intervals and false discovery against scipy and brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from unitscope.perturbation import estimates
from unitscope.perturbation.estimates import change, class_changes, class_p


def test_mean_and_standard_error_are_those_of_scipy():
    values = np.random.default_rng(0).normal(0.3, 2, 500)
    found = change(values, generator=np.random.default_rng(1))
    assert found.mean == pytest.approx(values.mean(), abs=1e-14)
    assert found.se == pytest.approx(stats.sem(values), rel=1e-12)
    half = stats.sem(values) * stats.t.ppf(0.975, 499)
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)


def test_the_interval_of_skewed_values_is_longer_on_the_side_of_the_rare_ones():
    found = change(np.random.default_rng(2).exponential(1, 40), generator=np.random.default_rng(1))
    assert found.high - found.mean > 1.2 * (found.mean - found.low)


def test_below_ten_clusters_it_is_students_t_and_below_three_there_is_none():
    values = np.random.default_rng(3).normal(0, 1, 9)
    found = change(values, generator=np.random.default_rng(1))
    theirs = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))
    few = change(values, clusters=np.arange(9) % 2, generator=np.random.default_rng(1))
    assert few.mean == pytest.approx(values.mean())
    assert math.isnan(few.low)
    assert math.isnan(few.high)


def test_for_units_that_were_drawn_the_interval_is_over_draws_too():
    """Images that all say the same, and draws that do not: only the draws tell how sure the mean is."""
    draw = np.random.default_rng(4)
    draws = draw.lognormal(0, 1, 20)
    values = np.full(300, draws.mean()) + draw.normal(0, 1e-3, 300)
    alone, both = (change(values, draws=of, generator=np.random.default_rng(5)) for of in (None, draws))
    assert both.mean == alone.mean
    assert both.high - both.low > 50 * (alone.high - alone.low)
    over = change(draws, generator=np.random.default_rng(5))
    assert both.high - both.mean == pytest.approx(over.high - over.mean, rel=0.1)


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


def test_an_interval_moves_with_its_values_whatever_the_sizes_of_clusters():
    """The mean is over images: how many images the drawn clusters have must not count for their values."""
    clusters = np.repeat(np.arange(20), np.arange(1, 21))
    values = np.random.default_rng(1).normal(0, 1, len(clusters))
    found = change(values, clusters=clusters, generator=np.random.default_rng(0))
    moved = change(values + 100, clusters=clusters, generator=np.random.default_rng(0))
    assert (moved.low, moved.high) == pytest.approx((100 + found.low, 100 + found.high), abs=1e-6)


def test_nothing_changed_and_too_few():
    assert change(np.zeros(5), generator=np.random.default_rng(0)) == (0, 0, 0, 0)
    alone = change(np.array([2.0]), generator=np.random.default_rng(0))
    assert alone.mean == 2
    assert math.isnan(alone.se)
    assert math.isnan(alone.low)
    assert math.isnan(change(np.empty(0), generator=np.random.default_rng(0)).mean)


def test_a_class_that_is_hurt_is_found_and_the_others_are_not():
    draw = np.random.default_rng(6)
    labels = np.repeat(np.array(list("abcdefgh")), 50)
    losses = draw.normal(0, 1, len(labels)) + 2.0 * (labels == "c")
    found = class_changes(losses, -(labels == "c").astype(float), labels)
    assert [one.label for one in found if one.q < 0.01] == ["c"]
    assert found[2].p == pytest.approx(1 / 2001)
    assert (found[2].images, found[2].delta_top1) == (50, -1)


def test_the_statistic_of_a_class_is_its_distance_from_the_median_class_in_standard_errors():
    draw, sizes = np.random.default_rng(7), [5, 9, 12, 4, 1]
    label = np.repeat(np.arange(5), sizes)
    values = draw.exponential(1, 31)
    found = estimates._away(values[None], np.array(sizes))[0]
    means = [values[label == number].mean() for number in range(5)]
    for number in range(4):
        away = means[number] - np.median(means)
        assert found[number] == pytest.approx(away / stats.sem(values[label == number]))
    assert found[4] == 0


def test_false_classes_are_rare_however_skewed_the_differences():
    """Losses rise in a few images and fall a little in the others, in all of twenty classes of ten images."""
    draw = np.random.default_rng(10)
    found = 0
    for _ in range(40):
        losses = draw.lognormal(0, 1.5, 200) - np.exp(1.125)
        changes = class_changes(losses, losses, np.repeat(np.arange(20), 10).astype(str))
        found += any(one.q < 0.05 for one in changes)
    assert found <= 5


def test_a_photograph_counts_once_however_many_crops_are_cut_of_it():
    draw = np.random.default_rng(8)
    label, photographs = np.repeat(np.arange(6), 170), np.repeat(np.arange(6), 170)
    values = draw.normal(0, 0.1, len(label)) + 5.0 * (label == 2)
    assert np.isnan(class_p(values, label, photographs, generator=draw)).all()
    assert class_p(values, label, generator=draw)[2] < 0.01
    assert np.isnan(class_p(np.zeros(20), np.arange(20) % 2, generator=draw)).all()


def test_of_many_classes_one_alone_can_be_found():
    draw = np.random.default_rng(9)
    label = np.repeat(np.arange(100), 6)
    losses = draw.normal(0, 1, len(label)) + 8.0 * (label == 70)
    found = class_changes(losses, losses, label.astype(str))
    assert [one.label for one in found if one.q < 0.05] == ["70"]
