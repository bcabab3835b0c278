"""record.json: what it must hold, and whether the files that it names are as they were written. Never imports torch.

record.json is checked once, at opening, against SCHEMA, so that later code finds every key, and no text in place of a
number. Keys that are not in SCHEMA are let through; keys that older records lack get DEFAULTS.

`files` has the size and the digest of every file that the survey left (of arrays: of the folder), so that a record
that lost data on the disk is noticed. At opening, all sizes are compared. Of what has up to 16 MiB the digests are
compared; of what is larger, only the first bytes of each file are read, since lost data are zeros.
`find_fault(..., thorough=True)` compares all digests.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from unitscope.durable import read_json, write_json
from unitscope.errors import BadInput

FORMAT = 1
"""Version of the record's form. A record of another version is refused in words."""

DIGESTED = 1 << 24
"""Bytes of a file, or of a folder of arrays, whose digest is compared at every opening."""

HEAD = 64
"""Bytes at the beginning of a larger file that are looked at: a table, a chunk of an array and weights never begin with
so many zeros.
"""


# --- what record.json must hold ---------------------------------------------------------------------------


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    # In Python, True is an int, too.
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 62


def _is_count(value: Any) -> bool:
    return _is_whole(value) and value >= 0


def _is_number(value: Any) -> bool:
    return _is_whole(value) or (isinstance(value, float) and math.isfinite(value))


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_whole, value))


def _is_side(value: Any) -> bool:
    return _is_whole(value) or value == [] or _is_pair(value)


Check = Callable[[Any], bool]

TEXT, FLAG, COUNT, PAIR = (
    (_is_text, "a text"), (_is_flag, "true or false"), (_is_count, "a whole number"), (_is_pair, "two whole numbers")
)  # fmt: skip
NUMBER, SIDES = (_is_number, "a number"), (_is_side, "a whole number or two")

SCHEMA: dict[str, Any] = {
    "format": COUNT,
    "network": {
        "name": TEXT, "fingerprint": TEXT, "computation?": TEXT, "weights?": TEXT, "size?": PAIR, "mean?": [NUMBER],
        "std?": [NUMBER], "order?": TEXT, "inputs?": COUNT, "classes?": [TEXT],
    },
    "stimuli": {
        "source": TEXT, "fingerprint": TEXT, "count": COUNT, "unreadable?": COUNT, "note?": TEXT, "size?": PAIR,
        "resize?": SIDES,
    },
    "sites": [{
        "name": TEXT, "channels": COUNT, "lattice": PAIR, "picture?": PAIR, "operation": TEXT, "preactivation": FLAG,
        "first_unit": COUNT,
        "field": {"size": PAIR, "stride": PAIR, "start": PAIR, "status": TEXT, "cause?": TEXT},
    }],
    "settings?": {
        "top?": COUNT, "per_image?": COUNT, "labels?": [TEXT], "means?": [TEXT], "responses?": FLAG,
        "precision?": TEXT, "batch?": COUNT, "block?": COUNT,
    },
    "seed?": COUNT,
    "complete": FLAG,
    "shard?": PAIR,
    "kernels?": {"site": TEXT, "sites": [TEXT]},
    "files?": {},
}  # fmt: skip
"""What is known of each key: a check and its words, a list of alike, or a group of keys; with ? it may be missing or
null."""

DEFAULTS: dict[str, Any] = {"settings": {"labels": [], "means": []}, "seed": 0}
"""What a record means that lacks these."""

OF_A_SHARD: dict[str, Any] = {
    "network": {"inputs": COUNT},
    "sites": [{"picture": PAIR}],
    "settings": {"top": COUNT, "per_image": COUNT},
}
"""What `merge` needs besides."""


def fault_of(value: Any, schema: Any, place: str = "") -> str:
    """Where a value is not as its schema says, in words; empty where it is."""
    if isinstance(schema, tuple):
        check, words = schema
        return "" if check(value) else f"{place} is not {words}"
    kind = list if isinstance(schema, list) else dict
    if not isinstance(value, kind):
        return f"{place or 'it'} is not {'a list' if kind is list else 'a group of keys'}"
    if isinstance(value, list):
        parts = ((one, schema[0], f"{place}[{number}]") for number, one in enumerate(value))
        return next(filter(None, (fault_of(*part) for part in parts)), "")
    for key, inner in schema.items():
        name, own = key.removesuffix("?"), f"{place}.{key.removesuffix('?')}".lstrip(".")
        if value.get(name) is None and key.endswith("?"):
            continue
        if name not in value:
            return f"{own} is missing"
        if fault := fault_of(value[name], inner, own):
            return fault
    return ""


