"""What electrodes found in the primary visual cortex (V1) of the macaque: the numbers that ours stand beside.

Every number here was read in a source that can be opened: the scripts by which Brain-Score (marques2021) packs its V1
benchmarks, which hold counts taken from figures of the papers named beside them. The papers themselves were not read
for these counts. Numbers that are commonly quoted, and for which no such source was found, are left out: medians of
circular variance and of bandwidth (ringach2002), and shares of color and luminance cells (johnson2001).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas

STRONG = 0.1
"""Suppression from which on a surround counts as strong."""


@dataclass(frozen=True)
class Comparison:
    """A number per site: `says` what, `macaque` the same of V1 in words (empty where no source was found), `source`
    where that was counted, and how it is computed from a column of our tables (only units that respond). `share` is
    true for shares, false for medians.
    """

    name: str
    says: str
    macaque: str
    source: str
    column: str
    of: Callable[[pandas.Series], pandas.Series]
    share: bool = True


def _near_an_axis(orientations: pandas.Series) -> pandas.Series:
    """Within 22.5 degrees of horizontal or vertical."""
    return ((orientations + 22.5) % 90 < 45).astype("float").where(orientations.notna())


COMPARISONS = (
    Comparison("1 − CV", "median orientation selectivity, 1 − circular variance", "", "", "orientation_selectivity",
               lambda values: values, share=False),
    Comparison("bandwidth", "median half width at 71 %, degrees", "", "", "bandwidth", lambda values: values,
               share=False),
    Comparison("axes", "units that prefer an orientation within 22.5° of horizontal or vertical", "55 % (210 of 385)",
               "De Valois et al. 1982", "preferred_orientation", _near_an_axis),
    Comparison("simple", "units with F1 above the rise of F0", "", "", "simple", lambda values: values.astype("float")),
    Comparison("band-pass", "units with both cut-offs in spatial frequency", "84 % (73 of 87)",
               "Schiller et al. 1976", "frequency_octaves", lambda values: values.notna().astype("float")),
    Comparison("suppressed", "units that lose a tenth or more from the best to the largest patch", "78 % (148 of 190)",
               "Cavanaugh et al. 2002", "suppression", lambda values: (values >= STRONG).astype("float")),
    Comparison("color", "units that prefer color over luminance more than twofold, in cones and in channels", "", "",
               "color_class", lambda values: (values == "color").astype("float")),
    Comparison("both", "units for color and luminance alike, ratio 0.5 to 2 (the lower of cones and channels)", "", "",
               "color_class", lambda values: (values == "color-luminance").astype("float")),
)  # fmt: skip
