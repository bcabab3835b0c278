"""The fast accumulator: reads each response map once, in compiled code, while it is still in the processor's cache.

Problem: PyTorch reads a map from memory once for its maximum, once for its minimum, once for its mean, and so on. For
most networks that takes longer than the network itself.

Idea: `read_maps` of readout.cc computes everything in one pass over memory. Where the map is on its way into a
rectifier, the same pass also does that rectifier's work, and the work of the batch normalization before it (fused
reading):

    plain                                              fused
    conv -> x        written                           conv -> x              written
    norm:   x -> y   read, written                     read(x): y = norm(x) in registers;
    survey: y        read several times                         rows of y noted; relu(y) written to z
    relu:   y -> z   read, written                     conv <- z
    conv <- z

So memory is read twice less and written once less, which is a fifth of the time of MobileNetV2 (benchmarks/fusing.py).
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, UInt8
from torch import Tensor, nn

from unitscope.anatomy.module_hooks import Tap
from unitscope.recording.accumulator import RENEWED, Accumulator, Block, MapSummary, add_positions
from unitscope.recording.electrode import Electrodes, ForwardPass, Instrument, place
from unitscope.recording.fast.batch_norm import ScaleAndShift
from unitscope.recording.fast.fused_ops import FusedNorm, FusionFinder, Rectifier, hook_fused_modules
from unitscope.recording.fast.library import library
from unitscope.recording.fast.max_pool import replace_max_pools
from unitscope.recording.fast.signatures import SiteRows
from unitscope.vocabulary import Size

if TYPE_CHECKING:
    from unitscope.networks import Network
    from unitscope.recording.field_windows import FieldWindow
    from unitscope.recording.position_means import PositionSums
    from unitscope.vocabulary import Site

LINES = {
    "peak": np.float32, "trough": np.float32, "mean": np.float32, "above": np.float32,
    "centered": np.bool_, "counted": np.bool_, "highest": np.int32, "lowest": np.int32,
}  # fmt: skip
"""What is read of each stimulus and unit."""


@dataclass(frozen=True)
class FastPass:
    """A forward pass in which rectifiers, normalizations and max-poolings are done by the compiled library.

    Each of them is done where that can be, and by the network's own module elsewhere.
    """

    module: nn.Module
    taps: tuple[Tap, ...]
    norms: Mapping[str, FusedNorm]

    def instrument(
        self,
        accumulators: Mapping[str, Accumulator],
        images: Int[Tensor, " stimulus"],
        readable: Bool[Tensor, " stimulus"],
    ) -> Instrument:
        """What is open while the batch with these images is shown (electrode.py)."""

        @contextmanager
        def open_pass(forward_pass: ForwardPass) -> Iterator[None]:
            def add_fused(name: str, value: Tensor, rectifier: Rectifier) -> Tensor | None:
                accumulator = accumulators[name]
                if not isinstance(accumulator, FastAccumulator):
                    return None
                add = accumulator.add_fused
                return forward_pass.take_raw(name, value, lambda _, given: add(given, images, readable, rectifier))

            tapped = hook_fused_modules(self.taps, forward_pass.take, add_fused=add_fused, norms=self.norms)
            with replace_max_pools(self.module), tapped:
                yield

        return open_pass


def place_fast(network: Network, sites: Mapping[str, Site]) -> tuple[Electrodes, FastPass | None]:
    """Electrodes for many pictures, and what may be fused there. None where not all sites can be tapped at a module."""
    finder = FusionFinder(network.module)
    # A tap at a rectifier is preferred: only there the rectifier's work can be done while reading.
    electrodes = place(network, sites, prefer=lambda part: Rectifier.of(part) is not None, observer=finder)
    if electrodes.taps is None:
        return electrodes, None
    return electrodes, FastPass(network.module, electrodes.taps, finder.fused_norms(electrodes.taps))


class FastAccumulator:
    """As `accumulator.PlainAccumulator`, for responses on a CPU and one position per image; bit for bit the same.

    Args:
        units: How many units the site has.
        lattice: Rows and columns of each response map.
        center: Row and column of the center neuron.
        size: The largest number of stimuli in a block.
        position_sums: Sums over positions, which take in each batch as it comes.
        summaries: Further statistics' numbers of each map, by name. They are computed plainly, from the maps.
    """

    def __init__(
        self,
        units: int,
        lattice: Size,
        center: Size,
        *,
        size: int,
        position_sums: Sequence[PositionSums] = (),
        summaries: Mapping[str, MapSummary] | None = None,
    ) -> None:
        self.units, self.lattice = units, lattice
        self.position_sums, self.summaries = position_sums, summaries or {}
        self.lines: dict[str, np.ndarray] = {name: np.empty((size, units), dtype=kind) for name, kind in LINES.items()}
        self.map = np.zeros((2, units, lattice[0] * lattice[1]), dtype=np.float32)
        self.scratch = np.empty(0, dtype=np.float32)
        self.out = SiteRows(units=units, positions=lattice[0] * lattice[1], center=center[0] * lattice[1] + center[1])
        for name, line in self.lines.items():
            setattr(self.out, name, line.ctypes.data)
        self.out.map = self.map.ctypes.data
        self.memory_format: torch.memory_format | None = None
        self.norms: dict[nn.Module, ScaleAndShift | None] = {}
        self.count = self.first = 0

    def begin(self, floors: Mapping[int, Float32[np.ndarray, "unit rank"]]) -> None:
        k = floors[1].shape[1]
        self.out.renewed = k <= RENEWED
        self.out.k = k if self.out.renewed else 1
        # Floors that are not renewed need only their last value.
        kept = [floors[sign] if self.out.renewed else floors[sign][:, -1:] for sign in (1, -1)]
        self.floors = [np.array(floor, dtype=np.float32, order="C") for floor in kept]
        # The k-th best values side by side: each response is compared with one of them.
        self.bars = [floor[:, -1].copy() for floor in self.floors]
        for i in range(2):
            self.out.floors[i], self.out.bars[i] = self.floors[i].ctypes.data, self.bars[i].ctypes.data
        self.map[:] = 0
        self.count = 0
        self.rows: dict[str, list[Tensor]] = {name: [] for name in self.summaries}

    def add(
        self,
        responses: Float[Tensor, "stimulus unit row col"],
        images: Int[Tensor, " stimulus"],
        readable: Bool[Tensor, " stimulus"],
        pictures: UInt8[Tensor, "stimulus color height width"] | None = None,
    ) -> None:
        # The sums of maps keep one memory format: responses in another one are copied into it.
        responses = responses.contiguous(memory_format=self.choose_format(responses))
        self.read(responses, images, readable)
        # `read` has moved `count` on: these are the rows of this batch.
        counted = torch.from_numpy(self.lines["counted"][self.count - len(images) : self.count])
        add_positions(self.position_sums, responses, pictures, counted)
        for name, summarize in self.summaries.items():
            self.rows[name].append(summarize(responses))

    def add_fused(
        self,
        given: Float[Tensor, "stimulus unit row col"],
        images: Int[Tensor, " stimulus"],
        readable: Bool[Tensor, " stimulus"],
        rectifier: Rectifier,
    ) -> Float[Tensor, "stimulus unit row col"] | None:
        """As `add`, and do the work of the rectifier behind the site, and of the normalization before it.

        Args:
            given: The responses or, where `rectifier` has a `norm`, what that normalization makes responses of.

        Returns:
            What the rectifier would give, bit for bit. None where this cannot be done: then nothing was taken in. So it
            is where anything else has to read the responses, which are never written to memory here.
        """
        if self.position_sums or self.summaries or given.dtype != torch.float32:
            return None
        kept = self.choose_format(given)
        if not given.is_contiguous(memory_format=kept):
            return None
        norm = None
        if rectifier.norm is not None:
            if kept is torch.contiguous_format or given.is_contiguous():
                return None
            if rectifier.norm not in self.norms:
                self.norms[rectifier.norm] = ScaleAndShift.of(rectifier.norm)
            norm = self.norms[rectifier.norm]
            if norm is None or len(norm.scale) != self.units:
                return None
        rectified = given if rectifier.inplace else torch.empty_like(given)
        self.read(given, images, readable, rectified, (rectifier.low, rectifier.high), norm)
        return rectified

    def choose_format(self, responses: Tensor) -> torch.memory_format:
        """The order in memory of the first responses, in which the site's sums are kept."""
        if self.memory_format is None:
            last = responses.is_contiguous(memory_format=torch.channels_last)
            self.memory_format = torch.channels_last if last else torch.contiguous_format
        return self.memory_format

    def read(
        self,
        given: Float32[Tensor, "stimulus unit row col"],
        images: Int[Tensor, " stimulus"],
        readable: Bool[Tensor, " stimulus"],
        rectified: Float32[Tensor, "stimulus unit row col"] | None = None,
        limits: tuple[float, float] = (0.0, 0.0),
        norm: ScaleAndShift | None = None,
    ) -> None:
        """Read responses, or what the normalization makes of what is given, into the rows of the block."""
        found = library()
        assert found is not None
        count = len(images)
        self.check(given, count, len(readable), rectified)
        if not self.count:
            # Images are numbered in order: row i of the block is image `first` + i.
            self.first = int(images[0])
        # Six numbers for each chunk of 256 positions: extremes, sum, count, and where both extremes lie (`Places` in
        # readout.cc).
        needed = 6 * count * self.units * -(-self.out.positions // 256)
        if len(self.scratch) < needed:
            self.scratch = np.empty(needed, dtype=np.float32)
            self.out.scratch = self.scratch.ctypes.data
        last = self.memory_format is torch.channels_last
        written = None if rectified is None else rectified.data_ptr()
        scale_and_shift = (None, None) if norm is None else norm.addresses
        found.read_maps(
            ctypes.addressof(self.out), given.data_ptr(), self.count, count, last, readable.data_ptr(), written,
            *limits, *scale_and_shift,
        )  # fmt: skip
        self.count += count

    def check(self, given: Tensor, count: int, readable: int, rectified: Tensor | None) -> None:
        """Raise ValueError unless the memory is as the compiled function takes it for, which gets addresses only."""
        expected = (count, self.units, *self.lattice)
        for tensor in (given, rectified):
            if tensor is not None and (tuple(tensor.shape) != expected or tensor.dtype != torch.float32):
                raise ValueError(f"the readout got {tensor.dtype} {list(tensor.shape)}; expected {list(expected)}")
            if tensor is not None and not (
                tensor.is_cpu and tensor.is_contiguous(memory_format=self.memory_format or torch.contiguous_format)
            ):
                raise ValueError("the readout got responses that do not lie in one piece in the order it was told")
        if readable != count or self.count + count > len(self.lines["peak"]):
            raise ValueError(f"the readout got {readable} of {count} stimuli after {self.count}, more than fit in")

    def finish(
        self, number: int, readable: np.ndarray, labels: np.ndarray, patches: Mapping[FieldWindow, np.ndarray]
    ) -> Block:
        lines = {name: line[: self.count] for name, line in self.lines.items()}
        # The halves of the batches are summed apart, as in `PlainAccumulator.add_maps`.
        sums = torch.from_numpy(self.map).sum(0).numpy()
        if self.memory_format is torch.channels_last:
            sums = sums.reshape(*self.lattice, self.units).transpose(2, 0, 1)
        else:
            sums = sums.reshape(self.units, *self.lattice)
        return Block(
            number=number,
            peak=lines["peak"],
            trough=lines["trough"],
            mean=lines["mean"],
            positive_positions=lines["above"],
            center=lines["centered"],
            counted=lines["counted"],
            readable=readable,
            labels=labels,
            response_sum=sums,
            candidates={},
            positions={1: lines["highest"], -1: lines["lowest"]},
            patches=patches,
            first=self.first,
            summaries={name: torch.cat(rows).numpy() for name, rows in self.rows.items()},
        )
