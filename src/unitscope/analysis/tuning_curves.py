r"""Tuning curves from the responses of a session, and what physiologists read off them. Knows no network.

A session is one table of stimuli and the responses of some units to them. A block of stimuli that holds all
combinations of some parameters becomes a grid:

    responses [stimulus unit]  ->  rates [orientation frequency phase unit]      rectified at a pre-activation
                               ->  F0, F1 [orientation frequency unit]           mean, and first harmonic over phases
                               ->  best grating, curves, widths [unit]

Responses are rates: where a site is a pre-activation they are rectified, since an axon knows no negative rate; the
output of a nonlinearity is taken as it is. A unit is described by the stronger of two components of its response to
the phases of a grating: the first harmonic (F1), or the rise of the mean above rest (F0 - R0). The first makes a
simple cell, the second a complex one.

             simple (F1)           complex (F0 - R0)
    rate     .-.       .-.         ------------------
            /   \     /            rest  - - - - - -
           -     '---'
            phase of the grating
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from unitscope.durable import read_json, read_table, read_whole
from unitscope.errors import Failure
from unitscope.facts import COUNT, PAIR, TEXT, fault_of
from unitscope.record import Record
from unitscope.vocabulary import Size

if TYPE_CHECKING:
    import pandas

RESPONSIVE = 0.02
"""A unit responds where it reaches this share of the strongest response among the units of its site."""


SESSION: dict[str, Any] = {"channels": {}, "field": PAIR, "sites": [TEXT]}
"""What a session's `session.json` must hold (facts.SCHEMA)."""


@dataclass(frozen=True, eq=False)
class Session:
    """What some units of one site answered to a set of stimuli.

    `stimuli` has a column per parameter (stimuli.gratings.STIMULUS_COLUMNS), `responses` is [stimulus unit], as they
    were read; `units` are their numbers in the record.
    """

    site: str
    channels: Int[np.ndarray, " unit"]
    units: Int[np.ndarray, " unit"]
    stimuli: Mapping[str, np.ndarray]
    responses: Float[np.ndarray, "stimulus unit"]
    field: Size
    preactivation: bool

    @cached_property
    def rates(self) -> Float[np.ndarray, "stimulus unit"]:
        """The responses, rectified where the site is a pre-activation."""
        responses = self.responses.astype(np.float64)
        return np.maximum(responses, 0) if self.preactivation else responses

    @cached_property
    def rest(self) -> Float[np.ndarray, " unit"]:
        """The rate for plain gray."""
        return self.rates[self.where("rest")][0]

    @cached_property
    def gratings(self) -> Grid:
        """Rates for gray gratings, [orientation frequency phase unit]."""
        return self.grid("orientation", "orientation", "frequency", "phase")

    @cached_property
    def harmonics(self) -> Harmonics:
        """Of the gray gratings, [orientation frequency unit]."""
        return harmonics(self.gratings.rates)

    @cached_property
    def best(self) -> Best:
        """The best gray grating of each unit."""
        return best_condition(self.harmonics, self.rest)

    @property
    def best_pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Orientation and frequency of each unit's best grating, [unit] each."""
        turn, step = self.best.places
        return self.gratings.values["orientation"][turn], self.gratings.values["frequency"][step]

    def where(self, block: str) -> Int[np.ndarray, " stimulus"]:
        return np.flatnonzero(self.stimuli["block"] == block)

    def has(self, block: str) -> bool:
        return bool(len(self.where(block)))

    def grid(self, block: str, *axes: str) -> Grid:
        """The rates of a block that holds all combinations of some parameters, an axis for each of them."""
        places = self.where(block)
        values = {axis: _in_order(self.stimuli[axis][places]) for axis in axes}
        shape = tuple(map(len, values.values()))
        # Stimuli were made with the last parameter changing fastest (make_product), as reshape expects.
        return Grid(values, self.rates[places].reshape(*shape, -1))


