"""What the parts of kobayashi2020 share: networks with their records, the paper's three layers, and what is found."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unitscope.analysis.channel_sharing import means_of
from unitscope.errors import BadInput
from unitscope.record import Record
from unitscope.report import Claim, Figure
from unitscope.stimuli.images import Images, choose_images

if TYPE_CHECKING:
    import matplotlib.figure
    import pandas

    from unitscope.networks import Network

Progress = Callable[[str, int, int], None]
"""Told what is done, how many, and of how many."""

PAPER_PLACES = (
    ("first max-pooling", 11, ("maxpool",)),
    ("layer 3", 27, ("layer1.0.add", "layer1.0.bn2")),
    ("layer 7", 59, ("layer1.2.add", "layer1.2.bn2")),
)
"""What the paper calls the three layers of its figures, the size of their fields in print, and their sites here."""

SHOWN_CHANNELS = 6
"""So many channels are shown in a figure."""

UNTRAINED = 3
"""So many untrained copies of each network are the baseline."""

AT_FIRST = 300
"""So many images are shown to untrained copies, and to all networks where responses along skips are compared."""


@dataclass(frozen=True)
class Study:
    """The networks at hand with their records, titles and places, and what is found: claims, figures, conclusions."""

    networks: list[Network]
    records: list[Record]
    titles: list[str]
    places: list[dict[str, str]]
    images: Images
    to: Path
    tell: Progress
    channels: tuple[int, ...] = ()
    "Those shown in figures; where none are asked for, a few that answer."
    claims: list[Claim] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    conclusions: list[str] = field(default_factory=list)

    @property
    def least(self) -> int:
        """A mean over fewer stimuli is not compared; a handful of images must do with less."""
        return 30 if len(self.images) >= AT_FIRST else 3

    def claim(self, what: str, paper: str, found: str, verdict: str, where: str) -> None:
        self.claims.append(Claim(what, paper, found, verdict, where))

    def keep(self, name: str, figure: matplotlib.figure.Figure, caption: str) -> None:
        folder = self.to / "figures"
        folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(folder / f"{name}.png", dpi=150)
        self.figures.append(Figure(f"figures/{name}.png", caption))

    def write(self, name: str, table: pandas.DataFrame) -> None:
        """A table beside the page, as CSV."""
        table.to_csv(self.to / f"{name}.csv", index=False, quoting=csv.QUOTE_MINIMAL)


def find_paper_places(record: Record) -> dict[str, str]:
    """The sites of a record that stand where the paper's three layers are."""
    found = {}
    for name, _, candidates in PAPER_PLACES:
        site = next((site for site in candidates if site in record.sites), None)
        pooling = next((site.name for site in record.sites.values() if site.operation == "max_pool2d"), None)
        site = pooling if site is None and name == PAPER_PLACES[0][0] else site
        if site is not None:
            found[name] = site
    return found


def channels_shown(record: Record, sites: Sequence[str], *, least: int, wanted: Sequence[int] = ()) -> list[int]:
    """The wanted channels, or a few, evenly spaced among those whose center neuron answers at all of these sites.

    Raises BadInput for a wanted channel that one of the sites lacks.
    """
    if not sites:
        return []
    count = min(record.sites[site].channels for site in sites)
    if beyond := [channel for channel in wanted if not 0 <= channel < count]:
        raise BadInput(f"there is no channel {beyond[0]} at {', '.join(sites)}; their channels are 0 to {count - 1}.")
    if wanted:
        return list(wanted)
    active = responding_channels(record, sites, least=least)
    return [
        active[i] for i in sorted({round(i) for i in np.linspace(0, len(active) - 1, min(SHOWN_CHANNELS, len(active)))})
    ]


def responding_channels(record: Record, sites: Sequence[str], *, least: int) -> list[int]:
    """The channels whose center neuron answers at least so many stimuli at all of these sites."""
    means = [means_of(record, site) for site in sites]
    if not sites or any(one is None for one in means):
        return []
    count = min(record.sites[site].channels for site in sites)
    return [c for c in range(count) if all(one is not None and one.n[c] >= least for one in means)]


def take_images(images: Images, most: int) -> Images:
    """So many of the images, evenly spaced."""
    if len(images) <= most:
        return images
    return choose_images(images, [images.items[i] for i in np.linspace(0, len(images) - 1, most).round().astype(int)])
