"""Which logit belongs to a label: the names of folders and the order of a network's classes, brought together."""

from __future__ import annotations

import csv
import importlib.resources
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from os import PathLike
from pathlib import Path

from unitscope.errors import BadInput, few


@dataclass(frozen=True)
class ImageNetClass:
    """One of ImageNet's 1000 classes: the number of its logit, its WordNet id, its name."""

    logit: int
    wnid: str
    name: str


@cache
def imagenet_classes() -> tuple[ImageNetClass, ...]:
    """The 1000 classes of ILSVRC-2012, in the order of the logits."""
    text = importlib.resources.files("unitscope").joinpath("data", "imagenet_classes.csv").read_text(encoding="utf-8")
    return tuple(
        ImageNetClass(int(row["class"]), row["wnid"], row["name"]) for row in csv.DictReader(text.splitlines())
    )


def logits_of_labels(
    labels: Sequence[str],
    *,
    logits: int,
    names: Sequence[str] | None = None,
    classes: str | PathLike[str] | Mapping[str, int] | None = None,
) -> dict[str, int]:
    """For each label the number of its logit.

    By `classes`, a mapping or a CSV file with the columns `label` and `class` (the number of the logit, from 0); else
    by the `names` of the network's logits; else, of 1000 logits, by ImageNet's WordNet ids or names. Never by the order
    of the labels: sorted names of folders are the order of the logits only where the network was trained on these very
    folders, and a network does not tell. (Of ImageNet's 1000 names, 995 change their place when they are sorted.)

    Raises BadInput where none of these is possible, and for a label that is the name of several logits.
    """
    labels = sorted(set(labels))
    if not labels:
        raise BadInput(
            "the images have no labels, so that no loss can be computed: put the images of each class into a folder."
        )
    if classes is not None:
        known = classes if isinstance(classes, Mapping) else read_classes(classes)
        return _looked_up(labels, known, logits, "the given table of classes")
    for numbers in _ways(logits, names):
        # All labels must be known in one way: a mixture of ways would be a guess.
        if numbers.keys() >= set(labels):
            _refuse_shared(labels, numbers)
            return {label: numbers[label][0] for label in labels}
    raise BadInput(
        f"it is not known which of the {logits} logits belongs to which of the {len(labels)} labels "
        f"({few(labels)}). Give a table: --classes CSV, with the columns label and class (the number of the logit, "
        "from 0); or name the folders as the network names its classes, or by ImageNet's WordNet ids (n02086240). "
        "The order of the folders does not tell."
    )


def _ways(logits: int, names: Sequence[str] | None) -> Iterator[dict[str, list[int]]]:
    """The logits of each label, in the ways in which labels are understood, the surest first."""
    if names:
        yield _numbered(names)
    imagenet = imagenet_classes()
    if logits == len(imagenet):
        yield _numbered([one.wnid for one in imagenet])
        yield _numbered([one.name for one in imagenet])


def _numbered(names: Sequence[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        found.setdefault(name, []).append(number)
    return found


def _refuse_shared(labels: Sequence[str], known: Mapping[str, list[int]]) -> None:
    shared = [label for label in labels if len(known[label]) > 1]
    if shared:
        several = " and ".join(str(number) for number in known[shared[0]])
        others = f" So is {few(shared[1:])}." if shared[1:] else ""
        raise BadInput(
            f"the label {shared[0]!r} is the name of more than one class (logits {several}).{others} Name the folder "
            "by its WordNet id, or give a table: --classes CSV, with the columns label and class (the number of the "
            "logit, from 0)."
        )


def read_classes(path: str | PathLike[str]) -> dict[str, int]:
    """The logit of each label, from a CSV file with the columns `label` (or `wnid`) and `class`. Raises BadInput."""
    try:
        rows = list(csv.DictReader(Path(path).read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the table of classes {path} cannot be read: {error}.") from error
    columns = set(rows[0]) if rows else set()
    label = next((name for name in ("label", "wnid") if name in columns), None)
    if label is None or "class" not in columns:
        came = ", ".join(str(name) for name in rows[0]) if rows else "no rows"
        raise BadInput(f"the table of classes {path} has {came}; expected the columns label and class.")
    try:
        return {row[label]: int(row["class"]) for row in rows}
    except (TypeError, ValueError) as error:
        raise BadInput(f"in {path} a class is no whole number ({error}); expected the logit's, from 0.") from None


def _looked_up(labels: Sequence[str], known: Mapping[str, int], logits: int, where: str) -> dict[str, int]:
    absent = [label for label in labels if label not in known]
    if absent:
        raise BadInput(f"{where} does not name {few(absent)}; it has {few(list(known))}.")
    beyond = [label for label in labels if not 0 <= known[label] < logits]
    if beyond:
        raise BadInput(
            f"{where} gives {beyond[0]} the logit {known[beyond[0]]}; the network has {logits}, from 0 to {logits - 1}."
        )
    return {label: known[label] for label in labels}
