"""What was left out of a set of images, so that nobody takes a part of a folder for the whole."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping

from unitscope.errors import few

FOREIGN = frozenset(
    f".{ending}"
    for ending in (
        *("heic", "heif", "hif", "jxl", "jxr", "wdp", "avifs", "psd", "psb", "xcf", "svg", "eps", "ai", "pdf", "ico"),
        *("tga", "pcx", "sgi", "exr", "hdr", "pfm", "dds", "fits", "fit", "dcm", "nii", "mpo", "apng", "jpf", "jpx"),
        *("j2k", "jpc", "j2c", "dng", "raw", "cr2", "cr3", "crw", "nef", "nrw", "arw", "srf", "sr2", "raf", "orf"),
        *("rw2", "rwl", "pef", "srw", "x3f", "3fr", "iiq", "erf", "mef", "mos", "kdc", "dcr", "mrw"),
    )
)
"""The endings, in lower case, of files that are pictures (or raw ones, or drawings) and are not read."""

MASKS = "masks and other parts of pictures"
LINKS = "links and devices"
"""What is counted by its kind instead of its ending."""


def ending_of(name: str) -> str:
    """The ending of a file's name, in lower case; "without an ending" where there is none."""
    ending = os.path.splitext(name)[1].lower()
    return ending if ending.isprintable() and len(ending) < 20 and ending else "without an ending"


def endings_of(names: Iterable[str]) -> Counter[str]:
    return Counter(map(ending_of, names))


def describe_omissions(endings: Mapping[str, int]) -> str:
    """What was left out, by ending and number, in one clause: pictures first. "" where nothing was."""
    order = sorted(endings.items(), key=lambda pair: (pair[0] not in FOREIGN, pair[0] != MASKS, -pair[1], pair[0]))
    pictures = [f"{count:,} {ending}" for ending, count in order if ending in FOREIGN]
    others = [f"{count:,} {ending}" for ending, count in order if ending not in FOREIGN]
    parts = []
    if pictures:
        parts.append(f"{few(pictures, most=5)} (pictures of a kind that is not read: convert them to JPEG or PNG)")
    if others:
        parts.append(few(others, most=5))
    return f"left out: {', '.join(parts)}" if parts else ""
