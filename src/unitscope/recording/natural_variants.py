"""A unit's own preferred patches of photographs shown again: in gray, turned, and mirrored.

Each patch lies where the center neuron looks, on the session's crop. Only patches that lie wholly on their photograph
take part, and only where the center neuron answers to them as the neuron did that preferred them in the survey.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from unitscope.durable import write_table
from unitscope.record import Record
from unitscope.recording.aligned_crops import Crop, center_responses
from unitscope.recording.source_images import Originals, originals_of
from unitscope.recording.tuning_responses import PIXELS, Group
from unitscope.stimuli.color import XYZ_OF_LINEAR, decode_srgb, encode_srgb
from unitscope.stimuli.items import Unreadable
from unitscope.vocabulary import Box

if TYPE_CHECKING:
    from pathlib import Path

    from unitscope.networks import Network
    from unitscope.vocabulary import Site

ROTATIONS = tuple(range(15, 360, 15))
"""Degrees counterclockwise (rafegas2020)."""

AXES = (0, 45, 90, 135)
"""Axes about which patches are mirrored, degrees counterclockwise from horizontal (rafegas2020)."""

CHANGES = ("none", "gray", *(f"rotated:{degrees}" for degrees in ROTATIONS), *(f"mirrored:{axis}" for axis in AXES))

SAME = 0.02
"""The answer to an unchanged patch must be within this share of the one in the survey."""


def show_natural(
    network: Network,
    record: Record,
    sites: Mapping[str, Site],
    group: Group,
    crop: Crop,
    *,
    count: int,
    originals: Originals | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, np.ndarray]:
    """Show the `count` preferred patches of each unit of a group in all CHANGES: columns "unit", "rank", "change" and
    "value", a row per response. What lies around a patch fills the corners when it is turned.

    Raises BadInput where the record's images are gone.
    """
    originals = originals or originals_of(record)
    wanted = list(_find_patches(record, group, count))
    columns: dict[str, list[Any]] = {"unit": [], "rank": [], "change": [], "value": []}
    together = max(1, PIXELS // (len(CHANGES) * crop.size[0] * crop.size[1]))
    for start in range(0, len(wanted), together):
        batch = [(one, picture) for one in wanted[start : start + together]
                 if (picture := _photograph(originals, one["image"])) is not None]  # fmt: skip
        if batch:
            pictures = torch.cat([_paste(make_variants(photo, one["box"]), group, crop) for one, photo in batch])
            named = {name: sites[name] for name in group.channels}
            answers = center_responses(network, pictures.to(network.device), named, crop)
            for number, (one, _) in enumerate(batch):
                rows = slice(number * len(CHANGES), (number + 1) * len(CHANGES))
                _append_rows(columns, one, answers[one["site"]][rows, one["channel"]].cpu().numpy())
        if progress is not None:
            progress(min(start + together, len(wanted)), len(wanted))
    return {"unit": np.array(columns["unit"], np.int64), "rank": np.array(columns["rank"], np.int64),
            "change": np.array(columns["change"], object), "value": np.array(columns["value"], np.float32)}  # fmt: skip


def keep_natural(path: Path, columns: Mapping[str, np.ndarray], asked: Mapping[str, Any]) -> None:
    """Write the answers, and with them what was asked for."""
    import pyarrow

    table = pyarrow.table({name: pyarrow.array(values.tolist()) for name, values in columns.items()})
    write_table(path, table.replace_schema_metadata({"asked": json.dumps(asked)}))


def asked_of(path: Path) -> Any:
    """What was asked for when a table was written; None where there is none, where it is damaged or does not say."""
    import pyarrow
    import pyarrow.parquet

    try:
        metadata = pyarrow.parquet.read_schema(path).metadata or {}
        return json.loads(metadata.get(b"asked", b"null"))
    except (OSError, ValueError, pyarrow.ArrowException):
        return None


def _find_patches(record: Record, group: Group, count: int) -> Iterator[dict[str, Any]]:
    """The preferred patches that lie wholly on the picture, by image, so that each is read once."""
    table = record.stimuli(pole="preferred")
    height, width = group.picture
    table = table[
        table["site"].isin(list(group.channels)) & (table["rank"] < count) & (table["value"] > 0) & (table["top"] >= 0)
        & (table["left"] >= 0) & (table["bottom"] <= height) & (table["right"] <= width)
    ].sort_values(["image", "unit", "rank"])  # fmt: skip
    size = (group.box.height, group.box.width)
    for row in table.itertuples():
        box = Box(int(row.top), int(row.left), int(row.bottom), int(row.right))
        if group.seen == group.box and (box.height, box.width) == size and row.channel in group.channels[row.site]:
            yield {"site": row.site, "channel": int(row.channel), "unit": int(row.unit), "rank": int(row.rank),
                   "image": int(row.image), "box": box, "value": float(row.value)}  # fmt: skip


def _photograph(originals: Originals, image: int) -> Float[Tensor, "3 height width"] | None:
    try:
        shown = originals.shown(image)
    except Unreadable:
        return None
    return torch.from_numpy(np.ascontiguousarray(shown.transpose(2, 0, 1))).float() / 255


def make_variants(photograph: Float[Tensor, "3 height width"], box: Box) -> Float[Tensor, "change 3 h w"]:
    """A patch of a photograph in all CHANGES, in their order. Gray has the luminance of the color."""
    patch = photograph[:, box.top : box.bottom, box.left : box.right]
    turns = [_turn(degrees) for degrees in ROTATIONS] + [_mirror(axis) for axis in AXES]
    return torch.cat([torch.stack([patch, _to_gray(patch)]), _sample(photograph, box, np.stack(turns))])


def _to_gray(patch: Float[Tensor, "3 h w"]) -> Float[Tensor, "3 h w"]:
    luminance = np.tensordot(XYZ_OF_LINEAR[1], decode_srgb(patch.numpy()), (0, 0))
    return torch.from_numpy(encode_srgb(luminance / XYZ_OF_LINEAR[1].sum())).float().expand(3, -1, -1)


def _turn(degrees: float) -> Float[np.ndarray, "2 2"]:
    """Where a pixel's (right, down) is taken from, when the patch is turned counterclockwise."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    # At 90 degrees (right, down) is taken from (-down, right): what was below comes to the right side.
    return np.array([[cos, -sin], [sin, cos]])


