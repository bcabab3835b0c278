"""Ascents: how the parameters of pictures follow their gradient.

An ascent begins with the parameters [stimulus ...], and makes new parameters of old ones, step by step. Nothing is
computed over the axis of stimuli (as torch's optimizers do not promise), so that a picture's search does not depend on
who else is in the batch.
"""
# ruff: noqa: ARG002  (the protocol's parameters, which not every ascent needs)

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@runtime_checkable
class Ascent(Protocol):
    """How parameters follow their gradient.

    `begin` gives the state before the first step; `step` new parameters, from the gradient of the objective; `stable`
    which pictures are done after the responses so far [step stimulus], or None where all go on to the last step.
    """

    @property
    def steps(self) -> int: ...
    def begin(self, parameters: Tensor) -> Any: ...
    def step(self, parameters: Tensor, gradient: Tensor, state: Any, number: int) -> Tensor: ...
    def stable(self, responses: list[Tensor]) -> Bool[Tensor, " stimulus"] | None: ...


@dataclass
class Moments:
    """Adam's running means of gradients and of their squares."""

    first: Tensor
    second: Tensor


@dataclass(frozen=True)
class Adam:
    """Adam (kingma2015) on the negative response; `weight_decay` is added to the gradient, as in torch.

    The defaults are kobayashi2020's (section 3.4); betas and epsilon, which it does not state, torch's.
    """

    lr: float = 0.1
    weight_decay: float = 1e-6
    steps: int = 31
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    nesterov: bool = False

    def begin(self, parameters: Tensor) -> Moments:
        return Moments(torch.zeros_like(parameters), torch.zeros_like(parameters))

    def step(self, parameters: Tensor, gradient: Tensor, state: Moments, number: int) -> Tensor:
        first, second = self.betas
        # torch's Adam goes down: this is the gradient of the negative response.
        down = parameters * self.weight_decay - gradient if self.weight_decay else -gradient
        state.first.mul_(first).add_(down, alpha=1 - first)
        state.second.mul_(second).addcmul_(down, down, value=1 - second)
        t = number + 1
        # Both means begin at 0; the factors 1 - beta^t correct them for that.
        spread = state.second.sqrt().mul_((1 - second**t) ** -0.5).add_(self.eps)
        if self.nesterov:  # dozat2016, without its schedule of the momentum
            mean = state.first * (first / (1 - first ** (t + 1))) + down * ((1 - first) / (1 - first**t))
            return torch.addcdiv(parameters, mean, spread, value=-self.lr)
        return torch.addcdiv(parameters, state.first, spread, value=-self.lr / (1 - first**t))

    def stable(self, responses: list[Tensor]) -> None:
        return None


@dataclass(frozen=True)
class MeanNormalized:
    """Steps of `size` times the gradient over its mean magnitude, until stable (zipser2015, after deepdream).

    `size` is 1.5/255 on the scale of pictures. Stable: over the last `window` steps the response gained less than
    `gain` of itself; at most `steps`. Unlike the paper, which does not state them, these numbers are deepdream's and
    ours.
    """

    size: float = 1.5 / 255
    steps: int = 2000
    window: int = 50
    gain: float = 1e-3

    def begin(self, parameters: Tensor) -> None:
        return None

    def step(self, parameters: Tensor, gradient: Tensor, state: None, number: int) -> Tensor:
        mean = gradient.abs().mean(tuple(range(1, gradient.ndim)), keepdim=True)
        return torch.addcdiv(parameters, gradient, mean.clamp(min=1e-20), value=self.size)

    def stable(self, responses: list[Tensor]) -> Bool[Tensor, " stimulus"] | None:
        if len(responses) <= self.window:
            return None
        now, then = responses[-1], responses[-1 - self.window]
        return now - then < self.gain * then.abs()


@dataclass(frozen=True)
class Steepest:
    """Steps along the gradient, of a length relative to the parameters' own: `first` at the beginning, `last` at the
    end.

    On a sphere: x <- rho (x + eta g/|g|) / |.|, with eta falling geometrically (methods 3.3).
    """

    first: float = 1.0
    last: float = 0.05
    steps: int = 48

    def begin(self, parameters: Tensor) -> None:
        return None

    def step(self, parameters: Tensor, gradient: Tensor, state: None, number: int) -> Tensor:
        share = number / max(self.steps - 1, 1)
        length = self.first * (self.last / self.first) ** share
        # 1e-30: where the gradient is 0, so is the step.
        along = norms(parameters) / norms(gradient).clamp(min=1e-30)
        return parameters + gradient * (length * along)

    def stable(self, responses: list[Tensor]) -> None:
        return None


def norms(x: Tensor) -> Tensor:
    """The Euclidean norm of each picture's parameters, [stimulus 1 ...]."""
    return torch.linalg.vector_norm(x, dim=tuple(range(1, x.ndim)), keepdim=True)


Penalty = Callable[[Float[Tensor, "stimulus color height width"]], Float[Tensor, " stimulus"]]
"""A penalty of whitened pictures, subtracted from the response."""
