"""Names of members of a tar file in the way of WebDataset: which are pictures, and which member holds a label.

The members of a sample share a stem: `007.jpg`, `007.cls`. WebDataset itself ends the stem at the first dot of the
file's name, so that `shot.0.png`, `shot.0.cls` and `shot.1.png` would be one sample; people who write such names mean
two. So a picture's label is looked for under its longest stem first (`shot.0`), then under shorter ones (`shot`), as
long as there is a dot to cut at: both conventions find theirs, and a label of another longer stem is never taken.

Of one stem there may be masks or depth maps beside the picture (`007.seg.png`). A member is no picture of its own where
a picture of a shorter stem is there (`007.jpg`), or where the last part before the ending is a word of MASKED.

    shot.0.png, shot.0.cls, shot.1.png          two pictures; the second has no label
    007.jpg, 007.seg.png, 007.cls               one picture, labeled
    007.jpg, 007.png, 007.cls                   one picture (without a label or a caption they would be two)
    007.left.jpg, 007.right.jpg, 007.cls        two pictures, both labeled
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator

from unitscope.stimuli.items import is_image

LABELS = (".cls", ".cls.txt", ".label", ".label.txt", ".json")
"""Endings of members that hold a label, the first of which wins. (A `.txt` alone is a caption, and none.)"""

KEYS = ("label", "cls", "class", "class_name")
"""Under which of its keys a JSON member has the label."""

LABEL_LIMIT = 1 << 20
"""A label's member of more bytes is not read."""

MASKED = frozenset(
    (
        *("mask", "masks", "seg", "segm", "segmentation", "semseg", "semantic", "panoptic", "instance", "instances"),
        *("depth", "disparity", "normal", "normals", "edge", "edges", "canny", "matte", "alpha", "trimap", "flow"),
        *("heatmap", "saliency", "annotation", "annotations", "gt", "labels", "label", "cls", "thumbnail", "thumb"),
    )
)
"""What is kept beside pictures under names that end like theirs."""


PHOTOGRAPH_SUFFIXES = (".jpg", ".jpeg", ".webp", ".jpe", ".jfif", ".jp2", ".avif")
"""Endings of images that are no masks, since what is written loses a little."""


def stems_of(name: str) -> Iterator[str]:
    """The stems of a member's name, the longest first: of `a/b.c.png` these are `a/b.c` and `a/b`."""
    folder, slash, file = name.rpartition("/")
    # From index 1: the dot that hides a file ends no stem.
    while (cut := file.rfind(".", 1)) > 0:
        file = file[:cut]
        yield folder + slash + file


def is_mask(name: str, stems: Collection[str]) -> bool:
    """Whether an image is a part of another: `stems` are the longest stems of all images."""
    longest, *shorter = stems_of(name)
    return any(stem in stems for stem in shorter) or (
        bool(shorter) and longest[len(shorter[0]) + 1 :].lower() in MASKED
    )


def is_label(name: str) -> bool:
    return name.endswith(LABELS)


def is_hidden(name: str) -> bool:
    return any(part.startswith(".") and part not in (".", "..") for part in name.split("/"))


def split_images(names: Collection[str]) -> tuple[list[str], list[str]]:
    """The names of pictures, and of images that are parts of others, in the order that they have.

    Where a stem has a text beside it (a label, a caption), it is one sample, and one image of it is the picture: a
    photograph (`007.jpg`) before what may be its mask (`007.png`).
    """
    images = [name for name in names if is_image(name.rpartition("/")[2]) and not is_hidden(name)]
    of_stem: dict[str, list[str]] = {}
    for name in images:
        of_stem.setdefault(next(stems_of(name)), []).append(name)
    masks = {name for name in images if is_mask(name, of_stem)}
    for stem, several in of_stem.items():
        if len(several) > 1 and any(stem + ending in names for ending in (*LABELS, ".txt")):
            picture = min(several, key=lambda name: not name.lower().endswith(PHOTOGRAPH_SUFFIXES))
            masks.update(name for name in several if name is not picture)
    return [name for name in images if name not in masks], [name for name in images if name in masks]


def find_label(name: str, places: Collection[str], read: Callable[[str], bytes]) -> str | None:
    """The label that stands beside a picture, among the members `places`; None where there is none.

    Raises Unreadable where it is there and cannot be read.
    """
    for stem in stems_of(name):
        for ending in LABELS:
            if stem + ending in places and (label := parse_label(read(stem + ending), ending)):
                return label
    return None


def parse_label(data: bytes, ending: str) -> str | None:
    """The label in a member: its text, or of JSON the text or number under one of KEYS."""
    if len(data) > LABEL_LIMIT:
        return None
    if ending != ".json":
        return data.decode("utf-8", "replace").strip() or None
    try:
        facts = json.loads(data)
    except (ValueError, RecursionError):
        return None
    found = [facts[key] for key in KEYS if isinstance(facts, dict) and key in facts]
    labels = [str(value).strip() for value in found if isinstance(value, str | int) and not isinstance(value, bool)]
    return next(filter(None, labels), None)
