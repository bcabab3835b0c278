"""Networks wired by hand, whose units' nature we know; whatever records, measures or draws must find it.

Each function gives a `Network` of one convolution `conv1`, a ReLU `relu`, and a linear readout `fc` of the units'
mean responses (one logit per unit). Mean is 0 and std 1, so the kernels act on the pictures as they are, RGB in [0,
1]. Unit numbers are in the docstrings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from unitscope.networks import Network

COLORS = {"red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0), "blue": (0.0, 0.0, 1.0)}
"""Pure colors; the categories of `category_network`."""


class Wired(nn.Module):
    """A convolution with given kernels and biases, a ReLU, and one logit per unit: the mean of its responses."""

    def __init__(
        self, kernels: Float[Tensor, "unit color height width"], bias: Sequence[float], *, stride: int
    ) -> None:
        super().__init__()
        units, colors, height, width = kernels.shape
        self.conv1 = nn.Conv2d(colors, units, (height, width), stride=stride, padding=(height // 2, width // 2))
        self.relu = nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(units, units, bias=False)
        with torch.no_grad():
            self.conv1.weight.copy_(kernels)
            self.conv1.bias.copy_(torch.tensor(bias, dtype=torch.float32))
            self.fc.weight.copy_(torch.eye(units))

    def forward(self, pictures: Tensor) -> Tensor:
        return self.fc(torch.flatten(self.avgpool(self.relu(self.conv1(pictures))), 1))


def wired(
    kernels: Float[Tensor, "unit color height width"],
    bias: Sequence[float] | None = None,
    *,
    name: str,
    size: int = 32,
    stride: int = 1,
) -> Network:
    """A network of these kernels (odd sides are centered on their pixel) and biases (0 where none are given)."""
    channels = kernels.shape[1]
    module = Wired(kernels, [0.0] * len(kernels) if bias is None else bias, stride=stride)
    return Network(module, size=size, mean=(0.0,) * channels, std=(1.0,) * channels, name=name, weights="wired by hand")


def gabor(
    orientation: float = 30.0,
    *,
    frequency: float = 0.15,
    phase: float = 0.0,
    sigma: float = 3.0,
    side: int = 15,
    color: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Float[Tensor, "color height width"]:
    """A Gabor kernel with mean 0, so that a uniform picture leaves it silent.

    `orientation` is that of its bars, in degrees counterclockwise from horizontal; `frequency` in cycles per pixel
    across them; `phase` in degrees, 0 with a bright bar in the center; `sigma` of the round envelope in pixels;
    `color` the weights of red, green and blue.
    """
    axis = torch.arange(side, dtype=torch.float64) - side // 2
    up, right = -axis[:, None], axis[None, :]
    angle = math.radians(orientation)
    across = up * math.cos(angle) - right * math.sin(angle)
    envelope = torch.exp(-(up**2 + right**2) / (2 * sigma**2))
    carrier = torch.cos(2 * math.pi * frequency * across + math.radians(phase))
    kernel = envelope * (carrier - (envelope * carrier).sum() / envelope.sum())
    return (kernel / kernel.abs().sum() * torch.tensor(color, dtype=torch.float64)[:, None, None]).float()


def gabor_network(orientations: Sequence[float] = (30.0,), *, frequency: float = 0.15, size: int = 32) -> Network:
    """One achromatic Gabor unit per orientation (degrees counterclockwise from horizontal, of the bars), in their
    order.
    """
    kernels = torch.stack([gabor(orientation, frequency=frequency) for orientation in orientations])
    return wired(kernels, name="gabor_network", size=size)


def opponent_network(*, size: int = 32, side: int = 7) -> Network:
    """Unit 0: red-on/green-off, uniform over its field (single-opponent). Unit 1: the same as a vertical Gabor
    (double-opponent).

    Unit 2: on for light, whatever its color, and so not opponent at all.
    """
    axis = torch.arange(side) - side // 2
    spot = torch.exp(-(axis[:, None] ** 2 + axis[None, :] ** 2) / (2 * (side / 5) ** 2))
    spot = spot / spot.sum()
    single = torch.stack([spot, -spot, torch.zeros_like(spot)])
    double = gabor(90.0, side=side, sigma=side / 5, frequency=1 / side, color=(1.0, -1.0, 0.0))
    light = torch.stack([spot, spot, spot]) / 3
    return wired(torch.stack([single, double, light]), name="opponent_network", size=size)


def dead_network(*, size: int = 32) -> Network:
    """Unit 0 lives (mean brightness). Unit 1 is dead: no picture in [0, 1] brings it above -0.5 before the ReLU.

    Unit 2 fires 0.25 always, whatever it sees. Unit 3 has no weights and no bias: 0 always, and so inactive, too.
    """
    patch = torch.full((3, 3, 3), 1 / 27)
    kernels = torch.stack([patch, patch, torch.zeros_like(patch), torch.zeros_like(patch)])
    return wired(kernels, [0.0, -1.5, 0.25, 0.0], name="dead_network", size=size)


def category_network(*, size: int = 32) -> Network:
    """Units 0, 1, 2 fire for red, green, blue only: 0.5 for a pixel of the pure color, 0 for the others, and for any
    gray.
    """
    kernels = torch.eye(3)[:, :, None, None] * 2 - 1
    return wired(kernels, [-0.5, -0.5, -0.5], name="category_network", size=size)


def template_network(
    template: Float[Tensor, "color height width"] | None = None, *, size: int = 32, stride: int = 1
) -> Network:
    """Unit 0 is a template matcher: its kernel is the template less its mean, of norm 1. Unit 1 is its negative.

    With odd sides, `plant`ing the template with its center at a multiple of `stride` makes the neuron there the peak
    among all pictures with no more contrast.
    """
    template = (random_template() if template is None else template).double()
    kernel = template - template.mean()
    kernel = (kernel / kernel.norm()).float()
    return wired(torch.stack([kernel, -kernel]), name="template_network", size=size, stride=stride)


def random_template(*, side: int = 7, seed: int = 0) -> Float[Tensor, "3 side side"]:
    """Black and white noise in each color, from its own generator."""
    return torch.randint(0, 2, (3, side, side), generator=torch.Generator().manual_seed(seed)).float()


def plant(
    template: Float[Tensor, "color height width"], picture: Float[Tensor, "color rows cols"], *, row: int, col: int
) -> Float[Tensor, "color rows cols"]:
    """A copy of `picture` with the template's center at (row, col); it must fit in."""
    _, height, width = template.shape
    top, left = row - height // 2, col - width // 2
    planted = picture.clone()
    planted[:, top : top + height, left : left + width] = template
    return planted


