"""Categories of images: a label, a group of labels, or what a CSV file says; which images of a record are in them."""

from __future__ import annotations

import csv
import importlib.resources
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Int

from unitscope.errors import BadInput, few, unknown_name
from unitscope.record import Record
from unitscope.stimuli.classes import imagenet_classes
from unitscope.stimuli.items import number_photographs

if TYPE_CHECKING:
    import pandas

EVERY = "labels"
"""The word for every label of a record, each as a category of its own."""


@dataclass(frozen=True)
class Category:
    """A set of images by a name: those of some `labels`, and those that are named one by one (`uris`)."""

    name: str
    labels: frozenset[str] = frozenset()
    uris: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Membership:
    """Which of a record's images are in which category.

    `known` [image]: it has a label, or a category names it; all others are left out of every number. `label` [image]:
    the place of its label in `labels`, -1 where it has none. `photograph` [image]: the number of the photograph that it
    shows, or was cut from.
    """

    categories: tuple[Category, ...]
    labels: tuple[str, ...]
    member: Bool[np.ndarray, "category image"]
    known: Bool[np.ndarray, " image"]
    label: Int[np.ndarray, " image"]
    photograph: Int[np.ndarray, " image"]

    @property
    def by_label(self) -> bool:
        """Whether labels alone tell who is a member."""
        return not any(category.uris for category in self.categories)


Asked = str | PathLike[str] | Category


