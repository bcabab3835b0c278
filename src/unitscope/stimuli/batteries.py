"""The stimuli of a tuning session: which gratings, patches and colors a field is shown, and in what order.

The first part is the same for all units of a field. The second is a series around the best conditions of its units.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unitscope.stimuli.color import COLOR_AXES, CONE_DIRECTIONS, CONTRAST
from unitscope.stimuli.gratings import StimulusSet, make_product, make_rows
from unitscope.vocabulary import Size

ORIENTATIONS = tuple(np.arange(24) * 7.5)
PHASES = tuple(np.arange(32) * 11.25)
COLOR_ORIENTATIONS = tuple(np.arange(12) * 15.0)
COLOR_PHASES = tuple(np.arange(16) * 22.5)
HUES = tuple(np.arange(36) * 10.0)
GRATING_CONTRASTS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.65, 0.8, 1.0)
HIGHEST = 0.4
"""Cycles per pixel of the finest grating; at 0.5 a grating is a checkerboard or nothing, depending on its phase."""

DIRECTIONS = tuple(dict.fromkeys((*COLOR_AXES, *CONE_DIRECTIONS)))
"""Luminance, L - M, S, L and M; S stands for the axis and for the cone."""

CHANNEL_DIRECTIONS = ("pixel:1,1,1", "pixel:1,-1,0", "pixel:-0.5,-0.5,1", "pixel:1,0,0", "pixel:0,1,0", "pixel:0,0,1")
"""The same in pixel values, in which a network is given colors: gray, red against green, blue against yellow, and each
of red, green and blue alone.
"""

CHANNEL_CONTRASTS = (3**-0.5, 2**-0.5, 1.5**-0.5, 1.0, 1.0, 1.0)
"""Contrasts with which all of CHANNEL_DIRECTIONS change pixel values by the same root of summed squares, half their
range.
"""

SMALLEST_FIELD = 3
"""A field of fewer pixels is smaller than a cycle of the finest grating."""


def grating_frequencies(field: Size, *, highest: float = HIGHEST) -> tuple[float, ...]:
    """From one cycle per field to HIGHEST, in steps of about half an octave, six at least."""
    lowest = 1 / max(field)
    count = max(6, int(np.ceil(2 * np.log2(highest / lowest))) + 1)
    return tuple(float(f) for f in np.geomspace(lowest, highest, count))


def diameters(field: Size) -> tuple[float, ...]:
    """Ten diameters of patches, from 1.5 pixels to the field's diagonal."""
    return tuple(float(d) for d in np.geomspace(1.5, np.hypot(*field) + 1, 10))


def first_part(field: Size, *, contrast: float = 1.0, color_contrast: float = CONTRAST, color: bool = True
               ) -> StimulusSet:  # fmt: skip
    """Gray; gray gratings of all orientations, frequencies and phases; and where the network has colors the same in
    five directions of color at equal cone contrast, uniform fields, hues, and discs with and without surround.
    """
    f = grating_frequencies(field)
    stimuli = make_product("rest", contrast=0.0)
    stimuli += make_product("orientation", contrast=contrast, orientation=ORIENTATIONS, frequency=f, phase=PHASES)
    if not color:
        return stimuli
    stimuli += make_product(
        "color", direction=DIRECTIONS, contrast=color_contrast,
        orientation=COLOR_ORIENTATIONS, frequency=f, phase=COLOR_PHASES,
    )  # fmt: skip
    stimuli += make_product(
        "uniform", pattern="uniform", direction=DIRECTIONS, contrast=color_contrast, phase=COLOR_PHASES
    )
    for name, amount in zip(CHANNEL_DIRECTIONS, CHANNEL_CONTRASTS, strict=True):
        stimuli += make_product(
            "channels", direction=[name], contrast=contrast * amount, orientation=COLOR_ORIENTATIONS, frequency=f,
            phase=COLOR_PHASES,
        )  # fmt: skip
    for name, amount in zip(CHANNEL_DIRECTIONS, CHANNEL_CONTRASTS, strict=True):
        stimuli += make_product(
            "uniform channels", pattern="uniform", direction=[name], contrast=contrast * amount, phase=COLOR_PHASES
        )
    hues = [f"hue:{hue:g}" for hue in HUES]
    stimuli += make_product("hue", pattern="uniform", direction=hues, contrast=color_contrast)
    # A disc as large as the field leaves no room for a surround.
    across = [d for d in diameters(field) if 2 < d < max(field)]
    stimuli += make_product(
        "disc", pattern="uniform", direction=COLOR_AXES, contrast=color_contrast, phase=(0.0, 180.0), diameter=across,
        surround=(0.0, -1.0, 1.0),
    )  # fmt: skip
    return stimuli + harris_stimuli(field)


