"""Reading responses to a few pictures, in full."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from unitscope.anatomy.sites import sites as sites_of
from unitscope.pristine import draw_from
from unitscope.recording.electrode import choose, show
from unitscope.recording.steadiness import check_steadiness

if TYPE_CHECKING:
    from unitscope.networks import Network
    from unitscope.vocabulary import Site


def read(
    network: Network,
    pictures: Float[Tensor, "stimulus color height width"],
    sites: str | Iterable[str],
    *,
    seed: int | None = None,
) -> dict[str, Float[Tensor, "stimulus unit row col"]]:
    """The responses of all neurons of the named sites to pictures, from one pass that ends at the last site.

    Args:
        network: the network and all random states are left as they were.
        pictures: Tensor[stimulus color height width], RGB in 0..1, of the network's size.
        sites: names or globs.
        seed: for a network that draws random numbers when it runs.

    Returns:
        By site: Tensor[stimulus unit row col]. A site without positions has one row and one column.

    Raises:
        UnknownName: the network has no such site.
        BadInput: a response depends on the other pictures, on chance, or on what was shown before (see `steadiness`).

    Example:
        >>> import torch
        >>> responses = unitscope.read(network, torch.rand(2, 3, 32, 32), ["maxpool", "fc"])
        >>> {site: tuple(values.shape) for site, values in responses.items()}
        {'maxpool': (2, 4, 8, 8), 'fc': (2, 2, 1, 1)}
    """
    chosen = choose(sites_of(network), [sites] if isinstance(sites, str) else list(sites))
    responses: dict[str, Tensor] = {}

    def keep(site: Site, value: Tensor) -> None:
        responses[site.name] = value.detach().clone()

    chance: AbstractContextManager[None] = nullcontext() if seed is None else draw_from(seed, network.module)
    with torch.no_grad():
        x = network.prepare(pictures)
        if len(x):
            check_steadiness(network, chosen, x, seed=seed)
        with chance:
            show(network, x, chosen, keep)
    return {name: responses[name] for name in chosen}
