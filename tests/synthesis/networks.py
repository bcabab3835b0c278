"""Networks with weights such that every operation matters: normalizations that shift and scale, nothing dead."""

from __future__ import annotations

from functools import cache

import torch
from torch import nn

from unitscope.networks import Network, load


def lively(network: Network, *, seed: int = 0) -> Network:
    """The network with random statistics in its normalizations."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.module.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.copy_(0.3 * torch.randn(module.num_features, generator=generator))
                module.running_var.copy_(0.5 + torch.rand(module.num_features, generator=generator))
                module.bias.copy_(0.3 * torch.randn(module.num_features, generator=generator))
    return network


@cache
def small_resnet(name: str = "resnet18") -> Network:
    """ResNet-18 or its plain twin, 8 channels wide, at 96 pixels; made once, not to be changed."""
    return lively(load(name, width=8, classes=5, size=96))


class Gated(nn.Module):
    """A convolution, squeeze-and-excitation, another convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.gate = nn.Conv2d(4, 4, 1)
        self.conv2 = nn.Conv2d(4, 5, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv1(x))
        x = x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))
        return self.conv2(x).mean((2, 3))


class Shuffled(nn.Module):
    """Two grouped convolutions with their channels shuffled in between, as in ShuffleNet."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, groups=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv1(x))
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return torch.relu(self.conv2(x)).mean((2, 3))


def plain(module: nn.Module, *, size: int = 32) -> Network:
    """A network of a module with random weights of its own seed."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))
    return Network(module, size=size, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
