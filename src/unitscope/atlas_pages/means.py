"""The mean preferred stimuli and first-layer kernels of one site, read from a record and made into sprites."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from unitscope.atlas_pages import figures, sprites
from unitscope.atlas_pages.data_scripts import round_digits
from unitscope.errors import UnknownName
from unitscope.vocabulary import Box, Size

if TYPE_CHECKING:
    from unitscope.atlas_pages.record_view import RecordView
    from unitscope.record import Record, SiteFacts

FEW_STIMULI = 30
"""A mean over fewer stimuli is flagged as unreliable (methods 2.5)."""

MEAN_TILE = 72


class MeanStimuli(NamedTuple):
    """What a record holds of one site's mean preferred stimuli."""

    mean: np.ndarray
    """float32 [unit color 64 64]"""
    n: np.ndarray
    """int64 [unit]"""
    size: np.ndarray
    """int32 [unit 2]: the rows and columns used of the 64 x 64"""
    box: np.ndarray
    """int32 [unit 4]: the box that was averaged"""


def write_means(view: RecordView, site: SiteFacts, *, stem: Path) -> dict[str, Any] | None:
    """Write the mean preferred stimuli of a site's center neurons in both display modes (methods 2.4).

    Returns:
        For the page: n of each unit, below which n a mean is unreliable, the sprites `absolute` and `contrast`, the
        contrast's one gain and what it is taken against. None where the record has no means.
    """
    means = _means(view.record, site)
    if means is None:
        return None
    pictures = _used(means.mean, means.n, means.size)
    absolute = [None if picture is None else figures.draw_mean(picture) for picture in pictures]
    value = {"n": means.n, "few": FEW_STIMULI, "absolute": _write(absolute, stem, "mean"), "contrast": None}
    if view.mean_photograph is None:
        return value
    contrast, gain = _contrasts(means, view.mean_photograph)
    against = f"the mean of the same place of {view.photographs:,} photographs"
    return {**value, "contrast": _write(contrast, stem, "contrast"), "gain": gain, "against": against}


def contrasts(view: RecordView, site: SiteFacts) -> list[np.ndarray | None] | None:
    """The contrast of each unit's mean preferred stimulus, None for one that was never seen to respond; None where the
    record has no means, or the photographs are gone.
    """
    means = _means(view.record, site)
    return None if means is None or view.mean_photograph is None else _contrasts(means, view.mean_photograph)[0]


def _contrasts(means: MeanStimuli, photograph: np.ndarray) -> tuple[list[np.ndarray | None], float]:
    """The contrasts of a site's units as pictures, and their one gain."""
    deltas = _deltas(_used(means.mean, means.n, means.size), photograph, means.box)
    gain = figures.contrast_gain(_reliable(deltas, means.n))
    return [None if delta is None else figures.draw_contrast(delta, gain=gain) for delta in deltas], gain


def _means(record: Record, site: SiteFacts) -> MeanStimuli | None:
    arrays = _arrays(record, site, [f"mean_stimulus_center{part}" for part in ("", "_n", "_size", "_box")])
    return None if arrays is None else MeanStimuli(*arrays)


def _arrays(record: Record, site: SiteFacts, names: Sequence[str]) -> list[np.ndarray] | None:
    """A site's part of some arrays; None where the record lacks one."""
    units = slice(site.first_unit, site.first_unit + site.channels)
    try:
        return [np.asarray(record.array(name)[units]) for name in names]
    except (UnknownName, FileNotFoundError):
        return None


def _used(mean: np.ndarray, n: np.ndarray, size: np.ndarray) -> list[np.ndarray | None]:
    """The used part of each mean; None where nothing was averaged."""
    return [
        None if count == 0 else picture[:, :height, :width]
        for picture, count, (height, width) in zip(mean, n, size.tolist(), strict=True)
    ]


def _deltas(seen: list[np.ndarray | None], photograph: np.ndarray, boxes: np.ndarray) -> list[np.ndarray | None]:
    """Each mean less the mean of all photographs in the same box (methods 2.3)."""
    known: dict[tuple[int, ...], np.ndarray] = {}
    deltas: list[np.ndarray | None] = []
    for mean, box in zip(seen, boxes.tolist(), strict=True):
        key = tuple(box)
        if mean is not None and key not in known:
            known[key] = figures.reduce_picture(Box(*box), photograph, shape=mean.shape[1:])
        deltas.append(None if mean is None else mean - known[key])
    return deltas


