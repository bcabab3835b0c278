"""From response maps to the rows of a block: what a survey keeps of each map while a network is being shown pictures.

Problem: the responses of all sites to a batch take gigabytes, and a later operation of the network may overwrite them
in place. So each site's responses are reduced at once, as they come to be, to a few numbers per stimulus and unit.

Idea: an `Accumulator` per site takes in batch after batch. After a block of stimuli it is finished, and gives a
`Block`, from which the statistics (statistics.py) take what they keep:

    responses of a batch [32 64 56 56] --add--> rows: peak, trough, mean, ... [stimulus unit]   } finish
                                                sum of the maps [64 56 56]                      } -> Block of 256
                                                where the best k responses lie                  }    stimuli

A position is looked up only where a response is among the `k` best of its unit so far (`floors`): after a few thousand
stimuli that is one in hundreds.

Sums of real numbers depend on their order in the last bit. So the order is fixed here, once, and each implementation of
`Accumulator` keeps to it: the mean of a map in `mean_over_positions`, the sum of maps in `PlainAccumulator.add_maps`.
`PlainAccumulator` is the readable one; `fast.reader.FastAccumulator` gives the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, Int32, UInt8
from torch import Tensor

if TYPE_CHECKING:
    from unitscope.recording.field_windows import FieldWindow
    from unitscope.recording.position_means import PositionSums
    from unitscope.vocabulary import Size

LOOK_UP = 1 << 24
"""How many responses are copied at a time when positions are looked up."""

ROWS = ("peak", "trough", "mean", "positive_positions", "center")
"""What is read of each response map."""

RENEWED = 64
"""Lists up to this length are renewed after each batch, longer ones (whose renewal would cost more) after each block.
"""

CACHED = 1 << 22
"""How many responses are taken in at a time: few enough to stay in the processor's cache while they are read several
times.
"""

MapSummary = Callable[[Tensor], Tensor]
"""From responses [stimulus unit row col] to one number per stimulus and unit [stimulus unit]."""


@dataclass(frozen=True)
class Block:
    """What the units of one site answered to the block `number`.

    `peak`, `trough`, `mean` (over the lattice), `center` (above 0 at the center), `positive_positions` [stimulus
    unit]; `counted` where the response was finite and the stimulus `readable` [stimulus]; `labels` [stimulus] (-1:
    none); `response_sum` [unit row col] over the readable stimuli; `candidates` per pole: flat arrays of unit, value,
    image, row and col; or `positions` per pole: the flat lattice position of each peak and trough that may enter the
    lists, else -1, where `first` is the number of the first image; `patches`: what the views cut from the pictures;
    `summaries`: the rows of further statistics (map_statistics.py), by name.
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
    patches: Mapping[FieldWindow, np.ndarray]
    positions: Mapping[int, Int32[np.ndarray, "stimulus unit"]] | None = None
    first: int = 0
    summaries: Mapping[str, np.ndarray] = field(default_factory=dict)


@runtime_checkable
class Accumulator(Protocol):
    """Takes in the responses of one site to the batches of a block, and gives the block; then begins the next one."""

    def begin(self, floors: Mapping[int, Float32[np.ndarray, "unit rank"]]) -> None:
        """Begin a block. `floors`: per sign (1: highest, -1: lowest) the k best values so far, as sign * value, best
        first.
        """

    def add(
        self,
        responses: Float[Tensor, "stimulus unit row col"],
        images: Int[Tensor, " stimulus"],
        readable: Bool[Tensor, " stimulus"],
        pictures: UInt8[Tensor, "stimulus color height width"] | None = None,
    ) -> None:
        """Take in a batch. `images`: the numbers of its stimuli, in order; those that are not `readable` are black and
        not counted. `pictures` are needed only where means over positions are kept.
        """

    def finish(
        self, number: int, readable: np.ndarray, labels: np.ndarray, patches: Mapping[FieldWindow, np.ndarray]
    ) -> Block:
        """The block, of which this was the last batch. The next block may overwrite its arrays."""


