"""Showing one batch of pictures to a network and reading all sites, in the way that was chosen for it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from unitscope.anatomy.rectifiers import Rectifier
from unitscope.pristine import draw_from
from unitscope.recording.block import Hearing
from unitscope.recording.electrode import Electrodes
from unitscope.recording.pooling import pooling
from unitscope.recording.quick import QuickHearing
from unitscope.recording.showing import Batch, given_to

if TYPE_CHECKING:
    from unitscope.networks import Network
    from unitscope.vocabulary import Site

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}
"""What the network computes in. What is read is summed up in float32 and wider either way."""


@dataclass(frozen=True)
class Way:
    """How pictures are shown and responses are read."""

    channels_last: bool = True
    """Whether the colors of a pixel lie side by side in memory, which convolutions on a CPU like best."""
    quick: bool = True
    """Whether the reader does some of the network's own work, in the same pass over memory."""
    seed: int | None = None
    """From what the network draws its random numbers; None where it draws none."""

    @property
    def plain(self) -> Way:
        return replace(self, quick=False)


def autocast(network: Network, precision: str) -> AbstractContextManager[Any]:
    kind = PRECISIONS[precision]
    return torch.autocast(network.device.type, dtype=kind, enabled=kind is not None)


def read_batch(
    network: Network,
    batch: Batch,
    electrodes: Electrodes,
    readers: Mapping[str, Hearing | QuickHearing],
    *,
    way: Way,
    precision: str = "float32",
) -> None:
    """Show one batch to the network, and let the reader of each site take its responses in."""
    device = network.device
    images, readable = batch.images.to(device), batch.readable.to(device)

    def keep(site: Site, responses: Tensor) -> None:
        readers[site.name].hear(responses.float(), images, readable, batch.pictures)

    def rectify(site: Site, given: Tensor, kind: Rectifier) -> Tensor | None:
        reader = readers[site.name]
        return reader.rectify(given, images, readable, kind) if isinstance(reader, QuickHearing) else None

    quick = way.quick and electrodes.taps is not None
    seeded = nullcontext() if way.seed is None else draw_from(seed_of_batch(way.seed, batch), network.module)
    with torch.no_grad(), autocast(network, precision), seeded, pooling(network.module) if quick else nullcontext():
        x = given_to(network, batch.pictures, channels_last=way.channels_last)
        electrodes.show(x, keep, rectify if quick else None)


def seed_of_batch(seed: int, batch: Batch) -> int:
    """A seed of its own for each batch, so that a survey that was interrupted draws the same numbers."""
    return int(np.random.SeedSequence([seed, int(batch.images[0])]).generate_state(1)[0])
