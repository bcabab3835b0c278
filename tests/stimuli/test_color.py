"""Colors against published matrices and numbers, and against colour-science where that is installed."""

from __future__ import annotations

import numpy as np
import pytest

from tests.conftest import needs
from unitscope.errors import BadInput, UnknownName
from unitscope.stimuli import color


def test_white_excites_every_cone_by_one() -> None:
    assert color.cones(color.decode_srgb(np.ones(3))) == pytest.approx([1, 1, 1], abs=1e-12)
    expected = [[0.313997, 0.639506, 0.046498], [0.155379, 0.757917, 0.086705], [0.017757, 0.109468, 0.872775]]
    assert np.allclose(color.CONES_OF_LINEAR, expected, atol=1e-6)


def test_luminance_is_free_of_s() -> None:
    assert np.allclose(color.LUMINANCE_OF_CONES, [0.361201, 0.638808, 0], atol=2e-6)
    y = np.array([0.2126729, 0.7151522, 0.0721750])
    for name in ("l-m", "s", "hue:37"):
        change = color.cone_contrast(color.direction(name))
        assert abs(color.LUMINANCE_OF_CONES @ change) < 1e-12
        assert abs(y @ color.direction(name)) < 1e-5  # of the published matrix, which is rounded


def test_linear_light_and_pixel_values_are_each_others_inverse() -> None:
    pixels = np.linspace(0, 1, 256)
    assert color.encode_srgb(color.decode_srgb(pixels)) == pytest.approx(pixels, abs=1e-7)
    assert float(color.encode_srgb(np.array(0.5))) == pytest.approx(0.7354, abs=1e-4)
    assert float(color.decode_srgb(np.array(0.5))) == pytest.approx(0.2140, abs=1e-4)


def test_the_axes_at_half_of_white() -> None:
    """The numbers of a background of linear 0.5."""
    expected = [
        [0.736715, 2.477341, 0.250046],
        [0.232803, -0.173791, -0.059012],
        [-0.389829, -1.211358, 1.601187],
    ]
    assert color.dkl_of_linear(0.5) == pytest.approx(np.array(expected), abs=2e-6)
    background = float(color.encode_srgb(np.array(0.5)))
    columns = {
        "luminance": (0.288675, 0.288675, 0.288675),
        "l-m": (3.52394, -1.054061, 0.060511),
        "s": (0.084795, -0.083928, 0.581687),
    }
    for name, expected_column in columns.items():
        assert color.direction(name, background) == pytest.approx(expected_column, abs=1e-4)


@pytest.mark.parametrize("background", [0.5, 0.7354])
def test_where_the_display_ends(background: float) -> None:
    limits = {"luminance": 1.7321, "l-m": 0.14189, "s": 0.8596, "l": 0.183, "m": 0.215}
    for name, limit in limits.items():
        if background == 0.5 or name == "luminance":
            assert color.largest_contrast(name, background) == pytest.approx(limit, rel=5e-3)


@pytest.mark.parametrize("name", ["luminance", "l-m", "s", "l", "m", "hue:0", "hue:45", "hue:300"])
def test_every_direction_has_a_pooled_cone_contrast_of_one(name: str) -> None:
    assert np.linalg.norm(color.cone_contrast(color.direction(name))) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("name", ["l", "m", "s"])
def test_isolating_stimuli_silence_the_other_cones(name: str) -> None:
    contrast = color.cone_contrast(color.direction(name))
    others = [abs(value) for value, cone in zip(contrast, "lms", strict=True) if cone != name]
    assert max(others) < 1e-12


def test_hues_go_from_l_minus_m_to_s() -> None:
    assert color.direction("hue:0") == pytest.approx(color.direction("l-m"), abs=1e-12)
    assert color.direction("hue:90") == pytest.approx(color.direction("s"), abs=1e-12)


def test_what_is_out_of_gamut_is_named_and_not_clipped() -> None:
    with pytest.raises(BadInput, match=r"0\.2 in the direction 'l-m' is out of gamut: .* ends at 0\.14.*not|nothing"):
        color.require_in_gamut("l-m", 0.2)
    color.require_in_gamut("s", 0.2)


def test_an_unknown_direction_is_named() -> None:
    with pytest.raises(UnknownName, match=r"color space has no direction 'lm'. Close: 'l-m'"):
        color.direction("lm")


@needs("colour")
def test_against_colour_science() -> None:
    """Its sRGB, and its cones of Hunt, Pointer and Estevez; its matrix of primaries is rounded otherwise."""
    import colour
    from colour.appearance.hunt import MATRIX_XYZ_TO_HPE

    pixels = np.random.default_rng(0).random((50, 3))
    assert color.decode_srgb(pixels) == pytest.approx(colour.models.eotf_sRGB(pixels), abs=1e-12)
    assert color.encode_srgb(color.decode_srgb(pixels)) == pytest.approx(
        colour.models.eotf_inverse_sRGB(colour.models.eotf_sRGB(pixels)), abs=1e-6
    )
    xyz = colour.sRGB_to_XYZ(pixels)
    assert color.decode_srgb(pixels) @ color.XYZ_OF_LINEAR.T == pytest.approx(xyz, abs=3e-4)
    assert np.array_equal(MATRIX_XYZ_TO_HPE, color.CONES_OF_XYZ)
    cones = xyz @ MATRIX_XYZ_TO_HPE.T / (colour.sRGB_to_XYZ(np.ones(3)) @ MATRIX_XYZ_TO_HPE.T)
    assert color.cones(color.decode_srgb(pixels)) == pytest.approx(cones, abs=3e-4)


@needs("colour")
@pytest.mark.parametrize("name", ["l-m", "s", "hue:40", "hue:200"])
def test_equal_luminance_is_equal_luminance_to_colour_science(name: str) -> None:
    import colour

    change = 0.1 * np.array(color.direction(name))
    gray = float(color.decode_srgb(np.array(color.MIDDLE_GRAY)))
    pixels = color.encode_srgb(np.stack([np.full(3, gray), gray + change, gray - change]))
    luminance = colour.sRGB_to_XYZ(pixels)[:, 1]
    assert luminance == pytest.approx(luminance[0], rel=5e-4)
