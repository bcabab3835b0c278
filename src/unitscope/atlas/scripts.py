"""Data as classic scripts: a page that was opened by double-click may load them, whatever the browser thinks of file://."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np


def write_script(path: Path, target: str, value: Any) -> None:
    """Write `target = value;` as a script. `value` may hold numpy numbers and arrays; what is not finite becomes null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{target} = {as_script(value)};\n", encoding="ascii")


def as_script(value: Any) -> str:
    """JSON that is safe within a script element, too: ASCII only, and neither `</` nor `<!--` occurs in it."""
    text = json.dumps(_plain(value), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value.tolist()]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return _rounded(value)
    return value


def _rounded(value: float) -> float | int | None:
    if not math.isfinite(value):
        return None
    short = float(f"{value:.6g}")
    return int(short) if short.is_integer() and abs(short) < 1e15 else short


def slugs(names: Iterable[str]) -> dict[str, str]:
    """For each name a file name that is safe on every system, stays within its folder and is like no other, whatever the case."""
    result: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        if name in result:
            continue
        plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip(".")[:80].rstrip(".") or "_"
        if re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d|index|data|sprites)(\..*)?", plain):
            plain = f"_{plain}"
        slug, number = plain, 1
        while slug.lower() in taken:
            number += 1
            slug = f"{plain}-{number}"
        taken.add(slug.lower())
        result[name] = slug
    return result