class PlainAccumulator:
    """The accumulator in PyTorch, on any device.

    Args:
        center: Row and column of the center neuron.
        device: Where the responses are.
        per_image: How many positions of one image may enter a list.
        position_sums: Sums over positions, which take in each batch as it comes.
        summaries: Further statistics' numbers of each map, by name.
    """

    def __init__(
        self,
        center: Size,
        *,
        device: torch.device | str = "cpu",
        per_image: int = 1,
        position_sums: Sequence[PositionSums] = (),
        summaries: Mapping[str, MapSummary] | None = None,
    ) -> None:
        self.center, self.device, self.per_image = center, device, per_image
        self.position_sums, self.summaries = position_sums, summaries or {}

    def begin(self, floors: Mapping[int, Float32[np.ndarray, "unit rank"]]) -> None:
        self.k = floors[1].shape[1]
        self.floors = {sign: torch.tensor(values, device=self.device) for sign, values in floors.items()}
        self.rows: dict[str, list[Tensor]] = {name: [] for name in (*ROWS, *self.summaries)}
        self.candidates: dict[int, list[tuple[Tensor, ...]]] = {1: [], -1: []}
        self.response_sums: Tensor | None = None
        self.axes = (1, 2, 3)

    def add(
        self,
        responses: Float[Tensor, "stimulus unit row col"],
        images: Int[Tensor, " stimulus"],
        readable: Bool[Tensor, " stimulus"],
        pictures: UInt8[Tensor, "stimulus color height width"] | None = None,
    ) -> None:
        batch = self.read_rows(responses)
        half = (len(responses) + 1) // 2
        weights = readable.to(responses.dtype)
        for number, stimuli in enumerate((slice(0, half), slice(half, None))):
            self.add_maps(number, responses[stimuli], weights[stimuli])
        for name, row in batch.items():
            self.rows[name].append(row)
        # Three numbers show whether a whole map is finite: NaN spreads to all of them, an infinity to an extreme, and
        # a sum that overflows to the mean.
        finite = torch.stack([torch.isfinite(batch[name]) for name in ("peak", "trough", "mean")]).all(0)
        finite &= readable[:, None]
        add_positions(self.position_sums, responses, pictures, finite)
        for sign, extreme in ((1, batch["peak"]), (-1, batch["trough"])):
            self.locate(responses, torch.where(finite, extreme, -sign * torch.inf), images, sign)

    def read_rows(self, responses: Float[Tensor, "stimulus unit row col"]) -> dict[str, Tensor]:
        """One number of each kind per response map."""
        parts = responses.split(max(1, CACHED // responses[0].numel()))
        read: dict[str, MapSummary] = {
            "peak": lambda maps: maps.amax((2, 3)) + 0.0,  # + 0.0: no zero below zero
            "trough": lambda maps: maps.amin((2, 3)) + 0.0,
            "mean": mean_over_positions,
            "positive_positions": count_positive_positions,
            **self.summaries,
        }
        rows: dict[str, list[Tensor]] = {name: [] for name in read}
        for maps in parts:
            for name, summarize in read.items():
                rows[name].append(summarize(maps))
        center = responses[:, :, self.center[0], self.center[1]] > 0
        return {"center": center} | {name: torch.cat(found) for name, found in rows.items()}

    def add_maps(self, half: int, responses: Tensor, weights: Tensor) -> None:
        """Add the maps of half a batch to their sum, in the memory's own order, stimulus after stimulus.

        The halves are summed apart since each is a thread's own in the fast path; `finish` adds the two sums.
        """
        if self.response_sums is None:
            channels_last = responses.is_contiguous(memory_format=torch.channels_last) and not responses.is_contiguous()
            self.axes = (2, 3, 1) if channels_last else (1, 2, 3)
            shape = [responses.shape[axis] for axis in self.axes]
            self.response_sums = torch.zeros((2, *shape), dtype=responses.dtype, device=responses.device)
        flat, sums = responses.permute(0, *self.axes).flatten(1), self.response_sums[half].view(-1)
        if responses.is_cpu:
            for i in weights.nonzero()[:, 0].tolist():
                # One map after the other: `sum(0)` adds in an order of PyTorch's own choice, which the compiled twin
                # could not follow.
                sums.add_(flat[i])
        else:  # the processor's own order, as a product with a row of ones
            sums.addmv_(flat.T, weights)

    def locate(self, responses: Tensor, extreme: Tensor, images: Tensor, sign: int) -> None:
        """Look up the positions of those responses that are among the k best so far."""
        if self.k <= RENEWED:
            # A floor only saves work: if it is too low, candidates come in that lose later, in `Extremes.insert`.
            self.floors[sign] = torch.cat([self.floors[sign], (sign * extreme).T], dim=1).topk(self.k, dim=1).values
        # Not ">": the floor was renewed just now, and may be a response of this very batch.
        entering = (sign * extreme >= self.floors[sign][:, -1]) & torch.isfinite(extreme)
        stimulus, unit = entering.nonzero(as_tuple=True)
        if len(unit):
            for value, position in find_positions(
                responses, stimulus, unit, extreme[stimulus, unit], sign=sign, count=self.per_image
            ):
                cols = responses.shape[3]
                self.candidates[sign].append((unit, value, images[stimulus], position // cols, position % cols))

    def finish(
        self, number: int, readable: np.ndarray, labels: np.ndarray, patches: Mapping[FieldWindow, np.ndarray]
    ) -> Block:
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
            candidates={sign: flatten_candidates(found) for sign, found in self.candidates.items()},
            patches=patches,
            summaries={name: rows[name] for name in self.summaries},
            **{name: rows[name] for name in ROWS},  # type: ignore[arg-type]
        )


def add_positions(
    sums: Iterable[PositionSums],
    responses: Float32[Tensor, "stimulus unit row col"],
    pictures: UInt8[Tensor, "stimulus color height width"] | None,
    counted: Bool[Tensor, "stimulus unit"],
) -> None:
    """Let sums over positions take in a batch; each of them takes the units of its own field."""
    for one in sums:
        assert pictures is not None
        channels = torch.from_numpy(one.channels)
        one.add(responses[:, channels].cpu(), pictures, counted[:, channels].cpu())


def mean_over_positions(responses: Float[Tensor, "stimulus unit row col"]) -> Float[Tensor, "stimulus unit"]:
    """The mean over the lattice.

    On a CPU the sum is taken in one stated order, which PyTorch and the compiled library both can keep to. A map's
    positions are cut into chunks of 256, a chunk is written in 8 rows of 32 (the last chunk in 8 shorter rows):

        row 0 |   0   1 ...  31     each column is summed as ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7)),
        row 1 |  32  33 ...  63     the columns from left to right,
          ...                       the chunks from the first to the last
        row 7 | 224 225 ... 255
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
            # Zeros fill up the last chunk, and change no sum.
            padded = torch.nn.functional.pad(chunks, (0, length - chunks.shape[2]))
            rows = padded.unflatten(2, (-1, 8, row))
            while rows.shape[3] > 1:  # pairs of rows
                rows = rows[:, :, :, 0::2] + rows[:, :, :, 1::2]
            for sums in add_in_order(rows[:, :, :, 0].unbind(3)).unbind(2):
                total += sums
    return total / positions


def add_in_order(terms: Sequence[Tensor]) -> Tensor:
    """The sum of tensors, from the first to the last."""
    total = torch.zeros_like(terms[0])
    for term in terms:
        total += term
    return total


def count_positive_positions(responses: Float[Tensor, "stimulus unit row col"]) -> Float[Tensor, "stimulus unit"]:
    """At how many lattice positions the response is above zero.

    Ones and zeros are written and added up as real numbers: three times as fast as truth values, and exact up to 2^24.
    """
    above = torch.gt(responses, 0, out=torch.empty_like(responses))
    return above.sum((2, 3))


def find_positions(
    responses: Tensor, stimulus: Tensor, unit: Tensor, value: Tensor, *, sign: int, count: int
) -> list[tuple[Tensor, Tensor]]:
    """Values and flat positions of the `count` best responses of each (stimulus, unit), best first.

    Of equal ones the first in row-major order. `value` are the best values, already known.
    """
    lattice = responses.shape[2] * responses.shape[3]
    step = max(1, LOOK_UP // lattice)
    found: list[list[tuple[Tensor, Tensor]]] = []
    for i in range(0, len(unit), step):
        maps = responses[stimulus[i : i + step], unit[i : i + step]].reshape(-1, lattice)
        if count == 1:
            # As bytes: torch's argmax does not take booleans.
            found.append([(value[i : i + step], (maps == value[i : i + step, None]).to(torch.uint8).argmax(1))])
        else:
            order = (sign * maps).argsort(dim=1, descending=True, stable=True)[:, :count]
            found.append([(maps.gather(1, position[:, None])[:, 0], position) for position in order.T])
    return [tuple(torch.cat(column) for column in zip(*same, strict=True)) for same in zip(*found, strict=True)]  # type: ignore[misc]


def flatten_candidates(candidates: list[tuple[Tensor, ...]]) -> tuple[np.ndarray, ...]:
    """Candidates as flat arrays: unit, value, image, row, col."""
    if not candidates:
        return tuple(np.empty(0, dtype=kind) for kind in (np.int64, np.float32, np.int64, np.int64, np.int64))
    return tuple(torch.cat(column).cpu().numpy() for column in zip(*candidates, strict=True))
