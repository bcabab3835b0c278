"""Tuning sessions: parametric stimuli are shown to the center neurons of a network's sites, and responses kept.

All units whose center neurons see the same box of the picture, whatever their site, share one set of stimuli; each is
shown once, on an aligned crop, and the pass ends at the last site that is read.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unitscope.durable import lock_folder, read_json, whole_folder, write_json, write_table
from unitscope.errors import BadInput
from unitscope.recording.aligned_crops import Crop, aligned_crop, center_responses
from unitscope.stimuli.batteries import SMALLEST_FIELD
from unitscope.stimuli.gratings import StimulusSet, draw_stimulus
from unitscope.vocabulary import Box, Size

if TYPE_CHECKING:
    from unitscope.networks import Network
    from unitscope.vocabulary import Site

PIXELS = 1 << 19
"""How many pixels the pictures have that are shown at once: about those of 10 pictures of 224 x 224."""

Responses = dict[str, np.ndarray]
"""By site: float32 [stimulus unit]."""


@dataclass(frozen=True)
class Group:
    """Units whose center neurons see the same `box` of the picture: their channels, by site."""

    box: Box
    picture: Size
    channels: Mapping[str, np.ndarray]

    @property
    def seen(self) -> Box:
        """The part of the box that lies on the picture: stimuli are centered on it, and sized by it."""
        return self.box.clip(self.picture)

    @property
    def field(self) -> Size:
        return self.seen.height, self.seen.width


def groups_of(sites: Mapping[str, Site]) -> tuple[list[Group], dict[str, str]]:
    """The units of the sites in groups of equal fields, and for sites that cannot be stimulated the reason."""
    found: dict[Box, dict[str, list[int]]] = {}
    refused: dict[str, str] = {}
    picture = (0, 0)
    for site in sites.values():
        picture = site.picture
        if (reason := refusal(site)) is not None:
            refused[site.name] = reason
            continue
        for number in range(len(site.fields)):
            channels = [c for c in range(site.channels) if (site.groups[c] if site.groups else 0) == number]
            box = site.box(*site.center, channel=channels[0])
            found.setdefault(box, {}).setdefault(site.name, []).extend(channels)
    groups = [
        Group(box, picture, {name: np.array(sorted(channels)) for name, channels in members.items()})
        for box, members in found.items()
    ]
    return groups, refused


def refusal(site: Site) -> str | None:
    """Why the neurons of a site cannot be shown gratings in their field, or None."""
    field = site.field()
    if field.status == "unknown":
        return f"its field is not known ({field.cause})" if field.cause else "its field is not known"
    seen = site.box(*site.center).clip(site.picture)
    if min(seen.height, seen.width) < SMALLEST_FIELD:
        return (
            f"its field of {seen.height} x {seen.width} pixels holds less than a cycle of the finest grating "
            f"({SMALLEST_FIELD} pixels)"
        )
    return None


def crop_of(network: Network, sites: Mapping[str, Site], group: Group) -> Crop:
    named = {name: sites[name] for name in group.channels}
    return aligned_crop(network, named, group.seen, channels=group.channels)


def present(
    network: Network,
    stimuli: StimulusSet,
    sites: Mapping[str, Site],
    group: Group,
    crop: Crop,
    *,
    progress: Callable[[int], None] | None = None,
) -> Responses:
    """Show each stimulus once on the crop, and read the units of the group: {site: float32 [stimulus unit]}."""
    named = {name: sites[name] for name in group.channels}
    batch = max(1, PIXELS // (crop.size[0] * crop.size[1]))
    found: dict[str, list[np.ndarray]] = {name: [] for name in named}
    for start in range(0, len(stimuli), batch):
        part = stimuli.take(slice(start, start + batch))
        pictures = draw_stimulus(part, crop.size, center=crop.within(group.seen), device=network.device)
        # A network of one color is shown gray stimuli only, whose three colors are equal.
        pictures = pictures[:, :1] if network.inputs == 1 else pictures
        for name, value in center_responses(network, pictures, named, crop).items():
            found[name].append(value.cpu().numpy()[:, group.channels[name]])
        if progress is not None:
            progress(len(part))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def keep_session(folder: Path, stimuli: StimulusSet, responses: Responses, facts: Mapping[str, Any]) -> None:
    """Write one session in place of the one that was there: `stimuli.parquet`, `responses-NUMBER.parquet` for each
    site, `session.json`. The answers to patches, which do not depend on gratings, stay.
    """
    import pyarrow

    columns = {name: pyarrow.array(values.tolist()) for name, values in stimuli.columns.items()}
    channels: dict[str, list[int]] = facts["channels"]
    with lock_folder(folder.parents[1]), whole_folder(folder) as new:
        write_table(new / "stimuli.parquet", pyarrow.table(columns))
        for number, (name, values) in enumerate(responses.items()):
            units = {str(channel): values[:, place] for place, channel in enumerate(channels[name])}
            write_table(new / f"responses-{number}.parquet", pyarrow.table(units))
        write_json(new / "session.json", {**facts, "sites": list(responses)})
        if _is_of(folder, facts["network"]) and (folder / "natural.parquet").exists():
            shutil.copyfile(folder / "natural.parquet", new / "natural.parquet")


def _is_of(folder: Path, network: Any) -> bool:
    """Whether a session that is there is of this network."""
    try:
        facts = read_json(folder / "session.json")
    except BadInput:
        return False
    return isinstance(facts, dict) and facts.get("network") == network
