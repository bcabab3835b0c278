"""Recipes: named compositions of start x canvas x jitters x ascent. The record keeps the classes and numbers of each.

    contrast            faint noise  x  RGB within 0..1 at a bounded contrast  x  steps along the gradient
    kobayashi2020       mean color   x  whitened pixels without bounds         x  Adam, 31 steps

A recipe of one's own is a `Recipe` of plain callables; see the protocols in canvases, jitters and ascents.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch

from unitscope.errors import BadInput, unknown_name
from unitscope.stimuli.images import Source, open_images
from unitscope.stimuli.presentation import Presentation
from unitscope.synthesis.ascents import Adam, Ascent, MeanNormalized, Penalty, Steepest
from unitscope.synthesis.canvases import (
    Canvas,
    Contrast,
    Dots,
    Noise,
    Phases,
    Pixels,
    Spectrum,
    Start,
    Waves,
    WhitenedPixels,
    zeros,
)
from unitscope.synthesis.jitters import Grain, Jitter, Sway
from unitscope.vocabulary import Size


@dataclass(frozen=True)
class Recipe:
    """How an optimal stimulus is searched for. `penalties` are subtracted from the response."""

    name: str
    start: Start
    canvas: Canvas
    ascent: Ascent
    jitters: tuple[Jitter, ...] = ()
    penalties: tuple[Penalty, ...] = ()
    source: str = ""
    keep_best: bool = False
    "Whether the best picture met on the way is kept, or the last one."

    def facts(self) -> dict[str, Any]:
        """The recipe in words and numbers, for the record."""
        return {"name": self.name, "source": self.source} | {
            part: describe_part(getattr(self, part))
            for part in ("start", "canvas", "ascent", "jitters", "penalties", "keep_best")
        }

    def __str__(self) -> str:
        parts = [self.start, self.canvas, *self.jitters, self.ascent]
        return f"{self.name}: " + " x ".join(_short_name(part) for part in parts)


def describe_part(value: Any) -> Any:
    """A part of a recipe as plain data: its class and its numbers."""
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    if isinstance(value, tuple | list):
        return [describe_part(one) for one in value]
    if isinstance(value, torch.Tensor):
        return f"tensor {list(value.shape)}, sum {float(value.double().sum()):.9g}"
    if is_dataclass(value) and not isinstance(value, type):
        return {"is": type(value).__name__} | {f.name: describe_part(getattr(value, f.name)) for f in fields(value)}
    return {"is": getattr(value, "__qualname__", type(value).__name__)}


def _short_name(value: Any) -> str:
    return value.__name__ if hasattr(value, "__name__") else repr(value)


def kobayashi2020() -> Recipe:
    """Adam 0.1 with weight decay 1e-6 from the mean color, 31 steps, without bounds (kobayashi2020, section 3.4)."""
    return Recipe("kobayashi2020", zeros, WhitenedPixels(), Adam(), source="kobayashi2020")


def contrast(rms: float = 0.2) -> Recipe:
    """The default: the largest response at a contrast of at most `rms`, within 0..1 (methods 3.3; after walker2019).

    It starts at faint noise, which stays where the response does not depend on the picture.
    """
    return Recipe("contrast", Noise(0.05), Contrast(rms), Steepest(), source="walker2019", keep_best=True)


def zipser2015() -> Recipe:
    """From random dots along the gradient of the node, in normalized steps, until stable; no jitter, no blur
    (zipser2015, methods). Unlike the paper, which states no numbers, they are deepdream's, and "stable" is ours.
    """
    return Recipe("zipser2015", Dots(), Pixels(), MeanNormalized(), source="zipser2015")


def spectrum(steps: int = 512, lr: float = 0.05) -> Recipe:
    """Fourier coefficients, decorrelated colors, jitters (olah2017, and lucid where it is silent)."""
    adam = Adam(lr=lr, weight_decay=0.0, steps=steps)
    return Recipe("spectrum", Waves(), Spectrum(), adam, jitters=(Sway(),), source="olah2017")


def maco(images: Source, *, size: int | Size, steps: int = 256, lr: float = 1.0) -> Recipe:
    """Phases only, at the average spectrum of given photographs shown at `size` (fel2023).

    Unlike the paper, every step looks at one moved and turned version of the picture, not at 32 crops.
    """
    adam = Adam(lr=lr, weight_decay=0.0, steps=steps, nesterov=True)
    jitters = (Sway(scale=(0.8, 1.2)), Grain())
    return Recipe("maco", Noise(0.2), Phases(average_spectrum(images, size=size)), adam, jitters, source="fel2023")


def average_spectrum(images: Source, *, size: int | Size, most: int = 1000) -> torch.Tensor:
    """The mean magnitude of the Fourier coefficients [color height half] of photographs, in decorrelated colors."""
    from unitscope.stimuli.items import Unreadable
    from unitscope.synthesis.canvases import decorrelate_colors

    opened = open_images(images)
    presentation = Presentation((size, size) if isinstance(size, int) else size)
    total, count = None, 0
    # Evenly over all images, which are often sorted by class.
    for number in range(0, len(opened), max(1, len(opened) // most)):
        try:
            shown = presentation.present(opened.bytes(number))
        except Unreadable:
            continue
        picture = torch.from_numpy(shown).permute(2, 0, 1)[None].float() / 255
        # In the units in which the canvas `Phases` works: before its sigmoid.
        magnitude = torch.fft.rfft2(decorrelate_colors(torch.logit(picture.clamp(0.01, 0.99))))[0].abs()
        total, count = magnitude if total is None else total + magnitude, count + 1
    if total is None:
        raise BadInput(f"no picture of {opened.source} can be read, so there is no average spectrum.")
    return total / count


RECIPES: dict[str, Callable[[], Recipe]] = {
    "contrast": contrast,
    "kobayashi2020": kobayashi2020,
    "zipser2015": zipser2015,
    "spectrum": spectrum,
}
"""Recipes that need nothing but their name; `maco` needs photographs."""


def recipe_of(recipe: str | Recipe, *, images: Source | None = None, size: int | Size = 224) -> Recipe:
    """The recipe of a name. Raises UnknownName, and BadInput for maco without photographs."""
    if isinstance(recipe, Recipe):
        return recipe
    if recipe == "maco":
        if images is None:
            raise BadInput("the recipe maco needs photographs for its average spectrum: give a folder of them.")
        return maco(images, size=size)
    if recipe not in RECIPES:
        raise unknown_name("recipe", recipe, (*RECIPES, "maco"), advice=f"There are {', '.join(RECIPES)} and maco.")
    return RECIPES[recipe]()
