"""What a set of images is: an ordered list of names with labels, and a way to read the bytes behind each.

Images know nothing of decoding (see presentation.py), and nothing of where they lie, which is left to their reader
(folders.py, shards.py, parquet.py, builtin.py). Everything here can be sent to another process.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Int

from unitscope.errors import BadInput

IMAGE_SUFFIXES = frozenset(
    f".{ending}"
    for ending in (
        *("jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "dib", "tif", "tiff", "gif"),
        *("ppm", "pgm", "pbm", "pnm", "jp2", "avif"),
    )
)
"""The endings, in lower case, by which a file counts as an image."""

BYTE_LIMIT = 2**30
"""No image of more bytes is read."""


class Unreadable(BadInput):
    """An image that cannot be read or decoded. A survey keeps the `reason`, one short sentence, and goes on."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __reduce__(self) -> tuple[type[Unreadable], tuple[str]]:
        return Unreadable, (self.reason,)


@dataclass(frozen=True, slots=True)
class Item:
    """One image by its name. `uri` is printable and the same on every machine; `label` is None where none is known.

    `photograph` names the photograph that the image was cut from, None where the image is one by itself. Crops of one
    photograph are no independent observations: no test and no interval takes them as such.
    """

    uri: str
    label: str | None = None
    photograph: str | None = None


@dataclass(frozen=True, eq=False)
class Images:
    """An ordered set of images: item i has the name `items[i].uri`, and `bytes(i)` is the encoded file.

    `source` is what `open_images` was given, as an absolute path (in `uri_of`'s form), or several; `note` says what a
    reader of results must know about the set, such as what was left out of it ("" where there is nothing to know).
    `sizes[i]` is the number of bytes when the set was opened, -1 where that is unknown. `reader(i)` gives the bytes and
    raises Unreadable.
    """

    items: tuple[Item, ...]
    sizes: Sequence[int] = field(repr=False)
    reader: Callable[[int], bytes] = field(repr=False)
    source: str | list[str]
    note: str = ""

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)

    def bytes(self, image: int) -> bytes:
        """The encoded image. Raises Unreadable where the file is gone, is no file, or may not be read."""
        if not 0 <= image < len(self.items):
            raise IndexError(f"image {image} of a set of {len(self.items)}")
        return self.reader(image)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """All labels that occur, sorted."""
        return tuple(sorted({item.label for item in self.items if item.label is not None}))

    @cached_property
    def photographs(self) -> Int[np.ndarray, " image"]:
        """The number of the photograph that each image shows, or was cut from."""
        return number_photographs([(item.uri, item.photograph) for item in self.items])

    @cached_property
    def fingerprint(self) -> str:
        """Sha256 (hex) over name, label and number of bytes of every image, in order; wherever the set lies.

        Contents are not read: a file replaced by another one of exactly as many bytes goes unnoticed here. A survey,
        which reads everything anyway, keeps `digest(data)` of each.
        """
        hasher = hashlib.sha256(b"unitscope images 1\n")
        for item, size in zip(self.items, self.sizes, strict=True):
            label = "-" if item.label is None else "=" + item.label
            hasher.update("\0".join((item.uri, label, str(int(size)))).encode("utf-8", "surrogatepass") + b"\0\n")
        return hasher.hexdigest()

    def __repr__(self) -> str:
        labels = f", {len(self.labels)} labels" if self.labels else ""
        return f"Images({len(self)} images{labels}, source={self.source!r}{', ' + self.note if self.note else ''})"


def number_photographs(images: Iterable[tuple[str, str | None]]) -> Int[np.ndarray, " image"]:
    """The same number for images, (uri, photograph) each, that are of one photograph; 0, 1 ... by first appearance.

    An image without a photograph's name is one by itself. Records of the demonstration set that were made before these
    names were kept show it in the form of their uris.
    """
    numbers: dict[str, int] = {}
    found = []
    for uri, photograph in images:
        builtin = re.match(r"(builtin:\w+)/\d+\?box=", uri)
        name = photograph or (builtin[1] if builtin else "")
        found.append(numbers.setdefault(f"photograph {name}" if name else f"image {uri}", len(numbers)))
    return np.array(found, dtype=np.int64)


def digest(data: bytes) -> str:
    """Sixteen hex digits that distinguish the contents of one image from another's (sha256, cut)."""
    return hashlib.sha256(data).hexdigest()[:16]


def is_image(name: str) -> bool:
    """Whether a file of this name counts as an image: by its ending, and not hidden."""
    stem, dot, ending = name.rpartition(".")
    return bool(dot) and not name.startswith(".") and bool(stem) and "." + ending.lower() in IMAGE_SUFFIXES


def uri_of(path: str) -> str:
    r"""A file's name as valid text: a backslash doubled, a byte that is no UTF-8 as \xNN. `path_of` takes it back."""
    if path.isascii() and "\\" not in path:
        return path
    return path.replace("\\", "\\\\").encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def path_of(uri: str) -> str:
    """The file's name behind `uri_of`'s text."""
    if "\\" not in uri:
        return uri

    def byte(match: re.Match[str]) -> str:
        # Python writes a byte of a file's name that is not UTF-8 as the character 0xDC00 + byte (surrogateescape).
        return "\\" if match[0] == "\\\\" else chr(0xDC00 + int(match[1], 16))

    return re.sub(r"\\\\|\\x([0-9a-f]{2})", byte, uri)
