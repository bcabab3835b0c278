"""What is gathered of each record on its way into an atlas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unitscope.atlas_pages import figures, photographs, table_columns
from unitscope.atlas_pages.data_scripts import slugs
from unitscope.atlas_pages.photographs import Album
from unitscope.record import Record, SiteFacts
from unitscope.vocabulary import Size

if TYPE_CHECKING:
    import pandas as pd

POLES = ("preferred", "antipreferred")

PATCH_TILE = 72
"""The longest side of a patch in a sheet's sprite, pixels."""

STRIP_PATCHES = {1: 14, 2: 8}
"""How many patches of each site stand on the first page, by the number of records; 6 where there are more records."""


@dataclass
class RecordView:
    """One record on its way into the atlas: where its pages go, and what has been gathered for them."""

    record: Record
    slug: str
    title: str
    album: Album
    units: pd.DataFrame
    about: list[dict[str, str]]
    stimuli: pd.DataFrame
    site_slugs: dict[str, str]
    strip: int
    patches: dict[tuple[Any, ...], np.ndarray] = field(default_factory=dict)
    mean_photograph: np.ndarray | None = None
    photographs: int = 0

    def units_of(self, site: SiteFacts) -> pd.DataFrame:
        return self.units.loc[site.first_unit : site.first_unit + site.channels - 1]

    def inactive(self, site: SiteFacts | None = None) -> list[bool]:
        """Which units, of one site or of all, never responded above 0. What was never seen is not called inactive."""
        units = self.units if site is None else self.units_of(site)
        return [dead is True or dead == 1 for dead in units["inactive"].tolist()]

    def tile(self, site: SiteFacts) -> Size:
        """Height and width of a site's patches in its sheets."""
        return figures.tile_size(site.field.size, self.album.picture, self.album.scale, longest=PATCH_TILE)

    def sharp(self, site: SiteFacts) -> bool:
        """Whether a site's patches are so small that they are shown pixel by pixel."""
        return max(site.field.size) * self.album.scale <= figures.SHARP_PIXELS

    def teasers(self, site: SiteFacts) -> list[int]:
        """The channels of a strip, evenly spaced among the active ones."""
        active = [channel for channel, dead in enumerate(self.inactive(site)) if not dead] or list(range(site.channels))
        places = np.unique(np.linspace(0, len(active) - 1, min(self.strip, len(active))).round().astype(int))
        return [active[place] for place in places]


def view_records(records: Sequence[Record], folder: Path) -> list[RecordView]:
    titles = _titles(records)
    names = slugs(titles)
    views = []
    for record, title in zip(records, titles, strict=True):
        units, about = table_columns.describe_columns(record.path, record.units())
        stimuli = record.stimuli().sort_values(["unit", "pole", "rank"], kind="stable")
        album = photographs.open_album(record, folder / "photographs" / _album_name(record))
        views.append(
            RecordView(
                record,
                names[title],
                title,
                album,
                units,
                about,
                stimuli,
                slugs(record.sites),
                STRIP_PATCHES.get(len(records), 6),
            )
        )
    return views


def _titles(records: Sequence[Record]) -> list[str]:
    """Names of the networks; where two are called alike, with the record's folder and, if need be, a number."""
    names = [record.facts["network"]["name"].rpartition(":")[2] for record in records]
    named = [f"{n} ({r.path.name})" if names.count(n) > 1 else n for n, r in zip(names, records, strict=True)]
    return [f"{n} {named[: i + 1].count(n)}" if named.count(n) > 1 else n for i, n in enumerate(named)]


def _album_name(record: Record) -> str:
    """Records of the same stimuli, shown at the same size, share their photographs."""
    stimuli = record.facts["stimuli"]
    height, width = stimuli["size"]
    resize = stimuli.get("resize")
    shown = "x".join(str(side) for side in (resize if isinstance(resize, list) else [resize]))
    return slugs([f"{stimuli['fingerprint'][:12]}-{height}x{width}-{shown}"]).popitem()[1]
