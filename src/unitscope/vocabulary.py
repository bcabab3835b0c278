"""The nouns: Box, ReceptiveField, Unit, Neuron, Site. Facts only; they import neither torch nor each other's chapters.

Text is understood here once: "layer1.0.relu_1:18@28,28" names the neuron at row 28, column 28 of unit 18 of a site.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import numpy as np

from unitscope.errors import BadInput, unknown_name
from unitscope.html_templates import render

if TYPE_CHECKING:
    from numpy.typing import NDArray

Size = tuple[int, int]
"""Height and width, in pixels or in lattice positions."""


class Box(NamedTuple):
    """A half-open box of pixels of the network's input. It may hang over the picture's edge.

    Example:
        >>> box = unitscope.Box(top=-3, left=2, bottom=8, right=13)
        >>> box.height, box.clip((32, 32))
        (11, Box(top=0, left=2, bottom=8, right=13))
    """

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    def clip(self, size: Size) -> Box:
        """The part of the box that lies on a picture of `size` (height, width)."""
        height, width = size
        return Box(
            min(max(self.top, 0), height),
            min(max(self.left, 0), width),
            min(max(self.bottom, 0), height),
            min(max(self.right, 0), width),
        )

    def shift(self, rows: int, cols: int) -> Box:
        """The same box moved down by `rows` and right by `cols` pixels."""
        return Box(self.top + rows, self.left + cols, self.bottom + rows, self.right + cols)

    def __and__(self, other: Box) -> Box:
        """The rectangle that both boxes share; without height or width where they share none."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        return Box(top, left, max(top, min(self.bottom, other.bottom)), max(left, min(self.right, other.right)))

    def hull(self, other: Box) -> Box:
        """The smallest box that holds both."""
        return Box(
            min(self.top, other.top), min(self.left, other.left),
            max(self.bottom, other.bottom), max(self.right, other.right),
        )  # fmt: skip

    def slices(self, frame: Box) -> tuple[slice, slice]:
        """The rows and columns of this box in an array that shows `frame`, which must hold the box."""
        top, left = self.top - frame.top, self.left - frame.left
        return slice(top, top + self.height), slice(left, left + self.width)

    def fall_off(self, size: Size) -> float:
        """Share of the box that lies off a picture of `size`, 0..1 (methods: fall_off)."""
        inside = self.clip(size)
        return 1 - inside.height * inside.width / (self.height * self.width)


@dataclass(frozen=True, repr=False)
class ReceptiveField:
    """Where the neurons of a site look: `size` pixels, moving by `stride` per lattice step, the first from `start` on.

    `start` is where the field of neuron (0, 0) begins. All pairs are (rows, cols). `status` is "exact", "whole image",
    "upper bound" or "unknown", and `cause` says why it is not exact. Where `status` is "whole image" the field is the
    picture; where it is "unknown" the numbers are the picture's, too, and must not be relied on. `stride` is (0, 0)
    where all neurons see the same box. What a neuron can see counts by the sizes of kernels, whatever their weights:
    where outer taps are 0 in all channels (masked, causal convolutions) the field is "exact" for other weights of the
    same shape, `cause` says so, and less of it may matter.

    Example:
        >>> field = unitscope.sites(network)["maxpool"].field()
        >>> field
        ReceptiveField(size=(11, 11), stride=(4, 4), start=(-5, -5), status='exact')
        >>> field.box(2, 0)
        Box(top=3, left=-5, bottom=14, right=6)
    """

    size: Size
    stride: Size
    start: Size
    status: str = "exact"
    cause: str = ""

    def box(self, row: int, col: int) -> Box:
        """The box of a neuron by the rule of size, stride and start alone; borders follow `Site.box`."""
        top, left = self.start[0] + row * self.stride[0], self.start[1] + col * self.stride[1]
        return Box(top, left, top + self.size[0], left + self.size[1])

    @property
    def center(self) -> tuple[float, float]:
        """Center of the field of neuron (0, 0), in pixels from the picture's upper left pixel center."""
        return tuple(start + (size - 1) / 2 for start, size in zip(self.start, self.size, strict=True))  # type: ignore[return-value]

    def __str__(self) -> str:
        return f"{self.size[0]} x {self.size[1]}"

    def __repr__(self) -> str:
        facts = f"size={self.size}, stride={self.stride}, start={self.start}, status={self.status!r}"
        return f"ReceptiveField({facts}" + (f", cause={self.cause!r})" if self.cause else ")")

    def _repr_html_(self) -> str:
        return render("field.html.j2", field=self)


