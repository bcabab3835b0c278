"""From the state of a finished session to the tables and arrays of its record. What a reader may rely on is in record.py."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from unitscope.record import write_arrays, write_table
from unitscope.recording.center import EXACT, mean_stimuli
from unitscope.recording.responses import Extremes
from unitscope.recording.session import Session, SiteState

if TYPE_CHECKING:
    from unitscope.stimuli.images import Images

POLES = {1: "preferred", -1: "antipreferred"}


def write_tables(folder: Path, session: Session, images: Images, kernels: np.ndarray | None) -> None:
    """Write `units.parquet`, `stimuli.parquet`, `images.parquet` and `arrays.zarr`, each whole or not at all."""
    states = list(session.sites.values())
    firsts = np.cumsum([0, *(state.site.channels for state in states)]).tolist()
    write_table(folder / "images.parquet", images_table(session, images))
    write_table(folder / "units.parquet", pa.concat_tables(map(units_table, states, firsts)))
    write_table(folder / "stimuli.parquet", pa.concat_tables(stimuli_table(s, f) for s, f in zip(states, firsts, strict=False)))
    write_arrays(folder / "arrays.zarr", center_arrays(states, kernels))


def images_table(session: Session, images: Images) -> pa.Table:
    """A row per image, also for those that could not be read."""
    errors = session.errors
    return pa.table(
        {
            "image": pa.array(np.arange(len(images)), pa.int64()),
            "uri": pa.array([item.uri for item in images.items], pa.string()),
            "label": pa.array([item.label for item in images.items], pa.string()),
            "status": pa.array(["unreadable" if error else "ok" for error in errors], pa.string()),
            "error": pa.array([error or None for error in errors], pa.string()),
            "digest": pa.array([digest or None for digest in session.digests], pa.string()),
            "bytes": pa.array(session.sizes, pa.int64()),
        }
    )


def units_table(state: SiteState, first: int) -> pa.Table:
    """A row per unit of a site. What was never seen has no extremes: null."""
    site, never = state.site, state.seen == 0
    peaks = state.peaks.total()
    fields = [site.field(channel) for channel in range(site.channels)]
    deviation = np.sqrt(peaks.m2 / np.maximum(peaks.n - 1, 1))
    return pa.table(
        {
            **_names(site.name, first, np.arange(site.channels)),
            "images": state.seen,
            "peak_max": pa.array(state.peak_max, mask=never),
            "trough_min": pa.array(state.trough_min, mask=never),
            "peak_mean": pa.array(peaks.mean, mask=never),
            "peak_sd": pa.array(deviation, mask=peaks.n < 2),
            "positive_images": state.positive,
            "inactive": pa.array(state.positive == 0, mask=never),
            "not_finite_images": state.not_finite,
            "field_height": pa.array([field.size[0] for field in fields], pa.int64()),
            "field_width": pa.array([field.size[1] for field in fields], pa.int64()),
        }
    )


def stimuli_table(state: SiteState, first: int) -> pa.Table:
    """A row per unit, pole and rank, sorted so.

    Where a site never answers below zero (behind a rectification), a response of zero prefers nothing: such rows are left out, so that a unit may
    have fewer than the asked-for preferred stimuli, or none (methods 2.5).
    """
    rectified = bool((state.trough_min >= 0).all())
    tables = []
    for sign, kept in state.extremes.items():
        held = kept.image >= 0
        if rectified and sign > 0:
            held &= kept.value > 0
        tables.append(_pole_table(state, first, kept, held, POLES[sign]))
    return pa.concat_tables(tables).sort_by([("unit", "ascending"), ("pole", "descending"), ("rank", "ascending")])


def _pole_table(state: SiteState, first: int, kept: Extremes, held: np.ndarray, pole: str) -> pa.Table:
    unit, rank = np.nonzero(held)
    row, col = kept.row[unit, rank], kept.col[unit, rank]
    boxes = state.site.boxes(row, col, unit)
    return pa.table(
        {
            **_names(state.site.name, first, unit),
            "pole": pa.array([pole] * len(unit), pa.string()),
            "rank": rank,
            "image": kept.image[unit, rank],
            "row": row,
            "col": col,
            "value": kept.value[unit, rank],
            **{side: boxes[:, i].astype(np.int64) for i, side in enumerate(("top", "left", "bottom", "right"))},
        }
    )


def center_arrays(states: list[SiteState], kernels: np.ndarray | None) -> dict[str, tuple[np.ndarray, tuple[str, ...]]]:
    """The mean preferred stimuli of the center neurons, with the number of stimuli, the used size and the box that was averaged."""
    units = sum(state.site.channels for state in states)
    colors = states[0].centers[0][2].total.shape[1]
    means = np.full((units, colors, EXACT, EXACT), np.nan, dtype=np.float32)
    n, size, box = np.zeros(units, np.int64), np.zeros((units, 2), np.int32), np.zeros((units, 4), np.int32)
    first = 0
    for state in states:
        for view, channels, sums in state.centers:
            places = first + np.arange(state.site.channels)[channels]
            means[places] = mean_stimuli(sums.n, sums.total, view)
            n[places], size[places], box[places] = sums.n, view.shape, view.box
        first += state.site.channels
    arrays: dict[str, tuple[np.ndarray, tuple[str, ...]]] = {
        "mean_stimulus_center": (means, ("unit", "color", "height", "width")),
        "mean_stimulus_center_n": (n, ("unit",)),
        "mean_stimulus_center_size": (size, ("unit", "side")),
        "mean_stimulus_center_box": (box, ("unit", "edge")),
    }
    if kernels is not None:
        arrays["kernels"] = (kernels, ("channel", "input", "row", "col"))
    return arrays


def _names(site: str, first: int, channel: np.ndarray) -> dict[str, pa.Array]:
    return {
        "unit": pa.array(first + channel, pa.int64()),
        "site": pa.array([site] * len(channel), pa.string()),
        "channel": pa.array(channel, pa.int64()),
    }