def harris_stimuli(field: Size) -> StimulusSet:
    """What harris2020 show: black, saturated hues in steps of a degree, full-contrast gratings of ten orientations,
    six phases, and all whole numbers of cycles up to half the field.
    """
    black = make_product("black", pattern="uniform", contrast=1.0, phase=180.0)
    colors = [saturated(hue) for hue in range(360)]
    hues = make_rows("saturated", pattern="uniform", direction=[_pixel(color) for color in colors])
    cycles = np.arange(1, max(field) // 2 + 1) / max(field)
    gratings = make_product(
        "full", orientation=tuple(np.arange(10) * 18.0), frequency=tuple(cycles), phase=tuple(np.arange(6) * 60.0)
    )
    return black + hues + gratings


def saturated(hue: float) -> tuple[float, float, float]:
    """Red, green and blue of a hue in degrees at full saturation and half lightness (HSL)."""
    return tuple(float(np.clip(abs((hue / 60 + shift) % 6 - 3) - 1, 0, 1)) for shift in (0, 4, 2))  # type: ignore[return-value]


def _pixel(color: Sequence[float]) -> str:
    return "pixel:" + ",".join(f"{2 * value - 1:.6f}" for value in color)


def second_part(
    field: Size, orientations: Sequence[float], at: Sequence[float], *, contrast: float = 1.0
) -> StimulusSet:
    """Series around some pairs of orientation and frequency, one for each unit that has it as its best: patches of
    growing size, growing contrast, and plaids with the orthogonal grating.
    """
    pairs = len(orientations)
    sizes, phases = diameters(field), COLOR_PHASES
    few = COLOR_PHASES[::2]

    def series(block: str, *inner: Sequence[float], **named: str) -> StimulusSet:
        shape = tuple(map(len, inner))
        places = np.unravel_index(np.arange(pairs * int(np.prod(shape))), (pairs, *shape))
        varied = {
            name: np.asarray(values)[place]
            for name, values, place in zip(named.values(), inner, places[1:], strict=True)
        }
        pair = places[0]
        common = {"orientation": np.asarray(orientations)[pair], "frequency": np.asarray(at)[pair], "pair": pair}
        second = {"second": (common["orientation"] + 90) % 180} if block == "plaid" else {}
        pattern = "plaid" if block == "plaid" else "grating"
        fixed = {} if "contrast" in varied else {"contrast": contrast}
        return make_rows(block, pattern=pattern, **fixed, **common, **second, **varied)

    stimuli = series("size", sizes, phases, a="diameter", b="phase")
    stimuli += series("contrast", [c * contrast for c in GRATING_CONTRASTS], few, a="contrast", b="phase")
    return stimuli + series("plaid", few, few, a="second_phase", b="phase")


def full_pictures(size: Size, *, color: bool = True) -> StimulusSet:
    """A short session of full pictures, for a record of a network that nothing was shown to yet: gray gratings of 12
    orientations, 5 frequencies and 4 phases; the axes of color at 6 orientations; uniform hues.
    """
    steps = tuple(float(f) for f in np.geomspace(min(0.02, 4 / min(size)), 0.3, 5))
    stimuli = make_product(
        "orientation", orientation=COLOR_ORIENTATIONS, frequency=steps, phase=(0.0, 90.0, 180.0, 270.0)
    )
    if color:
        stimuli += make_product(
            "color", direction=COLOR_AXES[1:], contrast=CONTRAST, orientation=COLOR_ORIENTATIONS[::2],
            frequency=steps[:4], phase=(0.0, 180.0),
        )  # fmt: skip
        stimuli += make_product(
            "hue", pattern="uniform", direction=[f"hue:{hue:g}" for hue in HUES[::3]], contrast=CONTRAST
        )
    return stimuli