def categories_of(record: Record, asked: Asked | Iterable[Asked]) -> tuple[Category, ...]:
    """The categories that were asked for: Category objects as they are, else by name in the terms of a record.

    A name is a label of the record; what ImageNet calls one of them; a group of ImageNet's classes, such as dogs; a
    CSV file with the columns `category` and `label` (or `uri`, to name images one by one), which may hold several; or
    "labels", each label by itself. Raises BadInput, UnknownName.
    """
    asked = [asked] if isinstance(asked, str | PathLike | Category) else list(asked)
    labels = tuple(record.facts["settings"]["labels"])
    found = [category for one in asked for category in _parse_category(one, labels, record)]
    if not found:
        raise BadInput("no category came; selectivity is for some images and against others.")
    names = [category.name for category in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BadInput(f"two categories are called {few(twice)}; give them different names.")
    return tuple(found)


def membership(record: Record, categories: Sequence[Category]) -> Membership:
    """Which images of a record, among those that could be read, are in the categories.

    Raises BadInput where no image has a label, and for a category that holds none of the images, or all of them.
    """
    images = record.images()
    readable = (images["status"] == "ok").to_numpy()
    labels = tuple(record.facts["settings"]["labels"])
    code = {label: number for number, label in enumerate(labels)}
    label = np.array([code.get(name, -1) for name in images["label"]], dtype=np.int64)
    uris = images["uri"].tolist()
    member = np.stack([_members(category, images["label"].tolist(), uris) for category in categories]) & readable
    known = readable & ((label >= 0) | member.any(0))
    if not known.any():
        raise BadInput(
            f"the images of {record.path} have no labels, and no category names them. Labels come from sub-folders, or "
            "from the column `label` of a list; a CSV with the columns category and uri names images one by one."
        )
    for category, inside in zip(categories, member, strict=True):
        _refuse_empty_or_full(category, int(inside.sum()), int(known.sum()), labels)
    return Membership(tuple(categories), labels, member, known, label, photographs_of(images))


def photographs_of(images: pandas.DataFrame) -> Int[np.ndarray, " image"]:
    """The number of the photograph that each image of a record shows, or was cut from."""
    names = images.get("photograph", [None] * len(images))
    named = (name if isinstance(name, str) else None for name in names)
    return number_photographs(zip(images["uri"], named, strict=True))


def _members(category: Category, labels: Sequence[str | None], uris: Sequence[str]) -> Bool[np.ndarray, " image"]:
    return np.array([label in category.labels or uri in category.uris for label, uri in zip(labels, uris, strict=True)])


def _refuse_empty_or_full(category: Category, inside: int, known: int, labels: Sequence[str]) -> None:
    if inside == 0:
        what = few(sorted(category.labels) or sorted(category.uris))
        raise BadInput(f"no image of the record is of the category {category.name!r} ({what}); it has {few(labels)}.")
    if inside == known:
        raise BadInput(
            f"all {known:,} labeled images are of the category {category.name!r}; selectivity needs others, too."
        )


def _parse_category(asked: Asked, labels: Sequence[str], record: Record) -> Iterator[Category]:
    if isinstance(asked, Category):
        yield asked
    elif isinstance(asked, PathLike) or _is_path(asked, labels):
        yield from read_categories(Path(fspath(asked)).expanduser())
    elif not labels:
        raise BadInput(f"the images of {record.path} have no labels; name those of a category one by one in a CSV.")
    elif asked == EVERY:
        yield from (Category(readable_name(label), frozenset([label])) for label in labels)
    elif asked in labels:
        # Labels of the record come before ImageNet's names, and these before groups: one word may be all three.
        yield Category(readable_name(asked), frozenset([asked]))
    elif named := [label for label in labels if _plain(readable_name(label)) == _plain(asked)]:
        yield Category(asked, frozenset(named))
    elif asked in groups():
        yield Category(asked, frozenset(label for label in labels if (wnid_of(label) or "") in groups()[asked]))
    else:
        known = [*labels, *(readable_name(label) for label in labels), *groups(), EVERY]
        raise unknown_name(
            "label or group", asked, dict.fromkeys(known), where=f"the record {record.path}",
            advice=f"There are the labels ({few(labels)}), groups ({', '.join(groups())}), {EVERY!r} for each label, "
            "and CSV files with the columns category and label.",
        )  # fmt: skip


def _is_path(asked: str, labels: Sequence[str]) -> bool:
    return asked not in labels and (asked.lower().endswith(".csv") or Path(asked).expanduser().is_file())


def read_categories(path: Path) -> tuple[Category, ...]:
    """The categories of a CSV file: a row per category and label (or uri). Raises BadInput for any other file."""
    expected = "expected are the columns category and label (or uri), a row for each label of a category"
    try:
        # Spreadsheets begin a CSV with a byte order mark, which would become a part of the first column's name.
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        rows = list(csv.DictReader(lines, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise BadInput(f"the categories {path} cannot be read ({why}); {expected}.") from error
    columns = set(rows[0]) if rows else set()
    if "category" not in columns or not columns & {"label", "uri"}:
        came = ", ".join(str(name) for name in rows[0]) if rows else "no row"
        raise BadInput(f"the categories {path} have {came}; {expected}.")
    members: dict[str, tuple[set[str], set[str]]] = {}
    for number, row in enumerate(rows, 2):
        name, label, uri = ((row.get(key) or "").strip() for key in ("category", "label", "uri"))
        if not name or not (label or uri):
            raise BadInput(f"line {number} of {path} lacks its category, or its label; {expected}.")
        kept = members.setdefault(name, (set(), set()))
        kept[0].update([label] if label else [])
        kept[1].update([uri] if uri and not label else [])
    return tuple(Category(name, frozenset(of), frozenset(uris)) for name, (of, uris) in members.items())


@cache
def groups() -> dict[str, frozenset[str]]:
    """Groups of ImageNet's classes by name, as sets of WordNet ids. All are runs of the 1000 classes, which are in the
    order of their ids.
    """
    wnids = list(_names())
    found: dict[str, frozenset[str]] = {}
    text = importlib.resources.files("unitscope").joinpath("data", "imagenet_groups.csv").read_text(encoding="utf-8")
    for row in csv.DictReader(text.splitlines()):
        run = wnids[int(row["first"]) : int(row["last"]) + 1]
        found[row["group"]] = found.get(row["group"], frozenset()) | frozenset(run)
    return found


def readable_name(label: str) -> str:
    """What ImageNet calls a label that is one of its WordNet ids; any other label as it is."""
    return _names().get(label, label)


def wnid_of(label: str) -> str | None:
    """The WordNet id behind a label: itself, with a name behind it (n02085620-Chihuahua), or by ImageNet's name."""
    # A WordNet id has nine characters.
    first = label[:9]
    if first in _names():
        return first
    return _wnids().get(_plain(label))


@cache
def _names() -> dict[str, str]:
    """ImageNet's names by WordNet id, in the order of the classes."""
    return {one.wnid: one.name for one in imagenet_classes()}


@cache
def _wnids() -> dict[str, str]:
    """WordNet ids by plain name, where only one class has it."""
    plain = [_plain(name) for name in _names().values()]
    return {name: wnid for name, wnid in zip(plain, _names(), strict=True) if plain.count(name) == 1}


def _plain(name: str) -> str:
    return name.replace("_", " ").replace("-", " ").casefold()
