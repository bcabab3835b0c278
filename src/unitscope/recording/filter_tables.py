"""A network's virtual filters, and those of the same network before training, kept in a record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from jaxtyping import Float

from unitscope.anatomy.computation import identity_of
from unitscope.anatomy.filters import (
    MODES,
    Mode,
    NotLinear,
    VirtualFilters,
    Way,
    convolutions_in_reach,
    virtual_filters,
)
from unitscope.anatomy.linearized import agreement
from unitscope.anatomy.operations import kind
from unitscope.anatomy.site_graph import Node, graph_of
from unitscope.durable import lock_folder, write_arrays, write_json
from unitscope.errors import BadInput, unknown_name
from unitscope.network_facts import difference
from unitscope.random_copies import untrained
from unitscope.record import Record, open_record
from unitscope.recording.batches import Progress
from unitscope.recording.covariance import joint_moments
from unitscope.stimuli.images import Source
from unitscope.vocabulary import match_names

if TYPE_CHECKING:
    from unitscope.networks import Network


@dataclass(frozen=True, eq=False)
class Filtered:
    """The virtual filters of one convolution, how far they are from the linearized network's own weights, and where in
    a record they belong.

    `cosine` and `error` [unit] are NaN where `why` says that there is no linearized network. `shown_at` are the
    surveyed sites whose channel c is made of this convolution's channel c, up to the first addition.
    """

    filters: VirtualFilters
    cosine: Float[np.ndarray, " unit"]
    error: Float[np.ndarray, " unit"]
    why: str = ""
    shown_at: tuple[str, ...] = ()
    seed: int | None = None
    "Of the untrained network that they are from; None for the network itself."


def filters(
    network: Network,
    sites: str | Iterable[str] | None = None,
    *,
    record: Record | str | Path | None = None,
    images: Source | None = None,
    mode: str = "max_tap",
    folded: bool = False,
    baselines: int = 0,
    progress: Progress | None = None,
) -> dict[str, Filtered]:
    """The virtual filters of convolutions, by site.

    A virtual filter is what a unit of a later convolution would look like if the layers between were left out.

    Args:
        network: it is left as it was.
        sites: names or globs of convolutions; by default all that read the first convolution's filters directly, also
            along skips.
        record: where filters are kept (`filters.json`, `filters.zarr`); none are kept without a record.
        images: with images, each channel counts by its standard deviation over them.
        mode: "max_tap" (the paper's), "max_tap_shifted" or "full".
        folded: multiply the gains of batch normalizations in. (The paper leaves them out.)
        baselines: so many untrained networks, whose filters are kept in the record, too.
        progress: called as progress(done, all).

    Raises:
        BadInput: there is no such mode, a site has no virtual filter, or the record is of other weights.

    Source: kobayashi2020, eq. 3.

    Example:
        >>> filters = unitscope.filters(network, "layer1.0.conv1")
        >>> found = filters["layer1.0.conv1"].filters
        >>> found.reads, found.pictures.shape  # unit color height width
        ('maxpool', (4, 3, 7, 7))
    """
    if mode not in MODES:
        raise unknown_name("mode", mode, MODES, advice=f"There are {', '.join(MODES)}.")
    opened = open_record(record) if isinstance(record, str | Path) else record
    if opened is not None:
        refuse_other_weights(opened, network)
    graph = graph_of(network)
    chosen = choose(Way(graph, network.inputs), sites)
    surveyed = () if opened is None else tuple(opened.sites)
    settings: dict[str, Any] = {"images": images, "mode": mode, "folded": folded, "surveyed": surveyed}
    found: list[Filtered] = []
    for seed in (None, *range(baselines if opened is not None else 0)):
        one = network if seed is None else untrained(network, seed=seed)
        found += _filters_of(one, chosen, seed=seed, **settings)
        if progress is not None:
            progress(len(found), len(chosen) * (1 + baselines))
    if opened is not None:
        keep(found, opened)
    return {one.filters.site: one for one in found if one.seed is None}


def choose(way: Way, sites: str | Iterable[str] | None) -> list[str]:
    """The convolutions that are asked for. Raises BadInput where there are none, or one has no virtual filter."""
    if sites is None:
        near = convolutions_in_reach(way)
        if not near:
            raise BadInput("no convolution of this network reads the first one's filters in a linear way.")
        return near
    reach = convolutions_in_reach(way, mixing=None)
    chosen: list[str] = []
    for pattern in [sites] if isinstance(sites, str) else sites:
        names = match_names(pattern, reach)
        if not names:
            if pattern in way.graph:
                virtual_filters(way, pattern)  # tells why there are none
            raise unknown_name("site", pattern, reach, where="among the convolutions with virtual filters there")
        chosen += [name for name in names if name not in chosen]
    return chosen


def _filters_of(
    network: Network,
    chosen: list[str],
    *,
    seed: int | None,
    images: Source | None,
    mode: str,
    folded: bool,
    surveyed: tuple[str, ...],
) -> list[Filtered]:
    graph = graph_of(network)
    way = Way(graph, network.inputs, cast(Mode, mode), folded)
    spreads = _spreads(network, images, [virtual_filters(way, site).reads for site in chosen])
    found = []
    for site in chosen:
        plain = virtual_filters(way, site)
        cosine, error, why = _agreement(network, graph, plain) if seed is None else (*_unknown(plain), "")
        weighted = virtual_filters(way, site, spread=spreads[plain.reads]) if spreads else plain
        places = tuple(name for name in followers(graph, site) if name in surveyed)
        found.append(Filtered(weighted, cosine, error, why, places, seed))
    return found


def _spreads(network: Network, images: Source | None, reads: list[str]) -> dict[str, np.ndarray]:
    """The standard deviation of the channels that are read, over images and positions; empty without images."""
    if images is None:
        return {}
    sites = sorted(set(reads))
    return {one.sites[0]: one.deviation(one.sites[0]) for one in joint_moments(network, images, [[s] for s in sites])}


def _agreement(
    network: Network, graph: Mapping[str, Node], plain: VirtualFilters
) -> tuple[np.ndarray, np.ndarray, str]:
    try:
        compared = agreement(network, graph, plain)
    except NotLinear as error:
        return *_unknown(plain), str(error)
    return compared.cosine, compared.error, ""


def _unknown(plain: VirtualFilters) -> tuple[np.ndarray, np.ndarray]:
    nothing = np.full(len(plain.pictures), np.nan)
    return nothing, nothing


def followers(graph: Mapping[str, Node], site: str) -> list[str]:
    """The sites whose channel c is made of channel c of `site` alone, or of it and one more value that is added."""
    # How many additions lie on the way to each site: the fewest, where there are several ways.
    sums = {site: 0}
    for name, each in graph.items():
        heard = [sums[read] for read in each.reads if read in sums]
        if heard and (kind(each.operation).per_channel or each.operation == "add"):
            count = min(heard) + (each.operation == "add")
            if count <= 1:
                sums[name] = count
    return list(sums)


def refuse_other_weights(record: Record, network: Network) -> None:
    """A record says something of one network only. Raises BadInput where it is of another."""
    known = record.facts["network"]
    other = difference(known, identity_of(network))
    if other:
        raise BadInput(
            f"the record {record.path} is of {known['name']} with the weights {known['fingerprint'][:8]}; "
            f"{network.name} has {network.fingerprint[:8]} ({other} differ). Give the network that was surveyed, or "
            "survey this one."
        )


def keep(found: list[Filtered], record: Record) -> None:
    """Write `filters.zarr` and `filters.json` to the record, in place of what was there."""
    arrays: dict[str, tuple[np.ndarray, tuple[str, ...]]] = {}
    listed = []
    for number, one in enumerate(found):
        own = one.filters
        pixels = ("color", "height", "width")
        arrays[f"{number}/pictures"] = (own.pictures.astype(np.float32), ("unit", *pixels))
        arrays[f"{number}/basis"] = (own.basis.astype(np.float32), ("mid", *pixels))
        arrays[f"{number}/coupling"] = (own.coupling.astype(np.float32), ("unit", "mid"))
        arrays[f"{number}/cosine"], arrays[f"{number}/error"] = (one.cosine, ("unit",)), (one.error, ("unit",))
        listed.append({
            "site": own.site, "reads": own.reads, "chain": list(own.chain), "mode": own.mode, "folded": own.folded,
            "weighted": own.weighted, "start": list(own.start), "step": list(own.step), "seed": one.seed,
            "shown_at": list(one.shown_at), "why": one.why,
        })  # fmt: skip
    with lock_folder(record.path):
        write_arrays(record.path / "filters.zarr", arrays, attributes={"filters": listed})
        write_json(record.path / "filters.json", listed)
