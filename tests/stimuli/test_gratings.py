"""Parametric stimuli against their definition, pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.conftest import needs
from unitscope.errors import BadInput
from unitscope.stimuli import batteries
from unitscope.stimuli.color import MIDDLE_GRAY, cone_contrast, decode_srgb
from unitscope.stimuli.gratings import draw_stimulus, make_product, make_rows


def by_definition(orientation: float, frequency: float, phase: float, row: float, col: float) -> float:
    """A grating of bars at `orientation` (counterclockwise), with a bright bar in the center at phase 0."""
    angle = math.radians(orientation)
    across = -row * math.cos(angle) - col * math.sin(angle)
    return math.cos(2 * math.pi * frequency * across + math.radians(phase))


def test_a_grating_is_its_formula() -> None:
    stimuli = make_product("g", orientation=[0, 30, 117], frequency=[0.07, 0.31], phase=[0, 90, 200], contrast=0.5)
    pictures = draw_stimulus(stimuli, (9, 12), center=(3.5, 5.0))
    assert pictures.shape == (18, 3, 9, 12)
    for number in (0, 5, 11, 17):
        o, f, p = (float(stimuli.columns[name][number]) for name in ("orientation", "frequency", "phase"))
        for row, col in ((0, 0), (3, 5), (8, 11)):
            expected = MIDDLE_GRAY * (1 + 0.5 * by_definition(o, f, p, row - 3.5, col - 5.0))
            assert pictures[number, :, row, col].tolist() == pytest.approx([expected] * 3, abs=1e-6)


def test_bars_of_ninety_degrees_are_upright() -> None:
    (picture,) = draw_stimulus(make_product("g", orientation=90.0, frequency=0.2), (11, 11), center=(5, 5))
    assert torch.allclose(picture, picture[:, :1].expand_as(picture))
    assert not torch.allclose(picture, picture[:, :, :1].expand_as(picture))


def test_a_rising_bar_leans_to_the_right() -> None:
    """45 degrees counterclockwise from horizontal: from the lower left to the upper right."""
    (picture,) = draw_stimulus(make_product("g", orientation=45.0, frequency=0.15), (11, 11), center=(5, 5))
    diagonal = torch.stack([picture[0, 10 - i, i] for i in range(11)])
    assert torch.allclose(diagonal, torch.ones(11), atol=1e-6)


def test_a_hard_patch_a_soft_patch_and_an_annulus() -> None:
    hard, soft, ring = draw_stimulus(
        make_rows("d", pattern="uniform", diameter=[6.0, 6.0, 6.0], edge=[0.0, 2.0, 0.0], inner=[0.0, 0.0, 3.0]),
        (11, 11),
        center=(5, 5),
    )[:, 0, 5]
    assert hard.tolist() == [0.5] * 2 + [1.0] * 7 + [0.5] * 2
    assert ring.tolist() == [0.5] * 2 + [1.0] * 2 + [0.5] * 3 + [1.0] * 2 + [0.5] * 2
    assert soft.tolist() == pytest.approx([0.5, 0.5, 0.75, 1, 1, 1, 1, 1, 0.75, 0.5, 0.5])


def test_a_surround_may_be_of_the_opposite_color() -> None:
    same, opposite = draw_stimulus(
        make_rows("d", pattern="uniform", diameter=[4.0, 4.0], surround=[1.0, -1.0], contrast=[0.4, 0.4]),
        (9, 9),
        center=(4, 4),
    )[:, 0]
    assert torch.allclose(same, torch.full((9, 9), 0.7))
    assert float(opposite[4, 4]) == pytest.approx(0.7)
    assert float(opposite[0, 0]) == pytest.approx(0.3)


def test_a_plaid_is_half_of_each_grating() -> None:
    both = draw_stimulus(
        make_product("p", pattern="plaid", orientation=20.0, second=110.0, frequency=0.1, second_phase=50.0),
        (9, 9),
        center=(4, 4),
    )
    one = draw_stimulus(make_product("p", orientation=20.0, frequency=0.1), (9, 9), center=(4, 4))
    other = draw_stimulus(make_product("p", orientation=110.0, frequency=0.1, phase=50.0), (9, 9), center=(4, 4))
    assert torch.allclose(both, (one + other) / 2, atol=1e-6)


def test_colors_have_the_cone_contrast_that_was_asked_for() -> None:
    stimuli = make_product(
        "c", pattern="uniform", direction=["luminance", "l-m", "s", "l", "m", "hue:200"], contrast=0.14
    )
    pictures = draw_stimulus(stimuli, (1, 1), center=(0, 0))[:, :, 0, 0].double().numpy()
    changes = decode_srgb(pictures) - float(decode_srgb(np.array(MIDDLE_GRAY)))
    for change in changes:
        assert np.linalg.norm(cone_contrast(tuple(change))) == pytest.approx(0.14, abs=1e-5)
    assert abs(cone_contrast(tuple(changes[3]))[1:]).max() < 1e-5  # L alone


def test_contrasts_out_of_gamut_are_refused() -> None:
    with pytest.raises(BadInput, match="out of gamut"):
        draw_stimulus(make_product("c", direction="l-m", contrast=0.15), (3, 3), center=(1, 1))
    with pytest.raises(BadInput, match="leaves the pixel values"):
        draw_stimulus(make_product("c", contrast=1.1), (3, 3), center=(1, 1))


def test_an_unknown_parameter_is_named() -> None:
    with pytest.raises(BadInput, match="no parameter 'angle'"):
        make_product("g", angle=[0, 1])


def test_all_combinations_in_order() -> None:
    stimuli = make_product("g", orientation=[0, 90], phase=[0, 120, 240])
    assert stimuli.columns["orientation"].tolist() == [0, 0, 0, 90, 90, 90]
    assert stimuli.columns["phase"].tolist() == [0, 120, 240] * 2


def test_a_field_is_shown_from_one_cycle_to_the_finest_grating() -> None:
    frequencies = batteries.grating_frequencies((11, 11))
    assert frequencies[0] == pytest.approx(1 / 11)
    assert frequencies[-1] == pytest.approx(0.4)
    assert len(frequencies) >= 6


@pytest.mark.parametrize(
    ("hue", "color"), [(0, (1, 0, 0)), (60, (1, 1, 0)), (120, (0, 1, 0)), (240, (0, 0, 1)), (300, (1, 0, 1))]
)
def test_saturated_hues(hue: int, color: tuple[int, int, int]) -> None:
    assert batteries.saturated(hue) == pytest.approx(color)


def test_every_stimulus_of_a_session_can_be_shown() -> None:
    stimuli = batteries.first_part((5, 5)) + batteries.second_part((5, 5), [30.0, 90.0], [0.2, 0.3])
    pictures = draw_stimulus(stimuli, (3, 3), center=(1, 1))
    assert float(pictures.min()) >= 0
    assert float(pictures.max()) <= 1
    assert len(pictures) == len(stimuli)


@needs("stimupy")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("turned", [12.0, 30.0, 77.0, 140.0])
@pytest.mark.parametrize("frequency", [0.05, 0.13, 0.31])
def test_against_stimupy(turned: float, frequency: float) -> None:
    """Its sine gratings, whose frequency is left as it is; its center of an even side lies on a pixel."""
    from stimupy.stimuli import waves

    theirs = waves.sine_linear(
        shape=(24, 24), ppd=1, frequency=frequency, rotation=turned, intensities=(0.0, 1.0), origin="center",
        round_phase_width=False,
    )["img"]  # fmt: skip
    stimulus = make_product("g", orientation=(90 + turned) % 180, frequency=frequency, phase=[90.0, 270.0])
    ours = draw_stimulus(stimulus, (24, 24), center=(12, 12))[:, 0].numpy()
    assert min(abs(one - theirs).max() for one in ours) < 1e-4
