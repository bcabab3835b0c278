"""What the columns of `measures/color.parquet` say of themselves."""

from __future__ import annotations

import numpy as np

from unitscope.analysis.measures import Measure, Table, ends_of
from unitscope.analysis.opponency import color

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
            (0, np.inf),
            "luminance only",
            "color only",
            "johnson2001",
        ),
        *ends_of("color_preference", (0, np.inf), "luminance only", "color only"),
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
        Measure("strength", "response to the best of these stimuli", (0, np.inf), "none", "strong", ""),
        Measure("channel_red", "weight of the red channel at its best grating", (-1, 1), "inhibits", "excites", ""),
        Measure("channel_green", "weight of the green channel at its best grating", (-1, 1), "inhibits", "excites", ""),
        Measure("channel_blue", "weight of the blue channel at its best grating", (-1, 1), "inhibits", "excites", ""),
        Measure(
            "channel_preference",
            "the same in the network's terms: red against green or blue against yellow over gray, equal in pixels",
            (0, np.inf),
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