def _fault_of_sites(sites: list[dict[str, Any]]) -> str:
    """Sites have names of their own, and their units follow one another."""
    first = 0
    for number, site in enumerate(sites):
        if site["first_unit"] != first:
            return f"sites[{number}].first_unit is {site['first_unit']} and not {first}"
        first += site["channels"]
    return "two sites have one name" if len({site["name"] for site in sites}) < len(sites) else ""


def read_facts(path: Path) -> dict[str, Any] | None:
    """The contents of record.json, with DEFAULTS for what it lacks; None where there is no such file.

    Args:
        path: The record's folder.

    Raises:
        BadInput: The file is damaged, of another form, or not a record's.
    """
    file = path / "record.json"
    facts = read_json(file)
    if facts is None and not file.exists():
        return None
    if not isinstance(facts, dict):
        raise BadInput(f"{file} is not a record's: it holds a {type(facts).__name__}.")
    if facts.get("format") != FORMAT and isinstance(facts.get("format"), int | str):
        raise BadInput(
            f"{path} is a record of form {str(facts['format'])[:20]}; this version of unitscope reads form {FORMAT}."
        )
    if fault := fault_of(facts, SCHEMA) or _fault_of_sites(facts["sites"]):
        raise BadInput(
            f"{file} is damaged, or not a record's: {fault}. If the record was whole once, take record.json from a "
            "copy; otherwise delete the folder and run the survey again."
        )
    return _with_defaults(facts, DEFAULTS)


def _with_defaults(facts: dict[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in defaults.items():
        if isinstance(value, dict):
            facts[name] = _with_defaults(dict(facts.get(name) or {}), value)
        elif facts.get(name) is None:
            facts[name] = value
    return facts


def write_facts(path: Path, facts: Mapping[str, Any]) -> None:
    """Write record.json in one step, so that there is a whole one or none."""
    write_json(path / "record.json", facts)


# --- the files that it names ------------------------------------------------------------------------------


def describe_files(folder: Path, names: list[str]) -> dict[str, Any]:
    """Size and digest of files and folders, by name."""
    return {name: _describe_path(folder / name) for name in names}


def find_fault(folder: Path, facts: Mapping[str, Any], *, thorough: bool = False) -> str:
    """What the disk lost of the files that record.json names, in words; empty where all is there.

    Without `thorough`, digests are left out of what has more than DIGESTED bytes.
    """
    for name, entry in (facts.get("files") or {}).items():
        if not name or name != Path(name).name:  # a record speaks of its own files only
            return f"{name!r} is no file of a record"
        if fault := _fault_of_file(folder / name, entry, thorough):
            return f"{name} {fault}"
    return ""


def _describe_path(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        return {"bytes": path.stat().st_size, "sha256": _digest(path)}
    files = _list_files(path)
    whole = hashlib.sha256()
    for name, file in files.items():
        # With names and sizes: contents that move from one file to another change the digest, too.
        whole.update(f"{name}\0{file.stat().st_size}\0{_digest(file)}\n".encode())
    return {
        "files": len(files),
        "bytes": sum(file.stat().st_size for file in files.values()),
        "sha256": whole.hexdigest(),
    }


def _fault_of_file(path: Path, entry: Any, thorough: bool) -> str:
    wanted = {"bytes": COUNT, "sha256": TEXT, "files?": COUNT}
    if fault_of(entry, wanted):
        return "is not described in record.json as it should be"
    if not path.exists() or path.is_dir() != ("files" in entry):
        return "is missing"
    files = list(_list_files(path).values()) if path.is_dir() else [path]
    sizes = [file.stat().st_size for file in files]
    if len(files) != entry.get("files", 1) or sum(sizes) != entry["bytes"]:
        there, once = (f"{n:,} bytes in {m:,} files" if path.is_dir() else f"{n:,} bytes"
                       for n, m in ((sum(sizes), len(files)), (entry["bytes"], entry.get("files"))))  # fmt: skip
        return f"has {there} and was written with {once}"
    if thorough or entry["bytes"] <= DIGESTED:
        return "" if _describe_path(path)["sha256"] == entry["sha256"] else "has other contents than were written"
    lost = next(filter(_begins_with_zeros, files), None)
    return "" if lost is None else f"has only zeros at the beginning of {lost.name}"


def _list_files(folder: Path) -> dict[str, Path]:
    """All files of a folder, by their names in it, sorted."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return dict(sorted(files.items()))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _begins_with_zeros(path: Path) -> bool:
    with path.open("rb") as file:
        return not any(file.read(HEAD))
