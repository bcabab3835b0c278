"""Objectives: the numbers that a search raises. A neuron, a unit at all or some positions, sums, differences, logits.

Objectives can be added, subtracted and multiplied by numbers: `neuron("maxpool:3") - 0.5 * neuron("maxpool:7")`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from unitscope.errors import BadInput, unknown_name
from unitscope.vocabulary import Neuron, Site, Size, Unit, resolve_sites, split_unit_text

At = str | Size | Sequence[Size]
"""Where on the lattice: "center", "all", one (row, col), or several, whose mean counts."""


@dataclass(frozen=True)
class Term:
    """The mean response of a unit over `at`, times `weight`."""

    unit: Unit
    at: str | tuple[Size, ...]
    weight: float = 1.0

    def __str__(self) -> str:
        places = self.at if isinstance(self.at, str) else "+".join(f"{row},{col}" for row, col in self.at)
        factor = {1.0: "", -1.0: "-"}.get(self.weight, f"{self.weight:g}*")
        return f"{factor}{self.unit}" + ("" if places == "center" else f"@{places}")


@dataclass(frozen=True)
class Objective:
    """A weighted sum of terms. Its name is what it prints."""

    terms: tuple[Term, ...]

    def __add__(self, other: Objective) -> Objective:
        return Objective((*self.terms, *other.terms))

    def __neg__(self) -> Objective:
        return -1.0 * self

    def __sub__(self, other: Objective) -> Objective:
        return self + -other

    def __mul__(self, factor: float) -> Objective:
        return Objective(tuple(replace(term, weight=term.weight * factor) for term in self.terms))

    __rmul__ = __mul__

    def __str__(self) -> str:
        return " + ".join(map(str, self.terms)).replace("+ -", "- ")

    @classmethod
    def parse(cls, text: str) -> Objective:
        """The objective whose name is `text`. Raises BadInput."""
        parts = re.split(TERM, text)  # what lies between terms is empty
        if any(parts[::3]):
            raise BadInput(f"{text!r} is no objective; expected for instance layer1.0.relu:18@28,28.")
        return cls(
            tuple(
                _parse_term(part, -1.0 if sign == " - " else 1.0)
                for sign, part in zip(parts[1::3], parts[2::3], strict=True)
            )
        )


TERM = r"(^| \+ | - )(.+?:\d+(?:@(?:all|[\d,+]+))?)(?= \+ | - |$)"
"""A term of an objective, with the sign before it. A site may have any name, so that only a channel ends it."""


def _parse_term(text: str, sign: float) -> Term:
    match = re.fullmatch(r"(-)?(?:([\d.e+-]+)\*)?(.+?)(?:@(all|[\d,+]+))?", text)
    if match is None:
        raise BadInput(f"{text!r} is no objective; expected for instance layer1.0.relu:18@28,28.")
    places: str | tuple[Size, ...] = match[4] or "center"
    if match[4] not in (None, "all"):
        places = tuple((int(row), int(col)) for row, col in (pair.split(",") for pair in match[4].split("+")))
    return Term(Unit.parse(match[3]), places, sign * (-1.0 if match[1] else 1.0) * float(match[2] or 1))


def neuron(unit: str | Unit | Neuron, *, at: At = "center") -> Objective:
    """One neuron: a unit at a position, by default at the lattice's center (rows // 2, cols // 2).

    At a site without positions, such as the logits, it is the unit itself.
    """
    return _parse_single(unit, at)


def unit(name: str | Unit) -> Objective:
    """A unit at all positions: the mean of its map.

    Source: kobayashi2020, section 3.4 ("channel"); zipser2015's tiling (gradient 1 at every node), but for a factor
    that changes no recipe here.
    """
    return _parse_single(name, "all")


def _parse_single(named: str | Unit | Neuron, at: At) -> Objective:
    if isinstance(named, str):
        parts = split_unit_text(named)
        named = Unit.parse(named) if parts is None or parts[2] is None else Neuron.parse(named)
    if isinstance(named, Neuron):
        return Objective((Term(named.unit, ((named.row, named.col),)),))
    return Objective((Term(named, _parse_positions(at)),))


def _parse_positions(at: At) -> str | tuple[Size, ...]:
    if isinstance(at, str):
        if at in ("center", "all"):
            return at
        numbers = re.fullmatch(r"\s*(\d+)\s*,\s*(\d+)\s*", at)
        if numbers is None:
            raise BadInput(f"at is {at!r}; expected 'center', 'all', or a position ROW,COL such as 28,28.")
        return ((int(numbers[1]), int(numbers[2])),)
    pairs = [at] if len(at) == 2 and all(isinstance(n, int) for n in at) else list(at)
    if not pairs or not all(
        isinstance(p, Sequence) and len(p) == 2 and all(isinstance(n, int) for n in p) for p in pairs
    ):
        raise BadInput(f"at is {at!r}; expected 'center', 'all', a position (row, col), or several of them.")
    return tuple((p[0], p[1]) for p in pairs)  # type: ignore[index]


ObjectiveLike = str | Unit | Neuron | Objective
"""What `maximize` takes for an objective."""


def parse_objectives(
    asked: ObjectiveLike | Iterable[ObjectiveLike], sites: Mapping[str, Site], *, at: At = "center"
) -> list[Objective]:
    """The objectives of units, neurons and texts.

    Args:
        asked: one or several. A text is SITE:CHANNEL, SITE:* or SITE:3-7 (SITE may be a glob), each with @ROW,COL for a
            neuron; the site "logits" is the network's last one.
        sites: the network's sites.
        at: the position where none is given: "center", "all", (row, col), or several of these.

    Raises:
        UnknownName: the network has no such site.
        BadInput: the text cannot be parsed, or the site has no such channel or position.
    """
    several = [asked] if isinstance(asked, str | Unit | Neuron | Objective) else list(asked)
    objectives: list[Objective] = []
    for one in several:
        if isinstance(one, str):
            objectives += _parse_text(one, sites, at)
        else:
            objectives.append(one if isinstance(one, Objective) else _parse_single(one, at))
    if not objectives:
        raise BadInput("nothing is to be maximized; name units as SITE:CHANNEL, for instance layer1.0.relu:18.")
    for objective in objectives:
        for term in objective.terms:
            check_term(term, sites)
    return objectives


def _parse_text(text: str, sites: Mapping[str, Site], at: At) -> list[Objective]:
    parts = split_unit_text(text)
    if parts is None:
        raise BadInput(
            f"{text!r} names no units; write SITE:CHANNEL, SITE:* or SITE:3-7, with @ROW,COL for a neuron, for "
            "instance layer1.0.relu:18@28,28."
        )
    named, channels, place = parts
    pattern = list(sites)[-1] if named == "logits" and "logits" not in sites else named
    return [
        _parse_single(Unit(name, channel), at if place is None else place)
        for name, site in resolve_sites(sites, pattern).items()
        for channel in _parse_channels(channels, site)
    ]


def _parse_channels(text: str, site: Site) -> range:
    if text == "*":
        return range(site.channels)
    first, _, last = text.partition("-")
    channels = range(int(first), int(last or first) + 1)
    if not channels or channels[-1] >= site.channels:
        asked = f"no {text}" if last else f"no channel {text}"
        raise BadInput(f"{site.name} has {asked}: its channels are 0 to {site.channels - 1}.")
    return channels


def check_term(term: Term, sites: Mapping[str, Site]) -> None:
    """Raises UnknownName or BadInput where the network has no such unit or position."""
    if term.unit.site not in sites:
        raise unknown_name("site", term.unit.site, sites, where="the network")
    site = sites[term.unit.site]
    if not 0 <= term.unit.channel < site.channels:
        raise BadInput(f"{site.name} has no channel {term.unit.channel}: its channels are 0 to {site.channels - 1}.")
    for row, col in () if isinstance(term.at, str) else term.at:
        if not (0 <= row < site.lattice[0] and 0 <= col < site.lattice[1]):
            raise BadInput(_off_lattice_message(site, row, col))


def _off_lattice_message(site: Site, row: int, col: int) -> str:
    if site.lattice == (1, 1):
        return f"{site.name} has no position {row},{col}: it is a vector, without positions. Leave the position out."
    rows, cols = site.lattice
    return f"{site.name} has no neuron at {row},{col}: its lattice is {rows} x {cols}, counted from 0,0."


def positions_of(term: Term, site: Site) -> tuple[Size, ...] | str:
    """The lattice positions of a term: a tuple of them, or "all"."""
    if term.at == "center":
        return (site.center,)
    if term.at == "all" and site.lattice == (1, 1):
        return ((0, 0),)
    return term.at