FURTHER = {"best": "mean, best position", "all": "mean, all positions"}


def write_further_means(record: Record, site: SiteFacts, *, stem: Path) -> list[dict[str, Any]]:
    """Write the means over best and over all positions, where the record has them: for the page title, n and sprite."""
    written = []
    for where, title in FURTHER.items():
        arrays = _arrays(record, site, [f"mean_stimulus_{where}{part}" for part in ("", "_n", "_size")])
        if arrays is not None:
            pictures = _used(*arrays)
            absolute = [None if picture is None else figures.draw_mean(picture) for picture in pictures]
            written.append({"title": title, "n": arrays[1], "absolute": _write(absolute, stem, f"mean-{where}")})
    return written


def write_response_maps(record: Record, site: SiteFacts, *, stem: Path) -> dict[str, Any] | None:
    """Write the mean response of each unit over its lattice, from lowest to highest; None where unknown."""
    try:
        maps = np.asarray(record.array(f"response_map/{site.name}")[...], np.float64)
    except (UnknownName, FileNotFoundError, ValueError):  # ValueError: a name such as ".." that Zarr cannot hold
        return None
    if maps.ndim != 3 or max(maps.shape[1:]) == 1 or not np.isfinite(maps).any():
        return None
    pictures = [figures.draw_heat(values, longest=MEAN_TILE) if np.isfinite(values).any() else None for values in maps]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a unit that was never finite has no range: NaN, shown as none
        low, high = round_digits(np.nanmin(maps, (1, 2))), round_digits(np.nanmax(maps, (1, 2)))
    return {"low": low, "high": high, **_write(pictures, stem, "map", enlarge=False)}


def write_kernels(record: Record, site: SiteFacts, *, stem: Path) -> dict[str, Any] | None:
    """Write the first-layer kernel of each unit of a site, around gray at one gain; None where the site has none."""
    known = record.facts.get("kernels") or {}
    if site.name not in known.get("sites", ()):
        return None
    kernels = np.asarray(record.array("kernels")[...], dtype=np.float32)[: site.channels]
    if record.facts["network"].get("order") == "BGR":
        kernels = kernels[:, ::-1]
    if kernels.shape[1] == 2 or kernels.shape[1] > 3:
        return None
    gain = figures.contrast_gain(kernels)
    pictures = [figures.draw_contrast(kernel, gain=gain) for kernel in kernels]
    return {"gain": gain, "of": known["site"], "size": list(kernels.shape[2:]), **_write(pictures, stem, "kernel")}


def _reliable(deltas: list[np.ndarray | None], n: np.ndarray) -> np.ndarray:
    """The values that set the gain: those of reliable means or, where there are none, of all."""
    chosen = [delta for delta, seen in zip(deltas, n, strict=True) if delta is not None and seen >= FEW_STIMULI]
    chosen = chosen or [delta for delta in deltas if delta is not None]
    return np.concatenate([delta.ravel() for delta in chosen]) if chosen else np.zeros(0)


def _write(pictures: Sequence[np.ndarray | None], stem: Path, kind: str, *, enlarge: bool = True) -> dict[str, Any]:
    tiles = [
        None if picture is None else figures.enlarge(picture, longest=MEAN_TILE) if enlarge else picture
        for picture in pictures
    ]
    sharp = not enlarge or any(
        picture is not None and max(picture.shape[:2]) <= figures.SHARP_PIXELS // 2 for picture in pictures
    )
    size = _largest([tile for tile in tiles if tile is not None])
    tiles = [None if tile is None else _centered(tile, size) for tile in tiles]
    written = sprites.write_sprites(tiles, stem=stem.with_name(f"{stem.name}-{kind}"), lossless=sharp, quality=88)
    return {**written, "sharp": sharp}


def _largest(tiles: list[np.ndarray]) -> Size:
    if not tiles:
        return 1, 1
    return max(tile.shape[0] for tile in tiles), max(tile.shape[1] for tile in tiles)


def _centered(tile: np.ndarray, size: Size) -> np.ndarray:
    """The tile in the middle of a transparent one of `size`: channels of one site may differ in field."""
    if tile.shape[:2] == size:
        return tile
    top, left = (size[0] - tile.shape[0]) // 2, (size[1] - tile.shape[1]) // 2
    result = np.zeros((*size, 4), np.uint8)
    result[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return result
