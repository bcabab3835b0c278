"""What colored stimuli say of each unit: the table `measures/color.parquet`, and what its columns mean.

A unit is read twice, in the space of cones and in that of the network's own channels (see `opponency.py`):

    sessions -> Colors (cones)    -> Reading \
                                              > classes, intervals, agreement -> a row per unit
    sessions -> Colors (channels) -> Reading /
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from unitscope.analysis.measure_declarations import Measure, Table, ends_of
from unitscope.analysis.opponency import (
    CHANNELS,
    CONES,
    DEFAULT,
    Colors,
    Reading,
    Thresholds,
    color_class,
    harris,
    hue_axis,
    hue_curves,
    opponency,
    rates_of,
    reading_of,
)
from unitscope.analysis.tuning_curves import Session, responsive, resultant, sessions, split_half, unit_table
from unitscope.record import Record
from unitscope.resampling import percentile_interval

if TYPE_CHECKING:
    import pandas

TIMES = 50
"""How often phases are drawn anew for an interval."""


def color(record: Record) -> pandas.DataFrame | None:
    """A row per unit that was shown colors, or None where none was."""
    found = [session for session in sessions(record) if session.has("color") and session.has("channels")]
    return color_table(found) if found else None


def color_table(found: list[Session], *, thresholds: Thresholds = DEFAULT) -> pandas.DataFrame:
    """A row per unit of the sessions. Units that do not respond to any color have no numbers."""
    import pandas

    # The units of a site may be spread over several sessions, one per box. Whether a unit responds is judged by the
    # strongest unit of all of them.
    population: dict[str, float] = {}
    for session in found:
        highest = float(Colors.of(session).strength.max())
        population[session.site] = max(population.get(session.site, 0.0), highest)
    parts = [_rows(session, population[session.site], thresholds) for session in found]
    return pandas.concat(parts, ignore_index=True).sort_values("unit", ignore_index=True)


def _rows(session: Session, population: float, thresholds: Thresholds) -> pandas.DataFrame:
    colors, channels = Colors.of(session), Colors.of(session, CHANNELS)
    readings = [reading_of(one, thresholds) for one in (colors, channels)]
    numbers = {**_of_cones(readings[0], thresholds), **_of_channels(readings[1], thresholds)}
    numbers |= _of_both(session, readings, thresholds)
    numbers |= {**_of_curves(session, colors, readings[0].weights), **_of_hues(session)}
    numbers |= _of_discs(session, colors, numbers["opponency"] != "none")
    numbers["opponency_harris"] = harris(session)
    return unit_table(session, responsive(colors.strength, population=population), numbers)


def _of_cones(cones: Reading, thresholds: Thresholds) -> dict[str, np.ndarray]:
    return {
        "cone_l": cones.weights[0],
        "cone_m": cones.weights[1],
        "cone_s": cones.weights[2],
        "color_preference": cones.preference,
        "low_pass": cones.low_pass,
        "cone_opponency": opponency(cones, thresholds=thresholds),
    }


def _of_channels(channels: Reading, thresholds: Thresholds) -> dict[str, np.ndarray]:
    """The same in the network's own terms: red, green and blue instead of cones."""
    return {
        "channel_red": channels.weights[0],
        "channel_green": channels.weights[1],
        "channel_blue": channels.weights[2],
        "channel_preference": channels.preference,
        "channel_low_pass": channels.low_pass,
        "channel_opponency": opponency(channels, thresholds=thresholds),
    }


def _of_both(session: Session, readings: list[Reading], thresholds: Thresholds) -> dict[str, np.ndarray]:
    """Classes by both spaces, intervals over redrawn phases, and how many of these give the same class."""
    kind, class_ = opponency(*readings, thresholds=thresholds), color_class(*readings, bound=thresholds.color)
    drawn = [
        [reading_of(one, thresholds) for one in Colors.drawn(session, space, times=TIMES, seed=seed)]
        for seed, space in enumerate((CONES, CHANNELS))
    ]
    kinds = np.stack([opponency(*pair, thresholds=thresholds) for pair in zip(*drawn, strict=True)])
    classes = np.stack([color_class(*pair, bound=thresholds.color) for pair in zip(*drawn, strict=True)])
    preference = percentile_interval(np.stack([one.preference for one in drawn[0]]))
    share = percentile_interval(np.stack([one.low_pass for one in drawn[0]]))
    return {
        "color_preference_low": preference[0],
        "color_preference_high": preference[1],
        "color_class": class_,
        "color_class_agreement": (classes == class_).mean(0),
        "low_pass_low": share[0],
        "low_pass_high": share[1],
        "opponency": kind,
        "opponency_agreement": (kinds == kind).mean(0),
    }


def _of_curves(session: Session, colors: Colors, weights: Float[np.ndarray, "3 unit"]) -> dict[str, np.ndarray]:
    _, axis, turn, step = colors.best_of((1, 2))
    degrees = session.grid("color", "direction", "orientation", "frequency", "phase").values["orientation"]
    # A uniform field (step -1) has no frequency: there the curve is that of the lowest one.
    curve = colors.response[axis, :, np.maximum(step, 0), np.arange(len(turn))].T
    return {
        "reliability": split_half(rates_of(session, CONES)[0], session.rest, colors.simple),
        "hue_axis": hue_axis(colors.amplitudes(turn, step), colors.at(turn, step), weights, colors.simple),
        "color_orientation_selectivity": np.abs(resultant(curve, degrees)),
        "strength": colors.strength,
    }


