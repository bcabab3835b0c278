"""Ascents: how parameters follow their gradient. Each picture goes its own way, whoever else is in the batch.

An ascent is begun with the parameters [stimulus ...], and then makes new parameters of old ones, step by step.
"""
# ruff: noqa: ARG002  (not every ascent needs all that it is told)

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@runtime_checkable
class Ascent(Protocol):
    """`begin` gives a state; `step` new parameters, from the gradient of what is to be raised; `stable` tells which
    pictures are done after the responses so far [step stimulus].
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
        down = parameters * self.weight_decay - gradient if self.weight_decay else -gradient
        state.first.mul_(first).add_(down, alpha=1 - first)
        state.second.mul_(second).addcmul_(down, down, value=1 - second)
        t = number + 1
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
        along = lengths(parameters) / lengths(gradient).clamp(min=1e-30)
        return parameters + gradient * (length * along)

    def stable(self, responses: list[Tensor]) -> None:
        return None


def lengths(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=tuple(range(1, x.ndim)), keepdim=True)


Penalty = Callable[[Float[Tensor, "stimulus color height width"]], Float[Tensor, " stimulus"]]
"""A price of whitened pictures, taken off the response."""
