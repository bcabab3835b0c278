"""Parametric stimuli as a source of images like any other: what a survey shows, a record names and an atlas cuts fields
from. The name of each holds its parameters, so that it can be drawn again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

import numpy as np

from unitscope.errors import BadInput
from unitscope.stimuli.gratings import STIMULUS_COLUMNS, StimulusSet, draw_stimulus, make_rows
from unitscope.stimuli.items import Images, Item, Unreadable
from unitscope.vocabulary import Size

DRAWN_NOTE = "drawn stimuli, rounded to 8 bits; `unitscope tuning` shows them exactly"


def drawn_images(stimuli: StimulusSet, size: Size) -> Images:
    """The stimuli as images of a size, centered, labeled by their direction of color.

    A name is drawn:HEIGHTxWIDTH? and the parameters that differ from gratings.STIMULUS_COLUMNS. An image file has 8
    bits, so that values are rounded to the nearest of 256. Raises BadInput for a contrast out of gamut.
    """
    stimuli.colors  # is everything in gamut?  # noqa: B018
    items = tuple(
        Item(f"drawn:{size[0]}x{size[1]}?{urlencode(one)}", str(one.get("direction", STIMULUS_COLUMNS["direction"])))
        for one in parameters(stimuli)
    )
    length = len(_header(size)) + 3 * size[0] * size[1]
    return Images(items, [length] * len(items), DrawnImages([item.uri for item in items]), "drawn", DRAWN_NOTE)


def parameters(stimuli: StimulusSet) -> list[dict[str, Any]]:
    """The parameters of each stimulus that differ from gratings.STIMULUS_COLUMNS, as Python's own numbers (how numpy's
    numbers are printed depends on options).
    """
    columns = {name: np.asarray(values).tolist() for name, values in stimuli.columns.items()}
    return [
        {name: value for name, values in columns.items() if (value := values[number]) != STIMULUS_COLUMNS[name]}
        for number in range(len(stimuli))
    ]


def parameters_of(uri: str) -> tuple[dict[str, Any], Size]:
    """The parameters, and the size, that a name of `drawn_images` holds. Raises BadInput."""
    match = re.fullmatch(r"drawn:(\d+)x(\d+)\?(.*)", uri)
    if match is None:
        raise BadInput(f"{uri!r} names no drawn stimulus.")
    found = {}
    for name, value in parse_qsl(match[3], keep_blank_values=True):
        if name not in STIMULUS_COLUMNS:
            raise BadInput(f"{uri!r}: stimuli have no parameter {name!r}.")
        found[name] = type(STIMULUS_COLUMNS[name])(value)
    return found, (int(match[1]), int(match[2]))


@dataclass(frozen=True)
class DrawnImages:
    """Draws the stimuli that `uris` name, as PPM."""

    uris: Sequence[str]

    def __call__(self, image: int) -> bytes:
        try:
            given, size = parameters_of(self.uris[image])
            # make_rows needs at least one sequence: a stimulus of defaults alone gets one of them.
            one = make_rows(
                given.pop("block", ""), **{name: [value] for name, value in (given or {"contrast": 1.0}).items()}
            )
            center = ((size[0] - 1) / 2, (size[1] - 1) / 2)
            picture = draw_stimulus(one, size, center=center)[0].permute(1, 2, 0).numpy()
        except (BadInput, ValueError) as error:
            raise Unreadable(f"{self.uris[image]!r} names no drawn stimulus") from error
        return _header(size) + np.round(255 * picture).astype(np.uint8).tobytes()


def _header(size: Size) -> bytes:
    return b"P6\n%d %d\n255\n" % (size[1], size[0])
