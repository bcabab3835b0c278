"""Color: cone weights, luminance against color, single and double opponency, hue.

Opponency is a statement about receptors: some excite the unit, and others inhibit it. A network has other receptors
than an observer. An observer looks at a screen with cones, whose sensitivities overlap; a network is given red, green
and blue. The same unit may be opponent in one of these spaces alone:

    kernel, the same at all pixels         in red, green, blue      in L, M, S          called
    red + green + blue (gray)              1/3, 1/3, 1/3            0.54, -0.31, 0.14   none
    red less cyan                          0.5, -0.25, -0.25        0.50, -0.47, -0.03  single
    L less M                               0.50, -0.37, -0.13       0.5, -0.5, 0        single

For cones, 79 % of all weightings of red, green and blue by positive numbers are opponent: a screen's red light excites
M cones, too, so that whoever adds up the light of the screen evenly must subtract M from L. This says something of
screens and cones, and nothing of what the network compares. So a unit is called opponent only where it is so in both
spaces. What each space alone says stands beside it (`cone_opponency`, `channel_opponency`).

The operational definitions are ours, after johnson2001 and johnson2008; numbers come with every class, and thresholds
are parameters. Stimuli of cones have the same pooled cone contrast; those of channels change pixel values alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Complex, Float

from unitscope.analysis.tuning_curves import (
    Harmonics,
    Session,
    component,
    harmonics,
    redraw_phases,
    rise,
)


@dataclass(frozen=True)
class Space:
    """A set of directions of color in which gratings are shown, and what they stand for.

    `blocks` are those of gratings and of uniform fields. The first direction is gray, the next two are the axes of
    color; `primaries` is where the three primaries stand, and `gray` and `red_green` are how much of each primary the
    first two directions hold.
    """

    blocks: tuple[str, str]
    primaries: tuple[int, int, int]
    gray: tuple[float, float, float]
    red_green: tuple[float, float, float]


CONES = Space(("color", "uniform"), (3, 4, 2), (3**-0.5, 3**-0.5, 3**-0.5), (0.8705, -0.4922, 0.0))
"""The observer's: luminance, L - M, S, and the cones L, M (the axis S isolates S), at equal cone contrast."""

CHANNELS = Space(("channels", "uniform channels"), (3, 4, 5), (3**-0.5, 3**-0.5, 3**-0.5), (2**-0.5, -(2**-0.5), 0.0))
"""The network's own: gray, red - green, blue - yellow, and each channel, at equal change of pixel values."""


@dataclass(frozen=True)
class Thresholds:
    """Where the classes begin."""

    cone: float = 0.1
    "Two cones (or channels) are opponent where their weights differ in sign and each has at least this share."
    low_pass: float = 0.5
    "Single-opponent: a uniform field draws at least this share of the best colored response."
    color: float = 2.0
    "Color-preferring: color draws more than so many times what luminance does; luminance-preferring: the inverse."


DEFAULT = Thresholds()


