"""Gabor functions and differences of Gaussians, fitted to spatial profiles (jones1987).

Problem: every unit of a record has a profile to fit, with up to six nonlinear parameters, and a fit may end in a local
minimum. Idea: both models are a weighted sum of two functions that share their nonlinear parameters (orientation,
frequency, center, widths):

    Gabor                    a hill cos(wave)  +  b hill sin(wave)         amplitude and phase are (a, b)
    difference of Gaussians  a narrow hill     +  b wide hill              center and surround are a and b

So the weights (a, b) begin at their least-squares solution, slopes are known in closed form, and a start near the
Fourier peak of the profile is enough.

Coordinates are those of the laboratory, in pixels from the center of the picture: x to the right, y up; orientation is
that of the bars, in degrees counterclockwise from horizontal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Profile = Float[np.ndarray, "height width"]
Values = Float[np.ndarray, " parameter"]
Model = Callable[[Values, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Of nonlinear parameters and the pixels' x and y: the two functions whose weighted sum is the model, [2 pixel], and
their slopes by the nonlinear parameters, [parameter 2 pixel].
"""

EVALUATIONS = 60
"""How often a model is evaluated at most from one start. Profiles that a model fits at all need fewer evaluations."""

NARROWEST = 0.3
"""Pixels of the smallest standard deviation: what is narrower is one pixel."""


@dataclass(frozen=True)
class Fit:
    """A model's parameters by name, the share of variance that it explains, and its Bayesian information criterion."""

    values: dict[str, float]
    explained: float
    bic: float


UNFIT = Fit({}, float("nan"), float("nan"))
"""The fit of a profile without any structure."""


def gabor_fit(profile: Profile, *, orientation: float, frequency: float) -> Fit:
    """The Gabor function nearest to a profile, begun at an `orientation` and `frequency` (those of its Fourier peak).

    A exp(-(u^2 / 2 su^2 + v^2 / 2 sv^2)) cos(2 pi f u + phase), where u runs across the bars and v along them. Values:
    `orientation`, `frequency`, `x`, `y`, `across` and `along` (su and sv, pixels), `phase` (degrees), `amplitude`.
    """
    x0, y0, spread = _middle(profile)
    turn = np.radians(orientation)
    starts = [
        np.array([turn, f, x0, y0, np.log(spread * across), np.log(spread)])
        for f, across in ((frequency, 1.0), (0.7 * frequency, 0.6))
    ]  # fmt: skip
    found = _best(profile, _gabor, starts)
    if found is None:
        return UNFIT
    (turn, f, x0, y0, across, along), (a, b), fit = found
    if f < 0:
        f, b = -f, -b
    values = {
        "orientation": float(np.degrees(turn) % 180), "frequency": float(f), "x": float(x0), "y": float(y0),
        "across": float(np.exp(across)), "along": float(np.exp(along)),
        "phase": float(np.degrees(np.arctan2(-b, a)) % 360), "amplitude": float(np.hypot(a, b)),
    }  # fmt: skip
    if np.degrees(turn) % 360 >= 180:  # the same bars with u the other way round
        values["phase"] = -values["phase"] % 360
    return Fit(values, *fit)


def difference_fit(profile: Profile) -> Fit:
    """The difference of two round Gaussians on one center that comes nearest to a profile.

    Values: `x`, `y`, `center` and `surround` (standard deviations, pixels), `center_weight`, `surround_weight` (their
    integrals; of opposite sign for a center and an opposing surround).
    """
    x0, y0, spread = _middle(profile)
    starts = [np.array([x0, y0, np.log(spread * c), np.log(spread * s)]) for c, s in ((0.5, 1.2), (0.8, 2.0))]
    found = _best(profile, _difference, starts)
    if found is None:
        return UNFIT
    (x0, y0, *widths), weights, fit = found
    sizes = np.exp(widths)
    inner, outer = np.argsort(sizes)
    integrals = 2 * np.pi * sizes**2 * weights
    values = {
        "x": float(x0), "y": float(y0), "center": float(sizes[inner]), "surround": float(sizes[outer]),
        "center_weight": float(integrals[inner]), "surround_weight": float(integrals[outer]),
    }  # fmt: skip
    return Fit(values, *fit)