@dataclass(frozen=True, order=True)
class Unit:
    """One channel at one site.

    Example:
        >>> unitscope.Unit.parse("layer1.0.relu_1:2")
        Unit(site='layer1.0.relu_1', channel=2)
    """

    site: str
    channel: int

    @classmethod
    def parse(cls, text: str) -> Unit:
        """Understand "SITE:CHANNEL"; the last colon counts. Raises BadInput for anything else."""
        site, channels, place = split_unit_text(text) or ("", "", None)
        if place is not None or not channels.isdecimal():
            raise BadInput(f"{text!r} does not name a unit; write it as SITE:CHANNEL, for instance layer1.0.relu:18.")
        return cls(site, int(channels))

    def __str__(self) -> str:
        return f"{self.site}:{self.channel}"


@dataclass(frozen=True, order=True)
class Neuron:
    """A unit at one lattice position.

    Example:
        >>> unitscope.Neuron.parse("layer1.0.relu_1:2@3,4")
        Neuron(unit=Unit(site='layer1.0.relu_1', channel=2), row=3, col=4)
    """

    unit: Unit
    row: int
    col: int

    @classmethod
    def parse(cls, text: str) -> Neuron:
        """Understand "SITE:CHANNEL@ROW,COL"; the last colon and the last @ count. Raises BadInput for anything else."""
        site, channels, place = split_unit_text(text) or ("", "", None)
        if place is None or not channels.isdecimal():
            raise BadInput(
                f"{text!r} does not name a neuron; write it as SITE:CHANNEL@ROW,COL, "
                "for instance layer1.0.relu:18@28,28."
            )
        return cls(Unit(site, int(channels)), *place)

    def __str__(self) -> str:
        return f"{self.unit}@{self.row},{self.col}"


def split_unit_text(text: str) -> tuple[str, str, Size | None] | None:
    """The parts of "SITE:CHANNELS" or "SITE:CHANNELS@ROW,COL", where CHANNELS is "18", "3-7" or "*"; None for anything
    else.

    A site may have any name: the last colon and the last @ count.
    """
    match = re.fullmatch(r"\s*(\S|\S.*\S):(\*|\d+|\d+-\d+)(?:@(\d+),(\d+))?\s*", text, re.ASCII)
    if match is None:
        return None
    return match[1], match[2], None if match[3] is None else (int(match[3]), int(match[4]))


def match_names(pattern: str, names: Iterable[str]) -> list[str]:
    """The names that a pattern stands for, in their order: this very name, else all that match it as a glob.

    Square brackets stand for themselves where names have them, else for a set of characters.
    """
    names = list(names)
    if pattern in names:
        return [pattern]
    as_they_stand = pattern.replace("[", "[[]")
    return [n for n in names if fnmatchcase(n, as_they_stand)] or [n for n in names if fnmatchcase(n, pattern)]


