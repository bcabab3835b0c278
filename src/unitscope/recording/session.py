"""The state of a survey between two blocks of stimuli: everything that is kept, and how it is put aside and taken up again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import safetensors.numpy
import torch
from torch import Tensor

from unitscope.errors import Failure
from unitscope.record import write_whole
from unitscope.recording.center import CenterSums, View, views
from unitscope.recording.responses import Extremes, Heard, Ladder, Moments

if TYPE_CHECKING:
    from unitscope.vocabulary import Site

CUT = 32
"""How many pictures are cut at a time."""


@dataclass
class SiteState:
    """What is known of a site's units so far. Counts are of images; `peak_max` and `trough_min` are over all of them."""

    site: Site
    seen: np.ndarray
    positive: np.ndarray
    not_finite: np.ndarray
    peak_max: np.ndarray
    trough_min: np.ndarray
    extremes: dict[int, Extremes]
    peaks: Ladder
    centers: list[tuple[View, slice | np.ndarray, CenterSums]]

    @classmethod
    def empty(cls, site: Site, *, k: int, colors: int) -> SiteState:
        zeros = np.zeros(site.channels, dtype=np.int64)
        centers = [
            (view, channels, CenterSums.empty(len(np.arange(site.channels)[channels]), (colors, *view.shape)))
            for view, channels in views(site)
        ]
        return cls(
            site,
            zeros,
            zeros.copy(),
            zeros.copy(),
            np.full(site.channels, -np.inf, dtype=np.float32),
            np.full(site.channels, np.inf, dtype=np.float32),
            {sign: Extremes.empty(site.channels, k=k, sign=sign) for sign in (1, -1)},
            Ladder({}),
            centers,
        )

    def listen(self, *, k: int, device: torch.device) -> Heard:
        """An ear for the next block, which knows what it takes to enter the lists."""
        floor = {sign: torch.from_numpy(sign * kept.value).to(device) for sign, kept in self.extremes.items()}
        return Heard(k=k, center=self.site.center, floor=floor)

    def take(self, heard: Heard, block: int, patches: Mapping[View, np.ndarray], readable: np.ndarray) -> None:
        """Take in what was heard during a block."""
        peak, trough, center = (torch.cat(parts).cpu().numpy() for parts in (heard.peaks, heard.troughs, heard.centers))
        finite = np.isfinite(peak) & np.isfinite(trough)
        counted = finite & readable[:, None]
        self.seen += counted.sum(0)
        self.not_finite += (~finite & readable[:, None]).sum(0)
        self.positive += ((peak > 0) & counted).sum(0)
        self.peak_max = np.maximum(self.peak_max, np.where(counted, peak, -np.inf).max(0))
        self.trough_min = np.minimum(self.trough_min, np.where(counted, trough, np.inf).min(0))
        self.peaks.add(0, block, Moments.of(peak, counted))
        for sign, kept in self.extremes.items():
            self.extremes[sign] = kept.merge(*heard.flat(sign))
        for view, channels, sums in self.centers:
            sums.add((center & counted)[:, channels], patches[view])

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything as flat named arrays, for a part on disk."""
        named = {name: getattr(self, name) for name in ("seen", "positive", "not_finite", "peak_max", "trough_min")}
        for sign, kept in self.extremes.items():
            named |= {f"extremes.{sign}.{name}": getattr(kept, name) for name in ("value", "image", "row", "col")}
        for (height, index), moments in self.peaks.rungs.items():
            named |= {f"peaks.{height}.{index}.{name}": getattr(moments, name) for name in ("n", "mean", "m2")}
        for number, (_, _, sums) in enumerate(self.centers):
            named |= {f"center.{number}.n": sums.n, f"center.{number}.total": sums.total}
        return named

    def restore(self, named: Mapping[str, np.ndarray]) -> None:
        """Take up what `arrays` put aside."""
        for name in ("seen", "positive", "not_finite", "peak_max", "trough_min"):
            setattr(self, name, named[name])
        for sign, kept in self.extremes.items():
            for name in ("value", "image", "row", "col"):
                setattr(kept, name, named[f"extremes.{sign}.{name}"])
        rungs = {tuple(map(int, key.split(".")[1:3])) for key in named if key.startswith("peaks.")}
        for height, index in rungs:
            self.peaks.rungs[height, index] = Moments(*(named[f"peaks.{height}.{index}.{name}"] for name in ("n", "mean", "m2")))
        for number, (_, _, sums) in enumerate(self.centers):
            sums.n, sums.total = named[f"center.{number}.n"], named[f"center.{number}.total"]


@dataclass
class Session:
    """A survey under way: `blocks` of stimuli have been shown; what became of each image is in `digests`, `sizes` and `errors`."""

    sites: dict[str, SiteState]
    blocks: int = 0
    digests: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @classmethod
    def begin(cls, sites: Mapping[str, Site], *, k: int, colors: int) -> Session:
        return cls({name: SiteState.empty(site, k=k, colors=colors) for name, site in sites.items()})

    def take(self, heard: Mapping[str, Heard], pictures: list[Tensor], readable: np.ndarray) -> None:
        """Take in what all sites answered to a block of pictures."""
        wanted = {view for state in self.sites.values() for view, _, _ in state.centers}
        patches = {view: np.concatenate([view.cut(part).numpy() for part in pictures]) for view in wanted}
        for name, state in self.sites.items():
            state.take(heard[name], self.blocks, patches, readable)
        self.blocks += 1

    def save(self, path: Path) -> None:
        """Put the session aside, whole or not at all."""
        tensors = {
            f"{number}/{name}": np.ascontiguousarray(array)
            for number, state in enumerate(self.sites.values())
            for name, array in state.arrays().items()
        }
        tensors["blocks"] = np.array(self.blocks)
        for name in ("digests", "errors"):
            tensors[name] = np.frombuffer("\0".join(getattr(self, name)).encode("utf-8", "surrogatepass") or b"\0", dtype=np.uint8)
        tensors["sizes"] = np.array(self.sizes, dtype=np.int64)
        write_whole(path, safetensors.numpy.save(tensors))

    def resume(self, path: Path) -> None:
        """Take the session up where it was put aside, if it was. Raises Failure where the part is damaged."""
        if not path.exists():
            return
        try:
            tensors = safetensors.numpy.load_file(path)
        except Exception as error:
            raise Failure(f"{path} is damaged ({error}). Delete the folder {path.parent} to begin the survey anew.") from error
        self.blocks = int(tensors["blocks"])
        self.sizes = tensors["sizes"].tolist()
        for name in ("digests", "errors"):
            text = tensors[name].tobytes().decode("utf-8", "surrogatepass")
            setattr(self, name, text.split("\0") if len(self.sizes) != 1 else [text.rstrip("\0")])
        for number, state in enumerate(self.sites.values()):
            prefix = f"{number}/"
            state.restore({key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)})
