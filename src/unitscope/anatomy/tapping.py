"""Tapping: the quick way to listen to the same sites again and again.

`listening` overhears all that a network does in order to give the sites their names. Where a site's value is what some
module of torch.nn is given or gives, a hook on that module alone hears it too, at hardly any cost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from unitscope.anatomy.listening import is_scripted, listening
from unitscope.anatomy.names import is_leaf
from unitscope.anatomy.rectifiers import Rectifier, Rectify, StandIns, has_hooks, is_plain_norm
from unitscope.errors import BadInput

Heard = Callable[[str, Tensor], None]


@dataclass(frozen=True)
class Tap:
    """A site's value is what `module` gives (or, with `given`, is given) when it is called for the `call`-th time, of
    `calls` in a pass. `norm`: what it is given there comes straight from this batch normalization, and nobody but
    the module ever sees it; with `spare` nobody but the normalization ever reads what that is given, either.
    """

    site: str
    module: nn.Module
    given: bool
    call: int
    calls: int
    norm: nn.BatchNorm2d | None = None
    spare: bool = False


def taps_of(module: nn.Module, x: Tensor, sites: Mapping[str, Any]) -> tuple[Tap, ...] | None:
    """Where to tap the sites, found out by showing `x` once; None where not all of them can be had so."""
    parts = [part for part in module.modules() if is_leaf(part)]
    if any(is_scripted(part) or hasattr(part, "_orig_mod") for part in module.modules()):
        return None
    values: dict[int, tuple[str, Tensor, int]] = {}  # what was heard, with its version: nothing may have changed it
    found: dict[str, Tap] = {}
    calls: Counter[nn.Module] = Counter()
    norms = {part for part in parts if is_plain_norm(part)} if not has_hooks(module) else set()
    inputs: dict[nn.Module, Any] = {}
    operations = Operations()
    normalized: tuple[nn.BatchNorm2d | None, Any, int] = (None, None, 0)  # the last one, what it gave, and when

    def heard(name: str, value: Tensor) -> None:
        values[id(value)] = (name, value, version_of(value))

    def seen(part: nn.Module, value: Any, *, given: bool) -> None:
        name, known, version = values.get(id(value), ("", None, -1))
        if known is None or name not in sites or version_of(value) != version:
            return
        kind = Rectifier.of(part) if given else None
        if kind is None:
            found.setdefault(name, Tap(name, part, given, calls[part], 0))
            return
        norm, gave, when = normalized
        straight = kind.inplace and gave is value and when == operations.count
        found[name] = Tap(name, part, given, calls[part], 0, norm if straight else None)

    def before(part: nn.Module, given: tuple[Any, ...]) -> None:
        if len(given) > 0:
            inputs[part] = given[0]
            seen(part, given[0], given=True)

    def after(part: nn.Module, _: tuple[Any, ...], gives: Any) -> None:
        nonlocal normalized
        seen(part, gives, given=False)
        calls[part] += 1
        norm = part if isinstance(part, nn.BatchNorm2d) and part in norms else None
        normalized = (norm, gives, operations.count)

    with ExitStack() as stack, listening(module, heard), operations:
        for part in parts:
            stack.callback(part.register_forward_pre_hook(before).remove)
            stack.callback(part.register_forward_hook(after).remove)
        module(x)
    if set(found) != set(sites):
        return None
    once = {norm for norm in norms if calls[norm] == 1}
    taps = (
        replace(tap, calls=calls[tap.module], norm=tap.norm if tap.norm in once else None) for tap in found.values()
    )
    return tuple(replace(tap, spare=tap.norm is not None and operations.is_spare(inputs[tap.norm])) for tap in taps)


def version_of(value: Any) -> int:
    """How often a tensor was overwritten; 0 where torch does not count (inference mode), or for what is no tensor."""
    return 0 if not isinstance(value, Tensor) or value.is_inference() else value._version


class Operations(TorchDispatchMode):
    """Counts the operations on tensors while it is open, and how many of them read each piece of memory."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.reads: Counter[int] = Counter()
        self.made: set[int] = set()
        self.kept: list[Any] = []  # so that no memory is used twice

    def __torch_dispatch__(self, function: Any, _types: Any, arguments: Any = (), named: Any = None) -> Any:
        self.count += 1
        self.reads.update({*memory_of((arguments, named))})
        gives = function(*arguments, **(named or {}))
        self.made |= {place for place in memory_of(gives) if place not in self.reads}
        self.kept.append(gives)
        return gives

    def is_spare(self, value: Tensor) -> bool:
        """Whether a tensor's memory was made meanwhile, and has been read by one operation only."""
        places = memory_of(value)
        return bool(places) and all(place in self.made and self.reads[place] == 1 for place in places)


def memory_of(values: Any) -> list[int]:
    """The places in memory of all tensors among nested values, where they have one."""
    tensors = (part for part in tree_leaves(values) if isinstance(part, Tensor) and part.layout is torch.strided)
    return [tensor.untyped_storage().data_ptr() for tensor in tensors]


@contextmanager
def tapping(taps: Sequence[Tap], heard: Heard, rectify: Rectify | None = None) -> Iterator[None]:
    """While open, `heard(site, value)` is called for each tap, under the conditions of `listening`; at a rectifier
    `rectify`, if there is one, in its stead, where it can.

    Raises BadInput where a module is called more often than when the taps were found, or what it gives goes elsewhere.
    """
    at: dict[tuple[nn.Module, bool], dict[int, Tap]] = {}
    for tap in taps:
        at.setdefault((tap.module, tap.given), {})[tap.call] = tap
    stand_ins = StandIns(rectify, heard) if rectify is not None else None
    with ExitStack() as stack:
        for (part, given), of_part in at.items():
            kind = Rectifier.of(part) if given else None
            if stand_ins is None or kind is None:
                stack.callback(hook(part, of_part, heard, given=given))
                continue
            for tap in of_part.values():
                if tap.norm is not None and is_plain_norm(tap.norm):
                    stack.callback(stand_ins.at_norm(tap.site, tap.norm, kind, inplace=tap.spare))
            stack.callback(stand_ins.at_rectifier(part, kind, next_of(of_part, part)))
        try:
            yield
        finally:
            if stand_ins is not None:
                stand_ins.check()


def next_of(taps: Mapping[int, Tap], part: nn.Module) -> Callable[[], str | None]:
    """A function that tells, each time the module is called, which site is tapped there."""
    most, call = next(iter(taps.values())).calls, 0

    def following() -> str | None:
        nonlocal call
        tap, call = taps.get(call), call + 1
        if call > most:
            raise BadInput(f"{type(part).__name__} ran more often than before: the network's path depends on pictures.")
        return None if tap is None else tap.site

    return following


def hook(part: nn.Module, taps: Mapping[int, Tap], heard: Heard, *, given: bool) -> Callable[[], None]:
    """Put a hook on a module; returns what takes it away."""
    following = next_of(taps, part)

    def pass_on(value: Tensor) -> None:
        site = following()
        if site is not None:
            with torch._C.DisableTorchFunction():
                heard(site, value)

    if given:
        return part.register_forward_pre_hook(lambda _, values: pass_on(values[0])).remove
    return part.register_forward_hook(lambda _module, _given, value: pass_on(value)).remove