class Grid(NamedTuple):
    """Rates [*axes unit] and the values along the axes."""

    values: Mapping[str, np.ndarray]
    rates: np.ndarray


class Harmonics(NamedTuple):
    """Of the responses to the phases of a grating: the mean `f0`, the amplitude `f1` of the first harmonic, and the
    phase in degrees at which that is highest. [... unit]
    """

    f0: np.ndarray
    f1: np.ndarray
    phase: np.ndarray

    @property
    def complex_f1(self) -> np.ndarray:
        """The first harmonic as a complex number, whose angle is the phase."""
        return self.f1 * np.exp(1j * np.radians(self.phase))


def sessions(record: Record, *, site: str | None = None) -> list[Session]:
    """The tuning sessions that a record holds, in the order of its sites; those of one `site` only, where it is
    given.
    """
    found = []
    for path in sorted((record.path / "tuning").glob("box-*/session.json")):
        found += read_whole(path.parent, partial(_read, record, path.parent, site))
    order = list(record.sites)
    return sorted(found, key=lambda one: (order.index(one.site), int(one.channels[0])))


def _read(record: Record, folder: Path, only: str | None) -> list[Session]:
    facts = read_json(folder / "session.json")
    fault = fault_of(facts, SESSION) or fault_of(facts["channels"], {name: [COUNT] for name in facts["sites"]})
    if fault:
        raise Failure(
            f"{folder / 'session.json'} is damaged ({fault}). Delete that folder, and run `unitscope tuning` again."
        )
    if only is not None and only not in facts["sites"]:
        return []
    table = read_table(folder / "stimuli.parquet")
    stimuli = {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}
    found = []
    for number, name in enumerate(facts["sites"]):
        if only not in (None, name):
            continue
        responses = read_table(folder / f"responses-{number}.parquet")
        channels = np.array(facts["channels"][name])
        values = np.stack([responses[str(channel)].to_numpy() for channel in channels], axis=1)
        site = record.sites[name]
        units = site.first_unit + channels
        field = tuple(facts["field"])
        found.append(Session(name, channels, units, stimuli, values, field, site.preactivation))
    return found


def harmonics(rates: Float[np.ndarray, "*condition phase unit"]) -> Harmonics:
    """F0 and F1 over evenly spaced phases of a whole cycle, the second last axis.

    A half-rectified sine has F1/F0 = pi/2. Source: skottun1991.
    """
    spectrum = np.fft.rfft(rates, axis=-2)
    count = rates.shape[-2]
    first = 2 * spectrum[..., 1, :] / count  # twice, since half of the amplitude is at the negative frequency
    # cos(t - phase) has the coefficient exp(-i phase).
    return Harmonics(spectrum[..., 0, :].real / count, np.abs(first), np.degrees(-np.angle(first)) % 360)


def rise(found: Harmonics, rest: Float[np.ndarray, " unit"]) -> np.ndarray:
    """How far the mean rate lies above rest."""
    return found.f0 - rest


class Best(NamedTuple):
    """The best of all conditions, per unit: its places along each axis; the strength there; and whether the first
    harmonic was the stronger component there.
    """

    places: tuple[np.ndarray, ...]
    strength: np.ndarray
    simple: np.ndarray


def best_condition(found: Harmonics, rest: Float[np.ndarray, " unit"]) -> Best:
    """Where the stronger of F1 and F0 - R0 is largest."""
    above = rise(found, rest)
    strength = np.maximum(found.f1, above)
    shape = strength.shape[:-1]
    flat = strength.reshape(-1, strength.shape[-1])
    place, unit = flat.argmax(0), np.arange(flat.shape[1])
    simple = found.f1.reshape(flat.shape)[place, unit] >= above.reshape(flat.shape)[place, unit]
    return Best(np.unravel_index(place, shape), flat[place, unit], simple)


