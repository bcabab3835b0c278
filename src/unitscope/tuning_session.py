"""The work behind `unitscope tuning`: gratings and colors are shown to every unit, and measures are made of them.

As in the laboratory, each unit sees its stimuli in its own receptive field. Problem: a record may have thousands of
units at a hundred sites, and a session has thousands of stimuli. Idea: the center neurons of many units see the same
box of the picture; these units are a group, and one session serves all of them, on a crop around the box.

    groups of units that see one box
      show_group     first part, the same for all units (gratings, colors)  ->  best grating of each unit
                     second part, around the best gratings (size, contrast, plaids)
      keep_session   tuning/box-.../session.json, stimuli.parquet, responses-N.parquet
    measure_tuning   measures/orientation.parquet, color.parquet, natural.parquet
    show_untrained   the same sessions with untrained networks: tuning/null-orientation.parquet, null-color.parquet
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unitscope.analysis.color_table import color, color_table
from unitscope.analysis.measures import write_measures
from unitscope.analysis.natural_indices import natural
from unitscope.analysis.orientation import orientation, orientation_table
from unitscope.analysis.tuning_curves import SESSION, Session
from unitscope.anatomy.computation import identity_of
from unitscope.anatomy.sites import sites as sites_of
from unitscope.durable import lock_folder, read_json, read_table, replace_file, write_table
from unitscope.errors import BadInput, Failure, few
from unitscope.facts import fault_of
from unitscope.network_facts import difference
from unitscope.random_copies import untrained
from unitscope.record import Record, open_record
from unitscope.recording.electrode import choose
from unitscope.recording.natural_variants import asked_of, keep_natural, show_natural
from unitscope.recording.survey import survey
from unitscope.recording.tuning_responses import Group, Responses, crop_of, groups_of, keep_session, present
from unitscope.stimuli.batteries import first_part, full_pictures, second_part
from unitscope.stimuli.color import CONTRAST
from unitscope.stimuli.drawn import drawn_images
from unitscope.stimuli.gratings import StimulusSet

if TYPE_CHECKING:
    import pandas

    from unitscope.networks import Network
    from unitscope.vocabulary import Site

LARGEST = 64
"""Sites whose fields are larger, in pixels, are shown gratings only where they are named."""

DEFINITIONS = 2
"""Raised with each change of what measures of tuning mean: of untrained networks measures are kept, not responses."""

Progress = Callable[[str, int, int], None]
"""Called with a label, how many stimuli were shown so far, and how many there are."""


@contextmanager
def keep_warning_filters() -> Iterator[None]:
    """Leave the filters of warnings as they were: modules that are imported on the way change them."""
    with warnings.catch_warnings():
        yield


@keep_warning_filters()
def tuning(
    network: Network,
    record: Record | str | Path,
    *,
    sites: str | Iterable[str] | None = None,
    contrast: float = 1.0,
    color_contrast: float = CONTRAST,
    null: int = 0,
    patches: int = 0,
    progress: Progress | None = None,
) -> dict[str, pandas.DataFrame]:
    """Show gratings, patches and colors to the units of a record, and derive the measures "orientation" and "color".

    Every stimulus is shown once to all units whose center neurons see the same box of the picture, on the smallest crop
    on which they respond as on the whole picture. Responses are kept in the record's folder `tuning`, measures in
    `measures`. Sessions that are there already are not repeated.

    Args:
        network: it is left as it was. A network without color has no color measures.
        record: a record or its folder. Where there is no record yet, one is made of a short session of full gratings
            and colors.
        sites: names or globs of the record's sites; by default all with fields of up to 64 pixels.
        contrast: of gray gratings, in pixel values around gray 0.5.
        color_contrast: the pooled cone contrast of colored stimuli.
        null: so many untrained networks of the same shape go through the same session; their measures, with a column
            `seed`, are in `tuning/null-orientation.parquet` and `tuning/null-color.parquet`.
        patches: so many of each unit's preferred patches of photographs are shown again in gray, turned and mirrored,
            for the measures "natural".
        progress: called as progress(what, done, all).

    Returns:
        The tables of measures by name.

    Raises:
        BadInput: the record does not hold a site, a site cannot be stimulated, or a contrast is out of gamut.
        Failure: the record is another network's.

    Example:
        >>> tables = unitscope.tuning(network, record, sites="maxpool")
        >>> sorted(tables)
        ['color', 'orientation']
        >>> len(tables["orientation"])
        4
    """
    record = record if isinstance(record, Record) else record_at(network, Path(record), sites)
    identity = identity_of(network)
    refuse_other_network(network, record, identity)
    chosen, left = sites_to_tune(network, record, sites)
    groups, refused = groups_of(chosen)
    # Sites that were named must all be possible. Of the default ones, those that are not are left out.
    if (sites is not None and refused) or not groups:
        raise BadInput(
            "; ".join(f"{name} cannot be shown gratings: {why}" for name, why in {**refused, **left}.items())
        )
    settings = {"contrast": contrast, "color_contrast": color_contrast, "network": identity}
    for number, group in enumerate(groups):
        label = f"{few(group.channels, most=1)} ({number + 1} of {len(groups)})"
        folder = record.path / "tuning" / folder_name(group)
        if not is_kept(folder, group, settings):
            stimuli, responses = show_group(
                network, chosen, group, contrast=contrast, color_contrast=color_contrast, progress=progress, label=label
            )
            facts = {"channels": {name: c.tolist() for name, c in group.channels.items()},
                     "field": list(group.field), "box": list(group.box), **settings}  # fmt: skip
            keep_session(folder, stimuli, responses, facts)
        if patches and network.inputs == 3:
            show_patches(network, record, chosen, group, patches, label=f"patches: {label}", progress=progress)
    if null:
        show_untrained(network, record, chosen, groups, null, settings, progress=progress)
    return measure_tuning(record)


def record_at(network: Network, path: Path, sites: str | Iterable[str] | None) -> Record:
    """The record at `path`; a new one, of full gratings and colors, where there is none."""
    # An interrupted survey has a folder `parts`; the call below resumes it.
    if path.exists() and (not path.is_dir() or (any(path.iterdir()) and not (path / "parts").exists())):
        return open_record(path)
    stimuli = drawn_images(full_pictures(network.size, color=network.inputs == 3), network.size)
    return survey(network, stimuli, to=path, sites=sites, resize=network.size)


def show_patches(
    network: Network,
    record: Record,
    sites: dict[str, Site],
    group: Group,
    count: int,
    *,
    label: str,
    progress: Progress | None = None,
) -> None:
    """Show the preferred patches of a group's units again, changed; not where so many were shown already."""
    path = record.path / "tuning" / folder_name(group) / "natural.parquet"
    asked = {"count": count, "channels": {name: c.tolist() for name, c in group.channels.items()}}
    if asked_of(path) == asked:
        return
    tell = None if progress is None else (lambda done, total: progress(label, done, total))
    crop = crop_of(network, sites, group)
    answers = show_natural(network, record, sites, group, crop, count=count, progress=tell)
    with lock_folder(record.path):
        keep_natural(path, answers, asked)


