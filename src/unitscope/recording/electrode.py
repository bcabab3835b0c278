"""The electrode: the only file that listens to a network on behalf of the survey. It leaves no trace in the
network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from unitscope.anatomy.listening import listening
from unitscope.anatomy.rectifiers import Rectifier
from unitscope.anatomy.sites import sites as sites_of
from unitscope.anatomy.tapping import Tap, tapping, taps_of
from unitscope.errors import BadInput, few
from unitscope.vocabulary import resolve_sites

if TYPE_CHECKING:
    from unitscope.networks import Network
    from unitscope.vocabulary import Site

POOLINGS = ("max_pool2d",)
"""Operations whose output is surveyed by default, beside everything that enters a nonlinearity."""


def read(
    network: Network,
    pictures: Float[Tensor, "stimulus color height width"],
    sites: str | Iterable[str],
) -> dict[str, Float[Tensor, "stimulus unit row col"]]:
    """The responses of all neurons of the named sites (globs allowed) to `pictures` (RGB, 0..1), from one pass that
    ends at the last.

    A site without positions has one row and one column. Raises UnknownName for a site that the network does not have.
    """
    chosen = choose(sites_of(network), [sites] if isinstance(sites, str) else list(sites))
    responses: dict[str, Tensor] = {}

    def keep(site: Site, value: Tensor) -> None:
        responses[site.name] = value.detach().clone()

    with torch.no_grad():
        show(network, network.prepare(pictures), chosen, keep)
    return {name: responses[name] for name in chosen}


Keep = Callable[["Site", Tensor], None]
"""Takes a site and its responses [stimulus unit row col]."""

Rectify = Callable[["Site", Tensor, Rectifier], Tensor | None]
"""As `Keep`, and does the work of the rectifier to which the responses are given next. None: it has done neither."""


def show(network: Network, x: Tensor, sites: Mapping[str, Site], keep: Keep) -> None:
    """Show prepared pictures to the network, and hand the responses [stimulus unit row col] of each site to `keep` as
    they come to be.

    What is handed over is a view of the network's own memory, which a later operation may overwrite: reduce it or
    clone it at once. The pass ends when the last of the sites has been heard.
    """
    Electrodes(network, dict(sites), None).show(x, keep)


@dataclass(frozen=True)
class Electrodes:
    """Electrodes at some sites of a network. With `taps`, only the modules that they sit at are touched; without, all
    that the network does is overheard.
    """

    network: Network
    sites: dict[str, Site]
    taps: tuple[Tap, ...] | None

    def show(self, x: Tensor, keep: Keep, rectify: Rectify | None = None) -> None:
        """As the function `show`. Where responses are tapped on their way into a rectifier, `rectify` is called first,
        and `keep` where it can do nothing.
        """
        waiting = set(self.sites)

        def heard(name: str, value: Tensor) -> None:
            if name in waiting:
                waiting.discard(name)
                keep(self.sites[name], as_responses(value, self.sites[name]))
                if not waiting:
                    raise _Enough

        def rectified(name: str, value: Tensor, kind: Rectifier) -> Tensor | None:
            site = self.sites[name]
            if rectify is None or name not in waiting or value.ndim != 4 or site.channel_axis != 1:
                return None
            gives = rectify(site, value, kind)
            if gives is not None:
                waiting.discard(name)
                if not waiting:
                    raise _Enough
            return gives

        own = rectified if rectify is not None else None
        module = self.network.module
        with _until_enough(), listening(module, heard) if self.taps is None else tapping(self.taps, heard, own):
            module(x)
        if waiting:
            raise BadInput(
                f"{self.network.name} did not pass {few(sorted(waiting))} with these pictures; "
                "its path seems to depend on what it sees."
            )


def place(network: Network, sites: Mapping[str, Site]) -> Electrodes:
    """Electrodes for many pictures: where each of them best sits is found out once, with a blank picture."""
    blank = torch.zeros((1, network.inputs, *network.size), device=network.device)
    with torch.no_grad():
        return Electrodes(network, dict(sites), taps_of(network.module, network.prepare(blank), sites))


def as_responses(value: Tensor, site: Site) -> Float[Tensor, "stimulus unit row col"]:
    """The network's own tensor, viewed with the axes of the laboratory."""
    if value.ndim == 4 and site.channel_axis == 1:
        return value
    value = value.movedim(site.channel_axis, 1)
    return value.reshape(value.shape[0], value.shape[1], *site.lattice)


Alter = Callable[[Tensor], None]
"""Changes responses [stimulus unit row col] in place."""


@contextmanager
def inject(network: Network, site: Site, alter: Alter) -> Iterator[None]:
    """While open, whatever the network computes behind `site` goes on from altered responses.

    Each forward pass is a full one; `recording.tape` repeats only what lies behind the site.
    """

    def heard(name: str, value: Tensor) -> Tensor | None:
        if name != site.name:
            return None
        altered = value.detach().clone()
        alter_responses(altered, site, alter)
        return altered

    with listening(network.module, heard):
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
    """All sites have been heard; the rest of the pass would be for nothing."""


@contextmanager
def _until_enough() -> Iterator[None]:
    with suppress(_Enough):
        yield
