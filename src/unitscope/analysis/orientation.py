"""Orientation, spatial frequency, size and contrast: what gratings say of each unit (methods of ringach2002).

    gratings [orientation frequency phase]  ->  best grating  ->  curve over orientation at the best frequency
                                                                  curve over frequency at the best orientation
    patches, contrasts, plaids at the best grating            ->  size, suppression, contrast response, plaids

Each number that has an interval is computed again with phases drawn anew (`redraw_phases`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from unitscope.analysis.measure_declarations import Measure, Table, ends_of
from unitscope.analysis.tuning_curves import (
    Session,
    at,
    band,
    component,
    half_width,
    harmonics,
    preferred_orientation,
    redraw_phases,
    resample_component,
    responsive,
    resultant,
    sessions,
    split_half,
    unit_table,
)
from unitscope.record import Record
from unitscope.resampling import percentile_interval

if TYPE_CHECKING:
    import pandas

TIMES = 200
"""How often phases are drawn anew for an interval."""

FEWER = 50
"""How often, where a curve must be interpolated for each draw."""

PLATEAU = 0.95
"""The preferred size is the smallest at which this share of the largest response is reached."""


def orientation(record: Record) -> pandas.DataFrame | None:
    """A row per unit that was shown gratings, or None where none was."""
    found = sessions(record)
    return orientation_table(found) if found else None


def orientation_table(found: list[Session]) -> pandas.DataFrame:
    """A row per unit of the sessions. Units that do not respond have no numbers."""
    import pandas

    # The units of a site may be spread over several sessions, one per box. Whether a unit responds is judged by the
    # strongest unit of all of them.
    population: dict[str, float] = {}
    for session in found:
        highest = float(session.best.strength.max())
        population[session.site] = max(population.get(session.site, 0.0), highest)
    parts = [_rows(session, population[session.site]) for session in found]
    return pandas.concat(parts, ignore_index=True).sort_values("unit", ignore_index=True)


def _rows(session: Session, population: float) -> pandas.DataFrame:
    numbers = {**_of_gratings(session), **_of_size(session), **_of_contrast(session), **_of_plaids(session)}
    return unit_table(session, responsive(session.best.strength, population=population), numbers)


def _of_gratings(session: Session) -> dict[str, np.ndarray]:
    grid = session.gratings
    degrees, frequencies = grid.values["orientation"], grid.values["frequency"]
    found, rest, best = session.harmonics, session.rest, session.best
    units = np.arange(len(rest))
    curve = orientation_curves(session)
    mean = resultant(curve, degrees)
    across = frequency_curves(session)
    spread = band(across, frequencies)
    # Only the best frequency of each unit: each draw needs as much memory as the rates.
    rates = np.stack([grid.rates[:, best.places[1][unit], :, unit] for unit in units], axis=-1)
    redone = redraw_phases(rates, times=TIMES, seed=0)
    curves = component(redone, rest, best.simple)
    drawn = resultant(np.moveaxis(curves, 1, 0), degrees)
    f0, f1 = at(found.f0, *best.places), at(found.f1, *best.places)
    # Angles of orientations are doubled (0 and 180 degrees are the same bar), hence the half.
    away = np.degrees(np.angle(drawn * np.conj(mean))) / 2
    half = len(degrees) // 2
    with np.errstate(invalid="ignore", divide="ignore"):
        # Rolled by half of all orientations: the orthogonal one.
        ratio = np.roll(curve, half, 0)[best.places[0], units] / curve[best.places[0], units]
        modulation = np.where(f0 > 0, f1 / f0, np.nan)
        modulations = redone.f1[:, best.places[0], units] / redone.f0[:, best.places[0], units]
        above = redone.f0[:, best.places[0], units] - rest
    simple = redone.f1[:, best.places[0], units] >= above
    return {
        "preferred_orientation": preferred_orientation(mean),
        # A draw without any response counts as the largest possible error, 90 degrees.
        "orientation_error": np.percentile(np.nan_to_num(np.abs(away), nan=90.0), 95, axis=0),
        "orientation_selectivity": np.abs(mean),
        **_ends("orientation_selectivity", np.abs(drawn)),
        "orientation_selectivity_f0": np.abs(resultant(found.f0[:, best.places[1], units], degrees)),
        "bandwidth": half_width(curve),
        **_ends("bandwidth", _of_draws(half_width, curves[:FEWER])),
        "orthogonal_ratio": ratio,
        "preferred_frequency": spread.peak,
        **_ends("preferred_frequency", _drawn_frequencies(session)),
        "frequency_low": spread.low,
        "frequency_high": spread.high,
        "frequency_octaves": spread.octaves,
        "f1_f0": modulation,
        **_ends("f1_f0", modulations),
        "simple": best.simple,
        "simple_agreement": (simple == best.simple).mean(0),
        "preferred_phase": at(found.phase, *best.places),
        "strength": best.strength,
        "reliability": split_half(grid.rates, rest, best.simple),
    }


def _ends(name: str, drawn: Float[np.ndarray, "time unit"]) -> dict[str, np.ndarray]:
    low, high = percentile_interval(drawn)
    return {f"{name}_low": low, f"{name}_high": high}


def _of_draws(
    number: Callable[[np.ndarray], np.ndarray], curves: Float[np.ndarray, "time place unit"]
) -> Float[np.ndarray, "time unit"]:
    """A number of each curve of each draw."""
    times, places, units = curves.shape
    return number(np.moveaxis(curves, 1, 0).reshape(places, times * units)).reshape(times, units)


def _drawn_frequencies(session: Session) -> Float[np.ndarray, "time unit"]:
    """The preferred frequency with phases drawn anew."""
    grid, best = session.gratings, session.best
    rates = at(grid.rates, best.places[0])
    curves = resample_component(rates, session.rest, best.simple, times=FEWER, seed=0)
    return _of_draws(lambda curve: band(curve, grid.values["frequency"]).peak, curves)


def orientation_curves(session: Session) -> Float[np.ndarray, "orientation unit"]:
    """The response to all orientations at each unit's best frequency: F1, or the rise of the mean above rest."""
    strength = component(session.harmonics, session.rest, session.best.simple)
    return strength[:, session.best.places[1], np.arange(strength.shape[-1])]


