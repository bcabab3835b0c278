"""Hearing by the compiled readout: each response map is read once, while it is still in the processor's cache."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, UInt8
from torch import Tensor, nn

from unitscope.anatomy.rectifiers import Rectifier
from unitscope.recording.block import RENEWED, Block
from unitscope.recording.field_windows import View
from unitscope.recording.normal import Normal
from unitscope.recording.position_means import PositionSums
from unitscope.recording.readout import Ear, library
from unitscope.vocabulary import Size

LINES = {
    "peak": np.float32, "trough": np.float32, "mean": np.float32, "above": np.float32,
    "centered": np.bool_, "counted": np.bool_, "highest": np.int32, "lowest": np.int32,
}  # fmt: skip
"""What is read of each stimulus and unit."""


class QuickHearing:
    """One site's answers to a block of up to `size` stimuli while it is being shown; as `block.Hearing`, which it
    equals bit for bit. Begin each block with `begin`.
    """

    def __init__(
        self, units: int, lattice: Size, center: tuple[int, int], *, size: int, positions: list[PositionSums]
    ) -> None:
        self.units, self.lattice, self.positions = units, lattice, positions
        self.lines: dict[str, np.ndarray] = {name: np.empty((size, units), dtype=kind) for name, kind in LINES.items()}
        self.map = np.zeros((2, units, lattice[0] * lattice[1]), dtype=np.float32)
        self.scratch = np.empty(0, dtype=np.float32)
        self.ear = Ear(units=units, positions=lattice[0] * lattice[1], center=center[0] * lattice[1] + center[1])
        for name, line in self.lines.items():
            setattr(self.ear, name, line.ctypes.data)
        self.ear.map = self.map.ctypes.data
        self.place = ctypes.addressof(self.ear)
        self.format: torch.memory_format | None = None
        self.normals: dict[nn.Module, Normal | None] = {}
        self.heard = self.first = 0

    def begin(self, floors: Mapping[int, Float32[np.ndarray, "unit rank"]]) -> None:
        """Begin a block. `floors`: what is held of each pole, as sign * value, highest first."""
        k = floors[1].shape[1]
        self.ear.renewed = k <= RENEWED
        self.ear.k = k if self.ear.renewed else 1
        kept = [floors[sign] if self.ear.renewed else floors[sign][:, -1:] for sign in (1, -1)]
        self.floors = [np.array(floor, dtype=np.float32, order="C") for floor in kept]
        self.bars = [floor[:, -1].copy() for floor in self.floors]
        for i in range(2):
            self.ear.floors[i], self.ear.bars[i] = self.floors[i].ctypes.data, self.bars[i].ctypes.data
        self.map[:] = 0
        self.heard = 0

    def hear(
        self,
        responses: Float[Tensor, "stimulus unit row col"],
        images: Int[Tensor, " stimulus"],
        readable: Bool[Tensor, " stimulus"],
        pictures: UInt8[Tensor, "stimulus color height width"] | None = None,
    ) -> None:
        """Take in a batch. Stimuli that are not `readable` are not counted."""
        responses = responses.contiguous(memory_format=self.format_of(responses))
        self.read(responses, images, readable)
        counted = torch.from_numpy(self.lines["counted"][self.heard - len(images) : self.heard])
        for sums in self.positions:
            assert pictures is not None
            of_field = torch.from_numpy(sums.channels)
            sums.add(responses[:, of_field], pictures, counted[:, of_field])

    def rectify(
        self,
        given: Float[Tensor, "stimulus unit row col"],
        images: Int[Tensor, " stimulus"],
        readable: Bool[Tensor, " stimulus"],
        kind: Rectifier,
    ) -> Float[Tensor, "stimulus unit row col"] | None:
        """As `hear`, and in the same pass over memory do the work of the rectifier that is given the responses next,
        and of the batch normalization that they come from, bit for bit. None where this cannot be: then nothing was
        taken in.
        """
        kept = self.format_of(given)
        if self.positions or given.dtype != torch.float32 or not given.is_contiguous(memory_format=kept):
            return None
        normal = None
        if kind.norm is not None:
            if kept is torch.contiguous_format or given.is_contiguous():
                return None
            if kind.norm not in self.normals:
                self.normals[kind.norm] = Normal.of(kind.norm)
            normal = self.normals[kind.norm]
            if normal is None or len(normal.scale) != self.units:
                return None
        rectified = given if kind.inplace else torch.empty_like(given)
        self.read(given, images, readable, rectified, (kind.low, kind.high), normal)
        return rectified

    def format_of(self, responses: Tensor) -> torch.memory_format:
        """The order in memory of the first responses, in which the site's sums are kept."""
        if self.format is None:
            last = responses.is_contiguous(memory_format=torch.channels_last)
            self.format = torch.channels_last if last else torch.contiguous_format
        return self.format

    def read(
        self,
        given: Float32[Tensor, "stimulus unit row col"],
        images: Int[Tensor, " stimulus"],
        readable: Bool[Tensor, " stimulus"],
        rectified: Float32[Tensor, "stimulus unit row col"] | None = None,
        limits: tuple[float, float] = (0.0, 0.0),
        normal: Normal | None = None,
    ) -> None:
        """Read responses, or what the normalization makes of what is given, and write down what is wanted of them."""
        found = library()
        assert found is not None
        count = len(images)
        self.check(given, count, len(readable), rectified)
        if not self.heard:
            self.first = int(images[0])
        needed = 6 * count * self.units * -(-self.ear.positions // 256)
        if len(self.scratch) < needed:
            self.scratch = np.empty(needed, dtype=np.float32)
            self.ear.scratch = self.scratch.ctypes.data
        last = self.format is torch.channels_last
        written = None if rectified is None else rectified.data_ptr()
        normalized = (None, None) if normal is None else normal.arguments
        found.hear(
            self.place, given.data_ptr(), self.heard, count, last, readable.data_ptr(), written, *limits, *normalized
        )
        self.heard += count

    def check(self, given: Tensor, count: int, readable: int, rectified: Tensor | None) -> None:
        """Raises ValueError unless the memory that the readout is going to touch is what it takes it for: it is given
        nothing but addresses.
        """
        expected = (count, self.units, *self.lattice)
        for tensor in (given, rectified):
            if tensor is not None and (tuple(tensor.shape) != expected or tensor.dtype != torch.float32):
                raise ValueError(f"the readout got {tensor.dtype} {list(tensor.shape)}; expected {list(expected)}")
            if tensor is not None and not (
                tensor.is_cpu and tensor.is_contiguous(memory_format=self.format or torch.contiguous_format)
            ):
                raise ValueError("the readout got responses that do not lie in one piece in the order it was told")
        if readable != count or self.heard + count > len(self.lines["peak"]):
            raise ValueError(f"the readout got {readable} of {count} stimuli after {self.heard}, more than fit in")

    def close(self, number: int, readable: np.ndarray, labels: np.ndarray, patches: Mapping[View, np.ndarray]) -> Block:
        """The block, heard to its end. Its arrays are overwritten by the next one."""
        lines = {name: line[: self.heard] for name, line in self.lines.items()}
        sums = torch.from_numpy(self.map).sum(0).numpy()
        if self.format is torch.channels_last:
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
            places={1: lines["highest"], -1: lines["lowest"]},
            patches=patches,
            first=self.first,
        )
