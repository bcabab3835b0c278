"""Images that are files: of a folder, or named by a list."""

from __future__ import annotations

import csv
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from unitscope.errors import BadInput, few
from unitscope.stimuli.items import BYTE_LIMIT, IMAGE_SUFFIXES, Images, Item, Unreadable, is_image, path_of, uri_of
from unitscope.stimuli.omissions import FOREIGN, describe_omissions, endings_of


@dataclass(frozen=True)
class Files:
    """Reads whole files: `uris` are names below the folder `root` (absolute ones stand for themselves)."""

    root: str
    uris: Sequence[str]

    def __call__(self, image: int) -> bytes:
        return read_file(os.path.join(self.root, path_of(self.uris[image])))


def read_file(path: str) -> bytes:
    """All bytes of a regular file. Raises Unreadable for dangling links, pipes, files without
    permission, and files that do not exist.
    """
    try:
        facts = os.stat(path)
        if not stat.S_ISREG(facts.st_mode):
            raise Unreadable("it is not a regular file")
        if facts.st_size > BYTE_LIMIT:
            raise Unreadable(f"the file has {facts.st_size:,} bytes; at most {BYTE_LIMIT:,} are read")
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise Unreadable(describe_os_error(error, path)) from None


def describe_os_error(error: OSError, path: str) -> str:
    """The reason of a failed access in words: "no such file", "it is a dangling link", "permission denied"."""
    if isinstance(error, FileNotFoundError):
        return "it is a link to a file that is not there" if os.path.islink(path) else "the file is not there"
    return (error.strerror or type(error).__name__).lower()


def images_of_folder(folder: str) -> Images:
    """All images below a folder, sorted by their POSIX path (as bytes), labeled by the first sub-folder.

    Files count by their ending (IMAGE_SUFFIXES); the note says how many others there are, by ending. Names that begin
    with a dot, and folders of such names, are passed over. Links are followed, and each folder is entered once (by its
    own name rather than a link's), so loops end. A dangling link named like an image is an image that cannot be read.
    Raises BadInput where there is no image, or where a folder cannot be listed.
    """
    found = sorted((os.fsencode(path), size) for path, size in files_below(folder))
    paths = [os.fsdecode(path) for path, _ in found]
    images = [(path, size) for path, (_, size) in zip(paths, found, strict=True) if is_image(path.rpartition("/")[2])]
    if not images:
        raise BadInput(no_image_story(folder, paths))
    items = tuple(Item(uri_of(path), folder_label(path)) for path, _ in images)
    note = describe_omissions(endings_of(path for path in paths if not is_image(path.rpartition("/")[2])))
    return Images(
        items, [size for _, size in images], Files(folder, [item.uri for item in items]), uri_of(folder), note
    )


def folder_label(path: str) -> str | None:
    """The first folder of a relative path, None for a bare file name."""
    first, slash, _ = path.partition("/")
    return uri_of(first) if slash else None


def files_below(folder: str) -> Iterator[tuple[str, int]]:
    """(path relative to `folder`, bytes or -1) of every file below it that is not hidden, each folder once."""
    entered: set[tuple[int, int]] = set()
    # Real folders first, then links, so that a link to a folder that was entered already is skipped.
    own, linked = [""], list[str]()
    while own or linked:
        below = own.pop() if own else linked.pop()
        if first_visit(os.path.join(folder, below), entered):
            for entry in entries(os.path.join(folder, below)):
                path = below + entry.name
                if not is_folder(entry):
                    yield path, entry_size(entry)
                elif entry.is_symlink():
                    linked = sorted([*linked, path + "/"], reverse=True)
                else:
                    own.append(path + "/")


def first_visit(folder: str, entered: set[tuple[int, int]]) -> bool:
    """Whether this very folder is seen for the first time; notes that it was."""
    facts = os.stat(folder)
    new = (facts.st_dev, facts.st_ino) not in entered
    entered.add((facts.st_dev, facts.st_ino))
    return new


