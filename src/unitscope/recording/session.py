"""A survey under way: what is kept between two blocks of stimuli, saved as a checkpoint, resumed, and merged.

Stimuli are shown in batches, and taken in by blocks of 256, the same ones whatever the size of a batch. A session spans
consecutive blocks. It is saved between two blocks only, so that a survey that is interrupted goes on at a block's
beginning; and two sessions merge if the second begins where the first ends:

    blocks    0  1  2  3 | 4  5  6
    shard 1   [---------)
    shard 2              [--------)          shard 1 merged with shard 2: the session over blocks 0 to 6
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
from unitscope.recording.accumulator import Accumulator
from unitscope.recording.batches import ImageStatus
from unitscope.recording.field_windows import FieldWindow
from unitscope.recording.site_state import Settings, SiteState
from unitscope.vocabulary import Bounds, ReceptiveField, Site


@dataclass
class Session:
    """A survey under way, over the blocks `first` to `blocks` (excluded). `statuses`: what became of each of their
    images.
    """

    sites: dict[str, SiteState]
    first: int = 0
    blocks: int = 0
    statuses: list[ImageStatus] = field(default_factory=list)
    kernels: np.ndarray | None = None
    certificate: Certificate | None = None
    """What is known of all units from the weights alone, in the order of the flat axis."""

    @classmethod
    def begin(cls, sites: Mapping[str, Site], settings: Settings, *, first: int = 0) -> Session:
        return cls({name: SiteState.empty(site, settings) for name, site in sites.items()}, first, first)

    def begin_block(
        self, device: torch.device, last: Mapping[str, Accumulator] | None = None
    ) -> dict[str, Accumulator]:
        """An accumulator at each site for the next block; `last`: those of the last block, which are used again."""
        last = last or {}
        return {name: state.begin_block(device, last.get(name)) for name, state in self.sites.items()}

    def cut(self, pictures: UInt8[Tensor, "stimulus color height width"]) -> dict[FieldWindow, np.ndarray]:
        """What the sites' center neurons see of a batch of pictures: all that is kept of it to the end of the block."""
        views = set().union(*(state.views for state in self.sites.values()))
        return {view: np.ascontiguousarray(view.cut(pictures).numpy()) for view in views}

    def take(
        self,
        accumulators: Mapping[str, Accumulator],
        cuts: Sequence[Mapping[FieldWindow, np.ndarray]],
        readable: np.ndarray,
        labels: np.ndarray,
        statuses: Sequence[ImageStatus],
    ) -> None:
        """Take in what all sites answered to a block of pictures, of each batch of which there are `cuts`."""
        patches = {view: np.concatenate([cut[view] for cut in cuts]) for view in cuts[0]}
        for name, state in self.sites.items():
            state.take(accumulators[name].finish(self.blocks, readable, labels, patches))
        self.statuses += statuses
        self.blocks += 1

    def merge(self, later: Session) -> Session:
        """This session merged with the `later` one, over the blocks that follow."""
        if later.first != self.blocks:
            raise Failure(f"blocks {self.first} to {self.blocks} are not followed by {later.first} to {later.blocks}.")
        merged = {name: state.merge(later.sites[name]) for name, state in self.sites.items()}
        return Session(merged, self.first, later.blocks, self.statuses + later.statuses, self.kernels, self.certificate)

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything as named arrays, anatomy included, so that a record can be made of a part without the network."""
        named: dict[str, np.ndarray] = {}
        for state in self.sites.values():
            for name, kept in state.statistics.named():
                named |= {f"{state.site.name}/{name}/{key}": value for key, value in kept.arrays().items()}
            named |= {f"{state.site.name}/site/{key}": value for key, value in site_arrays(state.site).items()}
        named["blocks"] = np.array([self.first, self.blocks])
        named["bytes"] = np.array([fact.bytes for fact in self.statuses], dtype=np.int64)
        for name in ("digest", "error"):
            named[name] = encode_lines([getattr(fact, name) for fact in self.statuses])
        if self.kernels is not None:
            named["kernels"] = self.kernels
        if self.certificate is not None:
            named |= {f"certificate_{name}": getattr(self.certificate, name) for name in CERTIFIED}
        return named

    def restore(self, named: Mapping[str, np.ndarray]) -> None:
        """Restore the session from what `arrays` gave."""
        self.first, self.blocks = named["blocks"].tolist()
        facts = zip(decode_lines(named["digest"]), named["bytes"].tolist(), decode_lines(named["error"]), strict=True)
        self.statuses = [ImageStatus(*fact) for fact in facts]
        self.kernels = named.get("kernels")
        if f"certificate_{CERTIFIED[0]}" in named:
            self.certificate = Certificate(*(named[f"certificate_{name}"] for name in CERTIFIED))
        nested: dict[str, dict[str, dict[str, np.ndarray]]] = {}
        for key, value in named.items():
            if key.count("/") >= 2:
                site, name, array = key.rsplit("/", 2)
                # "site" is the anatomy (`site_of`), not a statistic.
                if name != "site":
                    nested.setdefault(site, {}).setdefault(name, {})[array] = value
        for site, arrays in nested.items():
            self.sites[site].restore(arrays)


def save(session: Session, path: Path) -> None:
    """Save a session, whole or not at all."""
    arrays = {name: np.ascontiguousarray(array) for name, array in session.arrays().items()}
    with whole_file(path) as temporary:
        try:
            safetensors.numpy.save_file(arrays, temporary)
        except safetensors.SafetensorError as error:  # a full disk, mostly
            raise OSError(str(error)) from error


def resume(session: Session, path: Path) -> None:
    """Continue a session from where it was saved, if it was saved. Raises Failure where the part is damaged."""
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


def encode_lines(texts: Sequence[str]) -> np.ndarray:
    """Texts as bytes, each ended by a zero."""
    # safetensors holds arrays of numbers only.
    return np.frombuffer("".join(text + "\0" for text in texts).encode("utf-8", "surrogatepass"), dtype=np.uint8)


def decode_lines(data: np.ndarray) -> list[str]:
    """The texts that `encode_lines` was given."""
    return data.tobytes().decode("utf-8", "surrogatepass").split("\0")[:-1]
