"""Fused operations: rectifiers, and batch normalizations before them, done while their input is being read.

Problem: a survey reads what most rectifiers are given. The rectifier itself then reads the same memory again, and so
did the batch normalization before it. See reader.py for what one pass over memory saves.

Idea: while a batch is shown, the `forward` of these modules is replaced. The rectifier's replacement hands its input to
the site's accumulator, which reads it and gives what the rectifier would have given:

    replaced module   called with   gives
    norm              x             relu(norm(x)), made and read by `FastAccumulator.add_fused` (if norm is fused, too)
    relu              relu(norm(x)) the same tensor, unchanged

A normalization may be fused only if nobody but its rectifier ever sees what it gives; `FusionFinder` finds that out.
Once its output is rectified too early, it must be the rectifier that gets it next. Whatever else happens raises
`BadInput`, or reads NaN: no number that could be taken for a response.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from unitscope.anatomy.module_hooks import Receive, Tap, add_hook, count_calls
from unitscope.anatomy.node_names import is_leaf
from unitscope.errors import BadInput


@dataclass(frozen=True)
class Rectifier:
    """What a rectifying module of torch.nn does: it clips between `low` and `high`, `inplace` or into a new tensor.

    With a `norm`, what is to be clipped is still to be computed: by this batch normalization, from what is given.
    """

    low: float
    high: float
    inplace: bool
    norm: nn.BatchNorm2d | None = None

    @classmethod
    def of(cls, module: nn.Module) -> Rectifier | None:
        """None where the module is no rectifier, or may do something else as well."""
        if "forward" in vars(module):
            return None
        # Not isinstance: the forward of a subclass may do something else.
        if type(module) is nn.ReLU:
            return cls(0.0, math.inf, module.inplace)
        if isinstance(module, nn.Hardtanh) and type(module) in (nn.Hardtanh, nn.ReLU6):
            return cls(float(module.min_val), float(module.max_val), module.inplace)
        return None


AddFused = Callable[[str, Tensor, Rectifier], Tensor | None]
"""Takes in a site's responses and does the work of the rectifier behind it. None: it has done neither."""


@dataclass(frozen=True)
class FusedNorm:
    """A batch normalization whose output nobody but the rectifier behind it ever sees."""

    norm: nn.BatchNorm2d
    spare: bool
    """Whether its input may be overwritten: nobody but the normalization ever reads that."""


# --- while a batch is shown ------------------------------------------------------------------------


@contextmanager
def hook_fused_modules(
    taps: Sequence[Tap], receive: Receive, *, add_fused: AddFused, norms: Mapping[str, FusedNorm]
) -> Iterator[None]:
    """As `anatomy.module_hooks.hook_modules`; at rectifiers, `add_fused` is called first, and `receive` where it could
    do nothing.

    Args:
        taps: The modules that give the sites' values, or are given them.
        receive: Called with a site's name and its value.
        add_fused: See `AddFused`.
        norms: Normalizations to be fused with the rectifier at a site, by the site's name.

    Raises:
        BadInput: A module is called more often than when the taps were found, or what it gives goes elsewhere.
    """
    at: dict[tuple[nn.Module, bool], dict[int, Tap]] = {}
    for tap in taps:
        at.setdefault((tap.module, tap.given), {})[tap.call] = tap
    replacements = Replacements(add_fused, receive)
    with ExitStack() as stack:
        for (part, given), of_part in at.items():
            rectifier = Rectifier.of(part) if given else None
            if rectifier is None:
                stack.callback(add_hook(part, of_part, receive, given=given))
                continue
            for tap in of_part.values():
                fused = norms.get(tap.site)
                if fused is not None and is_plain_norm(fused.norm):
                    own = replace(rectifier, inplace=fused.spare, norm=fused.norm)
                    stack.callback(replacements.replace_norm(tap.site, fused.norm, own))
            stack.callback(replacements.replace_rectifier(part, rectifier, count_calls(of_part, part)))
        try:
            yield
        finally:
            replacements.check()


@dataclass
class Replacements:
    """Functions that take the place of `forward` in rectifiers and normalizations.

    `rectified` holds what normalizations have given so far and their rectifiers have not yet been given.
    """

    add_fused: AddFused
    receive: Receive
    rectified: list[Tensor] = field(default_factory=list)

    def replace_norm(self, site: str, norm: nn.BatchNorm2d, rectifier: Rectifier) -> Callable[[], None]:
        """Replace a normalization's forward; returns what puts it back."""
        own = norm.forward

        def forward(value: Tensor) -> Tensor:
            with torch._C.DisableTorchFunction():
                result = self.add_fused(site, value, rectifier)
            if result is None:
                return own(value)
            if result is value:  # overwritten: whoever reads it after all shall find NaN, in the shape that it had
                result = value.view_as(value)
                value.data = value.new_full((), math.nan).expand(value.shape)
            self.rectified.append(result)
            return result

        return replace_forward_when_called(norm, forward)

    def replace_rectifier(
        self, part: nn.Module, rectifier: Rectifier, next_site: Callable[[], str | None]
    ) -> Callable[[], None]:
        """Replace a rectifier's forward; returns what puts it back. `next_site` names at each call the site there."""
        own = part.forward

        def forward(value: Tensor) -> Tensor:
            site = next_site()
            if site is None:
                return own(value)
            # The normalization before has done the rectifier's work already.
            if self.rectified and self.rectified[-1] is value:
                return self.rectified.pop()
            with torch._C.DisableTorchFunction():
                result = self.add_fused(site, value, rectifier)
                if result is None:
                    self.receive(site, value)
            return own(value) if result is None else result

        return replace_forward_when_called(part, forward)

    def check(self) -> None:
        """Raise BadInput where something rectified did not come to its rectifier."""
        if self.rectified:
            raise BadInput(
                "A batch normalization's output went elsewhere than before: the network's path depends on pictures."
            )


