"""Jitters: pictures are moved, turned and scaled a little before each step, so that no optimum needs a single pixel.

Each is a callable of whitened pictures and one generator per picture, and differentiable. What comes in from beyond the
picture has the mean color.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Pictures = Float[Tensor, "stimulus color height width"]
Jitter = Callable[[Pictures, Sequence[torch.Generator]], Pictures]


@dataclass(frozen=True)
class Sway:
    """One affine map per picture: shift by up to `shift` pixels each way, but no more than an eighth of the picture;
    scale by a factor within `scale`; turn by up to `turn` degrees.

    Unlike lucid (optvis/transform.py), which pads, shifts, scales, turns and shifts again, it resamples once.
    """

    shift: float = 8.0
    scale: tuple[float, float] = (0.9, 1.1)
    turn: float = 10.0

    def __call__(self, pictures: Pictures, generators: Sequence[torch.Generator]) -> Pictures:
        chance = torch.stack([torch.rand(4, generator=generator) for generator in generators]).to(pictures.device)
        height, width = pictures.shape[2:]
        angle = (2 * chance[:, 0] - 1) * math.radians(self.turn)
        factor = self.scale[0] + (self.scale[1] - self.scale[0]) * chance[:, 1]
        # The grid says where each pixel of the result is read, so that it is the inverse map: larger by reading from
        # closer.
        cos, sin = torch.cos(angle) / factor, torch.sin(angle) / factor
        reach = [min(self.shift, side / 8) / side for side in (width, height)]
        # In the grid's coordinates a side is 2 long, from -1 to 1.
        right, down = ((2 * chance[:, n] - 1) * 2 * share for n, share in zip((2, 3), reach, strict=True))
        rows = torch.stack([torch.stack([cos, -sin, right], 1), torch.stack([sin, cos, down], 1)], 1)
        grid = F.affine_grid(rows.to(pictures.dtype), list(pictures.shape), align_corners=False)
        return F.grid_sample(pictures, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


@dataclass(frozen=True)
class Grain:
    """Gaussian noise of standard deviation `normal` and uniform noise of +-`uniform` (xplique, maco.py)."""

    normal: float = 0.08
    uniform: float = 0.04

    def __call__(self, pictures: Pictures, generators: Sequence[torch.Generator]) -> Pictures:
        shape = pictures.shape[1:]
        noise = [
            self.normal * torch.randn(shape, generator=g) + self.uniform * (2 * torch.rand(shape, generator=g) - 1)
            for g in generators
        ]
        return pictures + torch.stack(noise).to(pictures)