def frequency_curves(session: Session) -> Float[np.ndarray, "frequency unit"]:
    """The response to all frequencies at each unit's best orientation."""
    strength = component(session.harmonics, session.rest, session.best.simple)
    return strength[session.best.places[0], :, np.arange(strength.shape[-1])].T


def pair_of(session: Session, block: str) -> np.ndarray:
    """For each unit the number of the series that was taken at its best grating."""
    places = session.where(block)
    # Real numbers are safe as keys here: the series took these very numbers from the grid of gratings.
    pairs = {
        (session.stimuli["orientation"][p], session.stimuli["frequency"][p]): int(session.stimuli["pair"][p])
        for p in places
    }
    return np.array([pairs[pair] for pair in zip(*session.best_pairs, strict=True)])


def _of_size(session: Session) -> dict[str, np.ndarray]:
    if not session.has("size"):
        return {}
    diameters, curve = size_curves(session)
    peak = curve.max(0)
    # argmax of booleans gives the first that is true.
    reached = (curve >= PLATEAU * peak).argmax(0)
    own = at(session.grid("size", "pair", "diameter", "phase").rates, pair_of(session, "size"))
    drawn = resample_component(own, session.rest, session.best.simple, times=TIMES, seed=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "preferred_size": diameters[reached],
            "suppression": (peak - curve[-1]) / peak,
            **_ends("suppression", 1 - drawn[:, -1] / drawn.max(1)),
        }


def size_curves(session: Session) -> tuple[np.ndarray, Float[np.ndarray, "diameter unit"]]:
    """Diameters, and the response to patches of each unit's best grating."""
    grid = session.grid("size", "pair", "diameter", "phase")
    own = at(grid.rates, pair_of(session, "size"))
    return grid.values["diameter"], component(harmonics(own), session.rest, session.best.simple)