def show_untrained(
    network: Network,
    record: Record,
    sites: dict[str, Site],
    groups: list[Group],
    count: int,
    settings: dict[str, Any],
    *,
    progress: Progress | None = None,
) -> None:
    """The measures of untrained networks of the same shape, with a column `seed`; seeds that are there are kept.

    Tables of other settings stay until there are as many seeds of these, which are gathered beside them.
    """
    names = [name for name in MAKERS if name != "color" or network.inputs == 3]
    nulls = [Null(record, name, {**settings, "sites": sorted(sites), "definitions": DEFINITIONS}) for name in names]
    # A seed counts only if every table has it: a run may have been killed between two tables.
    for seed in sorted(set(range(count)) - set[int].intersection(*(null.seeds() for null in nulls))):
        label = f"untrained {seed + 1} of {count}"
        made = measure_untrained(network, sites, groups, settings, seed=seed, progress=progress, label=label)
        with lock_folder(record.path):
            for null in nulls:
                null.add(made[null.name])
    with lock_folder(record.path):
        for null in nulls:
            null.replace_old_table()


@dataclass(frozen=True)
class Null:
    """The table `tuning/null-NAME.parquet` of untrained networks. It says itself of which settings it is, so that it
    is never taken for that of others; while one of others is there, the new one is `null-NAME.next.parquet`.
    """

    record: Record
    name: str
    asked: dict[str, Any]

    @property
    def path(self) -> Path:
        return self.record.path / "tuning" / f"null-{self.name}.parquet"

    @property
    def place(self) -> Path:
        """Where these settings have their table."""
        return self.path.with_suffix(".next.parquet") if self.path.exists() and not self.holds(self.path) else self.path

    def holds(self, path: Path) -> bool:
        return bool(asked_of(path) == self.asked)

    def table(self) -> pandas.DataFrame | None:
        return read_table(self.place).to_pandas() if self.holds(self.place) else None

    def seeds(self) -> set[int]:
        table = self.table()
        return set() if table is None else set(table["seed"])

    def add(self, rows: pandas.DataFrame) -> None:
        """Add the rows of one seed, or put them in the place of those that are there."""
        import pandas
        import pyarrow

        if (there := self.table()) is not None:
            others = there[~there["seed"].isin(set(rows["seed"]))]
            rows = pandas.concat([others, rows]).sort_values("seed", kind="stable")
        made = pyarrow.Table.from_pandas(rows, preserve_index=False)
        metadata = {**(made.schema.metadata or {}), b"asked": json.dumps(self.asked).encode()}
        write_table(self.place, made.replace_schema_metadata(metadata))

    def replace_old_table(self) -> None:
        """Let the new table take the name of the old one."""
        if self.place != self.path and self.holds(self.place):
            replace_file(self.place, self.path)


