"""Rectifiers: modules whose work may be done by whoever reads what they are given, in the same pass over memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from unitscope.errors import BadInput


@dataclass(frozen=True)
class Rectifier:
    """What a rectifying module of torch.nn does: it clips between `low` and `high`, `inplace` or into a new tensor.

    With a `norm`, what there is to be clipped is still to be computed: by this batch normalization, from what is given.
    """

    low: float
    high: float
    inplace: bool
    norm: nn.BatchNorm2d | None = None

    @classmethod
    def of(cls, module: nn.Module) -> Rectifier | None:
        """None where the module is none, or may do something else beside."""
        if "forward" in vars(module):
            return None
        if type(module) is nn.ReLU:
            return cls(0.0, math.inf, module.inplace)
        if isinstance(module, nn.Hardtanh) and type(module) in (nn.Hardtanh, nn.ReLU6):
            return cls(float(module.min_val), float(module.max_val), module.inplace)
        return None


Rectify = Callable[[str, Tensor, Rectifier], Tensor | None]
"""Hears a site's value and does the work of the rectifier to which it is given next. None: it has done neither."""


def has_hooks(module: nn.Module) -> bool:
    """Whether anybody listens to what a module, or one within, is given or gives."""
    return any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def is_plain_norm(module: nn.Module) -> bool:
    """Whether a module does nothing but normalize by known means and variances, and nobody listens to it."""
    return (
        type(module) is nn.BatchNorm2d
        and not module.training
        and module.running_mean is not None
        and not (has_hooks(module) or "forward" in vars(module))
    )


@dataclass
class StandIns:
    """Do the work of rectifiers, and of the batch normalizations before them, by `rectify` where it can.

    What it cannot do is `heard`, and done by the module itself. While a normalization's work is done together with its
    rectifier's, the network holds what is already rectified; it must be the rectifier that gets it next.
    """

    rectify: Rectify
    heard: Callable[[str, Tensor], None]
    ready: list[Tensor] = field(default_factory=list)

    def at_norm(self, site: str, norm: nn.BatchNorm2d, kind: Rectifier, *, inplace: bool) -> Callable[[], None]:
        """Stand in for a normalization, which may overwrite what it is given or not; returns what ends it."""
        own = norm.forward

        def forward(value: Tensor) -> Tensor:
            with torch._C.DisableTorchFunction():
                gives = self.rectify(site, value, replace(kind, inplace=inplace, norm=norm))
            if gives is None:
                return own(value)
            if gives is value:  # overwritten: whoever reads it after all shall find NaN, in the shape that it had
                gives = value.view_as(value)
                value.data = value.new_full((), math.nan).expand(value.shape)
            self.ready.append(gives)
            return gives

        return stand_in_when_called(norm, forward)

    def at_rectifier(self, part: nn.Module, kind: Rectifier, following: Callable[[], str | None]) -> Callable[[], None]:
        """Stand in for a rectifier; returns what ends it. `following` tells at each call which site's it is."""
        own = part.forward

        def forward(value: Tensor) -> Tensor:
            site = following()
            if site is None:
                return own(value)
            if self.ready and self.ready[-1] is value:
                return self.ready.pop()
            with torch._C.DisableTorchFunction():
                gives = self.rectify(site, value, kind)
                if gives is None:
                    self.heard(site, value)
            return own(value) if gives is None else gives

        return stand_in_when_called(part, forward)

    def check(self) -> None:
        """Raises BadInput where something rectified did not come to its rectifier."""
        if self.ready:
            raise BadInput(
                "A batch normalization's output went elsewhere than before: the network's path depends on pictures."
            )


def stand_in(part: nn.Module, forward: Callable[..., Tensor]) -> Callable[[], None]:
    """Let `forward` be called in place of the module's own; returns what ends it."""
    part.forward = forward

    def end() -> None:
        del part.forward

    return end


def stand_in_when_called(part: nn.Module, forward: Callable[[Tensor], Tensor]) -> Callable[[], None]:
    """Let `forward` be called in place of the module's own where the module is called, and not where somebody calls
    its `forward` directly: taps were found by hooks, which such a call does not reach. Returns what ends it.
    """
    own, called = part.forward, False

    def note_call(_module: nn.Module, _given: tuple[Tensor, ...]) -> None:
        nonlocal called
        called = True

    def choose(*values: Tensor, **named: Tensor) -> Tensor:
        nonlocal called
        is_call, called = called, False
        return forward(*values, *named.values()) if is_call else own(*values, **named)

    handle, end_forward = part.register_forward_pre_hook(note_call), stand_in(part, choose)

    def end() -> None:
        end_forward()
        handle.remove()

    return end
