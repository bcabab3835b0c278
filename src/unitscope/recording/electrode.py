"""The electrode: reads the values at some sites of a network while it runs, and leaves no trace in it.

Problem: a site's value lives for a moment only. The network frees it, or overwrites it in place, as soon as the next
operation has read it.

Idea: whoever wants the value gets it at the moment when it has been computed. There are two instruments:

    hooks on all values      each operation of the network is followed (anatomy/value_hooks.py): always possible, slow
    hooks on a few modules   those that are given, or give, the site's value (anatomy/module_hooks.py): fast

A `ForwardPass` keeps account of the sites that have not come yet, and ends the pass when none is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unitscope.anatomy.inference import without_inference_mode
from unitscope.anatomy.module_hooks import Tap, find_taps, hook_modules
from unitscope.anatomy.value_hooks import hook_values
from unitscope.errors import BadInput, UnitscopeError, few
from unitscope.vocabulary import resolve_sites

if TYPE_CHECKING:
    from unitscope.networks import Network
    from unitscope.vocabulary import Site

POOLINGS = ("max_pool2d",)
"""Operations whose output is surveyed by default, beside everything that enters a nonlinearity."""


Keep = Callable[["Site", Tensor], None]
"""Takes a site and its responses [stimulus unit row col]."""

Instrument = Callable[["ForwardPass"], AbstractContextManager[Any]]
"""Makes what is open during a forward pass, and hands the sites' values to it as they come to be."""


def show(network: Network, x: Tensor, sites: Mapping[str, Site], keep: Keep) -> None:
    """Show prepared pictures to the network, and hand the responses of each site over as they come to be.

    The pass ends when the last of the sites has come; the network is afterwards as it was.

    Args:
        network: The network.
        x: Prepared pictures [stimulus color height width].
        sites: The sites to be read.
        keep: Called with each site and its responses [stimulus unit row col], a view of the network's own memory, which
            a later operation may overwrite: reduce the responses or clone them at once.

    Raises:
        BadInput: A site's value has not one row per picture.
    """
    Electrodes(network, dict(sites), None).show(x, keep)


@dataclass(frozen=True)
class Electrodes:
    """Electrodes at some sites of a network. With `taps`, only the modules that they sit at are touched; without, every
    operation of the network is followed. What the network changes in itself stays changed with `pristine` False.
    """

    network: Network
    sites: dict[str, Site]
    taps: tuple[Tap, ...] | None
    pristine: bool = True

    def show(self, x: Tensor, keep: Keep, instrument: Instrument | None = None) -> None:
        """As the function `show`, with another instrument than `listen`, if one is given."""
        with without_inference_mode():
            # Outside of inference mode PyTorch refuses to change an inference tensor in place, which the network may
            # do.
            x = x.clone() if x.is_inference() else x
            if len(x) == 1:
                self._show_one(x, keep)
            else:
                self._show(x, keep, instrument or self.listen)

    def listen(self, forward_pass: ForwardPass) -> AbstractContextManager[Any]:
        """Hooks at the taps; without taps, every operation of the network is followed."""
        if self.taps is None:
            return hook_values(self.network.module, forward_pass.take, pristine=self.pristine)
        return hook_modules(self.taps, forward_pass.take)

    def _show_one(self, x: Tensor, keep: Keep) -> None:
        """Show one picture. A network that loses the axis of stimuli then (`squeeze()`) is shown the picture twice."""
        responses: dict[str, Tensor] = {}

        def collect(site: Site, value: Tensor) -> None:
            responses[site.name] = value[:1].clone()

        try:
            self._show(x, collect, self.listen)
        except (RuntimeError, ValueError, IndexError, TypeError):
            responses.clear()
            self._show(torch.cat([x, x]), collect, self.listen)
        for name, value in responses.items():
            keep(self.sites[name], value)

    def _show(self, x: Tensor, keep: Keep, instrument: Instrument) -> None:
        forward_pass = ForwardPass(self.sites, keep, len(x), set(self.sites))
        try:
            with instrument(forward_pass):
                self.network.module(x)
        except Exception as error:
            cause = forward_pass.raised or error
            if isinstance(error, UnitscopeError) and error is not cause:  # what was noticed when the pass had ended
                raise
            # _Enough is no error: it ends the pass after the last site.
            if not isinstance(cause, _Enough):
                raise cause from (None if cause is not error else error.__cause__)
        if forward_pass.awaited:
            raise BadInput(
                f"{self.network.name} did not pass {few(sorted(forward_pass.awaited))} with these pictures; "
                "its path seems to depend on what it sees."
            )


