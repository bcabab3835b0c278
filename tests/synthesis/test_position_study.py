"""Optimal stimuli at several positions (methods 10, checks 21 and 23), on networks whose nature we know."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import unitscope
from tests.wiring import gabor, opponent_network
from unitscope.errors import BadInput, UnknownName
from unitscope.networks import Network
from unitscope.synthesis import position_similarity
from unitscope.synthesis.position_figures import OFF, frame_picture
from unitscope.synthesis.position_study import _single_unit, placed_pictures, positions
from unitscope.synthesis.recipes import Recipe, zipser2015
from unitscope.vocabulary import Box, Unit

SIZE = 32


def short(steps: int = 60) -> Recipe:
    recipe = zipser2015()
    return replace(recipe, ascent=replace(recipe.ascent, size=0.02, steps=steps))


def network_of(module: nn.Module, *, size: int = SIZE) -> Network:
    return Network(module, size=size, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), name="wired", weights="by hand")


def smooth_network() -> Network:
    """Two convolutions with tanh: curved everywhere, and the same wherever it looks."""
    module = nn.Sequential(nn.Conv2d(3, 4, 5, stride=2, padding=2), nn.Tanh(), nn.Conv2d(4, 3, 3, padding=1), nn.Tanh())
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))
    return network_of(module)


class BorderSensitive(nn.Module):
    """Its unit answers to one kernel, but at the left border to another: there the padding hides a constant channel."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, padding=1)
        self.second = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.third = nn.Conv2d(3, 2, 1)
        self.relu = nn.ReLU()
        self.last = nn.Conv2d(2, 1, 1, bias=False)
        kernels = torch.stack([gabor(0.0, side=3, frequency=0.25), gabor(90.0, side=3, frequency=0.25)])
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.zero_()
            self.first.weight[:2] = kernels
            self.first.bias[2] = 1.0
            self.second.weight[0, 0, 1, 1] = self.second.weight[1, 1, 1, 1] = self.second.weight[2, 2, 1, 0] = 1.0
            self.third.weight[:, :, 0, 0] = torch.tensor([[1.0, 0.0, 20.0], [0.0, 1.0, -20.0]])
            self.third.bias[:] = torch.tensor([3.0 - 20.0, 3.0])
            self.last.weight.fill_(1.0)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.last(self.relu(self.third(self.second(self.first(pictures)))))


class Energy(nn.Module):
    """Units that add the squares of two Gabors a quarter of a wave apart: they know the orientation, not the phase."""

    def __init__(self, orientations: tuple[float, ...]) -> None:
        super().__init__()
        pairs = [gabor(angle, phase=phase, side=15) for angle in orientations for phase in (0.0, 90.0)]
        self.conv = nn.Conv2d(3, len(pairs), 15, padding=7, bias=False)
        self.pool = nn.Conv2d(len(pairs), len(orientations), 1, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.stack(pairs))
            self.pool.weight.zero_()
            for n in range(len(orientations)):
                self.pool.weight[n, 2 * n : 2 * n + 2] = 1.0

    def forward(self, pictures: Tensor) -> Tensor:
        return self.pool(self.conv(pictures) ** 2)


def test_outcomes_carry_over_exactly_between_positions_with_their_field_on_the_picture() -> None:
    network = smooth_network()
    site = next(name for name in reversed(unitscope.sites(network)) if unitscope.sites(network)[name].channels == 3)
    study = positions(network, f"{site}:1", (3, 3), border=False, recipe=short())
    assert study.interior == tuple(range(9))
    assert (study.fall_off == 0).all()
    np.testing.assert_allclose(study.kept, 1, atol=1e-5)
    np.testing.assert_allclose(study.transfer, 1, atol=0.05)
    border = positions(network, f"{site}:1", (3, 3), recipe=short(), tiled=False)
    assert border.tiled is None
    assert border.gram is None
    assert border.interior == (4,)
    off = [n for n in range(9) if n != 4]
    assert np.abs(border.kept[np.ix_([4], off)] - 1).min() > 1e-3


def test_a_linear_unit_has_one_optimum_wherever_it_is() -> None:
    study = positions(opponent_network(), "conv1:0", (2, 2), border=False, recipe=short(100), tiled=False)
    assert (study.fall_off == 0).all()
    np.testing.assert_allclose(study.transfer, 1, atol=1e-3)
    found = study.specificity()
    assert found.across > 0.99
    assert abs(found.within - found.across) < 1e-3
    assert (found.low, found.high) == pytest.approx((0, 0), abs=0.1)


