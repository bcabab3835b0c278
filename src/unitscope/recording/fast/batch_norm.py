"""Batch normalization in the compiled reader: with the bits of PyTorch's own, or not at all.

PyTorch's builds compute x * scale + shift in different ways: with one rounding (a fused multiply-add) or with two. The
compiled reader rounds once. So a module's normalization is tried on random responses first, and left to the module
wherever a single bit differs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32
from torch import nn

from unitscope.recording.fast.library import call

SAMPLES = (4, 16, 16)
"""Stimuli, rows and columns of what both ways of normalizing are tried on."""


@dataclass(frozen=True)
class ScaleAndShift:
    """A batch normalization in evaluation: a response times `scale` plus `shift` of its unit, rounded once."""

    scale: Float32[np.ndarray, " unit"]
    shift: Float32[np.ndarray, " unit"]

    @classmethod
    def of(cls, norm: nn.BatchNorm2d) -> ScaleAndShift | None:
        """What the module does, as found by trying. None where its bits are other ones.

        Each unit is tried on 1,024 random responses; numbers that are off by one bit do not pass.
        """
        variance, mean = norm.running_var, norm.running_mean
        if variance is None or mean is None or variance.dtype != torch.float32 or not variance.is_cpu:
            return None
        units = len(variance)
        with torch.no_grad():
            scale = np.float32(1) / np.sqrt(variance.numpy() + np.float32(norm.eps))
            scale = scale if norm.weight is None else scale * norm.weight.numpy()
            generator = torch.Generator().manual_seed(0)
            responses = torch.randn((SAMPLES[0], units, *SAMPLES[1:]), generator=generator)
            responses *= 3 * variance.sqrt()[:, None, None]
            responses += mean[:, None, None]
            responses = responses.contiguous(memory_format=torch.channels_last)
            # Zeros, normalized, give the shift as PyTorch itself rounds it.
            shift = nn.BatchNorm2d.forward(norm, torch.zeros_like(responses[:1]))[0, :, 0, 0]
            expected = nn.BatchNorm2d.forward(norm, responses)
        found = cls(scale, np.ascontiguousarray(shift.numpy()))
        normalized = found.apply(responses.permute(0, 2, 3, 1).numpy())
        return found if np.array_equal(normalized, expected.permute(0, 2, 3, 1).numpy()) else None

    def apply(
        self, responses: Float32[np.ndarray, "stimulus row col unit"]
    ) -> Float32[np.ndarray, "stimulus row col unit"]:
        """The normalized responses."""
        normalized = np.empty_like(responses)
        sizes = (responses.size // len(self.scale), len(self.scale))
        call("normalize", *sizes, reads=(responses, self.scale, self.shift), writes=(normalized,))
        return normalized

    @property
    def addresses(self) -> tuple[int, int]:
        """Where scale and shift lie in memory."""
        return self.scale.ctypes.data, self.shift.ctypes.data