MAKERS = {"orientation": orientation_table, "color": color_table}


def measure_untrained(
    network: Network,
    sites: dict[str, Site],
    groups: list[Group],
    settings: dict[str, Any],
    *,
    seed: int,
    progress: Progress | None = None,
    label: str = "",
) -> dict[str, pandas.DataFrame]:
    """The measures of one untrained network."""
    blank = untrained(network, seed=seed)
    contrasts = {name: settings[name] for name in ("contrast", "color_contrast")}
    found: list[Session] = []
    for group in groups:
        found += sessions_in_memory(
            *show_group(blank, sites, group, progress=progress, label=label, **contrasts), sites, group
        )
    made = {"orientation": orientation_table(found)}
    if network.inputs == 3:
        made["color"] = color_table(found)
    # An untrained network's units have no numbers in this record.
    return {name: table.assign(seed=seed).drop(columns="unit") for name, table in made.items()}


def measure_tuning(record: Record) -> dict[str, pandas.DataFrame]:
    """The measures of all sessions that a record holds, written to it."""
    made = {"orientation": orientation(record), "color": color(record), "natural": natural(record)}
    found = {name: table for name, table in made.items() if table is not None}
    for name, table in found.items():
        write_measures(record, name, table)
    return found


def sites_to_tune(
    network: Network, record: Record, sites: str | Iterable[str] | None
) -> tuple[dict[str, Site], dict[str, str]]:
    """The sites to stimulate, and why others of the record are left out."""
    known = {name: site for name, site in sites_of(network).items() if name in record.sites}
    if sites is not None:
        return choose(known, [sites] if isinstance(sites, str) else sites), {}
    left = {}
    for name, site in known.items():
        if max(max(one.size) for one in site.fields) > LARGEST:
            left[name] = f"its field of {site.field()} pixels is large; name it with sites="
    return {name: site for name, site in known.items() if name not in left}, left


def refuse_other_network(network: Network, record: Record, identity: dict[str, str]) -> None:
    """Raise Failure where the record is of another network, or of other weights."""
    there = record.facts["network"]
    other = difference(there, identity)
    if other:
        raise Failure(
            f"{record.path} is a record of {there['name']} (weights {there['fingerprint'][:6]}…), and this network is "
            f"{network.name} (weights {network.fingerprint[:6]}…), with other {other}. Use the network that was "
            "surveyed."
        )


def show_group(
    network: Network,
    sites: dict[str, Site],
    group: Group,
    *,
    contrast: float = 1.0,
    color_contrast: float = CONTRAST,
    color: bool = True,
    progress: Progress | None = None,
    label: str = "",
) -> tuple[StimulusSet, Responses]:
    """Both parts of a session: what is the same for all units, and the series around their best gratings."""
    crop = crop_of(network, sites, group)
    first = first_part(
        group.field, contrast=contrast, color_contrast=color_contrast, color=color and network.inputs == 3
    )
    shown = 0

    def tell(count: int) -> None:
        nonlocal shown
        shown += count
        if progress is not None:
            progress(label, shown, total)

    total = len(first)
    responses = present(network, first, sites, group, crop, progress=tell)
    pairs = best_gratings(first, responses, sites, group)
    second = second_part(group.field, [o for o, _ in pairs], [f for _, f in pairs], contrast=contrast)
    total += len(second)
    more = present(network, second, sites, group, crop, progress=tell)
    return first + second, {name: np.concatenate([responses[name], more[name]]) for name in responses}


def best_gratings(
    stimuli: StimulusSet, responses: Responses, sites: dict[str, Site], group: Group
) -> list[tuple[float, float]]:
    """The orientations and frequencies that are the best of any unit."""
    pairs: set[tuple[float, float]] = set()
    for session in sessions_in_memory(stimuli, responses, sites, group):
        # A set: units that share a best grating share the series around it.
        pairs |= {(float(o), float(f)) for o, f in zip(*session.best_pairs, strict=True)}
    return sorted(pairs)


def sessions_in_memory(
    stimuli: StimulusSet, responses: Responses, sites: dict[str, Site], group: Group
) -> list[Session]:
    """Sessions as a record would give them, but for the units' numbers, which are those of the channels."""
    return [
        Session(
            name, group.channels[name], group.channels[name], stimuli.columns, values,
            group.field, sites[name].preactivation,
        )
        for name, values in responses.items()
    ]  # fmt: skip


def folder_name(group: Group) -> str:
    """A folder's name for a group: its box."""
    return "box-" + "_".join(str(side) for side in group.box)


def is_kept(folder: Path, group: Group, settings: dict[str, Any]) -> bool:
    """Whether a session of this group, with these settings, is there already."""
    try:
        facts = read_json(folder / "session.json")
    except BadInput:
        return False
    if fault_of(facts, SESSION):
        return False
    same = all(facts.get(name) == value for name, value in settings.items())
    return same and facts["channels"] == {name: c.tolist() for name, c in group.channels.items()}
