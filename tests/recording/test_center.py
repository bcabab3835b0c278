"""What the center neuron was shown, cut and summed exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.oracles.everything import mean_of_patches
from unitscope.recording.center import MOST, CenterSums, mean_stimuli
from unitscope.recording.views import View
from unitscope.vocabulary import Box

PICTURES = np.random.default_rng(3).integers(0, 256, (9, 3, 40, 50), dtype=np.uint8)
POSITIVE = np.random.default_rng(4).random((9, 5)) > 0.5


@pytest.mark.parametrize("box", [Box(5, 7, 16, 18), Box(-3, -2, 8, 9), Box(30, 40, 45, 60), Box(-5, -5, 55, 55)])
def test_mean_stimuli_of_small_fields_equal_the_mean_of_the_patches(box):
    view = View.of(box, (40, 50))
    sums = CenterSums.empty(view, slice(0, 5), units=5, colors=3)
    sums.add(POSITIVE[:4], view.cut(torch.from_numpy(PICTURES[:4])).numpy())
    sums.add(POSITIVE[4:], view.cut(torch.from_numpy(PICTURES[4:])).numpy())
    means = mean_stimuli(sums)
    assert means.shape == (5, 3, 64, 64)
    for unit in range(5):
        expected = mean_of_patches(PICTURES, POSITIVE[:, unit], box)
        np.testing.assert_allclose(means[unit, :, : box.height, : box.width], expected, rtol=1e-6, atol=1e-9)
    assert np.isnan(means[:, :, box.height :]).all()
    assert np.isnan(means[:, :, :, box.width :]).all()


def test_a_larger_field_is_reduced_to_32_pixels_of_what_is_seen_of_it():
    pictures = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 1, 256).expand(1, 3, 128, 256)
    view = View.of(Box(-100, 0, 228, 256), (128, 256))
    assert (view.box, view.shape) == (Box(0, 0, 128, 256), (16, 32))
    assert view.cut(pictures)[0, 0, 0].tolist() == [round(8 * i + 3.5) for i in range(32)]
    assert view.defined().all()


def test_a_unit_without_any_positive_image_has_no_mean_stimulus():
    view = View.of(Box(0, 0, 4, 4), (8, 8))
    sums = CenterSums.empty(view, slice(0, 1), units=1, colors=3)
    sums.add(np.zeros((2, 1), dtype=bool), np.full((2, 3, 4, 4), 200, np.uint8))
    assert np.isnan(mean_stimuli(sums)).all()


def test_sums_are_exact_where_float32_would_round():
    view = View.of(Box(0, 0, 1, 1), (1, 1))
    sums = CenterSums.empty(view, slice(0, 1), units=1, colors=1)
    patches = np.full((65_793, 1, 1, 1), 255, np.uint8)
    for _ in range(2):
        sums.add(np.ones((len(patches), 1), dtype=bool), patches)
    assert sums.total.ravel().tolist() == [2 * 65_793 * 255]
    sums.n[:] = MOST
    sums.add(np.ones((1, 1), dtype=bool), patches[:1])  # more than 32 bits hold
    assert sums.total.dtype == np.int64
    with pytest.raises(ValueError, match="too large for exact sums"):
        sums.add(np.ones((65_794, 1), dtype=bool), np.zeros((65_794, 1, 1, 1), np.uint8))