def test_positions_that_are_left_out_count_for_nothing() -> None:
    """The corner sees less than the others; what these share with it tells nothing of how alike their outcomes are."""
    inner = [(8, 8), (16, 16), (24, 24)]
    study = positions(opponent_network(), "conv1:0", at=[(0, 0), *inner], recipe=short(5), tiled=False)
    assert (study.fall_off > 0).tolist() == [True, False, False, False]
    alone = position_similarity.compare_positions(
        placed_pictures(study.outcomes[1:], study.boxes[1:], study.picture, rest=study.rest),
        lambda pictures, _frame, _positions: position_similarity.blurred_correlation(pictures, study.field.stride),
    )
    among = [1, 2, 3]
    np.testing.assert_array_equal(study.comparisons(among=among), alone)
    assert study.specificity(among=among) == position_similarity.specificity(alone, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(study.similarity(among=among), position_similarity.similarities(alone))


def test_carried_is_what_the_whole_network_answers_to_the_moved_picture() -> None:
    network = smooth_network()
    site = next(name for name in reversed(unitscope.sites(network)) if unitscope.sites(network)[name].channels == 3)
    study = positions(network, f"{site}:0", at=[(0, 0), (7, 9), (15, 15)], seeds=2, recipe=short(20), after=True)
    one, (down, right) = study.outcomes[1], study.field.stride
    shown = torch.full((2, 3, SIZE, SIZE), 0.5)
    box = one.box.shift(8 * down, 6 * right)
    inside = box.clip((SIZE, SIZE))
    shown[:, :, inside.top : inside.bottom, inside.left : inside.right] = torch.from_numpy(one.pictures)[
        :, :, inside.top - box.top : inside.bottom - box.top, inside.left - box.left : inside.right - box.left
    ]
    answers = unitscope.read(network, shown, [site])[site][:, 0, 15, 15]
    np.testing.assert_allclose(study.transferred[1, 2], answers.numpy(), atol=1e-5)
    np.testing.assert_allclose(study.responses, study.outcomes.responses, atol=1e-5)


def test_a_unit_that_is_another_at_the_border_does_not_carry_over_and_is_position_specific() -> None:
    network = network_of(BorderSensitive(), size=16)
    places = [(4, 0), (8, 0), (4, 8), (8, 8), (12, 8)]
    study = positions(network, "last:0", at=places, recipe=short())
    border, inner = [0, 1], [2, 3, 4]
    assert study.transfer[np.ix_(inner, border)].max() < 0.95
    np.testing.assert_allclose(study.transfer[np.ix_(inner, inner)], 1, atol=0.02)
    found = study.specificity()
    assert found.index > 0.3
    assert found.p < 0.02
    among = study.specificity(among=inner)
    assert among.within - among.across < 0.01 < found.within - found.across


def test_an_energy_unit_has_outcomes_of_any_phase_which_only_features_find_alike() -> None:
    network = network_of(Energy((30.0, 75.0, 120.0, 165.0)), size=24)
    study = positions(network, "pool:0", at=[(12, 12)], seeds=8, recipe=short(), tiled=False)
    blurred, features = (study.similarity(kind)[0, :, 0, :] for kind in ("blurred", "features"))
    assert np.nanmean(blurred) < 0.3
    assert np.nanmin(blurred) < -0.5
    assert np.nanmean(features) > 0.9


def test_features_are_compared_of_the_same_part_at_the_same_position() -> None:
    network = smooth_network()
    site = next(name for name in reversed(unitscope.sites(network)) if unitscope.sites(network)[name].channels == 3)
    study = positions(network, f"{site}:0", at=[(8, 8), (0, 5)], seeds=2, recipe=short(20), tiled=False)
    inner, edge = study.outcomes
    height = study.boxes[1].bottom
    rows = slice(study.boxes[1].height - height, None)
    parts = [inner.pictures[:, :, rows], edge.pictures[:, :, rows]]
    found = []
    for place, top in (((8, 8), study.boxes[0].bottom - height), ((0, 5), 0)):
        left = study.boxes[place != (8, 8)].left
        shown = torch.full((5, 3, SIZE, SIZE), 0.5)
        for n, part in enumerate(parts):
            shown[2 * n : 2 * n + 2, :, top : top + height, left : left + part.shape[3]] = torch.from_numpy(part)
        answers = unitscope.read(network, shown, [site])[site][:, 1:, place[0], place[1]]
        found.append(torch.nn.functional.cosine_similarity(*(answers[n] - answers[4] for n in (0, 3)), dim=0))
    assert study.similarity("features")[0, 0, 1, 1] == pytest.approx(float(sum(found)) / 2, abs=1e-4)


def test_contrast_is_beside_the_gray_at_which_dots_begin_and_not_the_mean_color() -> None:
    module = nn.Conv2d(3, 1, 5, padding=2)
    network = Network(module, size=16, mean=(0.3, 0.5, 0.7), std=(0.25,) * 3, name="wired", weights="by hand")
    still = replace(zipser2015(), ascent=replace(zipser2015().ascent, size=0.0, steps=1))
    site = next(iter(unitscope.sites(network)))
    study = positions(network, f"{site}:0", (2, 2), border=False, recipe=still, tiled=False)
    assert study.rest == (0.5, 0.5, 0.5)
    views = placed_pictures(study.outcomes, study.boxes, study.picture, rest=study.rest)
    assert max(np.abs(view.contrast).max() for view in views) < 8.1 / 255


def test_tiled_outcomes_drive_all_positions_and_resemble_each_other_in_style() -> None:
    study = positions(network_of(Energy((30.0, 120.0)), size=24), "pool:0", (2, 2), seeds=3, recipe=short(100))
    assert study.tiled is not None
    assert study.tiled.objective == "pool:0@all"
    assert study.tiled.pictures.shape == (3, 3, 24, 24)
    assert study.gram is not None
    assert study.gram.shape == (3, 3)
    assert study.gram.min() > 0.8


def test_the_table_has_a_row_for_each_pair_and_says_what_the_arrays_say() -> None:
    study = positions(opponent_network(), "conv1:0", (2, 2), seeds=2, recipe=short(20), tiled=False)
    table = study.table()
    assert len(table) == 12
    row = table[(table["row"] == 0) & (table["col"] == 0) & (table["other_row"] == 31) & (table["other_col"] == 0)]
    assert row["transfer"].item() == study.transfer[0, 2]
    assert row["fall_off"].item() == pytest.approx(1 - 16 / 49)
    similarity = study.similarity()
    assert row["across"].item() == pytest.approx(similarity[0, :, 2, :].mean())
    assert "4 positions x 2 outcomes" in repr(study)
    assert "conv1:0" in repr(study)


def test_the_figure_has_positions_in_rows_and_outcomes_in_columns() -> None:
    study = positions(opponent_network(), "conv1:0", (1, 2), seeds=3, recipe=short(5))
    figure = study.figure()
    assert sum(len(axes.images) for axes in figure.axes) == 3 * 3
    words = " ".join(text.get_text() for axes in figure.axes for text in axes.texts)
    assert "fall-off 43%" in words
    assert "tiled" in words


def test_a_picture_is_framed_by_its_field_and_gray_beyond_the_edge() -> None:
    picture = np.zeros((3, 5, 5), np.float32)
    frame = frame_picture(picture, Box(0, 0, 5, 5), Box(-2, 0, 5, 5), (16, 16))
    assert frame.shape == (7, 5, 3)
    np.testing.assert_allclose(frame[:2], np.broadcast_to(OFF, (2, 5, 3)), atol=1e-6)
    assert (frame[2:] == 0).all()


def test_a_study_is_kept_and_goes_on_from_what_is_there(tmp_path: Path) -> None:
    network, told = opponent_network(), []
    first = positions(network, "conv1:0", (1, 2), recipe=short(5), to=tmp_path)
    again = positions(network, "conv1:0", (1, 2), recipe=short(5), to=tmp_path, progress=lambda *n: told.append(n))
    assert told == []
    np.testing.assert_array_equal(first.transferred, again.transferred)
    assert first.specificity() == again.specificity()


@pytest.mark.parametrize(
    ("asked", "error", "story"),
    [
        ({"unit": "conv9:0"}, UnknownName, "conv9"),
        ({"unit": "conv1:99"}, BadInput, "no channel 99"),
        ({"unit": "fc:0"}, BadInput, "without positions"),
        ({"grid": (40, 3)}, BadInput, "a grid of 40 x 3 positions .* has 32 x 32"),
        ({"at": [(0, 0), (0, 32)]}, BadInput, "no neuron at 0,32"),
        ({"at": [(0, 0), (0, 0)]}, BadInput, "each once"),
        ({"features": "conv7"}, UnknownName, "conv7"),
    ],
)
def test_what_there_is_not_is_refused_in_words(asked: dict, error: type[Exception], story: str) -> None:
    with pytest.raises(error, match=story):
        positions(opponent_network(), **{"unit": "conv1:0", "recipe": short(1), **asked})


def test_one_unit_may_stand_in_a_list_and_several_are_refused() -> None:
    assert _single_unit(["0:1"]) == _single_unit("0:1") == _single_unit(Unit("0", 1)) == Unit("0", 1)
    for units in ([], ["0:1", "0:2"]):
        with pytest.raises(BadInput, match=f"positions are those of one unit, and {len(units)} came"):
            _single_unit(units)
