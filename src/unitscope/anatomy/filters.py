"""Virtual filters: what a unit behind several convolutions would look like if all between them were left out.

Problem: only the kernels of the first convolution are pictures. Those of later ones weigh channels.

Idea: from the weights alone, a later convolution weighs the filters of what it reads; the weighted sum is its virtual
filter (kobayashi2020, section 3.2 and eq. 3). At an addition the way leads along the skip.

    conv1: 64 filters w_k, 3 x 7 x 7        downsample: a unit with the weights a_k on these 64 channels
    its virtual filter                      sum_k a_k w_k, 3 x 7 x 7
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from unitscope.anatomy.operations import kind
from unitscope.anatomy.site_graph import Node, depth_of
from unitscope.anatomy.trace import PICTURE
from unitscope.errors import BadInput
from unitscope.vocabulary import Size

Mode = Literal["max_tap", "max_tap_shifted", "full"]
MODES: tuple[Mode, ...] = ("max_tap", "max_tap_shifted", "full")

SILENT = 1e-6
"""A channel whose folded gain is smaller is skipped: its filter would be rounding noise."""

LARGEST = 256
"""A composed kernel with a longer side is refused; strongest taps alone stay as small as the first kernels."""


class NotLinear(BadInput):
    """There is no linear way from the picture to this value."""


def is_left_out(word: str) -> bool:
    """Whether a linear way passes an operation as if the operation were not there. Not so a gated linear unit, which
    halves the channels.
    """
    return kind(word).identity or (kind(word).nonlinear and kind(word).elementwise)


@dataclass(frozen=True, eq=False)
class Kernels:
    """What each channel of a value takes of the picture, were the network linear on the way to it.

    `pictures` [unit color height width]; the kernel of the neuron at lattice place (row, col) begins at pixel `start` +
    (row, col) * `step`. `chain` names the convolutions on the way, `mixing` those of them that join several channels.
    """

    pictures: Float[Tensor, "unit color height width"]
    start: Size
    step: Size
    chain: tuple[str, ...] = ()
    mixing: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class VirtualFilters:
    """The virtual filters of one convolution, and what they are made of.

    `pictures` [unit color height width] are the filters, `basis` [mid color height width] those of the channels that it
    reads, at the site `reads`, and `coupling` [unit mid] the strongest tap of each (its sign kept), with all weighting.
    `start` and `step` say where the filter of a neuron lies (see Kernels). In the network's own, normalized input.
    """

    site: str
    reads: str
    chain: tuple[str, ...]
    mode: str
    folded: bool
    weighted: bool
    start: Size
    step: Size
    pictures: Float[np.ndarray, "unit color height width"]
    basis: Float[np.ndarray, "mid color rows cols"]
    coupling: Float[np.ndarray, "unit mid"]


def virtual_filter(
    first: Float[Tensor, "mid color row col"],
    second: Float[Tensor, "unit mid r c"],
    *,
    mode: Mode = "max_tap",
    stride: int = 1,
) -> Float[Tensor, "unit color height width"]:
    """What a unit of the second convolution would look like if the layers were linear.

    "max_tap": each first kernel weighted by the strongest tap (largest magnitude, sign kept; the first in row-major
    order among equals) of the kernel that reads it, summed; no shift. "max_tap_shifted": the same, each kernel put
    where its strongest tap lies, `stride` of the first convolution apart. "full": all taps, the exact composition.

    Source: kobayashi2020, eq. 3 ("max_tap"); methods 4 for the others.
    """
    basis = Kernels(first, (0, 0), (stride, stride))
    return _through(basis, second, mode=mode, stride=(1, 1), padding=(0, 0), dilation=(1, 1)).pictures


def strongest_taps(weight: Float[Tensor, "unit mid row col"]) -> Float[Tensor, "unit mid"]:
    """The tap of largest magnitude of each kernel, with its sign: how strongly a unit is coupled to what it reads."""
    flat = weight.flatten(2)
    return flat.gather(2, flat.abs().argmax(2, keepdim=True))[:, :, 0]


def _through(basis: Kernels, weight: Tensor, *, mode: Mode, stride: Size, padding: Size, dilation: Size) -> Kernels:
    """The kernels behind a convolution that reads `basis`."""
    taps = weight.shape[2:]
    if mode == "max_tap":
        pictures = torch.einsum("pk,kcij->pcij", strongest_taps(weight), basis.pictures)
        # Without shifts the filters of all channels lie where the center tap reads.
        first = [n // 2 * d - p for n, d, p in zip(taps, dilation, padding, strict=True)]
    else:
        weight = weight if mode == "full" else _only_strongest(weight)
        apart = tuple(step * d for step, d in zip(basis.step, dilation, strict=True))
        sides = [a + (n - 1) * s for a, n, s in zip(basis.pictures.shape[2:], taps, apart, strict=True)]
        if max(sides) > LARGEST:
            raise NotLinear(f"its composed kernel has {sides[0]} x {sides[1]} pixels; mode 'max_tap' stays small.")
        # Tap (a, b) of the second kernel reads the first one `apart` * (a, b) pixels away. A transposed convolution
        # adds its kernels up in the same way, so that it gives the exact composition (methods 4).
        pictures = functional.conv_transpose2d(weight, basis.pictures, stride=apart)
        first = [-p for p in padding]
    return replace(_moved(basis, first, stride), pictures=pictures)


def _moved(basis: Kernels, first: Sequence[int], stride: Size) -> Kernels:
    """The same kernels on a lattice that begins `first` steps later, and takes every `stride`th."""
    (top, left), (rows, cols) = basis.start, basis.step
    start = (top + first[0] * rows, left + first[1] * cols)
    return replace(basis, start=start, step=(rows * stride[0], cols * stride[1]))


def _only_strongest(weight: Tensor) -> Tensor:
    flat = weight.flatten(2)
    place = flat.abs().argmax(2, keepdim=True)
    return torch.zeros_like(flat).scatter_(2, place, flat.gather(2, place)).reshape(weight.shape)


@dataclass(frozen=True, eq=False)
class Way:
    """Follows the linear way from the picture to the values of a graph; what was found once is kept.

    `folded` multiplies the gains of batch normalizations in. At an addition the operand that has come the shorter way
    counts (the skip), at a concatenation all. Max-pooling passes the tap at its center. Everything in float64.
    """

    graph: Mapping[str, Node]
    inputs: int
    mode: Mode = "max_tap"
    folded: bool = False
    known: dict[str, Kernels] = field(default_factory=dict)

    def to(self, name: str) -> Kernels:
        """The kernels of a value. Raises NotLinear where no linear way leads to it."""
        if name == PICTURE:
            # A neuron of the picture weighs one pixel of one color.
            eye = torch.eye(self.inputs, dtype=torch.float64)[:, :, None, None]
            return Kernels(eye, (0, 0), (1, 1))
        if name not in self.known:
            self.known[name] = self._behind(self.graph[name])
        return self.known[name]

    def _behind(self, each: Node) -> Kernels:
        if not each.reads:
            raise NotLinear(f"{each.name} reads nothing that comes from the picture.")
        # At an addition the operand with the shorter way is the skip.
        read = min(each.reads, key=lambda name: depth_of(self.graph, name))
        if isinstance(each.module, nn.Conv2d):
            return self._convolved(each, self.to(read))
        if isinstance(each.module, nn.BatchNorm2d):
            return self._normalized(each.module, self.to(read)) if self.folded else self.to(read)
        if isinstance(each.module, (nn.MaxPool2d, nn.AvgPool2d)):
            return _pooled(each.module, self.to(read))
        if each.operation == "cat":
            return _side_by_side([self.to(name) for name in each.reads])
        if each.operation == "add" or (is_left_out(each.operation) and len(each.reads) == 1):
            return self.to(read)
        raise NotLinear(f"the way leads through {each.name} ({each.operation}), which is not linear.")

    def _convolved(self, each: Node, basis: Kernels) -> Kernels:
        module = each.module
        assert isinstance(module, nn.Conv2d)
        # Mirrored pixels count twice, so that a unit has other kernels near the border.
        if module.padding_mode != "zeros" or isinstance(module.padding, str):
            raise NotLinear(f"{each.name} pads by {module.padding_mode} ({module.padding!r}).")
        settings = {"stride": module.stride, "padding": module.padding, "dilation": module.dilation}
        # The first convolution reads colors: all of its taps are the filter.
        mode = self.mode if basis.chain else "full"
        kernels = _through(basis, dense(module), mode=mode, **settings)  # type: ignore[arg-type]
        # Each unit of a depthwise convolution reads one channel, so that no channels are joined.
        mixing = (each.name,) if module.groups < module.in_channels or not basis.chain else ()
        return replace(kernels, chain=(*basis.chain, each.name), mixing=(*basis.mixing, *mixing))

    @staticmethod
    def _normalized(module: nn.BatchNorm2d, basis: Kernels) -> Kernels:
        gain = gain_of(module)
        gain = torch.where(gain.abs() < SILENT, 0.0, gain)
        return replace(basis, pictures=basis.pictures * gain[:, None, None, None])


def gain_of(module: nn.BatchNorm2d) -> Float[Tensor, " unit"]:
    """By how much a batch normalization multiplies each channel in evaluation."""
    assert module.running_var is not None
    gain = (module.running_var.detach().double().cpu() + module.eps).rsqrt()
    return gain if module.weight is None else gain * module.weight.detach().double().cpu()


def dense(module: nn.Conv2d) -> Float[Tensor, "unit mid row col"]:
    """A convolution's weight with all its groups spread out: zero where a channel is not read."""
    weight = module.weight.detach().double().cpu()
    if module.groups == 1:
        return weight
    whole = weight.new_zeros(module.out_channels, module.in_channels, *weight.shape[2:])
    outs, ins = module.out_channels // module.groups, module.in_channels // module.groups
    for group in range(module.groups):
        rows, cols = slice(group * outs, (group + 1) * outs), slice(group * ins, (group + 1) * ins)
        whole[rows, cols] = weight[rows]
    return whole