def contrast_curves(session: Session) -> tuple[np.ndarray, Float[np.ndarray, "contrast unit"]]:
    """Contrasts, and the response to each unit's best grating."""
    grid = session.grid("contrast", "pair", "contrast", "phase")
    own = at(grid.rates, pair_of(session, "contrast"))
    return grid.values["contrast"], component(harmonics(own), session.rest, session.best.simple)


def _of_contrast(session: Session) -> dict[str, np.ndarray]:
    if not session.has("contrast"):
        return {}
    contrasts, curve = contrast_curves(session)
    half, exponent, explained = naka_rushton(contrasts, curve)
    straight = hinge(contrasts, curve)
    saturates = explained > np.maximum(straight, power(contrasts, curve)) + 1e-3
    return {
        "contrast_saturates": saturates,
        "contrast_half": np.where(saturates, half, np.nan),
        "contrast_exponent": np.where(saturates, exponent, np.nan),
        "contrast_straight": straight,
    }


def naka_rushton(contrasts: np.ndarray, curve: Float[np.ndarray, "contrast unit"]) -> tuple[np.ndarray, ...]:
    """R = Rmax c^n / (c^n + c50^n), fitted over a grid of c50 up to 1 and n: c50, n and the share of variance
    explained, [unit] each.
    """
    grid = np.meshgrid(np.geomspace(0.02, 1.0, 60), np.linspace(0.5, 5, 46), indexing="ij")
    halves, exponents = (values.ravel() for values in grid)
    shape = contrasts[None, :] ** exponents[:, None]
    shape = shape / (shape + halves[:, None] ** exponents[:, None])
    # For each shape s the best scale is known, s.y / s.s; what it leaves unexplained is |y|^2 - scale^2 |s|^2.
    scale = shape @ curve / (shape**2).sum(1)[:, None]
    left = (curve**2).sum(0) - scale**2 * (shape**2).sum(1)[:, None]
    place = left.argmin(0)
    return halves[place], exponents[place], _variance_explained(left[place, np.arange(curve.shape[1])], curve)


def hinge(contrasts: np.ndarray, curve: Float[np.ndarray, "contrast unit"]) -> np.ndarray:
    """Share of variance explained by max(0, k (c - c0)), the curve of a rectified linear unit, [unit]."""
    thresholds = np.linspace(0, 0.9, 181)
    return _best_of(np.maximum(contrasts[None, :] - thresholds[:, None], 0), curve)


def power(contrasts: np.ndarray, curve: Float[np.ndarray, "contrast unit"]) -> np.ndarray:
    """Share of variance explained by k c^n, which accelerates where n > 1, [unit]."""
    return _best_of(contrasts[None, :] ** np.linspace(1, 5, 81)[:, None], curve)


def _best_of(shapes: Float[np.ndarray, "shape contrast"], curve: Float[np.ndarray, "contrast unit"]) -> np.ndarray:
    size = (shapes**2).sum(1)[:, None]
    scale = shapes @ curve / np.where(size > 0, size, 1)  # a threshold above all contrasts explains nothing
    left = (curve**2).sum(0) - scale**2 * size
    return _variance_explained(left.min(0), curve)


