"""What stands at the ends of responses, against brute force and against chance (check 39 of the methods)."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.oracles import choices
from unitscope.analysis import enrichment
from unitscope.resampling import false_discovery


@pytest.mark.parametrize(("images", "size"), [(10, 1), (19, 1), (3000, 150), (20_000, 1000), (50_000, 1000)])
def test_an_end_is_a_thousand_images_or_a_twentieth(images, size):
    assert enrichment.size_of_end(images) == size


def test_ends_are_those_of_a_full_sort():
    responses = np.random.default_rng(0).normal(size=(20, 40))
    for highest in (True, False):
        chosen = enrichment.end(responses, highest=highest, count=7)
        for row, inside in zip(responses, chosen, strict=True):
            order = sorted(range(40), key=row.__getitem__, reverse=highest)
            assert set(np.flatnonzero(inside).tolist()) == set(order[:7])


def test_of_images_that_are_equal_at_the_border_none_is_at_the_end():
    responses = np.array([[5.0, 4, 3, 3, 1, 0], [2, 2, 2, 2, 2, 2]])
    assert enrichment.end(responses, highest=True, count=3).sum(1).tolist() == [2, 0]
    assert enrichment.end(responses, highest=False, count=3).sum(1).tolist() == [2, 0]
    assert enrichment.end(responses, highest=True, count=9).all()


LABELS = np.repeat(np.arange(8), [5, 9, 12, 7, 5, 3, 10, 9])
"""Eight classes of different sizes, sixty images."""


def test_chance_equals_counting_all_groups_of_as_many_labels():
    generator = np.random.default_rng(0)
    chosen = generator.random((20, 60)) < 0.2
    group = {1, 4, 5}
    member = np.isin(LABELS, list(group))
    chance = enrichment.lottery(member, LABELS, np.arange(60))
    assert (len(chance.draws), chance.every) == (math.comb(8, 3), True)
    for tail, sign in (("above", 1), ("below", -1)):
        (found,) = enrichment.enrichment_p(chosen, [chance], tail=tail)
        for row, p in zip(chosen, found, strict=True):
            at_end = [str(label) for label in LABELS[row]]
            every = [str(label) for label in LABELS]
            other = {str(n) for n in range(8)} - {str(n) for n in group}
            if sign > 0:
                expected = choices.chance_of_groups(at_end, every, {str(n) for n in group})
            else:  # as few of the group is as many of the others
                expected = choices.chance_of_groups(at_end, every, other)
            assert p == pytest.approx(expected)
    nothing = enrichment.enrichment_p(np.zeros((1, 60), bool), [chance])[0]
    assert np.isnan(nothing).all()


def test_one_photograph_is_one_observation_however_many_crops_are_cut_of_it():
    label = np.repeat(np.arange(6), 170)
    chosen = np.zeros((1, len(label)), bool)
    chosen[0, :50] = True
    chance = enrichment.lottery(label == 0, label, label)
    assert enrichment.enrichment_p(chosen, [chance])[0][0] == pytest.approx(1 / 6)
    assert chance.smallest_p == pytest.approx(1 / 6)
    cut = enrichment.lottery(np.arange(len(label)) % 6 == 0, label, label)
    assert np.isnan(enrichment.enrichment_p(chosen, [cut])[0]).all()
    assert cut.reason == "the category has some crops of a photograph, not all"
    assert np.isnan(cut.smallest_p)


def test_labels_that_share_a_photograph_are_one():
    label, photograph = np.array([0, 0, 1, 1, 2, 2, 3, 3]), np.array([0, 1, 1, 2, 3, 4, 5, 6])
    assert len(enrichment.lottery(label >= 2, label, photograph).sizes) == 3
    cut = enrichment.lottery(label == 0, label, photograph)
    assert cut.reason


def test_a_category_that_cuts_through_labels_is_compared_within_them():
    """All of its images at the end are of one class, and so are all others of the class: nothing is told."""
    label = np.repeat([0, 1], 40)
    member = np.arange(80) < 20
    chance = enrichment.lottery(member, label, np.arange(80))
    assert (chance.draws.sum(1) == 20).all()
    assert not chance.draws[:, 40:].any()
    chosen = np.stack([label == 0, member])
    whole, exact = enrichment.enrichment_p(chosen, [chance])[0]
    assert whole == 1
    assert exact == pytest.approx(1 / 2001)


def test_false_discoveries_are_controlled_as_defined():
    p = np.random.default_rng(2).uniform(size=40) ** 3
    np.testing.assert_allclose(false_discovery(p), choices.benjamini_hochberg(p.tolist()), rtol=1e-12)
    with_gaps = np.insert(p, [0, 20, 40], np.nan)
    found = false_discovery(with_gaps)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(with_gaps))
    np.testing.assert_allclose(found[~np.isnan(found)], false_discovery(p))
    assert np.isnan(false_discovery(np.full(3, np.nan))).all()


def test_dichotomy_overlap_and_evenness():
    shares = np.array([1, 0.5, 0, 0, np.nan]), np.array([1, 0.25, 0.8, 0, 0.3])
    np.testing.assert_array_equal(enrichment.dichotomy(*shares), [1, 0.5, 0, np.nan, np.nan])
    one = np.array([[1, 1, 0, 0], [0, 0, 0, 0]], bool)
    other = np.array([[0, 1, 1, 0], [0, 0, 0, 0]], bool)
    np.testing.assert_array_equal(enrichment.overlap(one, other), [1 / 3, np.nan])
    counts = np.array([[4, 4, 4], [7, 0, 0], [1, 2, 5], [0, 0, 0]])
    found = enrichment.evenness(counts)
    assert found[0] == pytest.approx(1)
    assert found[1] == 0
    assert found[2] == pytest.approx(choices.entropy_over_maximum([1, 2, 5]))
    assert math.isnan(found[3])
    assert np.isnan(enrichment.evenness(np.array([[3]]))).all()
