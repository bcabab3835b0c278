"""What the center neuron was shown, cut and summed exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.oracles.everything import mean_of_patches
from unitscope.recording.accumulator import Block
from unitscope.recording.center_means import MOST_PICTURES, CenterSums, EnsembleSums, mean_stimuli, reliability
from unitscope.recording.field_windows import FieldWindow
from unitscope.vocabulary import Box

PICTURES = np.random.default_rng(3).integers(0, 256, (9, 3, 40, 50), dtype=np.uint8)
POSITIVE = np.random.default_rng(4).random((9, 5)) > 0.5


@pytest.mark.parametrize("box", [Box(5, 7, 16, 18), Box(-3, -2, 8, 9), Box(30, 40, 45, 60), Box(-5, -5, 55, 55)])
def test_mean_stimuli_of_small_fields_equal_the_mean_of_the_patches(box):
    view = FieldWindow.of(box, (40, 50))
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
    view = FieldWindow.of(Box(-100, 0, 228, 256), (128, 256))
    assert (view.box, view.shape) == (Box(0, 0, 128, 256), (16, 32))
    assert view.cut(pictures)[0, 0, 0].tolist() == [round(8 * i + 3.5) for i in range(32)]
    assert view.defined().all()


def test_a_unit_without_any_positive_image_has_no_mean_stimulus():
    view = FieldWindow.of(Box(0, 0, 4, 4), (8, 8))
    sums = CenterSums.empty(view, slice(0, 1), units=1, colors=3)
    sums.add(np.zeros((2, 1), dtype=bool), np.full((2, 3, 4, 4), 200, np.uint8))
    assert np.isnan(mean_stimuli(sums)).all()


def test_sums_are_exact_where_float32_would_round():
    view = FieldWindow.of(Box(0, 0, 1, 1), (1, 1))
    sums = CenterSums.empty(view, slice(0, 1), units=1, colors=1)
    patches = np.full((65_793, 1, 1, 1), 255, np.uint8)
    for _ in range(2):
        sums.add(np.ones((len(patches), 1), dtype=bool), patches)
    assert sums.total.ravel().tolist() == [2 * 65_793 * 255]
    sums.n[:] = MOST_PICTURES
    sums.add(np.ones((1, 1), dtype=bool), patches[:1])  # more than 32 bits hold
    assert sums.total.dtype == np.int64
    with pytest.raises(ValueError, match="too large for exact sums"):
        sums.add(np.ones((65_794, 1), dtype=bool), np.zeros((65_794, 1, 1, 1), np.uint8))


def block_of(center: np.ndarray, readable: np.ndarray, patches: np.ndarray, view: FieldWindow) -> Block:
    nothing = np.zeros(center.shape, dtype=np.float32)
    return Block(
        number=0, peak=nothing, trough=nothing, mean=nothing, positive_positions=nothing, center=center,
        counted=np.broadcast_to(readable[:, None], center.shape), readable=readable,
        labels=np.zeros(len(center), dtype=np.int64), response_sum=np.zeros((center.shape[1], 1, 1), np.float32),
        candidates={}, patches={view: patches},
    )  # fmt: skip


def reliabilities(center: np.ndarray, patches: np.ndarray, readable: np.ndarray) -> np.ndarray:
    """Of units that answer to the patches so, taken in by blocks of 256."""
    side = patches.shape[2]
    view = FieldWindow.of(Box(0, 0, side, side), (side, side))
    sums = [CenterSums.empty(view, slice(0, 99), units=center.shape[1], colors=3, every=every) for every in (1, 2)]
    ensemble = EnsembleSums.empty(view, colors=3)
    for first in range(0, len(patches), 256):
        block = block_of(*(of[first : first + 256] for of in (center, readable, patches)), view)
        for one in (*sums, ensemble):
            one.take(block)
    return reliability(*sums, ensemble)


def natural(count: int, *, side: int = 7) -> np.ndarray:
    """Patches with a mean of their own, brighter above, as photographs have, and smooth noise."""
    chance = np.random.default_rng(5)
    smooth = chance.normal(size=(count, 3, 2, 2)).repeat(4, 2).repeat(4, 3)[:, :, :side, :side]
    ramp = np.linspace(60, -60, side)[:, None]
    return (120 + ramp + 25 * smooth + 10 * chance.normal(size=(count, 3, side, side))).clip(0, 255).astype(np.uint8)


def test_units_that_fire_at_random_have_no_reliability():
    """At rates from a twentieth to nearly always: 60 units each."""
    patches, chance = natural(1000), np.random.default_rng(6)
    readable = chance.random(1000) > 0.1
    for rate in (0.05, 0.5, 0.95):
        found = reliabilities(chance.random((1000, 60)) < rate, patches, readable)
        assert abs(found.mean()) < 0.2
        assert (np.abs(found) <= 1).all()


def test_units_that_prefer_something_are_reliable_and_those_that_prefer_nothing_have_no_number():
    patches = natural(1000)
    blue = patches[:, 2].mean((1, 2)) > patches[:, 0].mean((1, 2)) + 10
    always, never = np.ones(1000, dtype=bool), np.zeros(1000, dtype=bool)
    found = reliabilities(np.stack([blue, always, never], axis=1), patches, always)
    assert found[0] > 0.95
    assert np.isnan(found[1:]).all()


def test_sums_of_all_pictures_do_not_depend_on_how_the_session_was_cut():
    view, readable = FieldWindow.of(Box(0, 0, 7, 7), (7, 7)), np.arange(64) % 5 > 0
    parts = [EnsembleSums.empty(view, colors=3) for _ in range(3)]
    patches, center = natural(64), np.ones((64, 1), dtype=bool)
    for one, where in zip(parts, (slice(0, 64), slice(0, 30), slice(30, 64)), strict=True):
        one.take(block_of(center[where], readable[where], patches[where], view))
    both = parts[1].merge(parts[2])
    assert (both.n == parts[0].n).all()
    assert (both.total == parts[0].total).all()
    assert parts[0].total[0].tolist() == patches[::2][readable[::2]].astype(int).sum(0).tolist()
