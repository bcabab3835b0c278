"""Tapping: the quick way to listen to the same sites again and again.

`listening` overhears all that a network does in order to give the sites their names. Where a site's value is what some
module of torch.nn is given or gives, a hook on that module alone hears it too, at hardly any cost.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from unitscope.anatomy.listening import is_scripted, listening
from unitscope.anatomy.names import is_leaf
from unitscope.errors import BadInput

Heard = Callable[[str, Tensor], None]


@dataclass(frozen=True)
class Rectifier:
    """What a rectifying module of torch.nn does: it clips between `low` and `high`, `inplace` or into a new tensor."""

    low: float
    high: float
    inplace: bool

    @classmethod
    def of(cls, module: nn.Module) -> Rectifier | None:
        """None where the module is none, or may do something else beside."""
        if type(module) is nn.ReLU:
            return cls(0.0, math.inf, module.inplace)
        if isinstance(module, nn.Hardtanh) and type(module) in (nn.Hardtanh, nn.ReLU6):
            return cls(float(module.min_val), float(module.max_val), module.inplace)
        return None


Rectify = Callable[[str, Tensor, Rectifier], Tensor | None]
"""Hears a site's value and does the work of the rectifier to which it is given next; None: it has only heard it."""


@dataclass(frozen=True)
class Tap:
    """A site's value is what `module` gives (or, with `given`, is given) when it is called for the `call`-th time, of
    `calls` in a pass.
    """

    site: str
    module: nn.Module
    given: bool
    call: int
    calls: int


def taps_of(module: nn.Module, x: Tensor, sites: Mapping[str, Any]) -> tuple[Tap, ...] | None:
    """Where to tap the sites, found out by showing `x` once; None where not all of them can be had so."""
    parts = [part for part in module.modules() if is_leaf(part)]
    if any(is_scripted(part) or hasattr(part, "_orig_mod") for part in module.modules()):
        return None
    values: dict[int, tuple[str, Tensor, int]] = {}  # what was heard, with its version: nothing may have changed it
    found: dict[str, tuple[nn.Module, bool, int]] = {}
    calls: Counter[nn.Module] = Counter()

    def heard(name: str, value: Tensor) -> None:
        values[id(value)] = (name, value, value._version)

    def seen(part: nn.Module, value: Any, *, given: bool) -> None:
        name, known, version = values.get(id(value), ("", None, -1))
        if known is not None and name in sites and value._version == version:
            if given and Rectifier.of(part) is not None:  # a place where hearing may take the module's work over
                found[name] = (part, given, calls[part])
            else:
                found.setdefault(name, (part, given, calls[part]))

    def before(part: nn.Module, given: tuple[Any, ...]) -> None:
        if len(given) > 0:
            seen(part, given[0], given=True)

    def after(part: nn.Module, _: tuple[Any, ...], gives: Any) -> None:
        seen(part, gives, given=False)
        calls[part] += 1

    with ExitStack() as stack, listening(module, heard):
        for part in parts:
            stack.callback(part.register_forward_pre_hook(before).remove)
            stack.callback(part.register_forward_hook(after).remove)
        module(x)
    if set(found) != set(sites):
        return None
    return tuple(Tap(name, part, given, call, calls[part]) for name, (part, given, call) in found.items())


@contextmanager
def tapping(taps: Sequence[Tap], heard: Heard, rectify: Rectify | None = None) -> Iterator[None]:
    """While open, `heard(site, value)` is called for each tap, under the conditions of `listening`; at a rectifier
    `rectify`, if there is one, in its stead.

    Raises BadInput where a module is called more often than when the taps were found.
    """
    at: dict[tuple[nn.Module, bool], dict[int, Tap]] = {}
    for tap in taps:
        at.setdefault((tap.module, tap.given), {})[tap.call] = tap
    with ExitStack() as stack:
        for (part, given), of_part in at.items():
            kind = Rectifier.of(part) if given and rectify is not None and "forward" not in vars(part) else None
            if kind is None:
                stack.callback(hook(part, of_part, heard, given=given))
            else:
                assert rectify is not None
                stack.callback(stand_in(part, of_part, rectify, kind))
        yield


def next_of(taps: Mapping[int, Tap], part: nn.Module) -> Callable[[], Tap | None]:
    """A function that tells, each time the module is called, which tap it is."""
    most, call = next(iter(taps.values())).calls, 0

    def following() -> Tap | None:
        nonlocal call
        tap, call = taps.get(call), call + 1
        if call > most:
            raise BadInput(f"{type(part).__name__} ran more often than before: the network's path depends on pictures.")
        return tap

    return following


def hook(part: nn.Module, taps: Mapping[int, Tap], heard: Heard, *, given: bool) -> Callable[[], None]:
    """Put a hook on a module; returns what takes it away."""
    following = next_of(taps, part)

    def pass_on(value: Tensor) -> None:
        tap = following()
        if tap is not None:
            with torch._C.DisableTorchFunction():
                heard(tap.site, value)

    if given:
        return part.register_forward_pre_hook(lambda _, values: pass_on(values[0])).remove
    return part.register_forward_hook(lambda _module, _given, value: pass_on(value)).remove


def stand_in(part: nn.Module, taps: Mapping[int, Tap], rectify: Rectify, kind: Rectifier) -> Callable[[], None]:
    """Let `rectify` do the module's work where it can; returns what gives it back to the module."""
    following, own = next_of(taps, part), part.forward

    def forward(value: Tensor) -> Tensor:
        tap = following()
        if tap is None:
            return own(value)
        with torch._C.DisableTorchFunction():
            rectified = rectify(tap.site, value, kind)
        return own(value) if rectified is None else rectified

    part.forward = forward
    return partial(delattr, part, "forward")
