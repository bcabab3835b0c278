"""Data as classic scripts, which a page that was opened from the disk (by double-click) may load.

Problem: browsers do not let such a page (file://) fetch JSON. Idea: a script assigns the data to an object of the page:

    write_script(path, 'unitscope.sites["resnet/maxpool"]', {"n": np.array([3, 4])})
    path:  unitscope.sites["resnet/maxpool"] = {"n":[3,4]};
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np


def write_script(path: Path, target: str, value: Any) -> None:
    """Write `target = value;` as a script. `value` may hold numpy's numbers and arrays; what is not finite is null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{target} = {as_script(value)};\n", encoding="ascii")


def as_script(value: Any) -> str:
    """JSON that is safe within a script element, too: ASCII only, and neither `</` nor `<!--` occurs in it."""
    try:
        text = _json(value)
    except ValueError:  # something is not finite
        text = _json(_finite(value))
    return text.replace("<", "\\u003c").replace(">", "\\u003e")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"), default=_listed)


def _listed(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot stand in a script")


def _finite(value: Any) -> Any:
    """The same with None in place of what is not finite."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _finite(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def round_digits(values: np.ndarray, *, digits: int = 6) -> np.ndarray:
    """Numbers rounded to `digits` significant digits: enough to read, and half as long to write."""
    values = np.asarray(values, np.float64)
    with np.errstate(all="ignore"):
        scale = 10.0 ** (digits - 1 - np.floor(np.log10(np.abs(values))))
        short = np.round(values * scale) / scale
    return np.where(np.isfinite(short), short, values)


def slugs(names: Iterable[str]) -> dict[str, str]:
    """For each name a file name that is safe everywhere, stays in its folder and like no other, whatever the case."""
    result: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        if name in result:
            continue
        plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._")[:80].rstrip("._") or "_"
        # Names that Windows reserves for devices, and names of the atlas's own files.
        if re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d|index|data|sprites)(\..*)?", plain):
            plain = f"_{plain}"
        slug, number = plain, 1
        # Some file systems take "A.html" and "a.html" for one file.
        while slug.lower() in taken:
            number += 1
            slug = f"{plain}-{number}"
        taken.add(slug.lower())
        result[name] = slug
    return result
