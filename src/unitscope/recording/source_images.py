"""The images that a record saw: where they were, or where they have moved; each checked against what was surveyed."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from unitscope.errors import BadInput
from unitscope.stimuli.images import Images, Item, Source, Unreadable, choose_images, digest, open_images, reopen
from unitscope.stimuli.presentation import Presentation

if TYPE_CHECKING:
    from unitscope.record import Record


@dataclass(frozen=True, eq=False)
class Originals:
    """The images that a record saw, in its order, and how they were shown.

    `digests` and `sizes` are what the survey noted of each file (None, -1 where it did not). The last `keep` pictures
    that `shown` gave are kept, so that many units can be served by reading each image once.
    """

    images: Images
    presentation: Presentation
    digests: Sequence[str | None]
    sizes: Sequence[int]
    keep: int = 256
    _shown: OrderedDict[int, np.ndarray] = field(default_factory=OrderedDict, repr=False)

    def bytes(self, image: int) -> bytes:
        """The encoded image. Raises Unreadable where it is gone or is not what was surveyed."""
        data = self.images.bytes(image)
        if self.sizes[image] >= 0 and len(data) != self.sizes[image]:
            raise Unreadable(f"it has changed since the survey: {len(data)} bytes instead of {self.sizes[image]}")
        if self.digests[image] is not None and digest(data) != self.digests[image]:
            raise Unreadable("it has changed since the survey (as many bytes, other contents)")
        return data

    def shown(self, image: int) -> UInt8[np.ndarray, "height width color"]:
        """The image as the network saw it. Raises Unreadable."""
        if image in self._shown:
            self._shown.move_to_end(image)
            return self._shown[image]
        picture = self.presentation.present(self.bytes(image))
        self._shown[image] = picture
        while len(self._shown) > self.keep:
            self._shown.popitem(last=False)
        return picture


def originals_of(record: Record, images: Source | None = None, *, keep: int = 256) -> Originals:
    """The images of a record, where they were surveyed or, where they have moved, at `images`; found by their names.

    Raises BadInput where there is no such place, or where not one of the record's images is in it.
    """
    table = os.path.join(record.path, "images.parquet")
    facts = os.stat(table) if os.path.exists(table) else None
    items, digests, sizes = _items(_Key(record, str(record.path), (facts.st_mtime_ns, facts.st_size) if facts else ()))
    found = _reopened(record, items) if images is None else _moved(images, items)
    return Originals(found, presentation_of(record), digests, sizes, keep)


def images_of(record: Record) -> Images:
    """The images of a record, in its order, where they were surveyed. Raises BadInput where that place is gone."""
    return originals_of(record).images


def presentation_of(record: Record) -> Presentation:
    """How the images of a record were shown."""
    stimuli = record.facts["stimuli"]
    size, side = stimuli.get("size") or record.facts["network"]["size"], stimuli.get("resize")
    return Presentation(tuple(size), tuple(side) if isinstance(side, list) else side)


def _reopened(record: Record, items: tuple[Item, ...]) -> Images:
    try:
        return reopen(record.facts["stimuli"]["source"], items)
    except BadInput as error:
        raise BadInput(
            f"the images of {record.path} are no longer where they were: {error} "
            "Where they have moved, say so: originals_of(record, NEW_PLACE)."
        ) from None


def _moved(source: Source, items: tuple[Item, ...]) -> Images:
    now = open_images(source)
    if not {item.uri for item in now.items} & {item.uri for item in items}:
        first = f"; the first should be called {items[0].uri!r} there" if items else ""
        raise BadInput(f"{now.source} holds none of the record's {len(items)} images{first}.")
    return choose_images(now, items)


@dataclass(frozen=True)
class _Key:
    """A record as a cache's key: its place and the state of its table of images."""

    record: Record = field(compare=False)
    path: str
    state: tuple[int, ...]


@lru_cache(maxsize=4)
def _items(key: _Key) -> tuple[tuple[Item, ...], Sequence[str | None], Sequence[int]]:
    """Names and labels, digests, and numbers of bytes of a record's images."""
    table = key.record.images()
    labels = [label if isinstance(label, str) else None for label in table["label"]]
    items = tuple(Item(uri, label) for uri, label in zip(table["uri"], labels, strict=True))
    digests = [value if isinstance(value, str) else None for value in table.get("digest", [None] * len(items))]
    sizes = table["bytes"].fillna(-1).astype("int64").tolist() if "bytes" in table else [-1] * len(items)
    return items, digests, sizes
