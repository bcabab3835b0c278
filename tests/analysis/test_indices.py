"""Indices of selectivity: checks 34 to 37 of the methods, and brute force on random responses."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata

from tests.oracles import choices
from unitscope.analysis import indices


def means(responses: np.ndarray, member: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    above = responses.clip(min=0)
    return above[:, member].mean(1), above[:, ~member].mean(1)


@pytest.fixture
def random() -> tuple[np.ndarray, np.ndarray]:
    """Responses of 30 units to 50 images, coarse, so that many are equal; 17 are of the category."""
    generator = np.random.default_rng(3)
    responses = np.round(generator.normal(0.2, 1, (30, 50)), 1)
    responses[0] = -1
    return responses, np.arange(50) % 3 == 1


def test_a_unit_that_answers_only_to_the_category_is_at_the_top_of_every_index():
    member = np.arange(60) < 20
    only = np.where(member, 3.0, 0.0)[None]
    assert indices.selectivity(*means(only, member)) == 1
    assert indices.face_selectivity(*means(only, member)) == 1
    assert indices.auroc(rankdata(only, axis=1), member) == 1
    assert indices.proportion(*means(only, member), prevalence=1 / 3) == 1
    label = np.arange(60) // 20
    by_label = np.stack([only[:, label == number].mean(1) for number in range(3)], axis=1)
    index, best = indices.class_selectivity(by_label)
    assert (index.tolist(), best.tolist()) == ([1.0], [0])


def test_the_index_depends_on_neither_scale_nor_numbers_of_images_but_the_proportion_does(random):
    responses, member = random
    many = np.concatenate([responses, *[responses[:, member]] * 9], axis=1)
    member_of_many = np.concatenate([member, np.ones(9 * member.sum(), bool)])
    expected = indices.selectivity(*means(responses, member))
    np.testing.assert_allclose(indices.selectivity(*means(many, member_of_many)), expected, rtol=1e-12)
    np.testing.assert_allclose(indices.selectivity(*means(7.5 * responses, member)), expected, rtol=1e-12)
    few, more = (
        indices.proportion(*means(which, of), prevalence=of.mean())
        for which, of in ((responses, member), (many, member_of_many))
    )
    assert (more[1:] > few[1:] + 0.05).all()


def test_equal_means_are_chance():
    assert indices.selectivity(np.array([2.0]), np.array([2.0])) == 0.5
    assert indices.face_selectivity(np.array([2.0]), np.array([2.0])) == 0


def test_selectivity_and_fsi_are_the_same_thing_on_two_scales(random):
    inside, outside = means(*random)
    both = indices.selectivity(inside, outside), (1 + indices.face_selectivity(inside, outside)) / 2
    np.testing.assert_allclose(*both, rtol=1e-12)
    assert indices.selectivity(np.array([2.0]), np.array([1.0])) == pytest.approx(0.6667, abs=1e-4)
    assert indices.selectivity(np.array([1.857]), np.array([1.0])) == pytest.approx(0.65, abs=1e-4)


def test_indices_equal_brute_force(random):
    responses, member = random
    ranks = rankdata(responses, axis=1)
    for found, oracle in (
        (indices.selectivity(*means(responses, member)), choices.share_of_rectified),
        (indices.auroc(ranks, member), choices.pairs_won),
        (indices.d_prime(responses, member), choices.distance),
    ):
        expected = [oracle(row.tolist(), member.tolist()) for row in responses]
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_what_is_undefined_is_not_a_number():
    silent, member = np.full((1, 4), -1.0), np.array([True, True, False, False])
    assert np.isnan(indices.selectivity(*means(silent, member)))
    assert np.isnan(indices.proportion(*means(silent, member), prevalence=0.5))
    assert np.isnan(indices.d_prime(silent, member))
    assert np.isnan(indices.d_prime(np.array([[1.0, 2, 3, 4]]), np.array([True, False, False, False])))
    index, best = indices.class_selectivity(np.array([[0.0, 0.0], [np.nan, 1.0]]))
    assert np.isnan(index).all()
    assert best.tolist() == [-1, -1]
    assert np.isnan(indices.class_selectivity(np.array([[3.0]]))[0])


def test_class_selectivity_is_of_means_of_classes_whatever_their_sizes():
    index, best = indices.class_selectivity(np.array([[1.0, 5.0, 3.0, 2.0]]))
    assert index[0] == pytest.approx((5 - 2) / (5 + 2))
    assert best[0] == 1
