"""Which logit belongs to a label: the names of folders and the order of a network's classes, brought together."""

from __future__ import annotations

import csv
import importlib.resources
from collections.abc import Mapping, Sequence
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

    By `classes`, a mapping or a CSV file with the columns `label` and `class` (the number of the logit, from 0);
    else by the `names` of the network's logits; else, of 1000 logits, by ImageNet's WordNet ids; else by the order of
    the labels, where there are as many as logits. Raises BadInput where none of these is possible.
    """
    labels = sorted(set(labels))
    if not labels:
        raise BadInput(
            "the images have no labels, so that no loss can be computed: put the images of each class into a folder."
        )
    if classes is not None:
        known = classes if isinstance(classes, Mapping) else read_classes(classes)
        return _looked_up(labels, known, logits, "the given table of classes")
    by_name = {name: number for number, name in enumerate(names or ())}
    if by_name.keys() >= set(labels):
        return {label: by_name[label] for label in labels}
    by_wnid = {one.wnid: one.logit for one in imagenet_classes()}
    if logits == len(by_wnid) and by_wnid.keys() >= set(labels):
        return {label: by_wnid[label] for label in labels}
    if len(labels) == logits and not names:
        return {label: number for number, label in enumerate(labels)}
    raise BadInput(
        f"it is not known which of the {logits} logits belongs to which of the {len(labels)} labels "
        f"({few(labels)}). Name the folders by ImageNet's WordNet ids (n02086240), or give a table: --classes CSV, "
        "with the columns label and class (the number of the logit, from 0)."
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
