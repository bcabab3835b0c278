"""Networks so small that a test may run the whole of something with them."""

from __future__ import annotations

import torch
from torch import nn

from unitscope.networks import Network


def network() -> nn.Module:
    """Two convolutions and a pooling: 5 + 7 units that matter, three logits. Always the same weights."""
    module = nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(5, 7, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(7, 3),
    )  # fmt: skip
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
        module[3].bias[0] = -1000.0  # unit 0 of the second convolution never answers
    return module


def known() -> Network:
    """The same, with a word on how it is shown pictures."""
    return Network(network(), size=32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), name="known")


def broken() -> nn.Module:
    """A factory with a mistake of its own."""
    raise RuntimeError("the factory stumbled")
