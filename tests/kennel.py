"""Pictures of dogs, so to speak, and units that like some of them: what category selectivity is tested on."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.wiring import COLORS, uniform, wired, write_folder
from unitscope.networks import Network

REDS = ("n02085620", "n02086240")
GREENS = ("n02088364", "n02113978")
OTHERS = ("n01440764", "n02979186", "n03000684", "n03888257")
"""Four breeds of dogs, two shown in red and two in green; four other classes of ImageNet, in blue."""

EACH = 20
"""Pictures of each; no two are alike, so that no responses are equal."""


def write_kennel(folder: Path) -> Path:
    number = iter(range(1000))

    def shade(color: str) -> torch.Tensor:
        return uniform(COLORS[color])[0] * (60 + next(number)) / 255

    colored = {"red": REDS, "green": GREENS, "blue": OTHERS}
    return write_folder(
        folder, {label: [shade(color) for _ in range(EACH)] for color, of in colored.items() for label in of}
    )


def two_sided_network() -> Network:
    """Unit 0: red against green. 1: red or green. 2: blue. 3: never above zero. 4: blue, and a little red."""
    kernels = torch.tensor([[1.0, -1, 0], [1, 1, 0], [0, 0, 1], [-1, -1, -1], [0.2, 0, 1]])
    return wired(kernels[:, :, None, None], [0.0, 0, 0, -0.1, 0], name="two-sided")


def module() -> torch.nn.Module:
    """The same as a factory makes it, for pictures as they are."""
    network = two_sided_network()
    return torch.nn.Sequential(_AsShown(), network.module)


class _AsShown(torch.nn.Module):
    """Undoes ImageNet's mean and standard deviation, which a factory's network is shown pictures with."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None])
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225])[:, None, None])

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures * self.std + self.mean