def component(found: Harmonics, rest: Float[np.ndarray, " unit"], simple: np.ndarray) -> np.ndarray:
    """F1 of simple units and the rise of F0 of the others, 0 where that is a fall. [... unit]"""
    return np.where(simple, found.f1, np.maximum(rise(found, rest), 0))


def at(values: np.ndarray, *places: np.ndarray) -> np.ndarray:
    """For each unit the value at its own places along the leading axes; what lies between these and the unit axis is
    kept.
    """
    units = np.arange(values.shape[-1])
    # With the unit axis in front, one index per axis picks each unit's own place; the axes behind these stay.
    return np.moveaxis(np.moveaxis(values, -1, 0)[(units, *places)], 0, -1)


def responsive(strength: Float[np.ndarray, " unit"], *, population: float | None = None) -> np.ndarray:
    """Which units respond at all: above RESPONSIVE of the strongest of their site."""
    highest = float(strength.max(initial=0.0)) if population is None else population
    return strength > RESPONSIVE * highest if highest > 0 else np.zeros(len(strength), dtype=bool)


def unit_table(session: Session, answers: np.ndarray, numbers: Mapping[str, np.ndarray]) -> pandas.DataFrame:
    """A row per unit of a session; null where the unit does not answer."""
    import pandas

    table = pandas.DataFrame({"unit": session.units, "site": session.site, "channel": session.channels})
    table["responsive"] = answers
    for name, values in numbers.items():
        if values.dtype.kind == "f":
            table[name] = np.where(answers, values, np.nan)
        else:
            kept: list[Any] = [value if known else None for value, known in zip(values.tolist(), answers, strict=True)]
            table[name] = pandas.array(kept, dtype="boolean") if values.dtype == bool else pandas.array(kept, object)
    return table


def resultant(
    curve: Float[np.ndarray, "orientation ... unit"], degrees: Sequence[float] | np.ndarray, *, axial: bool = True
) -> np.ndarray:
    """Sum of R exp(2 i theta) over sum of |R|, complex: its length is 1 - circular variance, half its angle the
    preferred orientation; NaN for a silent unit.

    With `axial` false over the full circle, as for hues. Source: ringach2002.
    """
    turns = np.exp((2j if axial else 1j) * np.radians(np.asarray(degrees)))
    total = np.abs(curve).sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, np.tensordot(turns, curve, (0, 0)) / total, np.nan)


def preferred_orientation(mean: np.ndarray) -> np.ndarray:
    """The preferred orientation in degrees, 0..180, of a resultant."""
    return np.degrees(np.angle(mean)) / 2 % 180


LEVEL = 0.5**0.5
"""The height, as a share of the peak, at which bandwidths and cut-offs are read."""


def half_width(curve: Float[np.ndarray, "orientation unit"], *, smooth: bool = True) -> np.ndarray:
    """Half the width of a tuning curve over 180 degrees at LEVEL of its peak, in degrees; NaN where it never falls so
    low, that is where the unit is not selective. [unit]

    The curve is smoothed with Hanning weights (2/5, 1, 2/5) and interpolated by a periodic spline. Source: ringach2002.
    """
    from scipy.interpolate import CubicSpline

    if smooth:
        curve = (curve + 0.4 * np.roll(curve, 1, 0) + 0.4 * np.roll(curve, -1, 0)) / 1.8
    count = len(curve)
    fine = np.arange(0, 180, 0.1)
    # A periodic spline wants the first value again at the end.
    spline = CubicSpline(np.arange(count + 1) * 180 / count, np.concatenate([curve, curve[:1]]), bc_type="periodic")
    dense = spline(fine)
    widths = np.full(curve.shape[1], np.nan)
    for unit in range(curve.shape[1]):
        # With the peak at 0, the curve first falls low enough below[0] steps to the right, and len - below[-1] steps
        # to the left.
        turned = np.roll(dense[:, unit], -int(dense[:, unit].argmax()))
        below = np.flatnonzero(turned < LEVEL * turned[0])
        if turned[0] > 0 and len(below):
            width = (below[0] + len(turned) - below[-1]) * 0.1 / 2
            widths[unit] = width if width <= 90 else np.nan
    return widths