def _gabor(values: Values, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    turn, f, x0, y0, across, along = values
    cos, sin = np.cos(turn), np.sin(turn)
    dx, dy = x - x0, y - y0
    u, v = dy * cos - dx * sin, dx * cos + dy * sin
    narrow, wide = np.exp(-2 * across), np.exp(-2 * along)
    hill = np.exp(-0.5 * (u**2 * narrow + v**2 * wide))
    wave = 2 * np.pi * f * u
    pair = np.stack([hill * np.cos(wave), hill * np.sin(wave)])
    turned = np.stack([-pair[1], pair[0]])  # by the wave's angle
    by_u = 2 * np.pi * f * turned - u * narrow * pair
    by_v = -v * wide * pair
    slopes = [
        by_u * -v + by_v * u,  # du/dturn = -v, dv/dturn = u
        2 * np.pi * u * turned,
        by_u * sin - by_v * cos,
        -by_u * cos - by_v * sin,
        u**2 * narrow * pair,
        v**2 * wide * pair,
    ]
    return pair, np.stack(slopes)


def _difference(values: Values, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x0, y0, *widths = values
    dx, dy = x - x0, y - y0
    narrow = np.exp(-2 * np.array(widths))[:, None]
    pair = np.exp(-0.5 * (dx**2 + dy**2) * narrow)
    by_width = (dx**2 + dy**2) * narrow * pair
    own = np.eye(2)[:, :, None]
    return pair, np.concatenate([np.stack([dx * narrow * pair, dy * narrow * pair]), own * by_width[None]])


def _best(
    profile: Profile, model: Model, starts: Sequence[Values]
) -> tuple[Values, np.ndarray, tuple[float, float]] | None:
    """Nonlinear parameters, the two weights, and (share explained, BIC) of the best of some starts."""
    total = float(((profile - profile.mean()) ** 2).sum())
    if not total > 1e-12 * float((profile**2).sum()) or profile.size <= len(starts[0]) + 2:
        return None
    scale = float(np.abs(profile).max())
    x, y = _axes(profile)
    data = profile.ravel() / scale
    found = [_minimize(data, model, start, x, y) for start in starts]
    values, weights, left = min(found, key=lambda one: one[2])
    count, free = data.size, len(values) + 2
    bic = count * np.log(max(left, 1e-30) / count) + free * np.log(count)
    return values, weights * scale, (1 - left * scale**2 / total, float(bic))


def _minimize(
    data: np.ndarray, model: Model, start: Values, x: np.ndarray, y: np.ndarray
) -> tuple[Values, np.ndarray, float]:
    """Least squares from one start over all parameters (Levenberg and Marquardt)."""
    from scipy.optimize import least_squares

    count = len(start)
    largest = 2 * float(np.abs(x).max() + np.abs(y).max()) + 2

    # The last two parameters are logarithms of widths. They are clipped inside the model, not bounded in the search:
    # the method of Levenberg and Marquardt knows no bounds, and widths of 0 or infinity have no slopes.
    def clip_widths(values: np.ndarray) -> np.ndarray:
        kept: np.ndarray = values.copy()
        last = kept[-2:]
        np.clip(last, np.log(NARROWEST), np.log(largest), out=last)
        return kept

    def residuals(values: np.ndarray) -> np.ndarray:
        pair, _ = model(clip_widths(values[:count]), x, y)
        return np.asarray(values[count:] @ pair - data)

    def slopes(values: np.ndarray) -> np.ndarray:
        pair, by = model(clip_widths(values[:count]), x, y)
        return np.concatenate([np.einsum("kwp,w->kp", by, values[count:]), pair]).T

    pair, _ = model(clip_widths(start), x, y)
    weights = np.linalg.lstsq(pair.T, data, rcond=None)[0]
    found = least_squares(
        residuals, np.concatenate([start, weights]), slopes, method="lm", max_nfev=EVALUATIONS, xtol=1e-6, ftol=1e-8
    )
    return clip_widths(found.x[:count]), found.x[count:], float(2 * found.cost)


def _axes(profile: Profile) -> tuple[np.ndarray, np.ndarray]:
    """The pixels' x and y, flat."""
    height, width = profile.shape
    y = (height - 1) / 2 - np.arange(height)
    x = np.arange(width) - (width - 1) / 2
    return np.tile(x, height), np.repeat(y, width)


def _middle(profile: Profile) -> tuple[float, float, float]:
    """The center of a profile's energy (x, y), and the standard deviation of its amplitude around it."""
    x, y = _axes(profile)
    energy = profile.ravel() ** 2
    total = energy.sum()
    if not total > 0:
        return 0.0, 0.0, 1.0
    x0, y0 = float((energy * x).sum() / total), float((energy * y).sum() / total)
    spread = np.sqrt(float((energy * ((x - x0) ** 2 + (y - y0) ** 2)).sum() / total))  # of energy, both axes together
    return x0, y0, max(spread, 2 * NARROWEST)
