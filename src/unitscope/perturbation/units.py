"""Which units are disturbed: those that were asked for, or those that a record found to be inactive."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from unitscope.anatomy.computation import identity_of
from unitscope.anatomy.operations import kind
from unitscope.anatomy.site_graph import graph_of, readers
from unitscope.errors import BadInput, Failure, few, unknown_name
from unitscope.network_facts import difference
from unitscope.record import Record
from unitscope.vocabulary import resolve_sites, split_unit_text

if TYPE_CHECKING:
    from unitscope.networks import Network
    from unitscope.vocabulary import Site


@dataclass(frozen=True)
class Chosen:
    """The units of one site that are disturbed, those that may be drawn to compare with, and how they were chosen."""

    site: Site
    channels: tuple[int, ...]
    active: tuple[int, ...]
    how: str
    inactive_at: str | None = None
    """The site of the record at which they were found inactive."""


def parse_units(texts: Iterable[str], sites: Mapping[str, Site]) -> dict[str, list[int]]:
    """The channels by site of "SITE:CHANNEL", "SITE:3-7" and "SITE:*". Raises UnknownName, BadInput."""
    found: dict[str, list[int]] = {}
    for text in texts:
        parts = split_unit_text(text)
        if parts is None:
            raise BadInput(f"{text!r} names no units; write SITE:CHANNEL, SITE:3-7 or SITE:*, such as maxpool:18.")
        pattern, numbers, place = parts
        if place is not None:
            raise BadInput(f"{text!r} names a neuron; units are disturbed as a whole. Leave the position out.")
        first, _, last = numbers.partition("-")
        for name, site in resolve_sites(sites, pattern).items():
            count = site.channels
            channels = range(count) if first == "*" else range(int(first), int(last or first) + 1)
            if not channels or channels[-1] >= count:
                raise BadInput(f"{text!r}: {name} has {count} channels, 0 to {count - 1}.")
            known = found.setdefault(name, [])
            known += [channel for channel in channels if channel not in known]
    return found


def choose_units(
    network: Network,
    sites: Mapping[str, Site],
    *,
    units: str | Iterable[str] | None,
    record: Record | None,
    site: str | None,
) -> Chosen:
    """The units of one site: `units` as given, else those that the record found inactive at `site`.

    Where the inactive units are those of a pre-activation, the same channels behind the nonlinearity are altered, where
    they are silent.

    Args:
        network: the network.
        sites: its sites.
        units: "SITE:CHANNEL", "SITE:3-7" or "SITE:*", all of one site.
        record: of the network; tells which units are inactive.
        site: where inactive units are looked for; by default the record's first max-pooling, as in kobayashi2020.

    Raises:
        BadInput: there are none, or units of several sites.
        Failure: the record is of other weights.
    """
    if record is not None:
        refuse_foreign(record, network)
    if units is not None:
        found = parse_units([units] if isinstance(units, str) else units, sites)
        if len(found) != 1:
            raise BadInput(f"units of one site are disturbed at a time; these are of {few(found, most=5) or 'none'}.")
        name, channels = next(iter(found.items()))
        silent = inactive_units(record, name) if record is not None and name in record.sites else []
        return choose_channels(sites[name], sorted(channels), silent, "as asked for")
    if record is None:
        raise BadInput(
            "which units? Name them (maxpool:18, maxpool:3-7, maxpool:*), or give a record, whose inactive units are "
            "then disturbed."
        )
    name = site or first_pooling(record)
    if name not in record.sites:
        raise unknown_name("site", name, record.sites, where=f"the record {record.path}")
    silent = inactive_units(record, name)
    if not silent:
        raise BadInput(none_inactive_message(record, name))
    # The pre-activation of a silent unit is not 0 but below: the unit is silent behind its nonlinearity.
    altered = behind_rectification(network, name) if record.sites[name].preactivation else name
    how = f"inactive at {name} in {record.path.name}"
    return replace(choose_channels(sites[altered], silent, silent, how), inactive_at=name)


def choose_channels(site: Site, channels: list[int], silent: list[int], how: str) -> Chosen:
    active = set(range(site.channels)) - set(channels) - set(silent)
    return Chosen(site, tuple(channels), tuple(sorted(active)), how)


def inactive_units(record: Record, site: str) -> list[int]:
    """The channels of a site that never answered above 0."""
    units = record.units()
    here = units[(units["site"] == site) & units["inactive"].fillna(False).astype(bool)]
    return sorted(here["channel"].tolist())


def first_pooling(record: Record) -> str:
    """The first max-pooling of a record. Raises BadInput."""
    for site in record.sites.values():
        if site.operation == "max_pool2d":
            return site.name
    raise BadInput(f"the record {record.path} has no max-pooling; name a site: {few(record.sites)}.")


def none_inactive_message(record: Record, site: str) -> str:
    units = record.units()
    counts = units[units["inactive"].fillna(False).astype(bool)].groupby("site", sort=False).size()
    story = (
        f"no unit of {site} is inactive: each of its {record.sites[site].channels} answered some image of the record."
    )
    if len(counts):
        listed = [f"{name} ({count})" for name, count in counts.items()]
        return f"{story} Inactive units are at {few(listed, most=6)}: choose one with --site, or name units."
    return f"{story} Nor is any other that was recorded; name units, such as {site}:0."


def refuse_foreign(record: Record, network: Network) -> None:
    """Raises Failure where the record was made with another network."""
    there = record.facts["network"]
    other = difference(there, identity_of(network))
    if other:
        raise Failure(
            f"the record {record.path} is of {there['name']} ({there['fingerprint'][:8]}) with other {other} than this "
            f"{network.name} ({network.fingerprint[:8]}). Give the network that was surveyed, or survey this one."
        )


def behind_rectification(network: Network, site: str) -> str:
    """The site of the nonlinearity that alone reads a pre-activation; the site itself where several things read it."""
    reading = readers(graph_of(network), site)
    alone = len(reading) == 1 and kind(reading[0].operation).nonlinear
    return reading[0].name if alone else site
