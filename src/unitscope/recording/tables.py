"""From the state of a finished session to the tables and arrays of its record. What a reader may rely on is in
record.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from unitscope.anatomy.certificates import NAMES as CERTIFIED
from unitscope.durable import CHUNK, Pieces, write_arrays, write_table
from unitscope.facts import describe_files, write_facts
from unitscope.recording.center_means import mean_stimuli, reliability
from unitscope.recording.field_windows import EXACT
from unitscope.recording.map_statistics import REGISTERED
from unitscope.recording.position_means import WHERE, PositionSums
from unitscope.recording.responses import KINDS
from unitscope.recording.session import Session, save
from unitscope.recording.site_state import BLOCK, SiteState
from unitscope.recording.statistics import POINT, Extremes, bin_edges

if TYPE_CHECKING:
    from unitscope.stimuli.images import Images

Arrays = dict[str, tuple[np.ndarray | Pieces, tuple[str, ...]]]
"""Values and names of their axes."""


def write_record(folder: Path, session: Session, facts: dict[str, Any], images: pa.Table) -> None:
    """Leave the record, or of a shard the part that `merge` takes, in the folder: last what names all the rest."""
    unreadable = sum(bool(fact.error) for fact in session.statuses)
    facts = facts | {"stimuli": facts["stimuli"] | {"unreadable": unreadable}}
    write_table(folder / "images.parquet", images)
    if "shard" in facts:
        save(session, folder / "part.safetensors")
        names = ["part.safetensors"]
    else:
        with use_system_memory():
            write_results(folder, session)
        facts["complete"] = True
        names = ["units.parquet", "stimuli.parquet", "arrays.zarr"]
    write_facts(folder, facts | {"files": describe_files(folder, ["images.parquet", *names])})


@contextmanager
def use_system_memory() -> Iterator[None]:
    """While open, pyarrow allocates tables with the system's allocator, and keeps no pool of its own."""
    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)


def write_results(folder: Path, session: Session) -> None:
    """Write `units.parquet`, `stimuli.parquet` and `arrays.zarr`, each whole or not at all."""
    states = list(session.sites.values())
    firsts = np.cumsum([0, *(state.site.channels for state in states)]).tolist()
    write_table(folder / "units.parquet", pa.concat_tables(map(units_table, states, firsts)))
    write_table(
        folder / "stimuli.parquet", pa.concat_tables(stimuli_table(s, f) for s, f in zip(states, firsts, strict=False))
    )
    arrays = center_arrays(states) | position_arrays(states) | further_center_arrays(states)
    arrays |= histogram_arrays(states) | label_arrays(states) | map_arrays(states) | response_arrays(states)
    arrays |= registered_arrays(states)
    if session.certificate is not None:
        arrays |= {name: (getattr(session.certificate, name), ("unit",)) for name in CERTIFIED}
    if session.kernels is not None:
        arrays["kernels"] = (session.kernels, ("channel", "input", "row", "col"))
    write_arrays(folder / "arrays.zarr", arrays)


def images_table(session: Session, images: Images) -> pa.Table:
    """A row per image that was shown, or should have been."""
    first = session.first * BLOCK
    statuses = session.statuses
    items = images.items[first : first + len(statuses)]
    return pa.table(
        {
            "image": pa.array(np.arange(first, first + len(items)), pa.int64()),
            "uri": pa.array([item.uri for item in items], pa.string()),
            "label": pa.array([item.label for item in items], pa.string()),
            "photograph": pa.array([item.photograph for item in items], pa.string()),
            "status": pa.array(["unreadable" if each.error else "ok" for each in statuses], pa.string()),
            "error": pa.array([each.error or None for each in statuses], pa.string()),
            "digest": pa.array([each.digest or None for each in statuses], pa.string()),
            "bytes": pa.array([each.bytes for each in statuses], pa.int64()),
        }
    )


def units_table(state: SiteState, first: int) -> pa.Table:
    """A row per unit of a site. What was never seen has no extremes: null."""
    site, counts = state.site, state.statistics.counts
    peaks, means, never = state.statistics.peaks.total(), state.statistics.means.total(), counts.seen == 0
    fields = [site.field(channel) for channel in range(site.channels)]
    positions = np.maximum(counts.seen * site.lattice[0] * site.lattice[1], 1)
    return pa.table(
        {
            **_names(site.name, first, np.arange(site.channels)),
            "images": counts.seen,
            "peak_max": pa.array(counts.peak_max, mask=never),
            "trough_min": pa.array(counts.trough_min, mask=never),
            "peak_mean": pa.array(peaks.mean, mask=never),
            "peak_sd": pa.array(peaks.deviation(), mask=peaks.n < 2),
            "mean_response": pa.array(means.mean, mask=never),
            "mean_response_sd": pa.array(means.deviation(), mask=means.n < 2),
            "positive_images": counts.positive,
            "positive_positions_share": pa.array(counts.positive_positions / positions, mask=never),
            "inactive": pa.array(counts.positive == 0, mask=never),
            "not_finite_images": counts.not_finite,
            "field_height": pa.array([field.size[0] for field in fields], pa.int64()),
            "field_width": pa.array([field.size[1] for field in fields], pa.int64()),
        }
    )


