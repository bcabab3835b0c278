"""Errors that tell a short story: what came, what was expected, what is near, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UnitscopeError(Exception):
    """The base of all errors that this package raises on purpose. The message is meant for a person.

    Example:
        >>> try:
        ...     unitscope.load("resnet35")
        ... except unitscope.UnitscopeError as error:
        ...     print(type(error).__name__)
        UnknownName
    """


class BadInput(UnitscopeError, ValueError):
    """What was typed or passed cannot be understood or cannot be right. The command line exits with 2.

    Example:
        >>> unitscope.atlas([], to="atlas")
        Traceback (most recent call last):
        unitscope.errors.BadInput: no record came; an atlas needs at least one.
    """


class UnknownName(BadInput):
    """A name (of a site, a unit, a network, a column) that nothing goes by.

    Example:
        >>> import torch
        >>> unitscope.read(network, torch.zeros(1, 3, 32, 32), "maxpol")
        Traceback (most recent call last):
        unitscope.errors.UnknownName: ...
    """


class Failure(UnitscopeError, RuntimeError):
    """Something went wrong that was asked for rightly: a full disk, a foreign record. The exit code is 1.

    Example:
        >>> other = unitscope.load("resnet18", size=32, width=4, classes=2, seed=1)
        >>> unitscope.survey(other, images, to="records/tiny")
        Traceback (most recent call last):
        unitscope.errors.Failure: ...
    """


def near(name: str, known: Iterable[str], *, most: int = 3) -> list[str]:
    """Up to `most` of the known names that resemble `name`, best first."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=most, cutoff=0.6)
    lower = [other for other in known if other.lower() == name.lower() and other not in close]
    return (lower + close)[:most]


def unknown_name(kind: str, name: str, known: Iterable[str], *, where: str = "", advice: str = "") -> UnknownName:
    """The story of a name that nothing goes by: `kind` is what it should have named, `where` in what."""
    known = list(known)
    story = f"{where or 'there'} {'has' if where else 'is'} no {kind} {name!r}."
    close = near(name, known)
    if close:
        story += " Close: " + ", ".join(repr(other) for other in close) + "."
    if advice:
        story += " " + advice
    return UnknownName(story)


def few(names: Iterable[str], *, most: int = 3) -> str:
    """The first few names and how many more there are, for a sentence."""
    names = list(names)
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