def uniform(color: tuple[float, float, float], *, size: int = 32) -> Float[Tensor, "1 3 size size"]:
    """A picture of one color."""
    return torch.tensor(color)[None, :, None, None].expand(1, 3, size, size).clone()


def grating(
    orientation: float, *, frequency: float = 0.15, phase: float = 0.0, size: int = 32
) -> Float[Tensor, "1 3 size size"]:
    """A full-contrast gray grating, its bars at `orientation` (as for `gabor`), 0 phase with a bright bar in pixel
    (size//2, size//2).
    """
    axis = torch.arange(size, dtype=torch.float64) - size // 2
    angle = math.radians(orientation)
    across = -axis[:, None] * math.cos(angle) - axis[None, :] * math.sin(angle)
    wave = 0.5 + 0.5 * torch.cos(2 * math.pi * frequency * across + math.radians(phase))
    return wave.float().expand(1, 3, size, size).clone()


def write_folder(folder: Path, pictures: Mapping[str, Sequence[Float[Tensor, "color height width"]]]) -> Path:
    """Write pictures as PNG, lossless, into one sub-folder per label: what `open_images` reads. Gives the folder."""
    for label, group in pictures.items():
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number, picture in enumerate(group):
            pixels = (picture.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
            Image.fromarray(np.ascontiguousarray(pixels)).save(folder / label / f"{number:03}.png")
    return folder