def _of_hues(session: Session) -> dict[str, np.ndarray]:
    """From uniform fields of all hues: the preferred one, and how much it is preferred."""
    degrees, curve = hue_curves(session)
    mean = resultant(curve, degrees, axial=False)
    return {"preferred_hue": np.degrees(np.angle(mean)) % 360, "hue_selectivity": np.abs(mean)}


def _of_discs(session: Session, colors: Colors, opposed: Bool[np.ndarray, " unit"]) -> dict[str, np.ndarray]:
    """Whether a surround of the opposite color helps and one of the same color hurts, at the best disc of a color. Only
    for opponent units: any unit with a center and a surround responds so, a gray one, too.
    """
    if not session.has("disc"):
        return {}
    grid = session.grid("disc", "direction", "phase", "diameter", "surround")
    above = grid.rates[1:] - session.rest  # L - M and S
    # Every direction, phase and diameter is a row; the columns are the surrounds: none, opposite, same (batteries.py).
    flat = above.reshape(-1, *above.shape[-2:])
    best = flat[:, 0].argmax(0)
    alone, opposite, same = (flat[best, place, np.arange(flat.shape[2])] for place in range(3))
    slack = 0.01 * colors.strength
    helped = (alone > slack) & (opposite > alone + slack) & (alone > same + slack)
    return {"center_surround": helped & opposed}


COLOR = Table(
    "color",
    color,
    (
        Measure(
            "responsive",
            "colors of equal cone contrast drive it to 2 % of its site's strongest",
            None,
            "not so",
            "so",
            "",
        ),
        Measure("cone_l", "weight of the L cones at its best grating", (-1, 1), "inhibits", "excites", "johnson2001"),
        Measure("cone_m", "weight of the M cones at its best grating", (-1, 1), "inhibits", "excites", "johnson2001"),
        Measure("cone_s", "weight of the S cones at its best grating", (-1, 1), "inhibits", "excites", "johnson2001"),
        Measure(
            "color_preference",
            "best response to color over best response to luminance, equal cone contrast",
            (0, math.inf),
            "luminance only",
            "color only",
            "johnson2001",
        ),
        *ends_of("color_preference", (0, math.inf), "luminance only", "color only"),
        Measure(
            "color_class_agreement", "share of redrawn phases that give the same class", (0, 1), "never", "always", ""
        ),
        Measure(
            "color_class",
            "luminance, color-luminance or color: the lower of color_preference and channel_preference is below 0.5, "
            "0.5 to 2, or above 2",
            None,
            "",
            "",
            "johnson2001",
        ),
        Measure(
            "low_pass",
            "a uniform colored field's response over the best colored one",
            (0, 1),
            "needs an edge of color",
            "content with a uniform field",
            "johnson2008",
        ),
        *ends_of("low_pass", (0, 1), "needs an edge of color", "content with a uniform field"),
        Measure(
            "opponency_agreement", "share of redrawn phases that give the same class", (0, 1), "never", "always", ""
        ),
        Measure(
            "reliability",
            "agreement over all colored gratings of even and odd phases (Spearman-Brown)",
            (-1, 1),
            "opposite",
            "the same",
            "",
        ),
        Measure(
            "opponency",
            "none; single or double: opponent weights of cones and of channels, and a uniform field draws half of the "
            "best colored response or more in either space (single), or less in both (double)",
            None,
            "",
            "",
            "johnson2008",
        ),
        Measure(
            "cone_opponency",
            "the same by cones alone: L against M, or S against both, 0.1 at least; so are 79 % of all weightings of "
            "red, green and blue by positive numbers",
            None,
            "",
            "",
            "johnson2008",
        ),
        Measure(
            "hue_axis",
            "axis in the plane of equal luminance, degrees from L-M to S",
            (0, 180),
            "L-M",
            "L-M again",
            "derrington1984",
            180.0,
        ),
        Measure(
            "color_orientation_selectivity",
            "1 - circular variance for colored gratings",
            (0, 1),
            "all orientations alike",
            "one orientation only",
            "johnson2008",
        ),
        Measure("strength", "response to the best of these stimuli", (0, math.inf), "none", "strong", ""),
        Measure("channel_red", "weight of the red channel at its best grating", (-1, 1), "inhibits", "excites", ""),
        Measure("channel_green", "weight of the green channel at its best grating", (-1, 1), "inhibits", "excites", ""),
        Measure("channel_blue", "weight of the blue channel at its best grating", (-1, 1), "inhibits", "excites", ""),
        Measure(
            "channel_preference",
            "the same in the network's terms: red against green or blue against yellow over gray, equal in pixels",
            (0, math.inf),
            "gray only",
            "color only",
            "",
        ),
        Measure(
            "channel_low_pass",
            "a uniform colored field's response over the best colored one, equal in pixels",
            (0, 1),
            "needs an edge of color",
            "content with a uniform field",
            "",
        ),
        Measure(
            "channel_opponency",
            "the same by channels alone: red against green, or blue against both, 0.1 at least",
            None,
            "",
            "",
            "",
        ),
        Measure(
            "preferred_hue",
            "of uniform fields, degrees from L-M to S",
            (0, 360),
            "L-M",
            "L-M again",
            "derrington1984",
            360.0,
        ),
        Measure(
            "hue_selectivity",
            "1 - circular variance over the hues of uniform fields",
            (0, 1),
            "all hues alike",
            "one hue only",
            "",
        ),
        Measure(
            "center_surround",
            "opponent, and a surround of the opposite color helps, one of the same color hurts",
            None,
            "not so",
            "so",
            "johnson2008",
        ),
        Measure(
            "opponency_harris",
            "opponent by uniform hues and by gratings, against black: double where both",
            None,
            "",
            "",
            "harris2020",
        ),
    ),
)
