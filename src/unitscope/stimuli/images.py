"""The images to show: of a folder, a list, tar shards, a table, or the demonstration set; all alike once opened."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from os import PathLike

from unitscope.errors import BadInput, near
from unitscope.stimuli.builtin import builtin_images
from unitscope.stimuli.drawn import DRAWN_NOTE, DrawnImages
from unitscope.stimuli.folders import Files, entries, image_alone, images_of_folder, images_of_list
from unitscope.stimuli.items import Images, Item, Unreadable, digest, is_image, path_of, uri_of
from unitscope.stimuli.omissions import describe_omissions, endings_of
from unitscope.stimuli.parquet import images_of_parquet
from unitscope.stimuli.shards import images_of_shards

__all__ = ["Images", "Item", "Source", "Unreadable", "choose_images", "digest", "open_images", "reopen", "reordered"]


@dataclass(frozen=True)
class ChosenImages:
    """Reads some images of another set: `places` are their numbers there, -1 for those that it no longer has."""

    images: Images
    places: Sequence[int]

    def __call__(self, image: int) -> bytes:
        if self.places[image] < 0:
            raise Unreadable("it is no longer among the images of its source")
        return self.images.bytes(self.places[image])


Source = str | PathLike[str] | Sequence[str | PathLike[str]] | Images


def open_images(source: Source) -> Images:
    """Open the images behind `source`.

    Args:
        source: one of

            * a folder: all images below the folder, sorted by path, labeled by the first sub-folder;
            * a folder that holds tar files, but neither images nor folders; one tar file; a pattern such as
              `train-*.tar`; a sequence of tar files. Labels stand beside the images (as in WebDataset, see samples.py),
              or are the names of folders;
            * the same with Parquet files that have a column of images;
            * a list: a CSV with the columns `uri` and, if labels are known, `label`; names are relative to its folder;
            * "builtin": the demonstration set; an image file: a set of one; Images: as they are.

    Returns:
        Images. Their `note` counts the files that were left out, by ending.

    Raises:
        BadInput: there is no such file or folder, or no image in it.

    Example:
        >>> unitscope.open_images("images")
        Images(12 images, 2 labels, source='...images')
    """
    if isinstance(source, Images):
        return source
    if not isinstance(source, str | PathLike):
        return shards_of([os.path.abspath(os.fspath(path)) for path in source])
    # A file or folder of that name comes first.
    if os.fspath(source) == "builtin" and not os.path.exists("builtin"):
        return builtin_images()
    if not os.fspath(source) or "\0" in os.fspath(source):
        raise BadInput(f"{os.fspath(source)!r} is no path. Images are a folder, a list (CSV), or tar files.")
    path = os.path.abspath(os.path.expanduser(os.fspath(source)))
    if os.path.isdir(path):
        return images_in(path)
    if os.path.isfile(path):
        return images_of_file(path)
    if matches := sorted(glob.glob(path)):
        return images_of_archives(matches, path)
    raise BadInput(missing_story(path))


def images_in(folder: str) -> Images:
    """The images of a folder, or of the tar or Parquet files that it holds instead."""
    names = [entry.name for entry in entries(folder)]
    if not any(is_image(name) or os.path.isdir(os.path.join(folder, name)) for name in names):
        for ending in (".tar", ".parquet"):
            if archives := [os.path.join(folder, name) for name in names if name.lower().endswith(ending)]:
                beside = endings_of(name for name in names if os.path.join(folder, name) not in set(archives))
                return images_of_archives(archives, folder, beside=beside)
    return images_of_folder(folder)


def images_of_file(path: str) -> Images:
    """The images of a tar or Parquet file, of a list, or the one that the file is."""
    if not os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
        raise BadInput(f"{uri_of(path)} may not be read (permission denied).")
    name = os.path.basename(path)
    if name.lower().endswith((".parquet", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")):
        return images_of_archives([path], path)
    return image_alone(path) if is_image(name) else images_of_list(path)


def images_of_archives(
    paths: Sequence[str], source: str | list[str], *, beside: Mapping[str, int] | None = None
) -> Images:
    """The images of tar files, or of Parquet files, with the endings of what lies `beside` them and is left out.

    Raises BadInput where a path is neither.
    """
    if all(path.lower().endswith(".parquet") for path in paths):
        return replace(images_of_parquet(paths, source), note=describe_omissions(beside or {}))
    return images_of_shards(tar_files(paths), source, beside=beside)


def shards_of(paths: list[str]) -> Images:
    """The images of several tar or Parquet files given one by one."""
    for path in paths:
        if not os.path.isfile(path):
            raise BadInput(missing_story(path))
    if not paths:
        raise BadInput("an empty sequence of tar files came; there must be at least one.")
    return images_of_archives(paths, paths)


def tar_files(paths: Sequence[str]) -> Sequence[str]:
    """The paths as they are. Raises BadInput where one is no tar file."""
    for path in paths:
        if ".tar" not in os.path.basename(path).lower():
            raise BadInput(
                f"{uri_of(path)} is not a tar file. Several paths, or a pattern, stand for tar shards; "
                "of images in folders, give the folder or a list (CSV with the column 'uri')."
            )
    return paths


def missing_story(path: str) -> str:
    """What is near a path that does not exist."""
    folder, name = os.path.split(path)
    while folder and not os.path.isdir(folder):
        folder, name = os.path.split(folder)
    story = f"{uri_of(path)} does not exist."
    if uri_of(os.path.join(folder, name)) != uri_of(path):
        story += f" Already {uri_of(os.path.join(folder, name))} does not."
    try:
        with os.scandir(folder) as found:
            close = near(name, [entry.name for entry in islice(found, 2000)])
    except OSError:
        close = []
    if close:
        story += " Close: " + ", ".join(uri_of(os.path.join(folder, other)) for other in close) + "."
    return story + " Images are a folder, a list (CSV with the column 'uri'), or tar files."


def reopen(source: str | list[str], items: Sequence[Item]) -> Images:
    """The images that a record saw, in its order, found by their names, whatever was added to the source since.

    Folders and lists are not listed again, so this is quick; an image that has vanished is found out when it is read.
    Raises BadInput where the source itself is gone.
    """
    if source == "builtin":  # whatever may be called so in the current folder: other sources are absolute paths
        return choose_images(builtin_images(), items)
    sizes = [-1] * len(items)
    if source == "drawn":
        return Images(tuple(items), sizes, DrawnImages([item.uri for item in items]), source, DRAWN_NOTE)
    # Uris with "//" lie inside archives: SHARD.tar//MEMBER, FILE.parquet//ROW.
    if isinstance(source, str) and not any("//" in item.uri for item in items[:1]):
        path = path_of(source)
        if not os.path.exists(path):
            raise BadInput(missing_story(path))
        root = path if os.path.isdir(path) else os.path.dirname(path)
        return Images(tuple(items), sizes, Files(root, [item.uri for item in items]), source)
    now = open_images(path_of(source) if isinstance(source, str) else [path_of(path) for path in source])
    return choose_images(now, items)


def reordered(images: Images, places: Sequence[int]) -> Images:
    """Some of the images, in the order of their numbers `places`."""
    items = tuple(images.items[place] for place in places)
    return Images(
        items, [images.sizes[place] for place in places], ChosenImages(images, places), images.source, images.note
    )


def choose_images(images: Images, items: Sequence[Item]) -> Images:
    """Those of the images that have the names of `items`, in their order; one that is not there is one that cannot be
    read.
    """
    place = {item.uri: number for number, item in enumerate(images.items)}
    places = [place.get(item.uri, -1) for item in items]
    sizes = [images.sizes[number] if number >= 0 else -1 for number in places]
    return Images(tuple(items), sizes, ChosenImages(images, places), images.source, images.note)
