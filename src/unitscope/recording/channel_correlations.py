"""Correlations between the channels of the sites along skips, and how much of each sum came by the skip.

For two sums along a stage, one after the other:

    sum of a block --+------------- skip -------------+-- sum of the next block
                     +-- conv - norm - relu - conv ---+
                                 branch

    similarity_through_block    correlation of channel c of the two sums
    similarity_of_branch        correlation of channel c of branch and skip
    skip_fraction               E|skip| / (E|skip| + E|branch|) of channel c
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unitscope.anatomy.site_graph import Stream, graph_of, streams
from unitscope.anatomy.sites import sites as sites_of
from unitscope.durable import lock_folder, write_arrays, write_json, write_table
from unitscope.errors import BadInput
from unitscope.random_copies import untrained
from unitscope.record import Record, open_record
from unitscope.recording.batches import Progress
from unitscope.recording.covariance import JointMoments, joint_moments
from unitscope.recording.filter_tables import refuse_other_weights
from unitscope.recording.source_images import originals_of, presentation_of
from unitscope.stimuli.images import Images, Source
from unitscope.vocabulary import resolve_sites

if TYPE_CHECKING:
    import pandas

    from unitscope.networks import Network


def sharing(
    network: Network,
    images: Source | None = None,
    *,
    record: Record | str | Path,
    sites: str | Iterable[str] | None = None,
    baselines: int = 0,
    batch: int = 32,
    workers: int | None = None,
    progress: Progress | None = None,
) -> pandas.DataFrame:
    """Show images to the network, and keep in the record how its channels respond together.

    Kept for the sites along each stage's skips, or for the sites that `sites` names: the correlation of each two
    channels of each two sites over images and positions; linear CKA; the correlation of each branch with its skip; and
    the skip fraction of each channel, E|skip| / (E|skip| + E|branch|).

    Args:
        network: it is left as it was.
        images: by default the record's own.
        record: in which `sharing.json` and `sharing.zarr` are kept.
        sites: names or globs.
        baselines: so many untrained copies of the network are shown the same.
        batch: so many images at once.
        workers: processes that read images.
        progress: called as progress(done, all).

    Returns:
        `measures/sharing.parquet`: a row for each unit of the record at a sum.

    Raises:
        BadInput: the network has no skips and `sites` names none, or the record is of other weights.

    Source: after longon2024 (mean over images and positions).

    Example:
        >>> table = unitscope.sharing(network, record=record)
        >>> "skip_fraction" in table
        True
    """
    opened = record if isinstance(record, Record) else open_record(record)
    refuse_other_weights(opened, network)
    stages = stages_of(network, sites)
    shown = _images(opened, images)
    resize = presentation_of(opened).resize
    pairs: list[dict[str, Any]] = []
    arrays: dict[str, tuple[np.ndarray, tuple[str, ...]]] = {}
    units: list[dict[str, Any]] = []
    total = len(shown) * (1 + baselines)
    for turn, seed in enumerate((None, *range(baselines))):
        one = network if seed is None else untrained(network, seed=seed)
        report = None if progress is None else partial(_report_progress, progress, turn * len(shown), total)
        groups = [group for stage in stages for group in _groups(stage)]
        # In the order of `groups`: of each stage the sites along it, and then each of its skips.
        joints = iter(joint_moments(one, shown, groups, resize=resize, batch=batch, workers=workers, progress=report))
        for stage in stages:
            along, *skips = (next(joints) for _ in _groups(stage))
            _note_pairs(stage, along, skips, seed, pairs, arrays)
            units += _units(stage, along, skips, seed)
    facts = {"pairs": pairs, "images": {"fingerprint": shown.fingerprint, "count": len(shown)}, "units": units}
    with lock_folder(opened.path):
        write_arrays(opened.path / "sharing.zarr", arrays, attributes={"pairs": pairs})
        write_json(opened.path / "sharing.json", facts, indent=None)
        return _measures(opened, [unit for unit in units if unit["seed"] is None])


def _report_progress(progress: Progress, before: int, total: int, done: int, _all: int) -> None:
    progress(before + done, total)


def stages_of(network: Network, sites: str | Iterable[str] | None) -> list[Stream]:
    """The streams along skips or, of named sites, those of equal channels and lattice together. Raises BadInput."""
    if sites is None:
        found = streams(graph_of(network))
        if not found:
            raise BadInput(
                f"{network.name} has no skips. Name the sites to compare, for instance those of a residual network: "
                "sites=['maxpool', 'layer1.*.relu_1'], or --sites maxpool 'layer1.*.relu_1'."
            )
        return found
    everything = sites_of(network)
    groups: dict[tuple[Any, ...], list[str]] = {}
    for glob in [sites] if isinstance(sites, str) else sites:
        for site in resolve_sites(everything, glob).values():
            own = groups.setdefault((site.channels, site.lattice), [])
            own += [] if site.name in own else [site.name]
    order = list(everything)
    return [Stream(tuple(sorted(names, key=order.index)), ()) for names in groups.values()]


def _groups(stage: Stream) -> list[list[str]]:
    """The groups of sites whose joint moments are taken: the sites of a stage, and the two terms of each of its sums.

    One group of everything would cost many times as much, for pairs of sites that nobody compares.
    """
    return [list(stage.sites), *([skip.identity, skip.branch] for skip in stage.skips)]


def _images(record: Record, images: Source | None) -> Images:
    from unitscope.stimuli.images import open_images

    return originals_of(record).images if images is None else open_images(images)


def _note_pairs(
    stage: Stream,
    along: JointMoments,
    skips: list[JointMoments],
    seed: int | None,
    pairs: list[dict[str, Any]],
    arrays: dict[str, tuple[np.ndarray, tuple[str, ...]]],
) -> None:
    wanted = [("response", along, first, second) for first, second in combinations(stage.sites, 2)]
    wanted += [("branch", own, skip.identity, skip.branch) for skip, own in zip(stage.skips, skips, strict=True)]
    for what, joint, first, second in wanted:
        number, cka = len(pairs), joint.alignment(first, second)
        arrays[f"similarity/{number}"] = (joint.correlation(first, second).astype(np.float32), ("unit", "other"))
        about = {"what": what, "first": first, "second": second, "seed": seed, "number": number}
        pairs.append({**about, "cka": cka if np.isfinite(cka) else None})


def _units(stage: Stream, along: JointMoments, skips: list[JointMoments], seed: int | None) -> list[dict[str, Any]]:
    """For each skip three numbers per channel, [unit] each: the skip fraction, and how similar the sum and the branch
    are to what came by the skip.
    """
    found = []
    for skip, joint in zip(stage.skips, skips, strict=True):
        kept, added = joint.mean_magnitude(skip.identity), joint.mean_magnitude(skip.branch)
        with np.errstate(invalid="ignore", divide="ignore"):
            fraction = kept / (kept + added)
        branch = np.diag(joint.correlation(skip.identity, skip.branch))
        after = next((b for a, b in zip(stage.sites, stage.sites[1:], strict=False) if a == skip.identity), None)
        through = np.full(len(fraction), np.nan)
        if after is not None:
            through = np.diag(along.correlation(skip.identity, after))
        values = {"skip_fraction": fraction, "through": through, "branch": branch}
        found.append({"site": skip.site, "seed": seed} | {name: _to_list(value) for name, value in values.items()})
    return found


def _to_list(values: np.ndarray) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def _measures(record: Record, units: list[dict[str, Any]]) -> pandas.DataFrame:
    """A row per unit of the record at a sum, written as `measures/sharing.parquet`."""
    import pandas
    import pyarrow

    rows = []
    for one in units:
        if one["site"] in record.sites:
            site = record.sites[one["site"]]
            numbers = zip(one["skip_fraction"], one["through"], one["branch"], strict=True)
            rows += [(site.first_unit + channel, site.name, channel, *each) for channel, each in enumerate(numbers)]
    columns = ["unit", "site", "channel", "skip_fraction", "similarity_through_block", "similarity_of_branch"]
    table = pandas.DataFrame(rows, columns=columns)
    table = table.astype(dict.fromkeys(columns[3:], "float64"))
    if len(table):
        made = pyarrow.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None)
        write_table(record.path / "measures" / "sharing.parquet", made)
    return table
