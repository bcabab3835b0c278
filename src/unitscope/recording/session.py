"""The state of a survey between two blocks of stimuli: everything that is kept, how it is put aside and taken up, and
how two are merged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
import torch
from jaxtyping import UInt8
from torch import Tensor

from unitscope.anatomy.certificates import NAMES as CERTIFIED
from unitscope.anatomy.certificates import Certificate
from unitscope.durable import whole_file
from unitscope.errors import Failure
from unitscope.recording.block import Hearing
from unitscope.recording.center_means import CenterSums, EnsembleSums, center_sums
from unitscope.recording.field_windows import View
from unitscope.recording.position_means import WHERE, PositionSums, position_sums
from unitscope.recording.quick import QuickHearing
from unitscope.recording.readout import library
from unitscope.recording.responses import Responses
from unitscope.recording.showing import Shown
from unitscope.recording.statistics import Counts, Extremes, Histogram, LabelSums, Ladder, ResponseMap, Statistic
from unitscope.vocabulary import Bounds, ReceptiveField, Site

BLOCK = 256
"""Stimuli in a block: the unit in which a session is shown, summed and put aside."""


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
class SiteState:
    """What is known of a site's units so far."""

    site: Site
    settings: Settings
    statistics: dict[str, Statistic]

    @classmethod
    def empty(cls, site: Site, settings: Settings) -> SiteState:
        units = site.channels
        statistics: dict[str, Statistic] = {
            "counts": Counts.empty(units),
            "highest": Extremes.empty(units, k=settings.top, sign=1),
            "lowest": Extremes.empty(units, k=settings.top, sign=-1),
            "peaks": Ladder("peak"),
            "means": Ladder("mean"),
            "peak_histogram": Histogram.empty(units, of="peak"),
            "trough_histogram": Histogram.empty(units, of="trough"),
            "response_map": ResponseMap.empty(units, site.lattice),
        }
        if settings.labels:
            statistics["labels"] = LabelSums.empty(units, labels=len(settings.labels))
        if settings.responses:
            statistics["responses"] = Responses(units)
        for name, kept in mean_sums(site, settings).items():
            statistics |= {f"{name}_{number}": sums for number, sums in enumerate(kept)}
        return cls(site, settings, statistics)

    def __getitem__(self, name: str) -> Any:
        return self.statistics[name]

    def kept(self, name: str) -> list[Any]:
        """The statistics `name_0`, `name_1`, ...: one for each field that occurs at the site."""
        return [kept for key, kept in self.statistics.items() if key.rpartition("_")[0] == name]

    @property
    def views(self) -> set[View]:
        """The parts of the pictures that are wanted at the end of a block."""
        return {kept.view for kept in self.statistics.values() if isinstance(kept, CenterSums)}

    def hearing(self, device: torch.device, last: Hearing | QuickHearing | None) -> Hearing | QuickHearing:
        """An ear for the next block, which knows what it takes to enter the lists; the last block's where it may be
        used again.
        """
        floor = {s.sign: s.sign * s.value for s in (self["highest"], self["lowest"])}
        positions: list[PositionSums] = [kept for kept in self.statistics.values() if isinstance(kept, PositionSums)]
        site, settings = self.site, self.settings
        if device.type != "cpu" or settings.per_image > 1 or library() is None:
            on_device = {sign: torch.from_numpy(values).to(device) for sign, values in floor.items()}
            return Hearing(settings.top, site.center, on_device, settings.per_image, positions)
        if not isinstance(last, QuickHearing):
            last = QuickHearing(site.channels, site.lattice, site.center, size=BLOCK, positions=positions)
        last.begin(floor)
        return last

    def merge(self, other: SiteState) -> SiteState:
        merged = {name: kept.merge(other.statistics[name]) for name, kept in self.statistics.items()}
        return SiteState(self.site, self.settings, merged)


MEANS = ("best", "all", "full", "halves")
"""Means that are kept on request: over positions, of fields in full size, and of half the images."""


