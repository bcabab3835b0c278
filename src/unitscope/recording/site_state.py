"""What is known of a site's units in the course of a survey: all statistics of a site, in one object.

SiteStatistics   the statistics by name; as a whole they are merged, saved and restored like one of them
SiteState        a site, its settings and its statistics; makes the accumulators that read the next block
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch

from unitscope.recording.acceleration import new_accumulator
from unitscope.recording.accumulator import Accumulator, Block
from unitscope.recording.center_means import CenterSums, EnsembleSums, center_sums
from unitscope.recording.field_windows import FieldWindow
from unitscope.recording.map_statistics import REGISTERED
from unitscope.recording.position_means import PositionSums, position_sums
from unitscope.recording.responses import KeptResponses
from unitscope.recording.statistics import Counts, Extremes, Histogram, LabelSums, Ladder, ResponseMap, Statistic
from unitscope.vocabulary import Site

BLOCK = 256
"""Stimuli in a block: the unit in which a session is shown, summed and saved."""

MEANS = ("best", "all", "full", "halves")
"""Means that are kept on request: over positions, of fields in full size, and of half the images."""


@dataclass(frozen=True)
class Settings:
    """What is kept: `top` responses per pole, at most `per_image` of one image, sums for each of `labels`, pictures
    of `colors`; with `responses` every unit's answer to every image.
    """

    top: int
    per_image: int
    labels: tuple[str, ...]
    colors: int
    means: tuple[str, ...] = ()
    responses: bool = False


@dataclass
class SiteStatistics:
    """All statistics of a site. A list has one for each field that occurs at the site."""

    counts: Counts
    highest: Extremes
    lowest: Extremes
    peaks: Ladder
    means: Ladder
    peak_histogram: Histogram
    trough_histogram: Histogram
    response_map: ResponseMap
    labels: LabelSums | None
    responses: KeptResponses | None
    center: list[CenterSums]
    full: list[CenterSums]
    even: list[CenterSums]
    ensemble: list[EnsembleSums]
    best: list[PositionSums]
    all: list[PositionSums]
    further: dict[str, Statistic] = field(default_factory=dict)
    """Those of map_statistics.py."""

    @classmethod
    def empty(cls, site: Site, settings: Settings) -> SiteStatistics:
        units, colors = site.channels, settings.colors
        # Only even images are summed: the odd half is the whole less the even half (center_means.reliability).
        even = center_sums(site, colors=colors, every=2) if "halves" in settings.means else []
        return cls(
            counts=Counts.empty(units),
            highest=Extremes.empty(units, k=settings.top, sign=1),
            lowest=Extremes.empty(units, k=settings.top, sign=-1),
            peaks=Ladder("peak"),
            means=Ladder("mean"),
            peak_histogram=Histogram.empty(units, of="peak"),
            trough_histogram=Histogram.empty(units, of="trough"),
            response_map=ResponseMap.empty(units, site.lattice),
            labels=LabelSums.empty(units, labels=len(settings.labels)) if settings.labels else None,
            responses=KeptResponses(units) if settings.responses else None,
            center=center_sums(site, colors=colors),
            full=center_sums(site, colors=colors, full=True) if "full" in settings.means else [],
            even=even,
            ensemble=[EnsembleSums.empty(sums.view, colors=colors) for sums in even],
            best=position_sums(site, "best", colors=colors) if "best" in settings.means else [],
            all=position_sums(site, "all", colors=colors) if "all" in settings.means else [],
            further={name: statistic.begin(site) for name, statistic in REGISTERED.items()},
        )

    def named(self) -> Iterator[tuple[str, Any]]:
        """Each statistic with its name in a part: "counts", ..., "center_0", "center_1", ..."""
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, list):
                yield from ((f"{each.name}_{number}", one) for number, one in enumerate(value))
            elif isinstance(value, dict):
                yield from value.items()
            elif value is not None:
                yield each.name, value

    def merge(self, other: SiteStatistics) -> SiteStatistics:
        """Those of both, of which `other` has the later blocks."""
        return SiteStatistics(**{each.name: merge_any(getattr(self, each.name), getattr(other, each.name))
                                 for each in fields(self)})  # fmt: skip


def merge_any(one: Any, other: Any) -> Any:
    """Two statistics, or two lists or dictionaries of them, merged; None where there is none."""
    if one is None:
        return None
    if isinstance(one, list):
        return [merge_any(*pair) for pair in zip(one, other, strict=True)]
    if isinstance(one, dict):
        return {name: merge_any(value, other[name]) for name, value in one.items()}
    return one.merge(other)


@dataclass
class SiteState:
    """What is known of a site's units so far."""

    site: Site
    settings: Settings
    statistics: SiteStatistics

    @classmethod
    def empty(cls, site: Site, settings: Settings) -> SiteState:
        return cls(site, settings, SiteStatistics.empty(site, settings))

    @property
    def views(self) -> set[FieldWindow]:
        """The parts of the pictures that statistics need at the end of a block."""
        kept = self.statistics
        return {sums.view for sums in (*kept.center, *kept.full, *kept.even)}

    def begin_block(self, device: torch.device, last: Accumulator | None) -> Accumulator:
        """An accumulator for the next block, with the responses that a new one must exceed to enter the lists. The
        `last` block's accumulator is used again where there is one.
        """
        kept = self.statistics
        accumulator = last or new_accumulator(
            self.site, device=device, size=BLOCK, per_image=self.settings.per_image,
            position_sums=[*kept.best, *kept.all],
            summaries={name: statistic.summarize for name, statistic in REGISTERED.items()},
        )  # fmt: skip
        accumulator.begin({extremes.sign: extremes.sign * extremes.value for extremes in (kept.highest, kept.lowest)})
        return accumulator

    def take(self, block: Block) -> None:
        for _, statistic in self.statistics.named():
            if not isinstance(statistic, PositionSums):  # these took in each batch as it came
                statistic.take(block)

    def merge(self, other: SiteState) -> SiteState:
        return SiteState(self.site, self.settings, self.statistics.merge(other.statistics))

    def restore(self, arrays: Mapping[str, Mapping[str, Any]]) -> None:
        """Restore statistics from what was saved of them, by their names."""
        named = dict(self.statistics.named())
        for name, values in arrays.items():
            named[name].restore(values)