class Band(NamedTuple):
    """The peak of a curve over frequency, and where the curve falls to LEVEL on either side (NaN where it does not)."""

    peak: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def octaves(self) -> np.ndarray:
        return np.log2(self.high / self.low)


def band(curve: Float[np.ndarray, "frequency unit"], frequencies: np.ndarray) -> Band:
    """Peak and cut-offs of curves over frequency, by a spline over the logarithm of frequency."""
    from scipy.interpolate import CubicSpline

    octave = np.log2(frequencies)
    fine = np.linspace(octave[0], octave[-1], 40 * (len(octave) - 1) + 1)
    dense = CubicSpline(octave, curve, bc_type="natural")(fine)
    found = np.full((3, curve.shape[1]), np.nan)
    for unit in range(curve.shape[1]):
        top = int(dense[:, unit].argmax())
        height = dense[top, unit]
        if not height > 0:
            continue
        below = np.flatnonzero(dense[:, unit] < LEVEL * height)
        # The cut-offs are the nearest frequencies on both sides at which the curve is low: other peaks do not count.
        before, after = below[below < top], below[below > top]
        found[0, unit] = 2 ** fine[top]
        found[1, unit] = 2 ** fine[before[-1]] if len(before) else np.nan
        found[2, unit] = 2 ** fine[after[0]] if len(after) else np.nan
    return Band(*found)


def split_half(rates: Float[np.ndarray, "*condition phase unit"], rest: np.ndarray, simple: np.ndarray) -> np.ndarray:
    """Correlation over conditions of the responses to the even and to the odd phases, for the whole set of phases
    (Spearman-Brown; unlike there 2 r / (1 + |r|), which stays in -1 to 1). [unit]
    """
    halves = [component(harmonics(rates[..., first::2, :]), rest, simple) for first in (0, 1)]
    a, b = (half.reshape(-1, half.shape[-1]) - half.reshape(-1, half.shape[-1]).mean(0) for half in halves)
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (a * b).sum(0) / np.sqrt((a**2).sum(0) * (b**2).sum(0))
        return 2 * r / (1 + np.abs(r))


def redraw_phases(rates: Float[np.ndarray, "*condition phase unit"], *, times: int, seed: int) -> Harmonics:
    """F0, F1 and phase with phases drawn with replacement, [time *condition unit] each: a sine is fitted to the phases
    drawn, since these are no longer evenly spaced.
    """
    count = rates.shape[-2]
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=times)
    angle = 2 * np.pi * np.arange(count) / count
    design = np.stack([np.ones(count), np.cos(angle), np.sin(angle)])
    # Weighted least squares of 1, cos and sin for all draws at once; the weight is how often a phase was drawn.
    gram = np.einsum("tp,kp,lp->tkl", drawn, design, design)
    solved = np.linalg.solve(gram, drawn[:, None, :] * design)
    weights = np.concatenate([solved[:, 1:], (drawn / count)[:, None]], axis=1)
    cos, sin, f0 = np.moveaxis(np.tensordot(weights, rates, (2, -2)), 1, 0)
    return Harmonics(f0, np.hypot(cos, sin), np.degrees(np.arctan2(sin, cos)) % 360)


def resample_component(
    rates: Float[np.ndarray, "*condition phase unit"], rest: np.ndarray, simple: np.ndarray, *, times: int, seed: int
) -> np.ndarray:
    """The component that describes the unit, with phases drawn with replacement, [time *condition unit]."""
    return component(redraw_phases(rates, times=times, seed=seed), rest, simple)


def _in_order(values: np.ndarray) -> np.ndarray:
    # In order of appearance; np.unique would sort.
    return np.array(list(dict.fromkeys(values.tolist())))
