"""The photographs of a record as an atlas keeps them: each decoded once, stored once, and all patches cut from it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from unitscope.atlas_pages import figures
from unitscope.errors import UnitscopeError
from unitscope.recording.patches import Originals, originals_of, presentation_of
from unitscope.stimuli.presentation import Presentation, decode
from unitscope.vocabulary import Box, Size

if TYPE_CHECKING:
    from unitscope.record import Record

PHOTOGRAPH_SIDE = 256
"""Photographs are kept at the largest whole multiple of the network's input up to this, at least at its own size."""

PER_FOLDER = 1000


class Cut(NamedTuple):
    """One patch to be cut: a name for it, and the box on its image."""

    key: tuple[Any, ...]
    box: Box
    tile: Size


@dataclass(frozen=True)
class Album:
    """How the photographs of one set of stimuli are kept: in `folder`, `scale` pixels per pixel of the network's input.

    `originals` is None where their source is gone.
    """

    originals: Originals | None
    presentation: Presentation
    folder: Path

    @property
    def picture(self) -> Size:
        """Height and width of the network's input."""
        return self.presentation.size

    @property
    def scale(self) -> int:
        return max(1, PHOTOGRAPH_SIDE // max(self.picture))

    def file(self, image: int) -> str:
        """The photograph's file within `folder`."""
        return f"{image // PER_FOLDER:03d}/{image:06d}.webp"


@dataclass
class ReadPhotographs:
    """What reading the photographs once has given.

    `patches` by their keys, uint8 [height width 4]; `missing`, the images that could not be read any more; `total` the
    exact sum of the `count` others as the network was shown them, [height width color].
    """

    patches: dict[tuple[Any, ...], np.ndarray] = field(default_factory=dict)
    missing: set[int] = field(default_factory=set)
    total: np.ndarray | None = None
    count: int = 0

    def mean(self) -> np.ndarray | None:
        """The mean photograph, float64 [color height width] in 0..1; None where there is none."""
        return None if self.total is None else (self.total / (255 * self.count)).transpose(2, 0, 1)


def open_album(record: Record, folder: Path) -> Album:
    """The photographs of a record; an atlas does without them where their source is gone."""
    try:
        originals = originals_of(record)
    except (UnitscopeError, OSError, ImportError):
        originals = None
    return Album(originals, presentation_of(record), folder)


def read_once(
    album: Album, cuts: Mapping[int, Sequence[Cut]], *, done: Callable[[], None] = lambda: None
) -> ReadPhotographs:
    """Store every photograph that `cuts` names and cut its patches; each is decoded once, several at a time.

    Args:
        album: where the photographs come from and go to.
        cuts: for each image the patches to be cut from it; none at all for one that is only stored.
        done: called after each photograph.
    """
    found = ReadPhotographs()
    for image, (patches, shown) in map_parallel(lambda image: _store(album, image, cuts[image]), sorted(cuts)):
        if shown is None:
            found.missing.add(image)
        else:
            found.patches.update(patches)
            # Integers: the same mean in whatever order the photographs come.
            found.total = shown.astype(np.int64) if found.total is None else found.total + shown
            found.count += 1
        done()
    return found


def _store(
    album: Album, image: int, cuts: Sequence[Cut]
) -> tuple[dict[tuple[Any, ...], np.ndarray], np.ndarray | None]:
    if album.originals is None:
        return {}, None
    try:
        original = decode(album.originals.bytes(image))
    except (UnitscopeError, OSError):
        return {}, None
    photograph = crop_shown(original, album.presentation, scale=album.scale)
    path = album.folder / album.file(image)
    path.parent.mkdir(parents=True, exist_ok=True)
    photograph.save(path, "WEBP", quality=82, method=2)
    patches = {cut.key: figures.cut_patch(photograph, cut.box, picture=album.picture, tile=cut.tile) for cut in cuts}
    return patches, album.presentation.show(original)


def crop_shown(original: Image.Image, presentation: Presentation, *, scale: int) -> Image.Image:
    """The part of an upright RGB picture that the network was shown, `scale` times as large as it was shown."""
    height, width = presentation.size
    top, left, bottom, right = presentation.to_original(Box(0, 0, height, width), (original.height, original.width))
    part = max(left, 0.0), max(top, 0.0), min(right, original.width), min(bottom, original.height)
    # `part` differs from the box only where black was added around a small picture.
    per_pixel = (right - left) / (width * scale), (bottom - top) / (height * scale)
    size = round((part[2] - part[0]) / per_pixel[0]), round((part[3] - part[1]) / per_pixel[1])
    shown = original.resize((max(1, size[0]), max(1, size[1])), Image.Resampling.BILINEAR, box=part)
    if shown.size == (width * scale, height * scale):
        return shown
    whole = Image.new("RGB", (width * scale, height * scale))
    whole.paste(shown, (round((part[0] - left) / per_pixel[0]), round((part[1] - top) / per_pixel[1])))
    return whole


def map_parallel(function: Callable[[int], Any], numbers: Iterable[int]) -> Iterator[tuple[int, Any]]:
    """Do it for each number on all cores, in order, never far ahead of who takes the results."""
    workers = os.cpu_count() or 1
    waiting = iter(numbers)
    with ThreadPoolExecutor(workers) as pool:
        # Executor.map would submit all at once, and keep every result that has not been taken yet.
        running = [(number, pool.submit(function, number)) for number in islice(waiting, 4 * workers)]
        while running:
            number, result = running.pop(0)
            yield number, result.result()
            running += [(number, pool.submit(function, number)) for number in islice(waiting, 1)]