def stimuli_table(state: SiteState, first: int) -> pa.Table:
    """A row per unit, pole and rank, sorted so.

    Where a site never answers below zero (behind a rectification), a response of zero prefers nothing: such rows are
    left out, so that a unit may have fewer than the asked-for preferred stimuli, or none (methods 2.5).
    """
    # Judged by the responses, not by the name of the operation: a sum of rectified values is never negative, either.
    rectified = bool((state.statistics.counts.trough_min >= 0).all())
    tables = []
    for kept, pole in ((state.statistics.highest, "preferred"), (state.statistics.lowest, "antipreferred")):
        held = kept.image >= 0
        if rectified and pole == "preferred":
            held &= kept.value > 0
        tables.append(_pole_table(state, first, kept, held, pole))
    # Descending: "preferred" comes before "antipreferred".
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


def center_arrays(states: list[SiteState]) -> Arrays:
    """The mean preferred stimuli of the center neurons, with the number of stimuli, the used size and the box that was
    averaged.
    """
    units = sum(state.site.channels for state in states)
    n, size, box = np.zeros(units, np.int64), np.zeros((units, 2), np.int32), np.zeros((units, 4), np.int32)
    for places, sums in places_of(states, "center"):
        n[places], size[places], box[places] = sums.n, sums.view.shape, sums.view.box
    return {
        "mean_stimulus_center": (pictures_of(states, "center", mean_stimuli), ("unit", "color", "height", "width")),
        "mean_stimulus_center_n": (n, ("unit",)),
        "mean_stimulus_center_size": (size, ("unit", "side")),
        "mean_stimulus_center_box": (box, ("unit", "edge")),
    }


def position_arrays(states: list[SiteState]) -> Arrays:
    """Where they were asked for, the mean preferred stimuli over best or all positions, with patches and used size."""
    arrays: Arrays = {}
    units = sum(state.site.channels for state in states)
    for where in WHERE:
        if where in states[0].settings.means:
            n, size = np.zeros(units, np.int64), np.zeros((units, 2), np.int32)
            for places, sums in places_of(states, where):
                n[places], size[places] = sums.patches, sums.scale.shape
            pictures = pictures_of(states, where, PositionSums.means)
            arrays |= {
                f"mean_stimulus_{where}": (pictures, ("unit", "color", "height", "width")),
                f"mean_stimulus_{where}_n": (n, ("unit",)),
                f"mean_stimulus_{where}_size": (size, ("unit", "side")),
            }
    return arrays


def pictures_of(states: list[SiteState], name: str, means: Callable[[Any], np.ndarray]) -> Pieces:
    """The means of the sums `name`, 64 x 64 pixels for every unit, a chunk at a time; NaN for units that have none."""
    units = sum(state.site.channels for state in states)
    shape = (units, states[0].settings.colors, EXACT, EXACT)
    return Pieces(shape, np.float32, chunks_of_pictures(states, name, means, shape[1:]))


