"""What electrodes found in the primary visual cortex (V1) of the macaque: the numbers that ours stand beside."""

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
    """A number per site: `says` what, `macaque` what V1 has in words, `value` the same there as a number, and how it is
    had from a column of our tables (only units that respond). `share` is true for shares, false for medians.
    """

    name: str
    says: str
    macaque: str
    value: float | None
    source: str
    column: str
    of: Callable[[pandas.Series], pandas.Series]
    share: bool = True


COMPARISONS = (
    Comparison("1 − CV", "median orientation selectivity, 1 − circular variance", "about 0.4", 0.4,
               "ringach2002", "orientation_selectivity", lambda values: values, share=False),
    Comparison("bandwidth", "median half width at 71 %, degrees", "about 24°", 24.0, "ringach2002",
               "bandwidth", lambda values: values, share=False),
    Comparison("simple", "units with F1 above the rise of F0", "", None, "skottun1991",
               "simple", lambda values: values.astype("float")),
    Comparison("band-pass", "units with both cut-offs in spatial frequency", "84 % (73 of 87)", 73 / 87, "marques2021",
               "frequency_octaves", lambda values: values.notna().astype("float")),
    Comparison("suppressed", "units that lose a tenth or more from the best to the largest patch", "78 % (148 of 190)",
               148 / 190, "marques2021", "suppression", lambda values: (values >= STRONG).astype("float")),
    Comparison("color", "units that prefer color, response ratio above 2", "about 11 %", 0.11, "johnson2001",
               "color_class", lambda values: (values == "color").astype("float")),
    Comparison("both", "units for color and luminance alike, ratio 0.5 to 2", "about 29 %", 0.29, "johnson2001",
               "color_class", lambda values: (values == "color-luminance").astype("float")),
)  # fmt: skip

ORIENTATION_COUNTS = {0: 110, 45: 83, 90: 100, 135: 92}
"""Cells by preferred orientation, in bins of 45 degrees around these (marques2021)."""
