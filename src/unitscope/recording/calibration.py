"""Calibration: before a survey, fast reading of a network is compared with plain reading.

Problem: a survey is fast because it does part of the network's own work (rectifiers, batch normalizations, max-pooling)
while it reads the responses. On an unknown network this may go wrong: a module's `forward` is called directly, the
shape of a tensor that was handed over is looked at, the path depends on the picture.

Idea: show a few of the real stimuli in both modes, and compare everything that is read, bit for bit. The plain mode is
always right: the network is untouched, every operation is followed, PyTorch computes every number. Where the fast mode
gives another bit, the survey takes the plain mode, and record.json says so ("way": "quick" or "plain"). Before that,
steadiness.py finds out whether the responses are a function of the picture alone; if they are not, the network is
refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from unitscope.recording.acceleration import new_accumulator
from unitscope.recording.accumulator import Accumulator, Block, PlainAccumulator
from unitscope.recording.batches import Batch, prepare_pictures
from unitscope.recording.forward_pass import Reader, ReadingMode, autocast
from unitscope.recording.steadiness import SiteResponses, Steadiness, check_steadiness, three_pictures

if TYPE_CHECKING:
    from unitscope.networks import Network
    from unitscope.vocabulary import Site

COMPARED = ("peak", "trough", "mean", "positive_positions", "center", "counted", "response_sum")
"""What is compared with the plain way, of all that is read of each response map."""


@dataclass(frozen=True)
class Calibration:
    """How a survey shows and reads, and what was found when this was tried."""

    mode: ReadingMode
    steadiness: Steadiness | None
    reason: str = ""
    """Why the fast mode is not taken."""

    @property
    def facts(self) -> dict[str, Any]:
        """What record.json says of it."""
        facts: dict[str, Any] = {
            "way": "quick" if self.mode.fast else "plain",
            "memory_format": "channels last" if self.mode.channels_last else "contiguous",
        }
        if self.reason:
            facts["reason"] = self.reason
        if self.steadiness is None:
            return facts | {"stimuli": 0}
        return facts | {
            "stimuli": self.steadiness.stimuli,
            "largest_difference": float(f"{self.steadiness.difference:.1g}"),
            "tolerance": self.steadiness.tolerance,
            "changed_and_put_back": list(self.steadiness.changed),
            "chance": self.steadiness.chance,
        }


def calibrate(
    network: Network,
    sites: Mapping[str, Site],
    pictures: UInt8[Tensor, "stimulus color height width"],
    *,
    precision: str = "float32",
    seed: int | None = None,
) -> Calibration:
    """Show up to three pictures in several ways, and choose the mode of reading for a survey.

    Args:
        network: The network, which is left as it was.
        sites: The sites that the survey is going to read.
        pictures: Real stimuli [stimulus color height width], 0 to 255. Without any, the plain mode is taken.
        precision: One of `forward_pass.PRECISIONS`.
        seed: From what the network draws random numbers, if it draws any.

    Returns:
        The mode, what was found, and why the fast mode is not taken, if it is not.

    Raises:
        BadInput: The network's responses are no function of the picture alone.
    """
    if not len(pictures):
        return Calibration(ReadingMode(fast=False, seed=seed), None, "there was no picture to try it with")
    pictures = three_pictures(pictures)
    x = prepare_pictures(network, pictures, memory_format=torch.contiguous_format)
    steadiness = check_steadiness(network, sites, x, seed=seed, cast=lambda: autocast(network, precision))
    mode = ReadingMode(steadiness.channels_last, fast=True, seed=seed if steadiness.chance else None)
    reason = reason_for_plain(network, sites, pictures, mode, steadiness, precision=precision)
    return Calibration(mode if not reason else mode.plain, steadiness, reason)


def reason_for_plain(
    network: Network,
    sites: Mapping[str, Site],
    pictures: UInt8[Tensor, "stimulus color height width"],
    mode: ReadingMode,
    steadiness: Steadiness,
    *,
    precision: str,
) -> str:
    """Why the fast mode cannot be taken; empty where it can."""
    if steadiness.chance:
        return "the network draws random numbers"
    if steadiness.changed:
        return "the network changes itself when it runs"
    if any(site.reads_values for site in sites.values()):
        return "the network reads values to choose its path"
    # Only now, since placing hooks takes a pass of its own.
    reader = Reader.of(network, sites, mode, precision=precision)
    if reader.electrodes.taps is None:
        return "some sites are not what a module gives or is given"
    return first_difference(reader, pictures[:2], steadiness.first)


def first_difference(
    reader: Reader, pictures: UInt8[Tensor, "stimulus color height width"], plain: SiteResponses
) -> str:
    """Where a reader reads other numbers than PyTorch reads of the plain responses; empty where it does not."""
    device, sites, numbers = reader.network.device, reader.electrodes.sites, torch.arange(len(pictures))
    batch = Batch(numbers, pictures, torch.ones(len(pictures), dtype=torch.bool), ())
    try:
        fast = {name: begin_pair(new_accumulator(site, device=device, size=2), site) for name, site in sites.items()}
        reader.read(batch, fast)
        for name, site in sites.items():
            expected = begin_pair(PlainAccumulator(site.center, device=device), site)
            expected.add(plain[name], numbers.to(device), batch.readable.to(device))
            difference = find_difference(finish_pair(fast[name]), finish_pair(expected))
            if difference:
                return f"the quick way read another {difference} at {name}"
    except Exception as error:  # whatever failed: the plain way does not use it
        return f"the quick way fails: {str(error).splitlines()[0][:200] if str(error) else type(error).__name__}"
    return ""


def begin_pair(accumulator: Accumulator, site: Site) -> Accumulator:
    """The accumulator, ready for a block in which only each unit's best response is looked up."""
    accumulator.begin({sign: np.full((site.channels, 1), -np.inf, dtype=np.float32) for sign in (1, -1)})
    return accumulator


def finish_pair(accumulator: Accumulator) -> Block:
    """The block of two stimuli."""
    return accumulator.finish(0, np.ones(2, dtype=bool), np.full(2, -1), {})


def find_difference(one: Block, other: Block) -> str:
    """The first quantity that two readings do not share bit for bit, in words; empty where there is none."""
    for name in COMPARED:
        if not np.array_equal(getattr(one, name), getattr(other, name), equal_nan=getattr(one, name).dtype.kind == "f"):
            return name.replace("_", " ")
    return ""
