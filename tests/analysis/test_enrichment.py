"""What stands at the ends of responses, against brute force and against chance (check 39 of the methods)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import hypergeom, kstest

from tests.oracles import choices
from unitscope.analysis import enrichment


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


def test_chance_equals_counting_all_draws():
    hits, drawn = (grid.ravel() for grid in np.meshgrid(np.arange(6), np.arange(5, 9)))
    found = enrichment.enrichment_p(hits, drawn, members=7, images=19)
    expected = [choices.chance_of_more(int(h), int(d), 7, 19) for h, d in zip(hits, drawn, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    fewer = enrichment.enrichment_p(hits, drawn, members=7, images=19, tail="below")
    np.testing.assert_allclose(fewer + found, 1 + hypergeom(19, 7, drawn).pmf(hits), rtol=1e-9)
    assert np.isnan(enrichment.enrichment_p(np.array([0]), np.array([0]), members=7, images=19)).all()


def test_shuffled_labels_give_what_the_hypergeometric_law_says():
    generator = np.random.default_rng(1)
    responses = generator.normal(size=(1500, 200))
    members = np.stack([generator.permutation(200) < 110 for _ in responses])
    hits = (enrichment.end(responses, highest=True, count=10) & members).sum(1)
    law = hypergeom(200, 110, 10)
    smoothed = law.sf(hits) + generator.uniform(size=len(hits)) * law.pmf(hits)
    assert kstest(smoothed, "uniform").pvalue > 0.01
    p = enrichment.enrichment_p(hits, np.full(len(hits), 10), members=110, images=200)
    assert (enrichment.false_discovery(p) < 0.05).sum() == 0


def test_false_discoveries_are_controlled_as_defined():
    p = np.random.default_rng(2).uniform(size=40) ** 3
    np.testing.assert_allclose(enrichment.false_discovery(p), choices.benjamini_hochberg(p.tolist()), rtol=1e-12)
    with_gaps = np.insert(p, [0, 20, 40], np.nan)
    found = enrichment.false_discovery(with_gaps)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(with_gaps))
    np.testing.assert_allclose(found[~np.isnan(found)], enrichment.false_discovery(p))
    assert np.isnan(enrichment.false_discovery(np.full(3, np.nan))).all()


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
