"""Showing one batch of pictures to a network and reading all sites, in the mode that calibration chose."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from unitscope.pristine import draw_from
from unitscope.recording.acceleration import FastPass, place_fast
from unitscope.recording.accumulator import Accumulator
from unitscope.recording.batches import Batch, prepare_pictures
from unitscope.recording.electrode import Electrodes

if TYPE_CHECKING:
    from unitscope.networks import Network
    from unitscope.vocabulary import Site

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}
"""What the network computes in. What is read is summed up in float32 and wider either way."""


@dataclass(frozen=True)
class ReadingMode:
    """How pictures are shown and responses are read."""

    channels_last: bool = True
    """Whether the colors of a pixel lie side by side in memory, which convolutions on a CPU like best."""
    fast: bool = True
    """Whether sites are tapped by hooks, and part of the network's own work is done while reading."""
    seed: int | None = None
    """From what the network draws its random numbers; None where it draws none."""

    @property
    def plain(self) -> ReadingMode:
        """The same without the fast path: every operation of the network is followed, and none is done in its place."""
        return replace(self, fast=False)

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format


@dataclass(frozen=True)
class Reader:
    """Shows batches to a network, and lets the accumulator of each site take its responses in."""

    network: Network
    electrodes: Electrodes
    mode: ReadingMode
    precision: str = "float32"
    fast_pass: FastPass | None = None

    @classmethod
    def of(
        cls, network: Network, sites: Mapping[str, Site], mode: ReadingMode, *, precision: str = "float32"
    ) -> Reader:
        if not mode.fast:
            return cls(network, Electrodes(network, dict(sites), None), mode, precision)
        electrodes, fast_pass = place_fast(network, sites)
        return cls(network, electrodes, mode, precision, fast_pass)

    def read(self, batch: Batch, accumulators: Mapping[str, Accumulator]) -> None:
        """Show one batch, and let `accumulators` (by the sites' names) take in the responses."""
        network = self.network
        images, readable = batch.images.to(network.device), batch.readable.to(network.device)

        def keep(site: Site, responses: Tensor) -> None:
            # Under autocast responses have 16 bits; statistics are computed in float32.
            accumulators[site.name].add(responses.float(), images, readable, batch.pictures)

        fast_pass = self.fast_pass
        instrument = None if fast_pass is None else fast_pass.instrument(accumulators, images, readable)
        with torch.no_grad(), autocast(network, self.precision), self.seeded(batch):
            x = prepare_pictures(network, batch.pictures, memory_format=self.mode.memory_format)
            self.electrodes.show(x, keep, instrument)

    def seeded(self, batch: Batch) -> AbstractContextManager[Any]:
        seed = self.mode.seed
        return nullcontext() if seed is None else draw_from(seed_of_batch(seed, batch), self.network.module)


def autocast(network: Network, precision: str) -> AbstractContextManager[Any]:
    """While open, the network's convolutions and products are computed in a precision."""
    kind = PRECISIONS[precision]
    return torch.autocast(network.device.type, dtype=kind, enabled=kind is not None)


def seed_of_batch(seed: int, batch: Batch) -> int:
    """A seed of its own for each batch, so that a survey that was interrupted draws the same numbers."""
    return int(np.random.SeedSequence([seed, int(batch.images[0])]).generate_state(1)[0])