def entries(folder: str) -> list[os.DirEntry[str]]:
    """What a folder holds, without hidden names. Raises BadInput where it may not be listed."""
    try:
        with os.scandir(folder) as found:
            return [entry for entry in found if not entry.name.startswith(".")]
    except OSError as error:
        reason = (error.strerror or "it fails").lower()
        raise BadInput(
            f"the folder {uri_of(folder)} cannot be listed ({reason}), so its images would be missed silently. "
            "Make it readable, or choose a folder without it."
        ) from None


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, or a link to one; a link that leads in a circle is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def entry_size(entry: os.DirEntry[str]) -> int:
    """Bytes of a file, -1 where it cannot be asked (a dangling or looping link)."""
    try:
        return entry.stat().st_size
    except OSError:
        return -1


def no_image_story(folder: str, paths: list[str]) -> str:
    """What lies in a folder in which no image was found."""
    story = f"no image in {uri_of(folder)}: "
    if paths:
        endings = endings_of(paths)
        story += f"{len(paths)} file{'s'[: len(paths) != 1]} ({few(f'{n} {e}' for e, n in endings.most_common())})."
        if FOREIGN & endings.keys():
            story += f" Of these, {few(sorted(FOREIGN & endings.keys()))} are pictures of a kind that is not read."
    else:
        story += "it is empty, or everything in it is hidden."
    return story + f" Images end in {few(sorted(IMAGE_SUFFIXES), most=len(IMAGE_SUFFIXES))}."


def images_of_list(path: str) -> Images:
    """The images that a CSV names in its column `uri`, in its order, with the labels of its column `label` and the
    photographs that they were cut from, of its column `photograph`, if it has these.

    Names are relative to the folder of the list and must stay below it; an absolute one is taken as it is typed. Names
    of files that are not there are images that cannot be read. Raises BadInput where the file is no such list or where
    no named file exists.
    """
    root = os.path.dirname(path)
    rows = list(read_list(path))
    items = tuple(Item(uri_of(uri), label or None, photograph or None) for uri, label, photograph in rows)
    sizes = [file_size(os.path.join(root, uri)) for uri, _, _ in rows]
    if not rows:
        raise BadInput(f"the list {uri_of(path)} names no image: below its header there is nothing.")
    if max(sizes) < 0:
        raise BadInput(
            f"none of the {len(rows)} files that {uri_of(path)} names is there; the first is {rows[0][0]!r}. "
            f"Names are relative to the folder of the list, {uri_of(root)}."
        )
    return Images(items, sizes, Files(root, [item.uri for item in items]), uri_of(path))


def read_list(path: str) -> Iterator[tuple[str, str, str]]:
    """(uri, label, photograph) of each row of a list. Raises BadInput with the line where something is wrong."""
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        table = csv.DictReader(file)
        try:
            header = [name.strip() for name in table.fieldnames or []]
            table.fieldnames = header
            if "uri" not in header:
                raise BadInput(no_list_story(path, header))
            for row in table:
                uri = (row["uri"] or "").strip()
                check_name(uri, path, table.line_num)
                yield uri, (row.get("label") or "").strip(), (row.get("photograph") or "").strip()
        except csv.Error as error:
            raise BadInput(
                f"{uri_of(path)} is not a list of images: after line {table.line_num} comes a {error}."
            ) from None


def no_list_story(path: str, header: list[str]) -> str:
    return (
        f"{uri_of(path)} is neither a list of images nor tar shards. "
        f"A list is a CSV whose first line is 'uri,label' (or 'uri'); "
        f"this one begins with {uri_of(','.join(header))[:60]!r}."
    )


def check_name(uri: str, path: str, line: int) -> None:
    """Refuses what is empty, and a relative name that leaves the folder of its list."""
    if not uri or "\0" in uri:
        raise BadInput(f"line {line} of {uri_of(path)} names no file.")
    if not os.path.isabs(uri) and os.path.normpath(uri).split("/")[0] == "..":
        raise BadInput(
            f"line {line} of {uri_of(path)} names {uri!r}, which leaves the folder of the list. "
            "Write an absolute path, or put the list into a folder that holds all its images."
        )


def file_size(path: str) -> int:
    """Bytes of the file, -1 where there is none."""
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def image_alone(path: str) -> Images:
    """A set of one: the image file itself, without a label."""
    folder, name = os.path.split(path)
    item = Item(uri_of(name))
    return Images((item,), [Path(path).stat().st_size], Files(folder, [item.uri]), uri_of(path))
