"""The linearized network, and how far virtual filters are from its weights.

Problem: a virtual filter (filters.py) follows one way, along the skips. How much do the branches change?

Idea: a copy of the network in which nonlinearities are left out and max-poolings pass the tap at their center is
linear. The gradient of a neuron then holds its weights on the picture, along all ways, branches included.

    y = w . x + b        dy/dx = w, whatever x is
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from unitscope.anatomy.filters import NotLinear, VirtualFilters, is_left_out, pair
from unitscope.anatomy.node_names import kind_of, operation_of
from unitscope.anatomy.operations import kind
from unitscope.anatomy.site_graph import Node
from unitscope.anatomy.sites import Network, blank
from unitscope.anatomy.trace import PICTURE
from unitscope.vocabulary import Size


class CenterTap(nn.Module):
    """A max-pooling that passes the value at the center of each window, 0 where that lies on the padding."""

    def __init__(self, pooling: nn.MaxPool2d) -> None:
        super().__init__()
        self.pooling = pooling

    def forward(self, x: Tensor) -> Tensor:
        pool = self.pooling
        # torch itself says how large the lattice is, also with `ceil_mode`.
        with torch.no_grad():
            lattice = functional.max_pool2d(
                x[:1, :1], pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode
            ).shape[2:]
        for axis in (0, 1):
            size, stride, padding, dilation = (
                pair(value)[axis] for value in (pool.kernel_size, pool.stride, pool.padding, pool.dilation)
            )
            at = torch.arange(lattice[axis]) * stride + size // 2 * dilation - padding
            inside = (at >= 0) & (at < x.shape[2 + axis])
            shape = (-1, 1) if axis == 0 else (1, -1)
            # On the padding there is no pixel to select: any one, times 0.
            x = x.index_select(2 + axis, at.clamp(0, x.shape[2 + axis] - 1)) * inside.to(x).view(shape)
        return x


def linearized(module: nn.Module) -> nn.Module:
    """A copy in float64 without nonlinearities, whose max-poolings pass the tap at their center."""
    module = copy.deepcopy(module).cpu().double()
    # A part may be used at several paths; each of them is replaced.
    for name, part in list(module.named_modules(remove_duplicate=False)):
        parent, _, own = name.rpartition(".")
        if not name or any(True for _ in part.children()):
            continue
        if is_left_out(operation_of(kind_of(part).__name__)):
            setattr(module.get_submodule(parent), own, nn.Identity())
        elif isinstance(part, nn.MaxPool2d):
            setattr(module.get_submodule(parent), own, CenterTap(part))
    return module


@dataclass(frozen=True, eq=False)
class Agreement:
    """How far virtual filters are from the exact weights of the linearized network, [unit] each.

    `cosine` of the two as vectors, and `error`, |virtual - exact| / |exact|; NaN where one of them is zero.
    """

    cosine: Float[np.ndarray, " unit"]
    error: Float[np.ndarray, " unit"]


def agreement(network: Network, graph: Mapping[str, Node], filters: VirtualFilters) -> Agreement:
    """Compare virtual filters with the linearized network's own weights, for the neurons at the lattice's center.

    Batch normalizations always count in the linearized network, branches too, and what hangs over the picture's edge
    counts nowhere. Raises NotLinear where something on a way to the site cannot be left out.
    """
    refuse_gates(graph, filters.site)
    rows = []
    for unit, (exact, center) in enumerate(exact_weights(network, graph, filters.site)):
        (top, left), (rows_apart, cols_apart) = filters.start, filters.step
        corner = (top + center[0] * rows_apart, left + center[1] * cols_apart)
        rows.append(_compared(exact, placed(filters.pictures[unit], corner, exact.shape[1:])))
    cosine, error = np.array(rows).reshape(-1, 2).T
    return Agreement(cosine, error)


def exact_weights(
    network: Network, graph: Mapping[str, Node], site: str
) -> Iterator[tuple[Float[np.ndarray, "color height width"], Size]]:
    """For each unit of a site the weights of the linearized network's center neuron on the picture, and its place.

    The gradient of the neuron; the forward pass runs once, and ends at the site, which is an output of a module.
    """
    paths = {part: path for path, part in network.module.named_modules()}
    outputs = [name for name, each in graph.items() if each.module is graph[site].module]
    module = linearized(network.module)
    # Any picture will do: the gradient of a linear response is the same everywhere.
    picture = blank(module, (1, network.inputs, *network.size), value=0.5).requires_grad_(True)
    values: list[Tensor] = []

    def keep_value(_part: nn.Module, _given: object, value: Tensor) -> None:
        values.append(value)
        # A module that is called several times has several sites; the pass ends at the call that is asked for.
        if len(values) > outputs.index(site):
            raise Reached

    handle = module.get_submodule(paths[graph[site].module]).register_forward_hook(keep_value)
    with torch.enable_grad():
        with suppress(Reached):
            module(picture)
        handle.remove()
        response = values[-1]
        center = (response.shape[2] // 2, response.shape[3] // 2)
        for neuron in response[0, :, center[0], center[1]]:
            (weights,) = torch.autograd.grad(neuron, picture, retain_graph=True)
            yield weights[0].numpy(), center


def placed(
    kernel: Float[np.ndarray, "color height width"], corner: Size, picture: Size
) -> Float[np.ndarray, "color rows cols"]:
    """A kernel on an empty picture, its first pixel at `corner`; what hangs over the edge is cut off."""
    whole = np.zeros((len(kernel), *picture))
    own, there = [], []
    for first, side, length in zip(corner, kernel.shape[1:], picture, strict=True):
        low, high = max(first, 0), min(first + side, length)
        own.append(slice(low - first, max(high, low) - first))
        there.append(slice(low, max(high, low)))
    whole[:, there[0], there[1]] = kernel[:, own[0], own[1]]
    return whole


def _compared(exact: np.ndarray, virtual: np.ndarray) -> tuple[float, float]:
    length, other = np.linalg.norm(exact), np.linalg.norm(virtual)
    if not length > 0 or not other > 0:
        return float("nan"), float("nan")
    return float((exact * virtual).sum() / (length * other)), float(np.linalg.norm(virtual - exact) / length)


class Reached(Exception):
    """The site was reached; nothing behind it is needed."""


def refuse_gates(graph: Mapping[str, Node], site: str) -> None:
    """Raises NotLinear where a way to the site leads through something that stays nonlinear in the copy."""
    waiting, seen = [site], set()
    while waiting:
        name = waiting.pop()
        if name in seen or name == PICTURE:
            continue
        seen.add(name)
        each = graph[name]
        # `linearized` replaces modules. A function, as F.relu, stays in the copy's `forward`.
        bare = each.module is None and (kind(each.operation).nonlinear or each.operation == "max_pool2d")
        if bare or not (is_left_out(each.operation) or kind(each.operation).linear):
            raise NotLinear(f"a way to {site} leads through {name} ({each.operation}), which cannot be left out.")
        waiting += each.reads
