"""Hooks on a few modules: the fast way to read the same sites again and again.

Problem: `hook_values` follows all that a network does in order to give the sites their names, which costs time in each
pass.

Idea: where a site's value is what some module of torch.nn is given or gives, a hook on that module alone sees the
value, too, at hardly any cost. One pass with all hooks finds the modules; from then on only these have hooks.

    site "layer1.0.add"      what `layer1.0.relu` is given when it is called for the second time
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from unitscope.anatomy.node_names import is_leaf
from unitscope.anatomy.value_hooks import hook_values, is_scripted
from unitscope.errors import BadInput

Receive = Callable[[str, Tensor], None]


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


def find_taps(
    module: nn.Module,
    x: Tensor,
    sites: Mapping[str, Any],
    *,
    prefer: Callable[[nn.Module], bool] = lambda _: False,
    observer: AbstractContextManager[Any] = nullcontext(),  # noqa: B008
) -> tuple[Tap, ...] | None:
    """Where to tap the sites, found out by showing `x` once; None where one of them is at no module.

    Args:
        module: The network.
        x: Prepared pictures.
        sites: What to tap, by name.
        prefer: Modules at whose input a site is tapped, if it may be tapped there and elsewhere.
        observer: Open during the forward pass, as the innermost of all modes.
    """
    parts = [part for part in module.modules() if is_leaf(part)]
    # Python hooks do not see what runs inside a script, nor what runs inside a compiled module.
    if any(is_scripted(part) or hasattr(part, "_orig_mod") for part in module.modules()):
        return None
    # The last values by id, each with its version: nothing may have changed it since. Each tensor is held here, so that
    # no other tensor gets its id.
    values: dict[int, tuple[str, Tensor, int]] = {}
    found: dict[str, Tap] = {}
    calls: Counter[nn.Module] = Counter()

    def receive(name: str, value: Tensor) -> None:
        values[id(value)] = (name, value, version_of(value))

    def seen(part: nn.Module, value: Any, *, given: bool) -> None:
        # The very tensor of the site, and not written to since.
        name, known, version = values.get(id(value), ("", None, -1))
        if known is None or name not in sites or version_of(value) != version:
            return
        tap = Tap(name, part, given, calls[part], 0)
        # The first place where the site is seen counts, unless a preferred one comes later.
        if given and prefer(part):
            found[name] = tap
        else:
            found.setdefault(name, tap)

    def before(part: nn.Module, given: tuple[Any, ...]) -> None:
        if len(given) > 0:
            seen(part, given[0], given=True)

    def after(part: nn.Module, _: tuple[Any, ...], gives: Any) -> None:
        seen(part, gives, given=False)
        calls[part] += 1

    with ExitStack() as stack, hook_values(module, receive), observer:
        for part in parts:
            stack.callback(part.register_forward_pre_hook(before).remove)
            stack.callback(part.register_forward_hook(after).remove)
        module(x)
    if set(found) != set(sites):
        return None
    return tuple(replace(tap, calls=calls[tap.module]) for tap in found.values())


def version_of(value: Any) -> int:
    """How often a tensor was overwritten; 0 where torch does not count (inference mode), or for what is no tensor."""
    return 0 if not isinstance(value, Tensor) or value.is_inference() else value._version


@contextmanager
def hook_modules(taps: Sequence[Tap], receive: Receive) -> Iterator[None]:
    """While open, `receive(site, value)` is called for each tap, under the conditions of `hook_values`.

    Raises BadInput where a module is called more often than when the taps were found.
    """
    at: dict[tuple[nn.Module, bool], dict[int, Tap]] = {}
    for tap in taps:
        at.setdefault((tap.module, tap.given), {})[tap.call] = tap
    with ExitStack() as stack:
        for (part, given), of_part in at.items():
            stack.callback(add_hook(part, of_part, receive, given=given))
        yield


def count_calls(taps: Mapping[int, Tap], part: nn.Module) -> Callable[[], str | None]:
    """A function that gives, each time the module is called, the site that is tapped at this call, or None."""
    most, call = next(iter(taps.values())).calls, 0

    def following() -> str | None:
        nonlocal call
        tap, call = taps.get(call), call + 1
        if call > most:
            raise BadInput(f"{type(part).__name__} ran more often than before: the network's path depends on pictures.")
        return None if tap is None else tap.site

    return following


def add_hook(part: nn.Module, taps: Mapping[int, Tap], receive: Receive, *, given: bool) -> Callable[[], None]:
    """Put a hook on a module; returns what takes it away."""
    following = count_calls(taps, part)

    def pass_on(value: Tensor) -> None:
        site = following()
        if site is not None:
            with torch._C.DisableTorchFunction():
                receive(site, value)

    if given:
        return part.register_forward_pre_hook(lambda _, values: pass_on(values[0])).remove
    return part.register_forward_hook(lambda _module, _given, value: pass_on(value)).remove