def chunks_of_pictures(
    states: list[SiteState], name: str, means: Callable[[Any], np.ndarray], shape: tuple[int, ...]
) -> Iterator[np.ndarray]:
    first = 0
    for state in states:
        last = first + state.site.channels
        known = [
            (first + np.arange(last - first)[sums.channels], means(sums)) for sums in getattr(state.statistics, name)
        ]
        while first < last:
            # Pieces end where chunks of the array end, so that few chunks are written twice.
            end = min(last, (first // CHUNK + 1) * CHUNK)
            pictures = np.full((end - first, *shape), np.nan, dtype=np.float32)
            for places, of_places in known:
                here = (places >= first) & (places < end)
                pictures[places[here] - first] = of_places[here]
            yield pictures
            first = end


def further_center_arrays(states: list[SiteState]) -> Arrays:
    """Where they were asked for: full-size means, an array per site in the picture's own pixels, and reliabilities."""
    arrays: Arrays = {}
    if "full" in states[0].settings.means:
        for state in states:
            whole = np.full((state.site.channels, state.settings.colors, *state.site.picture), np.nan, np.float32)
            for sums in state.statistics.full:
                top, left, bottom, right = sums.view.box
                n = np.where(sums.n > 0, sums.n, np.nan)[:, None, None, None]
                whole[sums.channels, :, top:bottom, left:right] = sums.total / (255 * n)
            arrays[f"mean_stimulus_full/{state.site.name}"] = (whole, ("unit", "color", "height", "width"))
    if "halves" in states[0].settings.means:
        values = np.full(sum(state.site.channels for state in states), np.nan, dtype=np.float32)
        ensembles = [ensemble for state in states for ensemble in state.statistics.ensemble]
        pairs = zip(places_of(states, "center"), places_of(states, "even"), ensembles, strict=True)
        for (places, whole_sums), (_, even), ensemble in pairs:
            values[places] = reliability(whole_sums, even, ensemble)
        arrays["mean_stimulus_center_reliability"] = (values, ("unit",))
    return arrays


def places_of(states: list[SiteState], name: str) -> Iterator[tuple[np.ndarray, Any]]:
    """Each of the sums `name`, with the numbers of its units on the flat axis."""
    first = 0
    for state in states:
        for sums in getattr(state.statistics, name):
            yield first + np.arange(state.site.channels)[sums.channels], sums
        first += state.site.channels


def histogram_arrays(states: list[SiteState]) -> Arrays:
    """How many images had their peak, and their trough, in each of the fixed bins; the bins' inner edges."""
    counts = [
        np.concatenate([getattr(state.statistics, name).count for state in states])
        for name in ("peak_histogram", "trough_histogram")
    ]
    return {
        "histogram": (np.stack(counts, axis=1), ("unit", "pole", "bin")),
        "histogram_edges": (bin_edges(), ("edge_between_bins",)),
    }


def label_arrays(states: list[SiteState]) -> Arrays:
    """Per unit and label (in the order of record.json's settings): means of peaks, of troughs and of peaks above zero
    (those below count as zero), share of images with a positive response.

    NaN for a label without any readable image, and for a unit of which no sums are known (see Counts.unsummed).
    """
    kept = [(state.statistics.labels, state.statistics.counts) for state in states]
    sums = [(labels, (labels.n == 0)[:, None] | counts.unsummed()) for labels, counts in kept if labels is not None]
    if not sums:
        return {}
    images = sums[0][0].n
    # Labels without images become NaN below; the 1 only avoids a division by 0.
    n = np.maximum(images, 1)[:, None]

    def column(name: str, scale: float) -> tuple[np.ndarray, tuple[str, ...]]:
        values = [np.where(undefined, np.nan, getattr(labels, name) / (n * scale)) for labels, undefined in sums]
        return np.ascontiguousarray(np.concatenate(values, axis=1).T.astype(np.float32)), ("unit", "label")

    return {
        "label_images": (images, ("label",)),
        "label_peak_mean": column("peak", POINT),
        "label_trough_mean": column("trough", POINT),
        "label_rectified_mean": column("rectified", POINT),
        "label_positive_share": column("positive", 1),
    }


def response_arrays(states: list[SiteState]) -> Arrays:
    """Where they were asked for, peak, trough and mean of each unit's response to each image, in the images' order."""
    responses = [state.statistics.responses for state in states if state.statistics.responses is not None]
    if not responses:
        return {}
    units, images = sum(of_site.units for of_site in responses), len(responses[0].all(KINDS[0]))

    def of_kind(kind: str) -> Pieces:
        return Pieces((units, images), np.dtype(np.float32), (of_site.all(kind).T for of_site in responses))

    return {f"responses/{kind}": (of_kind(kind), ("unit", "image")) for kind in KINDS}


def registered_arrays(states: list[SiteState]) -> Arrays:
    """What further statistics (map_statistics.py) say of each unit."""
    return {
        name: (np.concatenate([REGISTERED[name].finish(state.statistics.further[name]) for state in states]), ("unit",))
        for name in states[0].statistics.further
    }


def map_arrays(states: list[SiteState]) -> Arrays:
    """The mean response at each lattice position, an array per site."""
    return {
        f"response_map/{state.site.name}": (
            state.statistics.response_map.mean(state.statistics.counts.unsummed()),
            ("unit", "row", "col"),
        )
        for state in states
    }


def _names(site: str, first: int, channel: np.ndarray) -> dict[str, pa.Array]:
    return {
        "unit": pa.array(first + channel, pa.int64()),
        "site": pa.array([site] * len(channel), pa.string()),
        "channel": pa.array(channel, pa.int64()),
    }
