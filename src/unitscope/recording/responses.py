"""Responses that are kept one by one: what each unit answered to each image, peak, trough and mean over its lattice.

Kept on request only, since they are the one thing in a record that grows with the number of images: 12 bytes per image
and unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32

from unitscope.recording.accumulator import Block

KINDS = ("peak", "trough", "mean")
"""What is kept of each response map; a record has an array `responses/KIND` [unit image] of each."""


@dataclass
class KeptResponses:
    """Peaks, troughs and means in the order of the images; NaN where a response was not finite or an image not
    readable.
    """

    units: int
    blocks: dict[str, list[np.ndarray]] = field(default_factory=lambda: {kind: [] for kind in KINDS})

    def take(self, block: Block) -> None:
        for kind in KINDS:
            self.blocks[kind].append(np.where(block.counted, getattr(block, kind), np.float32(np.nan)))

    def merge(self, other: KeptResponses) -> KeptResponses:
        """These responses, and behind them the `other` ones, to the images that follow."""
        return KeptResponses(self.units, {kind: self.blocks[kind] + other.blocks[kind] for kind in KINDS})

    def all(self, kind: str) -> Float32[np.ndarray, "stimulus unit"]:
        return np.concatenate([np.empty((0, self.units), np.float32), *self.blocks[kind]])

    def arrays(self) -> dict[str, np.ndarray]:
        return {kind: self.all(kind) for kind in KINDS}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.blocks = {kind: [arrays[kind]] for kind in KINDS}