def replace_forward(part: nn.Module, forward: Callable[..., Tensor]) -> Callable[[], None]:
    """Let `forward` be called in place of the module's own; returns what puts that back."""
    part.forward = forward

    def put_back() -> None:
        del part.forward

    return put_back


def replace_forward_when_called(part: nn.Module, forward: Callable[[Tensor], Tensor]) -> Callable[[], None]:
    """Let `forward` be called in place of the module's own where the module is called.

    Where somebody calls its `forward` directly, the module's own is called: taps were found by hooks, which such a call
    does not reach. Returns what puts the module's own back.
    """
    own, called = part.forward, False

    def note_call(_module: nn.Module, _given: tuple[Tensor, ...]) -> None:
        nonlocal called
        called = True

    def choose(*values: Tensor, **named: Tensor) -> Tensor:
        nonlocal called
        is_call, called = called, False
        return forward(*values, *named.values()) if is_call else own(*values, **named)

    handle, put_back = part.register_forward_pre_hook(note_call), replace_forward(part, choose)

    def end() -> None:
        put_back()
        handle.remove()

    return end


# --- beforehand: which normalizations may be fused ---------------------------------------------------


class FusionFinder(TorchDispatchMode):
    """Watches the forward pass in which taps are found, and afterwards says which normalizations may be fused.

    A normalization may be fused with the rectifier that is given its very output, in place, without any operation in
    between; and only if it runs once in a pass, and nobody has put hooks on the network.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.parts = [part for part in module.modules() if is_leaf(part)]
        norms = {part for part in self.parts if is_plain_norm(part)}
        self.norms = set() if has_hooks(module) else norms
        self.count = 0
        self.calls: Counter[nn.Module] = Counter()
        self.inputs: dict[nn.Module, Any] = {}
        self.straight: dict[tuple[nn.Module, int], nn.BatchNorm2d] = {}
        self.last: tuple[nn.Module | None, Any, int] = (None, None, 0)  # the last norm, what it gave, and when
        self.reads: Counter[int] = Counter()
        self.made: set[int] = set()
        self.kept: list[Any] = []  # so that no memory is used twice
        self.hooks = ExitStack()

    def __enter__(self) -> FusionFinder:
        for part in self.parts:
            self.hooks.callback(part.register_forward_pre_hook(self.before).remove)
            self.hooks.callback(part.register_forward_hook(self.after).remove)
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.hooks.close()

    def before(self, part: nn.Module, given: tuple[Any, ...]) -> None:
        if len(given) > 0:
            self.inputs[part] = given[0]
            rectifier, (norm, output, when) = Rectifier.of(part), self.last
            straight = rectifier is not None and rectifier.inplace and output is given[0] and when == self.count
            if straight and isinstance(norm, nn.BatchNorm2d):
                self.straight[part, self.calls[part]] = norm

    def after(self, part: nn.Module, _given: tuple[Any, ...], output: Any) -> None:
        self.calls[part] += 1
        self.last = (part if part in self.norms else None, output, self.count)

    def __torch_dispatch__(self, function: Any, _types: Any, arguments: Any = (), named: Any = None) -> Any:
        self.count += 1
        # A set: an operation that is given a tensor twice counts as one reader.
        self.reads.update({*find_memory((arguments, named))})
        output = function(*arguments, **(named or {}))
        # An output at an address that was read before is a view, or was changed in place.
        self.made |= {address for address in find_memory(output) if address not in self.reads}
        self.kept.append(output)
        return output

    def fused_norms(self, taps: Sequence[Tap]) -> dict[str, FusedNorm]:
        """The normalizations that may be fused with the rectifiers at the taps, by the name of the tap's site."""
        found = {tap.site: self.straight.get((tap.module, tap.call)) for tap in taps if tap.given}
        return {
            site: FusedNorm(norm, self.is_spare(self.inputs[norm]))
            for site, norm in found.items()
            if norm is not None and self.calls[norm] == 1
        }

    def is_spare(self, value: Tensor) -> bool:
        """Whether a tensor's memory was made meanwhile, and has been read by one operation only."""
        places = find_memory(value)
        return bool(places) and all(address in self.made and self.reads[address] == 1 for address in places)


def find_memory(values: Any) -> list[int]:
    """The addresses of all tensors' memory among nested values, where they have one."""
    tensors = (part for part in tree_leaves(values) if isinstance(part, Tensor) and part.layout is torch.strided)
    return [tensor.untyped_storage().data_ptr() for tensor in tensors]


def has_hooks(module: nn.Module) -> bool:
    """Whether a module, or one within it, has hooks."""
    return any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def is_plain_norm(module: nn.Module) -> bool:
    """Whether a module does nothing but normalize by known means and variances, and has no hooks."""
    return (
        type(module) is nn.BatchNorm2d
        and not module.training
        and module.running_mean is not None
        and not (has_hooks(module) or "forward" in vars(module))
    )
