"""Gratings, plaids, discs, annuli and uniform fields in closed form: exact pixel values, drawn on the device in
batches.

A stimulus is gray plus a color times a modulation of -1..1. Coordinates are those of the laboratory: x to the right, y
up, in pixels from the center of the field; a grating's orientation is that of its bars, in degrees counterclockwise
from horizontal, and its phase is 0 with a bright bar in the center.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from unitscope.errors import BadInput
from unitscope.stimuli.color import MIDDLE_GRAY, decode_srgb, direction, require_in_gamut
from unitscope.vocabulary import Size

if TYPE_CHECKING:
    import torch
    from torch import Tensor

STIMULUS_COLUMNS: Mapping[str, Any] = {
    "block": "", "pattern": "grating", "direction": "pixel", "contrast": 1.0, "orientation": 0.0, "frequency": 0.0,
    "phase": 0.0, "diameter": math.inf, "inner": 0.0, "surround": 0.0, "second": 0.0, "second_phase": 0.0, "edge": 0.0,
    "pair": -1,
}  # fmt: skip
"""The parameters of a stimulus, with what they are where nothing is said.

`block` the part of the session; `pattern` "grating", "plaid" (half of it at the orientation `second`) or "uniform";
`direction` "pixel" (red, green and blue pixel values alike), "pixel:R,G,B", or a direction of stimuli.color in linear
light; `contrast` 0..1 of pixel values, or pooled cone contrast; `orientation`, `phase` in degrees; `frequency` in
cycles per pixel; outer `diameter` and `inner` diameter of the patch in pixels; `surround` contrast beyond the patch as
a share of that in it (-1 opposite, 0 none); `edge` width of a soft edge in pixels, 0 for a hard one; `pair` the number
of the condition at which a series was taken, -1 for none.
"""

NUMBERS = tuple(name for name, value in STIMULUS_COLUMNS.items() if isinstance(value, float))


@dataclass(frozen=True)
class StimulusSet:
    """Parametric stimuli: a table of their parameters, with the columns of STIMULUS_COLUMNS."""

    columns: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.columns["block"])

    def __add__(self, other: StimulusSet) -> StimulusSet:
        return StimulusSet(
            {name: np.concatenate([self.columns[name], other.columns[name]]) for name in STIMULUS_COLUMNS}
        )

    def take(self, which: slice) -> StimulusSet:
        part = StimulusSet({name: values[which] for name, values in self.columns.items()})
        # A cached property keeps its value in __dict__: the part need not compute its colors again.
        part.__dict__["colors"] = tuple(values[which] for values in self.colors)
        return part

    @cached_property
    def colors(self) -> tuple[np.ndarray, np.ndarray]:
        """What each stimulus adds to gray where its modulation is 1: [stimulus 3]; and whether that is linear light
        rather than pixel values, [stimulus].

        Raises BadInput for a contrast that cannot be shown.
        """
        amounts, linear = np.zeros((len(self), 3)), np.zeros(len(self), dtype=bool)
        groups: dict[tuple[str, float], list[int]] = {}
        asked = zip(self.columns["direction"].tolist(), self.columns["contrast"].tolist(), strict=True)
        for number, color in enumerate(asked):
            groups.setdefault(color, []).append(number)
        for (name, contrast), numbers in groups.items():
            amounts[numbers], linear[numbers] = _color(name, contrast)
        return amounts, linear


def _color(name: str, contrast: float) -> tuple[np.ndarray, bool]:
    if not name.startswith("pixel"):
        require_in_gamut(name, contrast)
        return contrast * np.array(direction(name)), True
    # "pixel" alone is gray; "pixel:1,-1,0" changes red against green.
    weights = [float(value) for value in name.partition(":")[2].split(",")] if ":" in name else [1.0, 1.0, 1.0]
    amount = MIDDLE_GRAY * contrast * np.array(weights)
    if np.abs(amount).max() > min(MIDDLE_GRAY, 1 - MIDDLE_GRAY) * (1 + 1e-9):
        raise BadInput(
            f"a contrast of {contrast:g} in the direction {name!r} leaves the pixel values 0..1 on gray, "
            f"{MIDDLE_GRAY:g}: at most {1 / max(map(abs, weights)):.4g} can be shown. Nothing is clipped."
        )
    return amount, False


def make_product(block: str, **parameters: Any) -> StimulusSet:
    """All combinations of the parameters given as sequences, the last one changing fastest; others are the same for
    all.

    `make_product("orientation", orientation=[0, 90], phase=range(0, 360, 45))` has 16 stimuli.
    """
    unknown = [name for name in parameters if name not in STIMULUS_COLUMNS]
    if unknown:
        raise BadInput(f"stimuli have no parameter {unknown[0]!r}; they have {', '.join(STIMULUS_COLUMNS)}.")
    varied = {name: list(v) for name, v in parameters.items() if isinstance(v, Sequence | np.ndarray | range)
              and not isinstance(v, str)}  # fmt: skip
    count = math.prod(map(len, varied.values()))
    columns = {name: _column(name, parameters.get(name, value), count) for name, value in STIMULUS_COLUMNS.items()
               if name not in varied}  # fmt: skip
    places = np.unravel_index(np.arange(count), tuple(map(len, varied.values()))) if varied else ()
    for (name, values), place in zip(varied.items(), places, strict=True):
        columns[name] = _typed(name, values)[place]
    columns["block"] = _column("block", block, count)
    return StimulusSet(columns)


def make_rows(block: str, **parameters: Any) -> StimulusSet:
    """Stimuli whose parameters are given one by one, all sequences equally long."""
    count = max(len(v) for v in parameters.values() if isinstance(v, Sequence | np.ndarray) and not isinstance(v, str))
    columns = {
        name: _typed(name, v) if isinstance(v := parameters.get(name, value), Sequence | np.ndarray)
        and not isinstance(v, str) else _column(name, v, count)
        for name, value in STIMULUS_COLUMNS.items()
    }  # fmt: skip
    columns["block"] = _column("block", block, count)
    return StimulusSet(columns)


def _column(name: str, value: Any, count: int) -> np.ndarray:
    return np.repeat(_typed(name, [value]), count)


def _typed(name: str, values: Any) -> np.ndarray:
    kind = type(STIMULUS_COLUMNS[name])
    return np.array([kind(value) for value in values], dtype=object if kind is str else kind)


def draw_stimulus(
    stimuli: StimulusSet,
    size: Size,
    *,
    center: tuple[float, float],
    device: torch.device | str = "cpu",
) -> Tensor:
    """The pictures, RGB 0..1, Tensor[stimulus 3 height width]; `center` is (row, col) of the patterns, in pixels from
    the center of the upper left pixel.

    A grating is made of four cosines and sines along rows and columns, so that nothing but products is computed pixel
    by pixel. Raises BadInput for a contrast out of gamut.
    """
    import torch

    amounts, linear = stimuli.colors
    modulation = _modulation(stimuli, size, center, torch.device(device))
    amount = torch.as_tensor(amounts, dtype=torch.float32, device=device)
    gray = torch.where(
        torch.as_tensor(linear, device=device), float(decode_srgb(np.array(MIDDLE_GRAY))), MIDDLE_GRAY
    ).float()
    pictures = modulation[:, None] * amount[:, :, None, None] + gray[:, None, None, None]
    if linear.all():
        return _encoded(pictures)
    if linear.any():
        which = torch.as_tensor(linear, device=device)
        pictures[which] = _encoded(pictures[which])
    return pictures.clamp_(0, 1)  # rounding alone may have left the range


def _encoded(light: Tensor) -> Tensor:
    import torch

    light = light.clamp(0, 1)
    return torch.where(light <= 0.0031308, 12.92 * light, 1.055 * light.clamp(min=1e-12) ** (1 / 2.4) - 0.055)


def _modulation(stimuli: StimulusSet, size: Size, center: tuple[float, float], device: torch.device) -> Tensor:
    """The modulation of each stimulus, -1..1, Tensor[stimulus height width]."""
    import torch

    given = {
        name: torch.as_tensor(stimuli.columns[name].astype(np.float64), device=device)[:, None] for name in NUMBERS
    }
    up = center[0] - torch.arange(size[0], dtype=torch.float64, device=device)
    right = torch.arange(size[1], dtype=torch.float64, device=device) - center[1]
    wave = _wave(given["orientation"], given["frequency"], given["phase"], up, right)
    plaids = torch.as_tensor(stimuli.columns["pattern"] == "plaid", device=device)
    if plaids.any():
        part = {name: values[plaids] for name, values in given.items()}
        wave[plaids] = (wave[plaids] + _wave(part["second"], part["frequency"], part["second_phase"], up, right)) / 2
    masked = torch.isfinite(given["diameter"][:, 0])
    if masked.any():
        part = {name: values[masked][:, :, None] for name, values in given.items()}
        distance = (up[:, None] ** 2 + right[None, :] ** 2).sqrt()[None]
        wave[masked] = wave[masked] * _window(distance, part).float()
    return wave


def _wave(orientation: Tensor, frequency: Tensor, phase: Tensor, up: Tensor, right: Tensor) -> Tensor:
    """cos(2 pi f d + phase), where d is the distance across the bars: the real part of a product of rows and
    columns.
    """
    angle, turn = _radians(orientation), 2 * math.pi * frequency
    vertical = turn * angle.cos() * up + _radians(phase)
    horizontal = -turn * angle.sin() * right
    a, b = (part.float()[:, :, None] for part in (vertical.cos(), vertical.sin()))
    c, d = (part.float()[:, None, :] for part in (horizontal.cos(), horizontal.sin()))
    return (a * c).addcmul_(b, d, value=-1)


def _radians(degrees: Tensor) -> Tensor:
    return degrees * (math.pi / 180)


def _window(distance: Tensor, given: Mapping[str, Tensor]) -> Tensor:
    """1 in the patch, `surround` beyond it, 0 within its `inner` part; over `edge` pixels in between, as a raised
    cosine.
    """
    outer = _step(given["diameter"] / 2 - distance, given["edge"])
    inner = _step(distance - given["inner"] / 2, given["edge"]).where(given["inner"] > 0, _one(distance))
    return outer * inner + (1 - outer) * given["surround"]


def _one(like: Tensor) -> Tensor:
    return like.new_ones(())


def _step(depth: Tensor, edge: Tensor) -> Tensor:
    """From 0 outside (`depth` < 0) to 1 inside, over `edge` pixels around the border."""
    # A hard edge has `edge` 0. 1e-9 keeps the division finite; the result is then discarded.
    soft = 0.5 + 0.5 * ((depth / edge.clamp(min=1e-9)).clamp(-0.5, 0.5) * math.pi).sin()
    return soft.where(edge > 0, (depth >= 0).to(soft.dtype))
