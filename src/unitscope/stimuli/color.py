"""Colors as a vision laboratory names them: linear light, cone excitations, and the axes of Derrington, Krauskopf and
Lennie (derrington1984).

A display's primaries are taken to be those of sRGB. Cones are those of Hunt, Pointer and Estevez, which are exact on
the CIE 1931 observer and make luminance free of S; white excites each of them by 1. Contrast is pooled cone contrast,
the length of (dL/L, dM/M, dS/S), so that luminance and color can be compared at equal strength.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from jaxtyping import Float

from unitscope.errors import BadInput, unknown_name

Triple = tuple[float, float, float]

XYZ_OF_LINEAR = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
"""Linear sRGB to CIE 1931 XYZ, white point D65 (IEC 61966-2-1)."""

CONES_OF_XYZ = np.array([[0.38971, 0.68898, -0.07868], [-0.22981, 1.18340, 0.04641], [0.0, 0.0, 1.0]])
"""CIE XYZ to cones, Hunt-Pointer-Estevez, before white is made (1, 1, 1)."""

_WHITE = CONES_OF_XYZ @ XYZ_OF_LINEAR @ np.ones(3)

CONES_OF_LINEAR = CONES_OF_XYZ @ XYZ_OF_LINEAR / _WHITE[:, None]
"""Linear sRGB to L, M, S with white at (1, 1, 1): rows sum to 1."""

LUMINANCE_OF_CONES = np.linalg.inv(CONES_OF_XYZ)[1] * _WHITE * (1, 1, 0)
"""Weights of L, M and S in CIE luminance Y; that of S is 0 (1e-5, by the rounding of the published matrix)."""

MIDDLE_GRAY = 0.5
"""The background as a pixel value, to which every unit is adapted."""

COLOR_AXES = ("luminance", "l-m", "s")
"""The three axes: all cones alike; L against M at equal luminance; S alone, at equal luminance, too."""

CONE_DIRECTIONS = ("l", "m", "s")
"""The directions in which one kind of cone alone is modulated."""

CONTRAST = 0.14
"""Pooled cone contrast of colored stimuli: as much as all of the directions have in the display's gamut (L - M ends
at 0.1419).
"""


def decode_srgb(pixels: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Linear light of sRGB pixel values in 0..1."""
    pixels = np.asarray(pixels, dtype=np.float64)
    return np.where(pixels <= 0.04045, pixels / 12.92, ((pixels + 0.055) / 1.055) ** 2.4)


def encode_srgb(light: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """sRGB pixel values of linear light in 0..1."""
    light = np.asarray(light, dtype=np.float64)
    # np.where computes both branches: abs keeps the power of a slightly negative number from being NaN.
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.abs(light) ** (1 / 2.4) - 0.055)


def cones(light: Float[np.ndarray, "... 3"]) -> Float[np.ndarray, "... 3"]:
    """Excitations of L, M and S by linear light; (1, 1, 1) by white."""
    return np.asarray(light, dtype=np.float64) @ CONES_OF_LINEAR.T


def dkl_of_cones(background: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "3 3"]:
    """Differences of L, M, S from the `background`'s to coordinates (luminance, L - M, S), each of them 1 for the
    stimulus on its axis that has a pooled cone contrast of 1.

    Source: derrington1984; brainard1996, appendix.
    """
    (w_l, w_m, _), (b_l, b_m, b_s) = LUMINANCE_OF_CONES, background
    raw = np.array([[w_l, w_m, 0.0], [1.0, -b_l / b_m, 0.0], [-w_l, -w_m, (w_l * b_l + w_m * b_m) / b_s]])
    # Column i of the inverse moves along axis i alone; its pooled cone contrast becomes the unit of that axis.
    isolating = np.linalg.inv(raw)
    return raw * np.linalg.norm(isolating / np.asarray(background)[:, None], axis=0)[:, None]


def dkl_of_linear(background: float = 0.5) -> Float[np.ndarray, "3 3"]:
    """Differences of linear sRGB from a gray `background` (linear light) to coordinates (luminance, L - M, S)."""
    light = np.full(3, background)
    return dkl_of_cones(cones(light)) @ CONES_OF_LINEAR


def direction(name: str, background: float = MIDDLE_GRAY) -> Triple:
    """The change of linear red, green and blue from a gray `background` (a pixel value) that has the direction's name
    and a pooled cone contrast of 1.

    Names are "luminance", "l-m", "s", "l", "m" and "hue:DEGREES", the angle in the plane of equal luminance from
    +(L - M) to +S. Raises UnknownName.
    """
    return _direction(name, float(background))


@cache
def _direction(name: str, background: float) -> Triple:
    light = float(decode_srgb(np.array(background)))
    if name in COLOR_AXES:
        change = np.linalg.inv(dkl_of_linear(light))[:, COLOR_AXES.index(name)]
    elif name in CONE_DIRECTIONS:
        change = (
            np.linalg.inv(CONES_OF_LINEAR)[:, CONE_DIRECTIONS.index(name)]
            * cones(np.full(3, light))[CONE_DIRECTIONS.index(name)]
        )
    elif name.startswith("hue:"):
        angle = math.radians(float(name.removeprefix("hue:")))
        change = np.linalg.inv(dkl_of_linear(light)) @ [0.0, math.cos(angle), math.sin(angle)]
    else:
        raise unknown_name(
            "direction", name, (*COLOR_AXES, *CONE_DIRECTIONS), where="color space", advice="Hues are written hue:90."
        )
    return tuple(float(value) for value in change)  # type: ignore[return-value]


def cone_contrast(change: Triple, background: float = MIDDLE_GRAY) -> Float[np.ndarray, " 3"]:
    """Contrast of L, M and S of a change of linear light from a gray background (a pixel value)."""
    light = np.full(3, float(decode_srgb(np.array(background))))
    return cones(np.array(change)) / cones(light)


def largest_contrast(name: str, background: float = MIDDLE_GRAY) -> float:
    """The largest pooled cone contrast of a grating in this direction that the display can show on the background."""
    light = float(decode_srgb(np.array(background)))
    return min(light, 1 - light) / max(abs(value) for value in direction(name, background))


def require_in_gamut(name: str, contrast: float, background: float = MIDDLE_GRAY) -> None:
    """Raises BadInput for a contrast that the display cannot show in this direction. Nothing is ever clipped."""
    largest = largest_contrast(name, background)
    if contrast > largest * (1 + 1e-9):
        raise BadInput(
            f"a pooled cone contrast of {contrast:g} in the direction {name!r} is out of gamut: on gray, pixel value "
            f"{background:g}, an sRGB display ends at {largest:.4g}. Show less contrast; nothing is clipped."
        )
