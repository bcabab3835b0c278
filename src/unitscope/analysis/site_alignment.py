"""Which sites of several networks stand beside each other: those of one name, and those that hold the same place.

Problem: what enters the last nonlinearity of a block is `layer1.0.add` in a residual network, and `layer1.0.bn2` in its
plain twin. Idea: sites of one name are anchors; what lies between two anchors is paired where it can be.

    residual     conv1    layer1.0.add    layer1.0.relu_1
                   |           :               |            | same name     : same place
    plain        conv1    layer1.0.bn2    layer1.0.relu_1
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unitscope.record import SiteFacts

Row = list["SiteFacts | None"]
"""One place in the order of execution: a site of each network, None where a network has none there."""


def align_sites(networks: Sequence[Sequence[SiteFacts]]) -> list[Row]:
    """The sites of all networks in one order, side by side.

    Sites of one name stand in one row. So do sites of different names that hold the same place: between the same
    neighbors, as many in both networks, with the same channels, lattice and field. (What enters a block's last
    nonlinearity is `layer1.0.add` in a residual network and `layer1.0.bn2` in its plain twin.)
    """
    rows: list[Row] = [[site] for site in networks[0]] if networks else []
    for number, sites in enumerate(networks[1:], 1):
        rows = _add_network(rows, sites, number)
    return rows


def _add_network(rows: list[Row], sites: Sequence[SiteFacts], number: int) -> list[Row]:
    """The rows with one more network's sites."""
    joined: list[Row] = []
    for (row, site), (next_row, next_site) in pairwise([(-1, -1), *_anchors(rows, sites), (len(rows), len(sites))]):
        joined += _gap(rows[row + 1 : next_row], sites[site + 1 : next_site], number)
        if next_row < len(rows):
            joined.append([*rows[next_row], sites[next_site]])
    return joined


def _anchors(rows: list[Row], sites: Sequence[SiteFacts]) -> list[tuple[int, int]]:
    """Rows and sites of one name, both in rising order."""
    place = {site.name: i for i, site in enumerate(sites)}
    anchors: list[tuple[int, int]] = []
    for i, row in enumerate(rows):
        found = [place[site.name] for site in row if site is not None and site.name in place]
        # Both must rise: anchors that cross would change the order of execution of one network.
        if found and (not anchors or found[0] > anchors[-1][1]):
            anchors.append((i, found[0]))
    return anchors


def _gap(rows: list[Row], sites: Sequence[SiteFacts], number: int) -> list[Row]:
    """What lies between two anchors: paired where all of it can be, else one after the other."""
    if len(rows) == len(sites) and all(_alike(row, site) for row, site in zip(rows, sites, strict=True)):
        return [[*row, site] for row, site in zip(rows, sites, strict=True)]
    return [[*row, None] for row in rows] + [[*[None] * number, site] for site in sites]


def _alike(row: Row, site: SiteFacts) -> bool:
    known = [other for other in row if other is not None]
    return all(
        (other.channels, other.lattice, other.field.size) == (site.channels, site.lattice, site.field.size)
        for other in known
    )
