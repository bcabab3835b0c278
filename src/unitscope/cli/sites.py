"""sites: where an electrode can sit in a network, and what its neurons see there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from unitscope.cli.common import terminal_width
from unitscope.cli.json_output import describe_network, print_json
from unitscope.cli.options import DEFAULT_MODEL, ModelOptions, open_network
from unitscope.cli.text_tables import Column, count_text, pair_text, paragraph, size_text, table
from unitscope.errors import few

if TYPE_CHECKING:
    from unitscope.networks import Network
    from unitscope.vocabulary import Site


def sites(model: str, /, *, json: bool = False, options: ModelOptions = DEFAULT_MODEL) -> None:
    """List the sites of a network: where an electrode can sit, and what its neurons see there.

    Args:
        model: resnet34, plainnet34, shipped:resnet34, torchvision:NAME, timm:NAME or package.module:factory.
        json: Tell it as JSON, for scripts.
    """
    from unitscope.anatomy.sites import sites as sites_of
    from unitscope.recording.electrode import choose

    network = open_network(model, options)
    found = sites_of(network)
    if json:
        print_json(describe_network(network, found, choose(found, None)))
    else:
        print(site_table(network, found, choose(found, None), width=terminal_width()))


SITES: tuple[Column, ...] = (
    ("site", "<"), ("operation", "<"), ("units", ">"), ("lattice", ">"), ("field", ">"), ("stride", ">"),
    ("start", ">"), ("status", "<"),
)  # fmt: skip


def site_table(network: Network, sites: Mapping[str, Site], surveyed: Iterable[str], *, width: int = 80) -> str:
    """All sites of a network: what they are, what their neurons see, and which of them a survey records by default."""
    surveyed = set(surveyed)
    head = f"{network.name}, weights {network.weights}, pictures of {pair_text(network.size)} pixels"
    foot = (
        f"{count_text(len(sites), 'site')}. "
        f"The {len(surveyed)} marked * are recorded unless a survey is told otherwise: "
        "what enters a nonlinearity, and max-poolings. Fields, strides and starts are in pixels, rows x columns where "
        "these differ."
    )
    reasons = [f"{cause}: {few(names)}." for cause, names in _causes(sites.values()).items()]
    modules = {site.module for site in sites.values()}
    renamed = [f"{site.name} of {site.module}" for site in sites.values() if not _named_after_module(site, modules)]
    if renamed:
        reasons.append(f"Sites with a name that is not that of their module: {few(renamed, most=20)}.")
    rows = [_site_row(site, starred=site.name in surveyed) for site in sites.values()]
    return "\n".join(
        [head, "", table(SITES, rows, width=width), "", *(paragraph(text, width=width) for text in [foot, *reasons])]
    )


def _site_row(site: Site, *, starred: bool) -> tuple[str, ...]:
    field = site.field()
    seen = field.status in ("exact", "upper bound")
    return (
        site.name + " *" * starred,
        _brief(site.operation),
        str(site.channels),
        pair_text(site.lattice, "x"),
        size_text(field.size),
        size_text(field.stride) if seen else "",
        size_text(field.start) if seen else "",
        field.status,
    )


def _named_after_module(site: Site, modules: set[str]) -> bool:
    """Whether a site's name tells its module: it is the path, with a number where the module runs again."""
    again = re.fullmatch(re.escape(site.module) + r"_\d+", site.name) and site.name not in modules
    return site.module in ("", site.name) or bool(again)


def _causes(sites: Iterable[Site]) -> dict[str, list[str]]:
    """What keeps fields from being exact, and the sites where it does."""
    found: dict[str, list[str]] = {}
    for site in sites:
        field = site.field()
        if field.status in ("upper bound", "unknown") and field.cause:
            found.setdefault(f"{field.status} ({field.cause})", []).append(site.name)
    return found


def _brief(operation: str) -> str:
    """The operation's name, in twelve letters or fewer."""
    brief = re.sub(r"^adaptive_", "", operation).strip("_")
    return brief if len(brief) <= 12 else brief[:11] + "…"