def _variance_explained(left: np.ndarray, curve: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return 1 - left / ((curve - curve.mean(0)) ** 2).sum(0)


def _of_plaids(session: Session) -> dict[str, np.ndarray]:
    """The response to a plaid over that to its better grating alone."""
    if not session.has("plaid"):
        return {}
    grid = session.grid("plaid", "pair", "second_phase", "phase")
    own = at(grid.rates, pair_of(session, "plaid"))
    simple = session.best.simple
    plaid = component(harmonics(own), session.rest, simple).mean(0)
    contrasts, curve = contrast_curves(session)
    # Each grating of a plaid has half of the contrast (gratings.py).
    alone = curve[np.abs(contrasts - contrasts[-1] / 2).argmin()]
    with np.errstate(invalid="ignore", divide="ignore"):
        return {"plaid_ratio": np.where(alone > 0, plaid / alone, np.nan)}


ORIENTATION = Table(
    "orientation",
    orientation,
    (
        Measure("responsive", "gratings drive it to 2 % of its site's strongest at least", None, "not so", "so", ""),
        Measure(
            "preferred_orientation",
            "of the bar, degrees counterclockwise from horizontal",
            (0, 180),
            "horizontal",
            "horizontal again",
            "ringach2002",
            180.0,
        ),
        Measure(
            "orientation_error",
            "95 % of preferred orientations from redrawn phases lie so close, degrees",
            (0, 90),
            "certain",
            "any orientation",
            "",
        ),
        Measure(
            "orientation_selectivity",
            "1 - circular variance at the best frequency",
            (0, 1),
            "all orientations alike",
            "one orientation only",
            "ringach2002",
        ),
        *ends_of("orientation_selectivity", (0, 1), "all orientations alike", "one orientation only"),
        Measure(
            "orientation_selectivity_f0",
            "the same of mean rates, rest not taken off",
            (0, 1),
            "all orientations alike",
            "one orientation only",
            "ringach2002",
        ),
        Measure(
            "bandwidth",
            "half width of the tuning curve at 71 % of its peak, degrees; none where it never falls so low",
            (0, 90),
            "sharp",
            "broad",
            "ringach2002",
        ),
        *ends_of("bandwidth", (0, 90), "sharp", "broad"),
        Measure(
            "orthogonal_ratio",
            "response to the orthogonal grating over that to the best",
            (0, 1),
            "silent there",
            "as strong there",
            "ringach2002",
        ),
        Measure("preferred_frequency", "spatial frequency, cycles per pixel", (0, 0.5), "coarse", "fine", ""),
        *ends_of("preferred_frequency", (0, 0.5), "coarse", "fine"),
        Measure(
            "frequency_low", "lower frequency at 71 % of the peak, cycles per pixel", (0, 0.5), "coarse", "fine", ""
        ),
        Measure(
            "frequency_high", "upper frequency at 71 % of the peak, cycles per pixel", (0, 0.5), "coarse", "fine", ""
        ),
        Measure("frequency_octaves", "bandwidth in spatial frequency, octaves", (0, 5), "sharp", "broad", ""),
        Measure(
            "f1_f0",
            "modulation by the phase of the best grating over the mean rate",
            (0, 2),
            "phase does not matter",
            "answers to half of the phases or fewer",
            "skottun1991",
        ),
        *ends_of("f1_f0", (0, 2), "phase does not matter", "answers to half of the phases or fewer"),
        Measure("simple_agreement", "share of redrawn phases that say the same of it", (0, 1), "never", "always", ""),
        Measure(
            "simple",
            "modulation (F1) exceeds the rise of the mean rate above rest",
            None,
            "complex",
            "simple",
            "skottun1991",
        ),
        Measure(
            "preferred_phase",
            "of the best grating, degrees; 0 with a bright bar in the field's center",
            (0, 360),
            "bright bar",
            "bright bar again",
            "",
            360.0,
        ),
        Measure(
            "strength", "response to the best grating: F1, or the rise of the mean", (0, np.inf), "none", "strong", ""
        ),
        Measure(
            "reliability",
            "agreement over all gratings of even and odd phases (Spearman-Brown)",
            (-1, 1),
            "opposite",
            "the same",
            "",
        ),
        Measure(
            "preferred_size",
            "smallest patch with 95 % of the largest response, diameter in pixels",
            (0, np.inf),
            "small",
            "large",
            "",
        ),
        Measure("suppression", "loss from the best to the largest patch, as a share", (0, 1), "none", "silenced", ""),
        *ends_of("suppression", (0, 1), "none", "silenced"),
        Measure(
            "contrast_saturates",
            "a saturating curve fits its contrast response better than a rectified line or a power",
            None,
            "not so",
            "so",
            "",
        ),
        Measure(
            "contrast_half", "contrast of half the largest response, where it saturates", (0, 1), "low", "high", ""
        ),
        Measure("contrast_exponent", "exponent of the saturating curve", (0.5, 5), "shallow", "steep", ""),
        Measure(
            "contrast_straight",
            "share of the contrast response that a rectified line explains",
            (0, 1),
            "none",
            "all",
            "",
        ),
        Measure(
            "plaid_ratio",
            "response with an orthogonal grating added, over that without",
            (0, 2),
            "suppressed",
            "doubled",
            "",
        ),
    ),
)
