"""Images inside tar files: read by offset from an index made once; members are never extracted.

A member is labeled by the text of its WebDataset neighbor `.cls`, where there is one, else by the folder it lies in.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from unitscope.errors import BadInput
from unitscope.stimuli.folders import why
from unitscope.stimuli.items import BYTE_LIMIT, Images, Item, Unreadable, is_image, uri_of


@dataclass(frozen=True, eq=False)
class Members:
    """Reads members of tar files: image i is `lengths[i]` bytes at `offsets[i]` of `paths[shards[i]]`."""

    paths: Sequence[str]
    shards: np.ndarray
    offsets: np.ndarray
    lengths: np.ndarray

    def __call__(self, image: int) -> bytes:
        return read_part(self.paths[self.shards[image]], int(self.offsets[image]), int(self.lengths[image]))


def read_part(path: str, offset: int, length: int) -> bytes:
    """`length` bytes of a file from `offset`. Raises Unreadable where they are not there."""
    if length > BYTE_LIMIT:
        raise Unreadable(f"the member has {length:,} bytes; at most {BYTE_LIMIT:,} are read")
    try:
        with open(path, "rb", buffering=0) as file:
            file.seek(offset)
            data = file.read(length)
            while len(data) < length and (more := file.read(length - len(data))):
                data += more
    except OSError as error:
        raise Unreadable(f"its tar file: {why(error, path)}") from None
    if len(data) < length:
        raise Unreadable(f"its tar file ends after {len(data)} of {length} bytes")
    return data


class Member(NamedTuple):
    """An image of a tar file: name, label, where its bytes begin, how many there are."""

    name: str
    label: str | None
    offset: int
    length: int


def images_of_shards(paths: Sequence[str], source: str | list[str]) -> Images:
    """The images of tar files: shards sorted by path, members in the order of the tar; uri `SHARD.tar//MEMBER`.

    Raises BadInput where a file is no plain tar, is cut off, or where there is no image in any.
    """
    paths = sorted(set(paths), key=os.fsencode)
    root = os.path.commonpath([os.path.dirname(path) for path in paths])
    indices = [index(path, *version(path)) for path in paths]
    items = tuple(
        Item(f"{uri_of(os.path.relpath(path, root))}//{uri_of(member.name)}", member.label)
        for path, members in zip(paths, indices, strict=True)
        for member in members
    )
    if not items:
        raise BadInput(f"no image in {', '.join(map(uri_of, paths[:3]))}: no member's name ends like an image's.")
    places = [(number, m.offset, m.length) for number, members in enumerate(indices) for m in members]
    shards, offsets, lengths = np.array(places, np.int64).T
    source = uri_of(source) if isinstance(source, str) else [uri_of(path) for path in source]
    return Images(items, lengths.tolist(), Members(paths, shards, offsets, lengths), source)


def version(path: str) -> tuple[int, int]:
    """What changes when a file is replaced: its size and its time."""
    facts = os.stat(path)
    return facts.st_size, facts.st_mtime_ns


@lru_cache(maxsize=4096)
def index(path: str, size: int, time: int) -> tuple[Member, ...]:  # noqa: ARG001  (time is part of the cache's key)
    """The images of one tar file, in its order. A name that comes twice stands for its last place, as in unpacking."""
    places: dict[str, tuple[int, int]] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if member.islnk() and member.linkname in places:
                    places[member.name] = places[member.linkname]
                elif member.isreg() and not member.issparse():
                    places[member.name] = (member.offset_data, member.size)
            end = tar.offset
    except (tarfile.TarError, OSError) as error:
        raise BadInput(f"{uri_of(path)} {broken_story(path, error)}") from None
    check_end(path, end, size)
    classes = {key(name): place for name, place in places.items() if name.endswith(".cls")}
    return tuple(
        Member(name, label_of(path, name, classes), *place)
        for name, place in places.items()
        if is_image(name.rpartition("/")[2]) and not hidden(name)
    )


def broken_story(path: str, error: Exception) -> str:
    with open(path, "rb") as file:
        beginning = file.read(6)
    if beginning[:2] == b"\x1f\x8b" or beginning[:3] == b"BZh" or beginning in (b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"):
        return (
            "is compressed, so its members cannot be read by offset. Unpack it to a plain .tar (images hardly shrink)."
        )
    return f"cannot be read as a tar file ({error}). Was it copied completely?"


def check_end(path: str, end: int, size: int) -> None:
    """Refuses a tar that stops in the middle: after the last member there must be zeros, or nothing."""
    with open(path, "rb") as file:
        file.seek(end)
        block = file.read(512)
    if end > size or any(block) or len(block) not in (0, 512):
        raise BadInput(f"{uri_of(path)} is damaged or cut off after {end:,} of {size:,} bytes. Copy it again.")


def key(name: str) -> str:
    """WebDataset's key of a member: its path up to the first dot of the file name."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def hidden(name: str) -> bool:
    return any(part.startswith(".") and part not in (".", "..") for part in name.split("/"))


def label_of(path: str, name: str, classes: dict[str, tuple[int, int]]) -> str | None:
    """The text of the `.cls` beside the member, else the name of the folder it lies in, else None."""
    if (place := classes.get(key(name))) is not None:
        return read_part(path, *place).decode("utf-8", "replace").strip() or None
    parts = [part for part in name.split("/")[:-1] if part not in ("", ".")]
    return uri_of(parts[-1]) if parts else None