@dataclass
class ForwardPass:
    """One forward pass of `count` pictures, which ends when no site is awaited any more.

    `raised` is the first error of the functions below. What is raised within TorchScript comes out of it as something
    else.
    """

    sites: Mapping[str, Site]
    keep: Keep
    count: int
    awaited: set[str]
    raised: Exception | None = field(default=None, init=False)

    def take(self, name: str, value: Tensor) -> None:
        """Hand over a site's value, if it is awaited."""
        if name in self.awaited:
            with self.noting_errors():
                self.awaited.discard(name)
                self.keep(self.sites[name], as_responses(value, self.sites[name], self.count))
                self.end_if_done()

    def take_raw(self, name: str, value: Tensor, take: Callable[[Site, Tensor], Tensor | None]) -> Tensor | None:
        """Hand a value with the axes of a site's responses to `take`, if the site is awaited. If `take` returns None,
        the value was not taken, and the site is still awaited.
        """
        site = self.sites[name]
        expected = (self.count, site.channels, *site.lattice)
        if name not in self.awaited or tuple(value.shape) != expected or site.channel_axis != 1:
            return None
        with self.noting_errors():
            result = take(site, value)
            if result is not None:
                self.awaited.discard(name)
                self.end_if_done()
        return result

    def end_if_done(self) -> None:
        if not self.awaited:
            raise _Enough

    @contextmanager
    def noting_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.raised = self.raised or error
            raise


def place(
    network: Network,
    sites: Mapping[str, Site],
    *,
    prefer: Callable[[nn.Module], bool] = lambda _: False,
    observer: AbstractContextManager[Any] = nullcontext(),  # noqa: B008
) -> Electrodes:
    """Electrodes for many pictures: where each of them best sits is found out once, with two blank pictures.

    `prefer` and `observer` are those of `anatomy.module_hooks.find_taps`.
    """
    # Two pictures: with one, a network that squeezes its tensors would lose the axis of stimuli.
    blank = torch.zeros((2, network.inputs, *network.size), device=network.device)
    with torch.no_grad():
        taps = find_taps(network.module, network.prepare(blank), sites, prefer=prefer, observer=observer)
    return Electrodes(network, dict(sites), taps)


def as_responses(value: Tensor, site: Site, count: int | None = None) -> Float[Tensor, "stimulus unit row col"]:
    """The network's own tensor, viewed with the axes of the laboratory.

    Raises BadInput where it has not one row for each of `count` stimuli (None: whatever it has), or not one column for
    each of the site's channels.
    """
    count = len(value) if count is None and value.ndim else count
    if value.ndim < 2 or value.shape[0] != count:
        rows = f"{value.shape[0]} rows" if value.ndim > 1 else f"the shape {list(value.shape)}"
        raise BadInput(
            f"{site.name} has {rows} for {count} {'stimulus' if count == 1 else 'stimuli'}: the network joins, cuts or "
            "mixes the pictures of a batch there, so that a response cannot be told to belong to a stimulus. Choose "
            "other sites, or wrap the network in a module that shows the pictures one after the other."
        )
    if site.channel_axis >= value.ndim or value.shape[site.channel_axis] != site.channels:
        raise BadInput(
            f"{site.name} has the shape {list(value.shape)} for {count} stimuli; expected {site.channels} channels on "
            f"axis {site.channel_axis}, as with a blank picture. The network's shapes seem to depend on what it sees."
        )
    if value.ndim == 4 and site.channel_axis == 1:
        return value
    value = value.movedim(site.channel_axis, 1)
    return value.reshape(value.shape[0], value.shape[1], *site.lattice)


Alter = Callable[[Tensor], None]
"""Changes responses [stimulus unit row col] in place."""


@contextmanager
def inject(network: Network, site: Site, alter: Alter) -> Iterator[None]:
    """While open, whatever the network computes behind `site` goes on from altered responses.

    Each forward pass is a full one; `recording.replay` repeats only what lies behind the site.
    """

    def replace_value(name: str, value: Tensor) -> Tensor | None:
        if name != site.name:
            return None
        altered = value.detach().clone()
        alter_responses(altered, site, alter)
        return altered

    with hook_values(network.module, replace_value):
        yield


def alter_responses(value: Tensor, site: Site, alter: Alter) -> None:
    """Let `alter` change the network's own tensor, whatever its axes."""
    responses = as_responses(value, site)
    alter(responses)
    if responses.data_ptr() != value.data_ptr():  # a copy, since the axes could not be viewed in the laboratory's order
        moved = value.movedim(site.channel_axis, 1)
        moved.copy_(responses.reshape(moved.shape))


def choose(sites: Mapping[str, Site], patterns: Iterable[str] | None) -> dict[str, Site]:
    """The sites that any of the patterns stands for, in the order of execution; the default set where `patterns` is
    None.

    The default set is every pre-activation (what enters a nonlinearity) and every max-pooling. Raises UnknownName for
    a pattern that matches nothing.
    """
    if patterns is None:
        default = (site for site in sites.values() if site.preactivation or site.operation in POOLINGS)
        return {site.name: site for site in default if not site.unreadable}
    return resolve_sites(sites, patterns)


class _Enough(Exception):
    """All sites have come; the rest of the pass would be for nothing."""
