"""Records made up in the form of real ones: small, quickly made, with everything that an atlas has to cope with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from unitscope.record import Record, open_record, write_arrays, write_facts, write_table
from unitscope.stimuli.images import open_images
from unitscope.vocabulary import Box, ReceptiveField

HOSTILE = '<script>alert("1")</script>'
PICTURE = (48, 48)


@dataclass(frozen=True)
class FakeSite:
    name: str
    operation: str
    channels: int
    lattice: tuple[int, int]
    field: ReceptiveField
    preactivation: bool = True


SITES = (
    FakeSite("conv1", "conv2d", 6, (24, 24), ReceptiveField((7, 7), (2, 2), (-3, -3))),
    FakeSite("maxpool", "max_pool2d", 6, (12, 12), ReceptiveField((11, 11), (4, 4), (-5, -5)), preactivation=False),
    FakeSite("layer1.0.relu_1", "relu", 12, (12, 12), ReceptiveField((27, 27), (4, 4), (-13, -13))),
    FakeSite("layer4.relu", "relu", 40, (2, 2), ReceptiveField((899, 899), (32, 32), (-433, -433))),
    FakeSite(
        "../up & away",
        "mystery",
        3,
        (1, 1),
        ReceptiveField(PICTURE, (0, 0), (0, 0), "unknown", "unknown operation <b>mystery</b>"),
    ),
)


def write_pictures(folder: Path, *, count: int = 24, seed: int = 0) -> Path:
    """Photographs, sort of: smooth colored noise in folders by label, one label and one name hostile to HTML."""
    generator = np.random.default_rng(seed)
    for number in range(count):
        label = ("owl", "tower & sea", "a < b")[number % 3]
        small = generator.integers(0, 255, (9, 12, 3), dtype=np.uint8)
        path = folder / label / f"{'<img src=x onerror=alert(1)> ' if number == 1 else ''}{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(small).resize((96, 72), Image.Resampling.BICUBIC).save(path)
    return folder


def write_record(
    path: Path,
    pictures: Path,
    *,
    name: str = "resnet34",
    sites: tuple[FakeSite, ...] = SITES,
    size: tuple[int, int] = PICTURE,
    top: int = 16,
    seed: int = 0,
    note: str = "",
) -> Record:
    """A record of made-up responses to the pictures in a folder."""
    images = open_images(pictures)
    generator = np.random.default_rng(seed)
    path.mkdir(parents=True, exist_ok=True)
    firsts = np.cumsum([0, *(site.channels for site in sites)]).tolist()
    stimuli: list[dict[str, Any]] = []
    units: list[dict[str, Any]] = []
    for site, first in zip(sites, firsts, strict=False):
        for channel in range(site.channels):
            rows = _stimuli(site, first + channel, channel, len(images), top, generator)
            stimuli += rows
            units.append(_unit(site, first + channel, channel, rows, len(images), generator))
    write_table(path / "stimuli.parquet", pa.Table.from_pylist(stimuli))
    write_table(path / "units.parquet", pa.Table.from_pylist(units))
    write_table(path / "images.parquet", pa.Table.from_pylist([_image(i, item) for i, item in enumerate(images)]))
    write_arrays(path / "arrays.zarr", _arrays(sites, size, generator))
    write_facts(path, _facts(images, sites, firsts, name=name, size=size, top=top, note=note))
    return open_record(path)


def _stimuli(site: FakeSite, unit: int, channel: int, images: int, top: int, generator: Any) -> list[dict[str, Any]]:
    rows = []
    for pole, sign in (("preferred", 1), ("antipreferred", -1)):
        if is_dead(site, channel) and pole == "preferred":
            continue
        values = np.sort(generator.gamma(2, 1 + channel, min(top, images)))[::-1]
        chosen = generator.permutation(images)[: len(values)]
        for rank, (image, value) in enumerate(zip(chosen.tolist(), values.tolist(), strict=True)):
            row, col = (int(generator.integers(n)) for n in site.lattice)
            box = site.field.box(row, col)
            rows.append(
                {
                    "unit": unit,
                    "site": site.name,
                    "channel": channel,
                    "pole": pole,
                    "rank": rank,
                    "image": image,
                    "row": row,
                    "col": col,
                }
                | {"value": sign * value, **box._asdict()}
            )
    return rows


def is_dead(site: FakeSite, channel: int) -> bool:
    """Every sixth unit from the sixth on is inactive."""
    return site.channels > 3 and channel % 6 == 5


def _unit(
    site: FakeSite, unit: int, channel: int, rows: list[dict[str, Any]], images: int, generator: Any
) -> dict[str, Any]:
    values = [row["value"] for row in rows]
    dead = is_dead(site, channel)
    return {
        "unit": unit,
        "site": site.name,
        "channel": channel,
        "images": images,
        "peak_max": -0.1 if dead else max(values),
        "trough_min": min(values),
        "peak_mean": -0.5 if dead else float(np.mean([value for value in values if value > 0])),
        "positive_images": 0 if dead else int(generator.integers(1, images + 1)),
        "inactive": dead,
        "field_height": site.field.size[0],
        "field_width": site.field.size[1],
    }


def _image(number: int, item: Any) -> dict[str, Any]:
    return {"image": number, "uri": item.uri, "label": item.label, "status": "ok", "error": None}


def _arrays(sites: tuple[FakeSite, ...], size: tuple[int, int], generator: Any) -> dict[str, Any]:
    count = sum(site.channels for site in sites)
    means = np.full((count, 3, 64, 64), np.nan, np.float32)
    n = np.full(count, 100, np.int64)
    sizes, boxes = np.zeros((count, 2), np.int32), np.zeros((count, 4), np.int32)
    unit = 0
    for site in sites:
        for channel in range(site.channels):
            box = site.field.box(site.lattice[0] // 2, site.lattice[1] // 2)
            if max(site.field.size) > 64:
                box = box.clip(size)
            sizes[unit] = (box.height, box.width) if max(site.field.size) <= 64 else (32, 32)
            boxes[unit] = box
            n[unit] = (100, 12, 0)[channel % 3] if channel < 3 else 100
            means[unit, :, : sizes[unit][0], : sizes[unit][1]] = _blob(sizes[unit], generator) if n[unit] else np.nan
            unit += 1
    first = sites[0].channels
    maps = {
        f"response_map/{site.name}": (generator.normal(size=(site.channels, *site.lattice)), ("unit", "row", "col"))
        for site in sites
        if "/" not in site.name
    }
    return maps | {
        "mean_stimulus_center": (means, ("unit", "color", "height", "width")),
        "mean_stimulus_center_n": (n, ("unit",)),
        "mean_stimulus_center_size": (sizes, ("unit", "side")),
        "mean_stimulus_center_box": (boxes, ("unit", "edge")),
        "kernels": (generator.normal(size=(first, 3, 7, 7)).astype(np.float32), ("channel", "input", "row", "col")),
    }


def _blob(size: np.ndarray, generator: Any) -> np.ndarray:
    rows, cols = (np.linspace(-1, 1, side) for side in size)
    blob = np.exp(-3 * (rows[:, None] ** 2 + cols[None] ** 2))
    return np.clip(0.45 + generator.normal(0, 0.2, (3, 1, 1)) * blob, 0, 1)


def _facts(
    images: Any, sites: Any, firsts: list[int], *, name: str, size: tuple[int, int], top: int, note: str
) -> dict[str, Any]:
    return {
        "format": 1,
        "network": {
            "name": name,
            "fingerprint": f"{len(name):x}" + "3f9ac2" * 10,
            "weights": f"/somewhere/{name}.safetensors",
            "size": list(size),
        }
        | {"mean": [0.5] * 3, "std": [0.25] * 3, "order": "RGB", "inputs": 3, "classes": None},
        "stimuli": {
            "fingerprint": images.fingerprint,
            "source": images.source,
            "count": len(images),
            "unreadable": 0,
            "note": note,
        }
        | {"size": list(size), "resize": round(size[0] * 256 / 224)},
        "sites": [
            {"name": site.name, "channels": site.channels, "lattice": list(site.lattice), "operation": site.operation}
            | {"preactivation": site.preactivation, "first_unit": first}
            | {"field": {key: getattr(site.field, key) for key in ("size", "stride", "start", "status", "cause")}}
            for site, first in zip(sites, firsts, strict=False)
        ],
        "settings": {"top": top},
        "seed": 0,
        "versions": {"unitscope": "0.1.0"},
        "created": "2026-01-02T03:04:05+00:00",
        "complete": True,
        "kernels": {"site": sites[0].name, "sites": [site.name for site in sites[:2]]},
    }


def box_of(row: Any) -> Box:
    return Box(int(row.top), int(row.left), int(row.bottom), int(row.right))
