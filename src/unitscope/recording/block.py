"""A block of stimuli: what each site answered to it, heard while it was being shown, and the pictures that it was
made of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, Int32, UInt8
from torch import Tensor

from unitscope.recording.field_windows import View
from unitscope.recording.position_means import PositionSums

LOOK_UP = 1 << 24
"""How many responses are copied at a time when positions are looked up."""

ROWS = ("peak", "trough", "mean", "positive_positions", "center")
"""What is read of each response map."""

RENEWED = 64
"""Lists up to this length are renewed after each batch, longer ones (whose renewal would cost more) after each block.
"""

HANDFUL = 1 << 22
"""How many responses are taken in at a time: few enough to stay in the processor's cache while they are read several
times.
"""


@dataclass(frozen=True)
class Block:
    """What the units of one site answered to the block `number`.

    `peak`, `trough`, `mean` (over the lattice), `center` (above 0 at the center), `positive_positions` [stimulus
    unit]; `counted` where the response was finite and the stimulus `readable` [stimulus]; `labels` [stimulus] (-1:
    none); `response_sum` [unit row col] over the readable stimuli; `candidates` per pole: flat arrays of unit, value,
    image, row and col; or `places` per pole: the flat lattice position of each peak and trough that may enter the
    lists, else -1, where `first` is the number of the first image; `patches`: what the views cut from the pictures.
    """

    number: int
    peak: Float32[np.ndarray, "stimulus unit"]
    trough: Float32[np.ndarray, "stimulus unit"]
    mean: Float32[np.ndarray, "stimulus unit"]
    positive_positions: Float32[np.ndarray, "stimulus unit"]
    center: Bool[np.ndarray, "stimulus unit"]
    counted: Bool[np.ndarray, "stimulus unit"]
    readable: Bool[np.ndarray, " stimulus"]
    labels: Int[np.ndarray, " stimulus"]
    response_sum: Float32[np.ndarray, "unit row col"]
    candidates: Mapping[int, tuple[np.ndarray, ...]]
    patches: Mapping[View, np.ndarray]
    places: Mapping[int, Int32[np.ndarray, "stimulus unit"]] | None = None
    first: int = 0


@dataclass
class Hearing:
    """One site's answers to a block while it is being shown. `floor` holds, per pole, the k best values so far
    (highest first).
    """

    k: int
    center: tuple[int, int]
    floor: dict[int, Tensor]
    per_image: int = 1
    positions: list[PositionSums] = field(default_factory=list)
    rows: dict[str, list[Tensor]] = field(default_factory=lambda: {name: [] for name in ROWS})
    candidates: dict[int, list[tuple[Tensor, ...]]] = field(default_factory=lambda: {1: [], -1: []})
    response_sums: Tensor | None = None
    axes: tuple[int, int, int] = (1, 2, 3)

    def hear(
        self,
        responses: Float[Tensor, "stimulus unit row col"],
        images: Int[Tensor, " stimulus"],
        readable: Bool[Tensor, " stimulus"],
        pictures: UInt8[Tensor, "stimulus color height width"] | None = None,
    ) -> None:
        """Take in a batch. `images` are the stimuli's numbers; those that are not `readable` are black, and not
        counted. `pictures` are wanted where means over positions are kept.
        """
        each = responses[0].numel()
        step = max(1, HANDFUL // each)
        weights = readable.to(responses.dtype)
        found: dict[str, list[Tensor]] = {name: [] for name in ROWS}
        for i in range(0, len(responses), step):
            part = responses[i : i + step]
            found["peak"].append(part.amax((2, 3)) + 0.0)  # no zero below zero
            found["trough"].append(part.amin((2, 3)) + 0.0)
            found["mean"].append(mean_over_positions(part))
            found["positive_positions"].append(positions_above_zero(part))
        half = (len(responses) + 1) // 2
        for number, stimuli in enumerate((slice(0, half), slice(half, None))):
            self._add(number, responses[stimuli], weights[stimuli])
        found["center"].append(responses[:, :, self.center[0], self.center[1]] > 0)
        batch = {name: torch.cat(parts) for name, parts in found.items()}
        for name, row in batch.items():
            self.rows[name].append(row)
        finite = torch.stack([torch.isfinite(batch[name]) for name in ("peak", "trough", "mean")]).all(0)
        finite &= readable[:, None]
        for sums in self.positions:
            assert pictures is not None
            of_field = torch.from_numpy(sums.channels)
            sums.add(responses[:, of_field].cpu(), pictures, finite[:, of_field].cpu())
        for sign, extreme in ((1, batch["peak"]), (-1, batch["trough"])):
            self._consider(responses, torch.where(finite, extreme, -sign * torch.inf), images, sign)

    def _add(self, half: int, responses: Tensor, weights: Tensor) -> None:
        """Add up the responses of half a batch per lattice position, in the memory's own order, stimulus after
        stimulus.
        """
        if self.response_sums is None:
            channels_last = responses.is_contiguous(memory_format=torch.channels_last) and not responses.is_contiguous()
            self.axes = (2, 3, 1) if channels_last else (1, 2, 3)
            shape = [responses.shape[axis] for axis in self.axes]
            self.response_sums = torch.zeros((2, *shape), dtype=responses.dtype, device=responses.device)
        flat, sums = responses.permute(0, *self.axes).flatten(1), self.response_sums[half].view(-1)
        if responses.is_cpu:
            for i in weights.nonzero()[:, 0].tolist():
                sums.add_(flat[i])
        else:  # the processor's own order, as a product with a row of ones
            sums.addmv_(flat.T, weights)

    def _consider(self, responses: Tensor, extreme: Tensor, images: Tensor, sign: int) -> None:
        """Look up the positions of those responses that are among the k best so far."""
        if self.k <= RENEWED:
            self.floor[sign] = torch.cat([self.floor[sign], (sign * extreme).T], dim=1).topk(self.k, dim=1).values
        entering = (sign * extreme >= self.floor[sign][:, -1]) & torch.isfinite(extreme)
        stimulus, unit = entering.nonzero(as_tuple=True)
        if len(unit):
            for value, place in positions(
                responses, stimulus, unit, extreme[stimulus, unit], sign=sign, count=self.per_image
            ):
                cols = responses.shape[3]
                self.candidates[sign].append((unit, value, images[stimulus], place // cols, place % cols))

    def close(self, number: int, readable: np.ndarray, labels: np.ndarray, patches: Mapping[View, np.ndarray]) -> Block:
        """The block, heard to its end."""
        rows = {name: torch.cat(parts).cpu().numpy() for name, parts in self.rows.items()}
        assert self.response_sums is not None
        return Block(
            number=number,
            counted=np.isfinite([rows[name] for name in ("peak", "trough", "mean")]).all(0) & readable[:, None],
            readable=readable,
            labels=labels,
            response_sum=self.response_sums.sum(0)
            .permute(*(self.axes.index(axis) for axis in (1, 2, 3)))
            .cpu()
            .numpy(),
            candidates={sign: flat(kept) for sign, kept in self.candidates.items()},
            patches=patches,
            **rows,  # type: ignore[arg-type]
        )


def mean_over_positions(responses: Float[Tensor, "stimulus unit row col"]) -> Float[Tensor, "stimulus unit"]:
    """The mean over the lattice.

    On a CPU the sum is taken in one stated order: chunks of 256 positions are seen as 8 rows, whose sums ((0 + 1) +
    (2 + 3)) + ((4 + 5) + (6 + 7)) are added from left to right, and the chunks after each other.
    """
    if not responses.is_cpu:
        return responses.mean((2, 3))
    flat = responses.flatten(2)
    positions = flat.shape[2]
    whole = positions // 256 * 256
    total = torch.zeros(flat.shape[:2], dtype=flat.dtype)
    for chunks, row in ((flat[:, :, :whole], 32), (flat[:, :, whole:], -(-(positions - whole) // 8))):
        if row and chunks.shape[2]:
            length = -(-chunks.shape[2] // (8 * row)) * 8 * row
            padded = torch.nn.functional.pad(chunks, (0, length - chunks.shape[2]))
            rows = padded.unflatten(2, (-1, 8, row))
            while rows.shape[3] > 1:
                rows = rows[:, :, :, 0::2] + rows[:, :, :, 1::2]
            for sums in added(rows[:, :, :, 0].unbind(3)).unbind(2):
                total += sums
    return total / positions


def added(terms: Sequence[Tensor]) -> Tensor:
    """The sum of tensors, from the first to the last."""
    total = torch.zeros_like(terms[0])
    for term in terms:
        total += term
    return total


def positions_above_zero(responses: Float[Tensor, "stimulus unit row col"]) -> Float[Tensor, "stimulus unit"]:
    """At how many lattice positions the response is above zero.

    Ones and zeros are written and added up as real numbers: three times as fast as truth values, and exact up to 2^24.
    """
    above = torch.gt(responses, 0, out=torch.empty_like(responses))
    return above.sum((2, 3))


def positions(
    responses: Tensor, stimulus: Tensor, unit: Tensor, value: Tensor, *, sign: int, count: int
) -> list[tuple[Tensor, Tensor]]:
    """Values and places on the flattened lattice of the `count` best responses of each (stimulus, unit), best first.

    Of equal ones the first in row-major order. `value` are the best values, already known.
    """
    lattice = responses.shape[2] * responses.shape[3]
    step = max(1, LOOK_UP // lattice)
    found: list[list[tuple[Tensor, Tensor]]] = []
    for i in range(0, len(unit), step):
        maps = responses[stimulus[i : i + step], unit[i : i + step]].reshape(-1, lattice)
        if count == 1:
            found.append([(value[i : i + step], (maps == value[i : i + step, None]).to(torch.uint8).argmax(1))])
        else:
            order = (sign * maps).argsort(dim=1, descending=True, stable=True)[:, :count]
            found.append([(maps.gather(1, place[:, None])[:, 0], place) for place in order.T])
    return [tuple(torch.cat(column) for column in zip(*same, strict=True)) for same in zip(*found, strict=True)]  # type: ignore[misc]


def flat(candidates: list[tuple[Tensor, ...]]) -> tuple[np.ndarray, ...]:
    """Candidates as flat arrays: unit, value, image, row, col."""
    if not candidates:
        return tuple(np.empty(0, dtype=kind) for kind in (np.int64, np.float32, np.int64, np.int64, np.int64))
    return tuple(torch.cat(column).cpu().numpy() for column in zip(*candidates, strict=True))
