"""Patches, mean stimuli and kernels as pictures."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from unitscope.atlas_pages import figures
from unitscope.vocabulary import Box

PICTURE = (20, 20)


@pytest.fixture
def ramp() -> Image.Image:
    """A photograph of 20 x 20 whose red is 10 x row and whose green is 10 x column."""
    rows, cols = np.mgrid[0:20, 0:20]
    return Image.fromarray(np.dstack([rows * 10, cols * 10, np.zeros_like(rows)]).astype(np.uint8))


def test_a_patch_inside_is_cut_pixel_by_pixel(ramp):
    patch = figures.cut_patch(ramp, Box(3, 5, 10, 12), picture=PICTURE, tile=(7, 7))
    np.testing.assert_array_equal(patch[..., :3], np.asarray(ramp)[3:10, 5:12])
    assert (patch[..., 3] == 255).all()


def test_what_hangs_over_the_edge_is_transparent(ramp):
    patch = figures.cut_patch(ramp, Box(-2, 16, 5, 23), picture=PICTURE, tile=(7, 7))
    seen = patch[..., 3] == 255
    assert seen[2:, :4].all()
    assert not seen[:2].any()
    assert not seen[:, 4:].any()
    np.testing.assert_array_equal(patch[2:, :4, :3], np.asarray(ramp)[:5, 16:])


def test_a_patch_off_the_picture_is_empty(ramp):
    assert not figures.cut_patch(ramp, Box(30, 30, 37, 37), picture=PICTURE, tile=(7, 7)).any()


def test_a_field_much_larger_than_the_picture_is_framed_with_a_margin():
    assert figures.frame_field(Box(-400, -400, 499, 499), (112, 112)) == Box(-14, -14, 126, 126)
    assert figures.frame_field(Box(-3, -3, 24, 24), (112, 112)) == Box(-3, -3, 24, 24)


def test_a_box_of_another_shape_is_centered_in_the_tile(ramp):
    patch = figures.cut_patch(ramp, Box(0, 0, 10, 5), picture=PICTURE, tile=(10, 10))
    columns = np.flatnonzero((patch[..., 3] == 255).all(0))
    assert columns.tolist() == [2, 3, 4, 5, 6] or columns.tolist() == [2, 3, 4, 5, 6, 7]


def test_a_wide_box_is_centered_in_the_tile_too(ramp):
    patch = figures.cut_patch(ramp, Box(0, 0, 4, 10), picture=PICTURE, tile=(10, 10))
    assert np.flatnonzero((patch[..., 3] == 255).all(1)).tolist() == [3, 4, 5, 6]


def test_a_map_runs_from_black_to_white():
    picture = figures.draw_heat(np.array([[-1.0, 0.0], [1.0, np.nan]]), longest=9)
    assert picture.shape == (8, 8, 4)
    assert picture[0, 0].tolist() == [0, 0, 0, 255]
    assert picture[3, 7].tolist() == [128, 128, 128, 255]
    assert picture[7, 3].tolist() == [255, 255, 255, 255]
    assert picture[7, 7, 3] == 0
    assert figures.draw_heat(np.zeros((3, 3)), longest=9)[..., 3].all()
    assert figures.draw_heat(np.zeros((100, 50)), longest=72).shape == (72, 72, 4)


@pytest.mark.parametrize(
    ("field", "scale", "tile"),
    [((11, 11), 2, (66, 66)), ((27, 27), 2, (72, 72)), ((11, 5), 1, (66, 30)), ((1, 1), 1, (72, 72))],
)
def test_small_fields_are_enlarged_by_a_whole_number(field, scale, tile):
    assert figures.tile_size(field, (112, 112), scale, longest=72) == tile


def test_absolute_is_the_mean_itself_and_transparent_where_nothing_was_seen():
    mean = np.full((3, 2, 2), 0.2)
    mean[0] = 1.3
    mean[:, 1, 1] = np.nan
    picture = figures.draw_mean(mean)
    assert picture[0, 0].tolist() == [255, 51, 51, 255]
    assert picture[1, 1].tolist() == [0, 0, 0, 0]


def test_contrast_keeps_colors_in_proportion():
    """One gain for all: 0.5 + g delta, nothing stretched color by color (methods 2.4)."""
    delta = np.zeros((3, 1, 2))
    delta[0, 0, 0], delta[1, 0, 0] = 0.1, -0.05
    picture = figures.draw_contrast(delta, gain=4.0)
    assert picture[0, 0, :3].tolist() == [round(0.9 * 255), round(0.3 * 255), 128]
    assert picture[0, 1, :3].tolist() == [128, 128, 128]


def test_the_gain_brings_the_largest_contrast_to_black_or_white():
    deltas = np.linspace(-0.1, 0.1, 20_001).reshape(1, 1, 3, -1)
    assert figures.contrast_gain(deltas) == pytest.approx(0.5 / 0.0995, rel=1e-3)
    assert figures.contrast_gain(np.full((1, 3, 2, 2), np.nan)) == 1.0
    assert figures.contrast_gain(np.zeros((1, 3, 2, 2))) == 1.0


def test_what_is_seen_in_a_small_box_is_cut_and_undefined_off_the_picture():
    picture = np.arange(3 * 6 * 6, dtype=float).reshape(3, 6, 6)
    seen = figures.reduce_picture(Box(-1, 2, 2, 5), picture, shape=(3, 3))
    assert np.isnan(seen[:, 0]).all()
    np.testing.assert_array_equal(seen[:, 1:], picture[:, :2, 2:5])


def test_what_is_seen_in_a_large_box_is_averaged_as_the_record_does():
    torch = pytest.importorskip("torch")
    picture = np.random.default_rng(0).random((3, 70, 90))
    seen = figures.reduce_picture(Box(-20, -5, 80, 200), picture, shape=(25, 32))
    expected = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(picture[None]), (25, 32))[0]
    np.testing.assert_allclose(seen, expected.numpy(), atol=1e-12)