def _mirror(axis: float) -> Float[np.ndarray, "2 2"]:
    cos, sin = np.cos(2 * np.radians(axis)), np.sin(2 * np.radians(axis))
    return np.array([[cos, -sin], [-sin, -cos]])


def _sample(
    photograph: Float[Tensor, "3 height width"], box: Box, turns: Float[np.ndarray, "turn 2 2"]
) -> Float[Tensor, "turn 3 h w"]:
    """The photograph around the box's center, turned: bilinear, mirrored beyond its edges."""
    down, right = np.mgrid[: box.height, : box.width].astype(np.float64)
    offsets = np.stack([right - (box.width - 1) / 2, down - (box.height - 1) / 2], -1)
    center = np.array([(box.left + box.right - 1) / 2, (box.top + box.bottom - 1) / 2])
    places = np.einsum("tij,hwj->thwi", turns, offsets) + center
    size = np.array([photograph.shape[2], photograph.shape[1]])
    # Without align_corners, -1 and 1 are the edges of the picture, and the center of pixel i is at (2 i + 1) / size -
    # 1.
    grid = torch.from_numpy((2 * places + 1) / size - 1).float().reshape(1, -1, box.width, 2)
    found = functional.grid_sample(
        photograph[None], grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
    return found.reshape(3, len(turns), box.height, box.width).transpose(0, 1)


def _paste(patches: Float[Tensor, "change 3 h w"], group: Group, crop: Crop) -> Float[Tensor, "change 3 height width"]:
    # Around the patch is plain gray, as around all stimuli.
    pictures = patches.new_full((len(patches), 3, *crop.size), 0.5)
    top, left = group.seen.top - crop.top, group.seen.left - crop.left
    pictures[:, :, top : top + patches.shape[2], left : left + patches.shape[3]] = patches
    return pictures


def _append_rows(columns: dict[str, list[Any]], one: Mapping[str, Any], values: np.ndarray) -> None:
    # values[0] is the response to the unchanged patch. If it differs from the one in the survey, the crop does not
    # stand for the photograph, and the patch is left out.
    if abs(values[0] - one["value"]) > SAME * abs(one["value"]):
        return
    columns["unit"] += [one["unit"]] * len(CHANGES)
    columns["rank"] += [one["rank"]] * len(CHANGES)
    columns["change"] += CHANGES
    columns["value"] += values.tolist()
