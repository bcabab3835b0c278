"""Images inside tar files, read by offset and never extracted.

The problem: a data set of millions of images is a few hundred tar files. A tar has no table of contents, and a survey
reads images in any order, in several processes.

The idea: one pass over the headers of a tar gives an index of (name, label, offset, length), which is cached by path,
size and time. An image is then one read of `length` bytes at `offset`.

    | header | 0001.jpg ... | header | 0001.cls | header | 0002.jpg ...   ->   (0001.jpg, "7", 512, 20381), ...

The label is the WebDataset neighbor of the image (see samples.py) if there is one, else the name of its folder.
"""

from __future__ import annotations

import os
import tarfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from unitscope.errors import BadInput
from unitscope.stimuli.folders import describe_os_error
from unitscope.stimuli.items import BYTE_LIMIT, Images, Item, Unreadable, uri_of
from unitscope.stimuli.omissions import LINKS, MASKS, describe_omissions, endings_of
from unitscope.stimuli.samples import LABEL_LIMIT, find_label, is_hidden, is_label, split_images

HEADER_LIMIT = 1 << 20
"""A member whose name and further facts take more bytes makes a tar file one that is not read."""


@dataclass(frozen=True, eq=False)
class ShardFiles:
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
        raise Unreadable(f"its tar file: {describe_os_error(error, path)}") from None
    if len(data) < length:
        raise Unreadable(f"its tar file ends after {len(data)} of {length} bytes")
    return data


class Member(NamedTuple):
    """An image of a tar file: name, label, where its bytes begin, how many there are."""

    name: str
    label: str | None
    offset: int
    length: int


def images_of_shards(
    paths: Sequence[str], source: str | list[str], *, beside: Mapping[str, int] | None = None
) -> Images:
    """The images of tar files: shards sorted by path, members in the order of the tar; uri `SHARD.tar//MEMBER`.

    `beside` are endings of files that lie beside the shards and are left out. Raises BadInput where a file is no plain
    tar, is cut off, or where there is no image in any.
    """
    # As bytes: the same order everywhere, also of names that are not UTF-8.
    paths = sorted(set(paths), key=os.fsencode)
    root = os.path.commonpath([os.path.dirname(path) for path in paths])
    found = [read_index(path, *shard_version(path)) for path in paths]
    indices, left_out = [members for members, _ in found], sum((Counter(o) for _, o in found), Counter(beside or {}))
    items = tuple(
        Item(f"{uri_of(os.path.relpath(path, root))}//{uri_of(member.name)}", member.label)
        for path, members in zip(paths, indices, strict=True)
        for member in members
    )
    if not items:
        told = f" ({describe_omissions(left_out)})" if left_out else ""
        raise BadInput(f"no image in {', '.join(map(uri_of, paths[:3]))}: no member's name ends like an image's{told}.")
    places = [(number, m.offset, m.length) for number, members in enumerate(indices) for m in members]
    shards, offsets, lengths = np.array(places, np.int64).T
    source = uri_of(source) if isinstance(source, str) else [uri_of(path) for path in source]
    note = describe_omissions(left_out)
    return Images(items, lengths.tolist(), ShardFiles(paths, shards, offsets, lengths), source, note)


def shard_version(path: str) -> tuple[int, int]:
    """What changes when a file is replaced: its size and its time."""
    facts = os.stat(path)
    return facts.st_size, facts.st_mtime_ns


class Header(tarfile.TarInfo):
    """A member's header. One that announces more than a name and a few facts, or less than nothing, is refused before
    that is read.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Header:
        header = super().frombuf(buf, encoding, errors)
        if header.size < 0 or (header.type in EXTENDED and header.size > HEADER_LIMIT):
            raise tarfile.ReadError(f"a header of {header.size:,} bytes")
        return header


EXTENDED = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK
)  # fmt: skip
"""Types of headers that hold facts of the member after them."""


@lru_cache(maxsize=4096)
def read_index(path: str, size: int, time: int) -> tuple[tuple[Member, ...], Mapping[str, int]]:  # noqa: ARG001  (time is part of the cache's key)
    """The images of one tar file, in its order, and what was left out of it, by ending. A name that comes twice stands
    for its last place, as in unpacking.
    """
    places: dict[str, tuple[int, int]] = {}
    links, end = 0, 0
    try:
        with tarfile.open(path, "r:", tarinfo=Header) as tar:
            for member in tar:
                # A negative size leads back to an earlier header, in an endless loop.
                if member.size < 0 or tar.offset <= end:
                    raise tarfile.ReadError(f"a member of {member.size:,} bytes")
                end = tar.offset
                if member.islnk() and member.linkname in places:
                    places[member.name] = places[member.linkname]
                elif member.isreg() and not member.issparse():
                    places[member.name] = (member.offset_data, member.size)
                else:
                    links += not member.isdir() and not is_hidden(member.name)
    except BadInput:
        raise
    except Exception as error:  # a broken tar raises anything
        raise BadInput(f"{uri_of(path)} {broken_story(path, error)}") from None
    check_end(path, end, size)
    pictures, masks = split_images(places)

    def read_label(name: str) -> bytes:
        offset, length = places[name]
        return read_part(path, offset, min(length, LABEL_LIMIT + 1))

    known = {*pictures, *masks}
    others = endings_of(name for name in places if name not in known and not is_label(name) and not is_hidden(name))
    left_out = others + Counter({MASKS: len(masks), LINKS: links})
    members = [
        Member(name, find_label(name, places, read_label) or folder_of(name), *places[name]) for name in pictures
    ]
    return tuple(members), left_out


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


def folder_of(name: str) -> str | None:
    """The name of the folder that a member lies in, None where it lies in none."""
    parts = [part for part in name.split("/")[:-1] if part not in ("", ".", "..")]
    return uri_of(parts[-1]) if parts else None
