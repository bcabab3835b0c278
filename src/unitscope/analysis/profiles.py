"""A picture that stands for a unit, read as the field of a linear cell: its axis of color, its spatial profile, and
what these say of orientation, frequency and opponency without a single stimulus (methods 7.3).

A picture [color height width] is first separated, by its singular value decomposition, into one axis of color and one
spatial profile; the profile is read by its Fourier peak and by fits of a Gabor function and of a difference of
Gaussians (`fits.py`).

Such pictures are of two kinds. First-layer kernels and virtual filters are weights, to be multiplied with pixel values;
mean preferred stimuli and optimal stimuli are colors, added to the background.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from unitscope.analysis.fits import difference_fit, gabor_fit
from unitscope.analysis.opponency import DEFAULT, Thresholds, opponent
from unitscope.analysis.tuning_curves import LEVEL
from unitscope.stimuli.color import CONES_OF_LINEAR, direction, dkl_of_linear

Pictures = Float[np.ndarray, "unit 3 height width"]
Kind = Literal["weights", "colors"]

GRAY_AXIS = np.full(3, 3**-0.5)

PADDED = 128
"""Side to which profiles are filled up before they are transformed."""

COLORED = 1e-3
"""Below this chromatic energy a picture has no axis of color."""


@dataclass(frozen=True, eq=False)
class Separation:
    """A picture as a sum of products of a color and a spatial profile: the first of them, and its share of the energy.

    `color` is of length 1, its largest component positive; color times profile is the part of the picture.
    """

    color: Float[np.ndarray, "unit 3"]
    profile: Float[np.ndarray, "unit height width"]
    separability: Float[np.ndarray, " unit"]


def separate_color(pictures: Pictures) -> Separation:
    """Color and space taken apart by a singular value decomposition of each picture, pixels by colors.

    `separability` is s1^2 / sum s^2: 1 where all pixels have one color, its complement included; NaN for a blank
    picture.
    """
    units, colors, height, width = pictures.shape
    left, values, right = np.linalg.svd(pictures.reshape(units, colors, -1), full_matrices=False)
    color = left[:, :, 0]
    # (-a)(-b) = ab: the signs of color and profile are free as a pair. The largest component of the color is made
    # positive.
    sign = np.sign(color[np.arange(units), np.abs(color).argmax(1)])
    energy = (values**2).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(energy > 0, values[:, 0] ** 2 / energy, np.nan)
    profile = (sign * values[:, 0])[:, None] * right[:, 0]
    return Separation(color * sign[:, None], profile.reshape(units, height, width), share)


def chromatic_energy(pictures: Pictures) -> Float[np.ndarray, " unit"]:
    """1 - |K e|^2 / |K|^2 with e the axis of gray: 0 for what is gray, 1 for what has no gray at all."""
    gray = np.einsum("ucij,c->uij", pictures, GRAY_AXIS)
    with np.errstate(invalid="ignore", divide="ignore"):
        return 1 - (gray**2).sum((1, 2)) / (pictures**2).sum((1, 2, 3))


class Peak(NamedTuple):
    """Of a profile's Fourier transform: `orientation` of the bars (degrees) and `frequency` (cycles per pixel) of its
    peak, `octaves` between where it falls to 71 % along the same orientation, and `selectivity`, 1 - circular variance
    of its energy over orientation. [unit] each
    """

    orientation: np.ndarray
    frequency: np.ndarray
    octaves: np.ndarray
    selectivity: np.ndarray


def fourier_peak(profiles: Float[np.ndarray, "unit height width"]) -> Peak:
    """Where a profile less its mean has most energy; NaN for a flat one.

    By the amplitude at a linear cell's preferred grating, which is what F1 measures (methods 7.2).
    """
    found = np.array([_peak_of(profile) for profile in profiles]).reshape(len(profiles), 4)
    return Peak(*found.T)


def _peak_of(profile: Float[np.ndarray, "height width"]) -> tuple[float, float, float, float]:
    centered = profile - profile.mean()
    if not np.abs(centered).max() > 1e-9 * np.abs(profile).max():
        return (np.nan,) * 4
    # Zeros around the profile make the grid of frequencies finer: steps of 1 / 128 cycles per pixel.
    amplitude = np.abs(np.fft.fft2(centered, s=(PADDED, PADDED)))
    # Rows count downwards, y counts upwards.
    y, x = -np.fft.fftfreq(PADDED)[:, None], np.fft.fftfreq(PADDED)[None, :]
    energy, angle = amplitude**2, np.arctan2(y, x)
    energy[0, 0] = 0.0
    selectivity = abs((energy * np.exp(2j * angle)).sum()) / energy.sum()
    row, col = np.unravel_index(amplitude.argmax(), amplitude.shape)
    wave_y, wave_x = _refine_peak(centered, float(y[row, 0]), float(x[0, col]))
    frequency = float(np.hypot(wave_x, wave_y))
    orientation = float((np.degrees(np.arctan2(wave_y, wave_x)) + 90) % 180)
    octaves = _octaves(centered, wave_x / frequency, wave_y / frequency, frequency)
    return orientation, frequency, octaves, float(selectivity)


def _refine_peak(profile: np.ndarray, wave_y: float, wave_x: float) -> tuple[float, float]:
    """The peak of the transform between the points of the padded one, by three ever finer grids."""
    rows, cols = (np.arange(side) for side in profile.shape)
    step = 1 / PADDED
    for _ in range(3):
        shifts = np.linspace(-step, step, 9)
        up, right = wave_y + shifts, wave_x + shifts
        vertical, horizontal = np.exp(2j * np.pi * np.outer(up, rows)), np.exp(-2j * np.pi * np.outer(cols, right))
        row, col = np.unravel_index(np.abs(vertical @ profile @ horizontal).argmax(), (9, 9))
        wave_y, wave_x, step = float(up[row]), float(right[col]), step / 4
    return wave_y, wave_x


def _octaves(profile: np.ndarray, along_x: float, along_y: float, frequency: float) -> float:
    """The bandwidth along one orientation around a peak, where both sides fall low enough before 0.5 cycles."""
    steps = np.linspace(0, 0.5, 129)
    rows, cols = (np.arange(side) for side in profile.shape)
    u = along_x * cols[None, :] - along_y * rows[:, None]
    waves = np.exp(-2j * np.pi * steps[:, None] * u.ravel()[None, :])
    curve = np.abs(waves @ profile.ravel())
    top = int(np.abs(steps - frequency).argmin())
    height = LEVEL * curve[top]
    below = np.flatnonzero(curve < height)
    before, after = below[below < top], below[below > top]
    if not len(before) or not len(after):
        return float("nan")
    low = np.interp(height, curve[before[-1] :][:2], steps[before[-1] :][:2])
    # Reversed, since np.interp needs rising values, and the curve falls behind its peak.
    high = np.interp(height, curve[after[0] - 1 :][:2][::-1], steps[after[0] - 1 :][:2][::-1])
    return float(np.log2(high / low)) if low > 0 else float("nan")


class Colors(NamedTuple):
    """What a picture's colors say: signed cone weights (magnitudes sum to 1) [3 unit], the axis in the plane of equal
    luminance (degrees from L - M to S, 0..180), how far the opponent channel with most energy is from balance (0
    balanced in space, 1 of one sign), the correlation over pixels of the signals of L and M, and "none", "single" or
    "double".
    """

    cones: np.ndarray
    hue: np.ndarray
    balance: np.ndarray
    cone_correlation: np.ndarray
    opponency: np.ndarray


def colors_of(pictures: Pictures, kind: Kind, *, thresholds: Thresholds = DEFAULT) -> Colors:
    """Opponency without stimuli: opposed weights of cones, and of red, green and blue (see analysis.opponency), and an
    opponent channel that is balanced in space or not.

    On gray, changes of pixel values go with those of linear light. Weights are turned into the factor of each cone's
    excitation, colors into what each cone would see.
    """
    axis = separate_color(pictures).color
    # A unit with the weights w responds w . light. Since cones = C light, that is (inv(C)' w) . cones.
    to_cones = np.linalg.inv(CONES_OF_LINEAR).T if kind == "weights" else CONES_OF_LINEAR
    axes = _axes(kind)
    cones = to_cones @ axis.T
    cones, own_axis = cones / np.abs(cones).sum(0), axis.T / np.abs(axis).sum(1)
    channels = np.einsum("ac,ucij->auij", axes, pictures)
    energies = (channels**2).sum((2, 3))
    own = channels[energies.argmax(0), np.arange(len(pictures))]
    along = axes @ axis.T
    with np.errstate(invalid="ignore", divide="ignore"):
        balance = np.abs(own.sum((1, 2))) / np.abs(own).sum((1, 2))
    colored = chromatic_energy(pictures) > COLORED
    hue = np.where(colored, np.degrees(np.arctan2(along[1], along[0])) % 180, np.nan)
    spatial = np.where(balance > thresholds.low_pass, "single", "double")
    opposed = opponent(cones, least=thresholds.cone) & opponent(own_axis, least=thresholds.cone)
    kinds = np.where(opposed, spatial, "none").astype(object)
    seen = np.einsum("kc,ucij->kuij", to_cones, pictures)
    return Colors(cones, hue, np.where(colored, balance, np.nan), _correlation(seen[0], seen[1]), kinds)


def _axes(kind: Kind) -> Float[np.ndarray, "2 3"]:
    """What brings colors, or weights, to the two axes of the plane of equal luminance."""
    if kind == "weights":
        return np.array([direction("l-m"), direction("s")])
    return dkl_of_linear()[1:]


def _correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = (part.reshape(len(part), -1) for part in (a, b))
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))


def profile_numbers(pictures: Pictures, kind: Kind) -> dict[str, np.ndarray]:
    """All that pictures say, by name, [unit] each; NaN (or None) for blank pictures."""
    parts = separate_color(pictures)
    peak = fourier_peak(parts.profile)
    colors = colors_of(pictures, kind)
    blank = ~(np.abs(pictures).reshape(len(pictures), -1).max(1) > 0)
    numbers: dict[str, np.ndarray] = {
        "orientation": peak.orientation, "orientation_selectivity": peak.selectivity,
        "frequency": peak.frequency, "octaves": peak.octaves,
        **_fit_profile(parts.profile, peak),
        "separability": parts.separability, "chromatic_energy": chromatic_energy(pictures),
        "hue_axis": colors.hue, "cone_l": colors.cones[0], "cone_m": colors.cones[1], "cone_s": colors.cones[2],
        "cone_correlation": colors.cone_correlation, "balance": colors.balance,
        "opponency": np.array([None if b else k for b, k in zip(blank, colors.opponency, strict=True)], dtype=object),
    }  # fmt: skip
    return {name: np.where(blank, np.nan, v) if v.dtype.kind == "f" else v for name, v in numbers.items()}


FITTED = 16
"""Pixels of the longer side to which large profiles are averaged before fits, where their frequency allows it."""


def _shrink(profile: Float[np.ndarray, "height width"], frequency: float) -> tuple[np.ndarray, int]:
    """A profile averaged over blocks, and how many pixels these have on a side; a wave keeps three of them at least."""
    times = max(1, min(-(-max(profile.shape) // FITTED), int(1 / (3 * frequency))))
    height, width = (side // times for side in profile.shape)
    top, left = (side % times // 2 for side in profile.shape)
    cut = profile[top : top + height * times, left : left + width * times]
    return cut.reshape(height, times, width, times).mean((1, 3)), times


def _fit_profile(profiles: Float[np.ndarray, "unit height width"], peak: Peak) -> dict[str, np.ndarray]:
    """Gabor and difference of Gaussians: how much each explains, which is nearer by BIC, and the Gabor's values."""
    names = ("orientation", "frequency", "phase", "across", "along", "x", "y")
    found = {f"gabor_{name}": np.full(len(profiles), np.nan) for name in names}
    explained = np.full((2, len(profiles)), np.nan)
    shape = np.full(len(profiles), None, dtype=object)
    for unit, profile in enumerate(profiles):
        if np.isnan(peak.frequency[unit]):
            continue
        small, times = _shrink(profile, peak.frequency[unit])
        gabor = gabor_fit(small, orientation=peak.orientation[unit], frequency=times * peak.frequency[unit])
        other = difference_fit(small)
        explained[:, unit] = gabor.explained, other.explained
        if gabor.values:
            shape[unit] = "gabor" if gabor.bic < other.bic else "difference of Gaussians"
        for name in names if gabor.values else ():
            scale = {"orientation": 1.0, "phase": 1.0, "frequency": 1 / times}.get(name, times)
            found[f"gabor_{name}"][unit] = scale * gabor.values[name]
    cycles = {
        "cycles_across": found["gabor_across"] * found["gabor_frequency"],
        "cycles_along": found["gabor_along"] * found["gabor_frequency"],
    }
    return {"gabor_explained": explained[0], "difference_explained": explained[1], "shape": shape, **found, **cycles}