@dataclass(frozen=True)
class Bounds:
    """What each neuron of a site can see, exactly: four int arrays that broadcast to [unit row col], half-open.

    They are kept as small as they are simple: [1 row 1] for the rows of an ordinary convolution, [unit row 1] where the
    channels of a site differ, [unit row col] where nothing is shared.
    """

    top: NDArray[np.int32]
    left: NDArray[np.int32]
    bottom: NDArray[np.int32]
    right: NDArray[np.int32]

    def at(self, channel: int, row: int, col: int) -> Box:
        """The box of one neuron, within the picture."""
        place = (channel, row, col)
        return Box(
            *(
                int(side[tuple(0 if n == 1 else i for i, n in zip(place, side.shape, strict=True))])
                for side in (self.top, self.left, self.bottom, self.right)
            )
        )

    def of_many(
        self, channels: NDArray[np.int64], rows: NDArray[np.int64], cols: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """The boxes of many neurons, within the picture, [neuron 4]."""
        return np.stack(
            [
                side[tuple(i * (n > 1) for i, n in zip((channels, rows, cols), side.shape, strict=True))]
                for side in (self.top, self.left, self.bottom, self.right)
            ],
            axis=1,
        ).astype(np.int64)


@runtime_checkable
class Views(Protocol):
    """Gives sites as they are seen from other sites."""

    def site(self, name: str, at: str | None, gating: bool) -> Site: ...

    @property
    def reads_values(self) -> bool: ...


@dataclass(frozen=True, eq=False, repr=False)
class Site:
    """A place in the network where an electrode can sit: the output of one operation.

    `operation` is the operation's plain name ("conv2d", "batch_norm", "relu", "max_pool2d", "add", "cat", "linear",
    ...), `readers` the operations that read the value directly; `preactivation` is true where one of them is a
    nonlinearity. A site without positions (a vector) has the lattice (1, 1). `channel_axis` is the axis of channels in
    the network's own tensor. `module` is the path of the module whose output the site is; "" for a function's result.
    `unreadable` says why its responses cannot be read; "" where they can.

    Example:
        >>> site = unitscope.sites(network)["maxpool"]
        >>> site
        Site('maxpool': max_pool2d, 4 channels on 8 x 8, field ReceptiveField(size=(11, 11), ...))
        >>> site.box(0, 0)
        Box(top=-5, left=-5, bottom=6, right=6)
    """

    name: str
    channels: int
    lattice: Size
    picture: Size
    operation: str
    bounds: Bounds
    fields: tuple[ReceptiveField, ...]
    readers: tuple[str, ...] = ()
    preactivation: bool = False
    channel_axis: int = 1
    module: str = ""
    unreadable: str = ""
    groups: tuple[int, ...] = field(default=(), repr=False)
    """For each channel the index of its field in `fields`; empty where all channels share one."""

    @property
    def center(self) -> Size:
        """The lattice position that counts as the center: (rows // 2, cols // 2)."""
        return self.lattice[0] // 2, self.lattice[1] // 2

    views: Views | None = field(default=None, repr=False)
    """Where the same site as seen from other sites, or without gating, can be had."""

    def field(self, channel: int | None = None, *, at: str | None = None, gating: bool = True) -> ReceptiveField:
        """The receptive field of the site's neurons; of one channel where channels differ, else the hull of all.

        With `at`, the field on the lattice of another, earlier site. Without `gating`, numbers taken from the whole
        image that only scale channels (squeeze-and-excitation) do not count. Raises BadInput for a channel that the
        site does not have, and for a site `at` that it does not depend on.
        """
        site = self.seen_from(at, gating=gating)
        if channel is not None:
            self._check(channel)
            return site.fields[site.groups[channel] if site.groups else 0]
        return site.fields[0] if len(site.fields) == 1 else hull_of_fields(site.fields)

    def box(self, row: int, col: int, channel: int = 0, *, at: str | None = None, gating: bool = True) -> Box:
        """The exact box of one neuron. It hangs over the picture's edge where the field does.

        Its part on the picture (`box.clip(site.picture)`) is what the neuron can see when borders count in every layer;
        a side follows the field's rule where the picture alone cuts it off, and is the exact one otherwise. With `at`,
        the box of lattice positions of an earlier site. Raises BadInput for a channel or a position that the site does
        not have.
        """
        self._check(channel)
        rows, cols = self.lattice
        if not (0 <= row < rows and 0 <= col < cols):
            raise BadInput(
                f"{self.name} has no neuron at {row},{col}: its lattice is {rows} x {cols}, counted from 0,0."
            )
        site = self.seen_from(at, gating=gating)
        exact = site.bounds.at(channel, row, col)
        if exact.height <= 0 or exact.width <= 0:
            return exact
        field = site.field(channel)
        if field.status != "exact":
            return exact
        rule = field.box(row, col)
        clipped = rule.clip(site.picture)
        return Box(*(wide if cut == true else true for wide, cut, true in zip(rule, clipped, exact, strict=True)))

    def boxes(self, rows: NDArray[np.int64], cols: NDArray[np.int64], channels: NDArray[np.int64]) -> NDArray[np.int64]:
        """`box` of many neurons at once, [neuron 4] as (top, left, bottom, right).

        The survey asks for hundreds of thousands. Positions are taken to be on the lattice.
        """
        exact = self.bounds.of_many(channels, rows, cols)
        group = np.asarray(self.groups or [0] * self.channels, dtype=np.int64)[channels]
        start, stride, size = (
            np.array([getattr(one, name) for one in self.fields], dtype=np.int64)[group]
            for name in ("start", "stride", "size")
        )
        first = start + np.stack([rows, cols], axis=1) * stride
        rule = np.concatenate([first, first + size], axis=1)
        clipped = np.clip(rule, 0, [*self.picture, *self.picture])
        ruled = np.array([one.status == "exact" for one in self.fields])[group]
        ruled &= (exact[:, 2] > exact[:, 0]) & (exact[:, 3] > exact[:, 1])
        return np.where((clipped == exact) & ruled[:, None], rule, exact)

    def reached_by(self, row: int, col: int, *, at: str | None = None) -> Box:
        """The projective field: the smallest box of lattice positions of this site that holds all neurons that see one
        pixel.

        With `at`, all that see the neuron at (row, col) of an earlier site. Empty, at (0, 0), where there is none.
        """
        site = self.seen_from(at)
        bounds = site.bounds
        sees = (bounds.top <= row) & (row < bounds.bottom) & (bounds.left <= col) & (col < bounds.right)
        places = np.broadcast_to(sees.any(0), site.lattice).nonzero()
        if not len(places[0]):
            return Box(0, 0, 0, 0)
        (top, bottom), (left, right) = ((int(at.min()), int(at.max()) + 1) for at in places)
        return Box(top, left, bottom, right)

    def seen_from(self, at: str | None = None, *, gating: bool = True) -> Site:
        """This site with its fields counted on the lattice of an earlier site, or without gating.

        Raises BadInput where it does not depend on that site.
        """
        if at is None and gating:
            return self
        if self.views is None:
            raise BadInput(f"{self.name} was read from a record and knows no other sites; ask the network's own sites.")
        return self.views.site(self.name, at, gating)

    @property
    def reads_values(self) -> bool:
        """Whether the network looks at values of the picture, perhaps to choose its path; False where not known."""
        return self.views is not None and self.views.reads_values

    def __repr__(self) -> str:
        rows, cols = self.lattice
        what = f"{self.operation}, {self.channels} channels on {rows} x {cols}"
        return f"Site({self.name!r}: {what}, field {self.field()!r})"

    def _repr_html_(self) -> str:
        field = self.field()
        facts = {
            "operation": self.operation,
            "module": self.module or "none",
            "channels": self.channels,
            "lattice": f"{self.lattice[0]} x {self.lattice[1]}",
            "field": f"{field} px" + (f" ({len(self.fields)} different ones)" if len(self.fields) > 1 else ""),
            "stride": f"{field.stride[0]} x {field.stride[1]} px",
            "starts at": f"{field.start[0]}, {field.start[1]}",
            "status": field.status + (f": {field.cause}" if field.cause else ""),
            "read by": ", ".join(self.readers) or "nobody",
        }
        return render("facts.html.j2", title=self.name, facts=facts)

    def _check(self, channel: int) -> None:
        if not 0 <= channel < self.channels:
            raise BadInput(f"{self.name} has no channel {channel}: its channels are 0 to {self.channels - 1}.")


def resolve_sites(sites: Mapping[str, Site], patterns: str | Iterable[str]) -> dict[str, Site]:
    """The sites that any of the patterns stands for (see `matching`) and that can be read, in the order of execution.

    Raises UnknownName for a pattern that stands for none, BadInput where none of them can be read. Warns where the name
    of a site is that of another module.
    """
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    found: set[str] = set()
    for pattern in patterns:
        names = match_names(pattern, sites)
        elsewhere = [site.name for site in sites.values() if site.module == pattern != site.name]
        if not names:
            advice = "`unitscope sites MODEL` lists all of them; globs such as 'layer1.*' work, too."
            if elsewhere:
                advice = f"The output of the module {pattern!r} is the site {elsewhere[0]!r}. {advice}"
            raise unknown_name("site", pattern, sites, where="the network", advice=advice)
        if all(sites[name].unreadable for name in names):
            raise BadInput(f"the responses of {names[0]} cannot be read: {sites[names[0]].unreadable}.")
        if names == [pattern] and elsewhere and sites[pattern].module != pattern:
            warnings.warn(
                f"the site {pattern!r} is the output of the module {sites[pattern].module!r}; that of the module "
                f"{pattern!r} is the site {elsewhere[0]!r}. Sites are named as torchvision names them: numbers at the "
                "end of a module's name count calls.",
                stacklevel=2,
            )
        found.update(names)
    return {name: site for name, site in sites.items() if name in found and not site.unreadable}


def hull_of_fields(fields: Sequence[ReceptiveField]) -> ReceptiveField:
    """The smallest field that contains all given ones; exact where they all are and move alike."""
    rank = ("exact", "whole image", "upper bound", "unknown")
    worst = max(fields, key=lambda one: rank.index(one.status))
    if worst.status == "unknown":
        return worst
    if len({one.stride for one in fields}) > 1:
        largest = max(fields, key=lambda one: one.size)
        whole = [one for one in fields if one.stride == (0, 0) and one.status == "whole image"]
        chosen = whole[0] if whole else largest
        return ReceptiveField(
            chosen.size, chosen.stride, chosen.start, "upper bound", "channels move differently; ask for one channel"
        )
    start = tuple(min(one.start[axis] for one in fields) for axis in (0, 1))
    end = tuple(max(one.start[axis] + one.size[axis] for one in fields) for axis in (0, 1))
    size = tuple(b - a for a, b in zip(start, end, strict=True))
    return ReceptiveField(size, worst.stride, start, worst.status, worst.cause)  # type: ignore[arg-type]