def mean_sums(site: Site, settings: Settings) -> dict[str, list[Any]]:
    """Empty sums of pictures, by name."""
    sums: dict[str, list[Any]] = {"center": center_sums(site, colors=settings.colors)}
    if "full" in settings.means:
        sums["full"] = center_sums(site, colors=settings.colors, full=True)
    if "halves" in settings.means:
        sums["even"] = center_sums(site, colors=settings.colors, every=2)
        sums["ensemble"] = [EnsembleSums.empty(one.view, colors=settings.colors) for one in sums["even"]]
    for where in WHERE:
        if where in settings.means:
            sums[where] = position_sums(site, where, colors=settings.colors)
    return sums


@dataclass
class Session:
    """A survey under way, over the blocks `first` to `blocks` (excluded). `shown` tells what became of each of their
    images.
    """

    sites: dict[str, SiteState]
    first: int = 0
    blocks: int = 0
    shown: list[Shown] = field(default_factory=list)
    kernels: np.ndarray | None = None
    certificate: Certificate | None = None
    """What the weights say of all units, in the order of the flat axis."""

    @classmethod
    def begin(cls, sites: Mapping[str, Site], settings: Settings, *, first: int = 0) -> Session:
        return cls({name: SiteState.empty(site, settings) for name, site in sites.items()}, first, first)

    def hearings(self, device: torch.device, last: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """An ear at each site for the next block; `last`: those of the last."""
        last = last or {}
        return {name: state.hearing(device, last.get(name)) for name, state in self.sites.items()}

    def cut(self, pictures: UInt8[Tensor, "stimulus color height width"]) -> dict[View, np.ndarray]:
        """What the sites' center neurons see of a batch of pictures: all that is kept of it to the end of the block."""
        views = set().union(*(state.views for state in self.sites.values()))
        return {view: np.ascontiguousarray(view.cut(pictures).numpy()) for view in views}

    def take(
        self,
        heard: Mapping[str, Hearing | QuickHearing],
        cuts: Sequence[Mapping[View, np.ndarray]],
        readable: np.ndarray,
        labels: np.ndarray,
        shown: Sequence[Shown],
    ) -> None:
        """Take in what all sites answered to a block of pictures, of each batch of which there are `cuts`."""
        patches = {view: np.concatenate([cut[view] for cut in cuts]) for view in cuts[0]}
        for name, state in self.sites.items():
            block = heard[name].close(self.blocks, readable, labels, patches)
            for kept in state.statistics.values():
                if not isinstance(kept, PositionSums):  # these took in each batch as it was heard
                    kept.take(block)
        self.shown += shown
        self.blocks += 1

    def merge(self, later: Session) -> Session:
        """With the session over the blocks that follow."""
        if later.first != self.blocks:
            raise Failure(f"blocks {self.first} to {self.blocks} are not followed by {later.first} to {later.blocks}.")
        merged = {name: state.merge(later.sites[name]) for name, state in self.sites.items()}
        return Session(merged, self.first, later.blocks, self.shown + later.shown, self.kernels, self.certificate)

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything as flat named arrays, anatomy included, so that a part can be finished without the network."""
        named: dict[str, np.ndarray] = {}
        for state in self.sites.values():
            for name, kept in state.statistics.items():
                named |= {f"{state.site.name}/{name}/{key}": value for key, value in kept.arrays().items()}
            named |= {f"{state.site.name}/site/{key}": value for key, value in site_arrays(state.site).items()}
        named["blocks"] = np.array([self.first, self.blocks])
        named["bytes"] = np.array([fact.bytes for fact in self.shown], dtype=np.int64)
        for name in ("digest", "error"):
            named[name] = lines([getattr(fact, name) for fact in self.shown])
        if self.kernels is not None:
            named["kernels"] = self.kernels
        if self.certificate is not None:
            named |= {f"certificate_{name}": getattr(self.certificate, name) for name in CERTIFIED}
        return named

    def restore(self, named: Mapping[str, np.ndarray]) -> None:
        """Take up what `arrays` put aside."""
        self.first, self.blocks = named["blocks"].tolist()
        facts = zip(unlines(named["digest"]), named["bytes"].tolist(), unlines(named["error"]), strict=True)
        self.shown = [Shown(*fact) for fact in facts]
        self.kernels = named.get("kernels")
        if f"certificate_{CERTIFIED[0]}" in named:
            self.certificate = Certificate(*(named[f"certificate_{name}"] for name in CERTIFIED))
        nested: dict[tuple[str, str], dict[str, np.ndarray]] = {}
        for key, value in named.items():
            if key.count("/") >= 2:
                site, name, field_name = key.rsplit("/", 2)
                nested.setdefault((site, name), {})[field_name] = value
        for (site, name), arrays in nested.items():
            if name != "site":
                self.sites[site].statistics[name].restore(arrays)


def save(session: Session, path: Path) -> None:
    """Put a session aside, whole or not at all."""
    arrays = {name: np.ascontiguousarray(array) for name, array in session.arrays().items()}
    with whole_file(path) as temporary:
        try:
            safetensors.numpy.save_file(arrays, temporary)
        except safetensors.SafetensorError as error:  # a full disk, mostly
            raise OSError(str(error)) from error


def resume(session: Session, path: Path) -> None:
    """Take a session up where it was put aside, if it was. Raises Failure where the part is damaged."""
    if not path.exists():
        return
    try:
        named = safetensors.numpy.load_file(path)
        session.restore(named)
    except Exception as error:
        raise Failure(
            f"{path} is damaged ({error}). Delete the folder {path.parent} to begin the survey anew."
        ) from error


def load(path: Path, names: Sequence[Mapping[str, Any]], settings: Settings) -> Session:
    """A session from disk alone; `names` are the facts of its sites in record.json. Raises Failure where the part is
    damaged.
    """
    try:
        named = safetensors.numpy.load_file(path)
        session = Session.begin({facts["name"]: site_of(facts, named) for facts in names}, settings)
        session.restore(named)
    except Exception as error:
        raise Failure(f"{path} is damaged ({error}). Run its survey again.") from error
    return session


def site_arrays(site: Site) -> dict[str, np.ndarray]:
    """The numbers of a site's anatomy: the bounds of its neurons, its fields, the field of each channel."""
    numbers = [[*one.size, *one.stride, *one.start] for one in site.fields]
    arrays = {side.name: getattr(site.bounds, side.name) for side in fields(Bounds)}
    return arrays | {"fields": np.array(numbers, dtype=np.int64), "groups": np.array(site.groups, dtype=np.int64)}


def site_of(facts: Mapping[str, Any], named: Mapping[str, np.ndarray]) -> Site:
    """A site from what a record and its part know of it."""
    arrays = {
        key: named[f"{facts['name']}/site/{key}"] for key in ("top", "left", "bottom", "right", "fields", "groups")
    }
    status, cause = facts["field"]["status"], facts["field"]["cause"]
    return Site(
        name=facts["name"],
        channels=facts["channels"],
        lattice=tuple(facts["lattice"]),
        picture=tuple(facts["picture"]),
        operation=facts["operation"],
        bounds=Bounds(*(arrays[side.name] for side in fields(Bounds))),
        fields=tuple(
            ReceptiveField((a, b), (c, d), (e, f), status, cause) for a, b, c, d, e, f in arrays["fields"].tolist()
        ),
        preactivation=facts["preactivation"],
        module=facts.get("module", ""),
        groups=tuple(arrays["groups"].tolist()),
    )


def lines(texts: Sequence[str]) -> np.ndarray:
    """Texts as bytes, each ended by a zero."""
    return np.frombuffer("".join(text + "\0" for text in texts).encode("utf-8", "surrogatepass"), dtype=np.uint8)


def unlines(data: np.ndarray) -> list[str]:
    """The texts again."""
    return data.tobytes().decode("utf-8", "surrogatepass").split("\0")[:-1]