def _pooled(module: nn.MaxPool2d | nn.AvgPool2d, basis: Kernels) -> Kernels:
    """A pooling passes the tap at its center: a choice for max-pooling, and for averages their middle."""
    size, stride, padding, dilation = (
        pair(getattr(module, name, 1)) for name in ("kernel_size", "stride", "padding", "dilation")
    )
    first = [n // 2 * d - p for n, d, p in zip(size, dilation, padding, strict=True)]
    return _moved(basis, first, stride)


def pair(value: int | tuple[int, ...]) -> Size:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def _side_by_side(parts: list[Kernels]) -> Kernels:
    """The kernels of concatenated values, each put where it lies in the hull of all."""
    if len({part.step for part in parts}) > 1:
        raise NotLinear("values of different steps are concatenated on the way.")
    start = (min(part.start[0] for part in parts), min(part.start[1] for part in parts))
    sides = [max(part.start[a] + part.pictures.shape[2 + a] for part in parts) - start[a] for a in (0, 1)]
    placed = []
    for part in parts:
        top, left = (part.start[a] - start[a] for a in (0, 1))
        height, width = part.pictures.shape[2:]
        # torch pads the last axis first.
        around = (left, sides[1] - left - width, top, sides[0] - top - height)
        placed.append(functional.pad(part.pictures, around))
    longest = max(parts, key=lambda part: len(part.mixing))
    return replace(longest, pictures=torch.cat(placed), start=start)


def virtual_filters(way: Way, site: str, *, spread: Float[np.ndarray, " mid"] | None = None) -> VirtualFilters:
    """The virtual filters of the convolution at `site`, with those of the channels that it reads.

    `spread` is the standard deviation of these channels over data: their filters then count by how much they really
    vary ("effective coupling"). Raises NotLinear where `site` is no convolution, reads the picture, or no linear way
    leads to it.
    """
    each = way.graph.get(site)
    if each is None or not isinstance(each.module, nn.Conv2d):
        raise NotLinear(f"{site} is no convolution.")
    basis = way.to(min(each.reads, key=lambda name: depth_of(way.graph, name)))
    if not basis.chain:
        raise NotLinear(f"{site} reads the picture itself; its kernels are no virtual filters.")
    if spread is not None:
        scale = torch.as_tensor(np.asarray(spread, np.float64))[:, None, None, None]
        basis = replace(basis, pictures=basis.pictures * scale)
    # Not `way.to(site)`, which would not know of `spread`.
    found = way._convolved(each, basis)
    return VirtualFilters(
        site=site,
        reads=min(each.reads, key=lambda name: depth_of(way.graph, name)),
        chain=found.chain,
        mode=way.mode,
        folded=way.folded,
        weighted=spread is not None,
        start=found.start,
        step=found.step,
        pictures=found.pictures.numpy(),
        basis=basis.pictures.numpy(),
        coupling=_coupling(each.module, spread),
    )


def _coupling(module: nn.Conv2d, spread: np.ndarray | None) -> np.ndarray:
    taps = strongest_taps(dense(module)).numpy()
    return taps if spread is None else taps * np.asarray(spread, np.float64)


def convolutions_in_reach(way: Way, *, mixing: int | None = 2) -> list[str]:
    """The convolutions that a linear way leads to, behind at least one other; with `mixing`, those that are the last of
    so many convolutions that join channels (2: what reads the first filters directly, along skips too).
    """
    found, small = [], replace(way, mode="max_tap", known={})  # the ways are the same, the kernels are not composed
    for name, each in way.graph.items():
        if isinstance(each.module, nn.Conv2d):
            try:
                kernels = small.to(name)
            except NotLinear:
                continue
            joins = bool(kernels.mixing) and kernels.mixing[-1] == name
            if len(kernels.chain) > 1 and (mixing is None or (joins and len(kernels.mixing) == mixing)):
                found.append(name)
    return found