@dataclass(frozen=True, eq=False)
class Colors:
    """Responses to colored gratings and uniform fields, each with its strength: the stronger of F1 and F0 - R0.

    `gratings` are [direction orientation frequency unit], `uniform` [direction unit]; `simple` says which component
    describes the unit, `response` and `flat` are that component; `best` are direction, orientation and frequency of
    the best, where frequency -1 is a uniform field.
    """

    space: Space
    gratings: Harmonics
    uniform: Harmonics
    simple: Bool[np.ndarray, " unit"]
    strength: Float[np.ndarray, " unit"]
    response: Float[np.ndarray, "direction orientation frequency unit"]
    flat: Float[np.ndarray, "direction unit"]

    @classmethod
    def of(cls, session: Session, space: Space = CONES) -> Colors:
        gratings, uniform = (harmonics(rates) for rates in rates_of(session, space))
        return cls.made(space, gratings, uniform, session.rest)

    @classmethod
    def drawn(cls, session: Session, space: Space = CONES, *, times: int, seed: int) -> list[Colors]:
        """The same with phases drawn with replacement, so many times."""
        gratings, uniform = (redraw_phases(rates, times=times, seed=seed) for rates in rates_of(session, space))
        return [
            cls.made(space, Harmonics(*(part[time] for part in gratings)), Harmonics(*(part[time] for part in uniform)),
                     session.rest)
            for time in range(times)
        ]  # fmt: skip

    @classmethod
    def made(cls, space: Space, gratings: Harmonics, uniform: Harmonics, rest: Float[np.ndarray, " unit"]) -> Colors:
        f1 = np.concatenate([_flat(gratings.f1), uniform.f1])
        above = np.concatenate([_flat(rise(gratings, rest)), rise(uniform, rest)])
        strongest = np.maximum(f1, above)
        place, unit = strongest.argmax(0), np.arange(f1.shape[1])
        simple = f1[place, unit] >= above[place, unit]
        return cls(
            space, gratings, uniform, simple, strongest[place, unit],
            component(gratings, rest, simple), component(uniform, rest, simple),
        )  # fmt: skip

    def best_of(self, directions: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Over some directions: the highest response, and its direction, orientation and frequency (-1 where it is a
        uniform field). [unit]
        """
        chosen = self.response[list(directions)]
        flat = _flat(chosen)
        place, unit = flat.argmax(0), np.arange(flat.shape[1])
        which, turn, step = np.unravel_index(place, chosen.shape[:-1])
        top, uniform = flat[place, unit], self.flat[list(directions)]
        higher = uniform.max(0) >= top
        which = np.where(higher, uniform.argmax(0), which)
        return np.maximum(top, uniform.max(0)), np.array(directions)[which], turn, np.where(higher, -1, step)

    def amplitudes(self, turn: np.ndarray, step: np.ndarray) -> Complex[np.ndarray, "direction unit"]:
        """The first harmonic in all directions, at one orientation and frequency per unit (-1: a uniform field)."""
        unit = np.arange(len(turn))
        return np.where(step < 0, self.uniform.complex_f1, self.gratings.complex_f1[:, turn, step, unit])

    def at(self, turn: np.ndarray, step: np.ndarray) -> Float[np.ndarray, "direction unit"]:
        """The describing component in all directions, at one orientation and frequency per unit."""
        unit = np.arange(len(turn))
        return np.where(step < 0, self.flat, self.response[:, turn, step, unit])


def rates_of(session: Session, space: Space) -> tuple[np.ndarray, np.ndarray]:
    """Rates for gratings [direction orientation frequency phase unit] and uniform fields [direction phase unit]."""
    gratings = session.grid(space.blocks[0], "direction", "orientation", "frequency", "phase").rates
    return gratings, session.grid(space.blocks[1], "direction", "phase").rates


def _flat(values: np.ndarray) -> np.ndarray:
    return values.reshape(-1, values.shape[-1])


class Reading(NamedTuple):
    """What the stimuli of one space say of units: signed `weights` of its primaries, whether these are `opponent`, how
    much more color draws than gray (`preference`), and what a uniform colored field draws, as a share (`low_pass`).
    """

    weights: Float[np.ndarray, "3 unit"]
    opponent: Bool[np.ndarray, " unit"]
    preference: Float[np.ndarray, " unit"]
    low_pass: Float[np.ndarray, " unit"]


def reading_of(colors: Colors, thresholds: Thresholds = DEFAULT) -> Reading:
    weights = weights_of(colors)
    return Reading(weights, opponent(weights, least=thresholds.cone), color_preference(colors), low_pass_share(colors))


def opponency(*readings: Reading, thresholds: Thresholds = DEFAULT) -> np.ndarray:
    """ "none", "single" or "double" by the readings of one space or of several. [unit]

    Opponent is what is opponent in each of them. "single" where a uniform colored field draws `thresholds.low_pass` of
    the best colored response in any of them, "double" where in none. Source: johnson2008.

    Unlike the paper, which knows cones only: a unit must be opponent in the network's channels, too.
    """
    opposed = np.logical_and.reduce([one.opponent for one in readings])
    uniform = np.logical_or.reduce([one.low_pass >= thresholds.low_pass for one in readings])
    return np.where(opposed, np.where(uniform, "single", "double"), "none").astype(object)


def color_preference(colors: Colors) -> Float[np.ndarray, " unit"]:
    """The best response to either axis of color over the best to gray, 1000 at most. Source: johnson2001."""
    gray, chromatic = colors.best_of((0,))[0], colors.best_of((1, 2))[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(chromatic > 0, np.minimum(chromatic / gray, 1e3), np.where(gray > 0, 0.0, np.nan))


def weights_of(colors: Colors) -> Float[np.ndarray, "3 unit"]:
    """Signed weights of the primaries (cones, or channels) at each unit's best grating or uniform field."""
    _, _, turn, step = colors.best_of(tuple(range(len(colors.flat))))
    amplitudes = colors.amplitudes(turn, step)
    return primary_weights(amplitudes, colors.at(turn, step), colors.simple, colors.space, uniform=step < 0)


def primary_weights(
    amplitudes: Complex[np.ndarray, "direction unit"],
    responses: Float[np.ndarray, "direction unit"],
    simple: Bool[np.ndarray, " unit"],
    space: Space = CONES,
    *,
    uniform: Bool[np.ndarray, " unit"] | None = None,
) -> Float[np.ndarray, "3 unit"]:
    """Signed weights of L, M and S (or red, green and blue) at a unit's best grating, magnitudes summing to 1; NaN
    where none drives it.

    Of a simple unit the sign is that of the phase: where a `uniform` field is best, of the field itself, and where a
    grating is, relative to the strongest cone, which then counts as positive. A complex unit has no phase: its signs
    are those with which the sum over cones predicts best the responses to luminance and L - M.
    """
    own = amplitudes[list(space.primaries)]
    strongest = np.abs(own).argmax(0)
    reference = own[strongest, np.arange(own.shape[1])]
    if uniform is not None:
        # A uniform field has no position, so its phase is the sign of the color itself.
        reference = np.where(uniform, 1.0, reference)
    with np.errstate(invalid="ignore", divide="ignore"):
        projected = np.real(own * np.conj(reference) / np.abs(reference))
        signed = np.where(simple, projected, _signs(responses, space) * responses[list(space.primaries)])
        return signed / np.abs(signed).sum(0)


def _signs(responses: Float[np.ndarray, "direction unit"], space: Space) -> Float[np.ndarray, "3 unit"]:
    """Of L, M and S, L positive: the signs with which the weighted sum of cones predicts best the responses to
    luminance and L - M.
    """
    # Signs of L, M and S. That of L is fixed at +1, since only the magnitude of the sum is compared.
    patterns = np.array([(1.0, m, s) for m, s in product((1, -1), repeat=2)])
    sizes = responses[list(space.primaries)]
    errors = []
    for pattern in patterns:
        summed = pattern[:, None] * sizes
        foretold = [np.abs(np.asarray(w) @ summed) for w in (space.gray, space.red_green)]
        errors.append(sum((f - responses[i]) ** 2 for i, f in enumerate(foretold)))
    return patterns[np.stack(errors).argmin(0)].T


def opponent(weights: Float[np.ndarray, "3 unit"], *, least: float = DEFAULT.cone) -> Bool[np.ndarray, " unit"]:
    """L against M, or S against L + M: weights of opposite sign, each at least `least`."""
    l_, m, s = weights

    def opposed(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a * b < 0) & (np.minimum(np.abs(a), np.abs(b)) >= least)

    return opposed(l_, m) | opposed(s, l_ + m)


def low_pass_share(colors: Colors) -> Float[np.ndarray, " unit"]:
    """What a uniform field draws, as a share of the best response in the same direction of color: that of the two axes
    to which the unit answers more.
    """
    _, axis, _, _ = colors.best_of((1, 2))
    unit = np.arange(len(axis))
    best = np.maximum(_flat_by_direction(colors.response)[axis, :, unit].max(1), colors.flat[axis, unit])
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(best > 0, colors.flat[axis, unit] / best, np.nan)


def _flat_by_direction(values: np.ndarray) -> np.ndarray:
    return values.reshape(len(values), -1, values.shape[-1])


def color_class(*readings: Reading, bound: float = DEFAULT.color) -> np.ndarray:
    """ "luminance", "color-luminance" or "color", by the lowest preference of all readings; None where one is NaN.

    Source: johnson2001. Unlike the paper, color must be preferred in the network's channels, too: at equal cone
    contrast, L - M changes pixel values several times as much as luminance does, so that a unit that adds up red, green
    and blue would be called a color unit.
    """
    preference = np.minimum.reduce([one.preference for one in readings])
    classes = np.where(preference > bound, "color", "color-luminance").astype(object)
    classes[preference < 1 / bound] = "luminance"
    # After the comparisons: NaN compares as false, and would be called "color-luminance".
    classes[np.isnan(preference)] = None
    return classes


def hue_axis(
    amplitudes: Complex[np.ndarray, "direction unit"],
    responses: Float[np.ndarray, "direction unit"],
    weights: Float[np.ndarray, "3 unit"],
    simple: Bool[np.ndarray, " unit"],
) -> Float[np.ndarray, " unit"]:
    """The axis in the plane of equal luminance along which the unit answers most, degrees from +(L - M) to +S, 0..180.

    Of a complex unit by its cone weights' signs.
    """
    reference = np.where(np.abs(amplitudes[1]) >= np.abs(amplitudes[2]), amplitudes[1], amplitudes[2])
    with np.errstate(invalid="ignore", divide="ignore"):
        turned = np.real(amplitudes[1:3] * np.conj(reference) / np.abs(reference))
    # Whether S acts along with L - M (1) or against it (-1).
    sign = np.sign(weights[2]) * np.sign(np.asarray(CONES.red_green) @ np.nan_to_num(weights))
    unsigned = np.stack([responses[1], np.where(sign < 0, -responses[2], responses[2])])
    red_green, blue_yellow = np.where(simple, turned, unsigned)
    return np.degrees(np.arctan2(blue_yellow, red_green)) % 180


def hue_curves(session: Session) -> tuple[np.ndarray, Float[np.ndarray, "hue unit"]]:
    """Hues in degrees from +(L - M) to +S, and how far the rate rises above rest on a uniform field of each."""
    grid = session.grid("hue", "direction")
    degrees = np.array([float(str(name).removeprefix("hue:")) for name in grid.values["direction"]])
    return degrees, np.maximum(grid.rates - session.rest, 0)


def harris(session: Session) -> np.ndarray:
    """The criterion of harris2020: "double" for a unit that is opponent both in space and in color, else "spatial",
    "spectral" or "none"; "unresponsive" where nothing changes it.

    Opponent is what some stimuli drive above and others below the response to black: full-contrast gratings for space,
    saturated uniform hues for color. As in their code hues are read before rectification where that can be had, and
    gratings after it, and the baseline of hues must be positive. Unlike their code, "above" and "below" are by a
    millionth of the range, so that rounding does not count.
    """
    black, saturated, full = (session.where(block) for block in ("black", "saturated", "full"))
    every = np.concatenate([black, saturated, full])
    # Rounding grows with the range and with the response to black.
    slack = 1e-6 * (np.ptp(session.responses[every], axis=0) + np.abs(session.responses[black][0]))
    spectral = _both_sides(session.responses[saturated], session.responses[black][0], slack)
    spectral &= session.responses[black][0] > 0
    spatial = _both_sides(session.rates[full], session.rates[black][0], slack)
    still = np.ptp(session.responses[every], axis=0) == 0
    kind = np.where(spatial & spectral, "double", np.where(spatial, "spatial", np.where(spectral, "spectral", "none")))
    return np.where(still, "unresponsive", kind).astype(object)


def _both_sides(responses: np.ndarray, baseline: np.ndarray, slack: np.ndarray) -> np.ndarray:
    if not len(responses):
        return np.zeros(len(baseline), dtype=bool)
    return (responses.max(0) > baseline + slack) & (responses.min(0) < baseline - slack)
