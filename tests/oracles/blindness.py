"""The slow certain way to a receptive field: put NaN into one row or column of the picture and see which neurons turn
NaN.

It knows nothing of operations: no rule, no map, no shape arithmetic. A NaN passes through every product (0 x NaN is
NaN), sum, maximum and nonlinearity, so a neuron that can see the row does turn NaN, and one that cannot does not.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from unitscope.anatomy.value_hooks import hook_values


def seen_by(
    module: nn.Module, size: tuple[int, int], sites: dict, *, inputs: int = 3, batch: int = 32
) -> dict[str, np.ndarray]:
    """For each site int64 [4 unit row col]: first and last row, first and last column that each neuron sees (last
    inclusive).

    A neuron that sees nothing has (size, -1). The module is run in float64.
    """
    found: dict[str, np.ndarray] = {}
    for kind in (0, 1):
        for start in range(0, size[kind], batch):
            lines = range(start, min(start + batch, size[kind]))
            for name, blind in turned_blind(module, size, sites, kind, lines, inputs).items():
                if name not in found:
                    extent = np.array([size[0], -1, size[1], -1]).reshape(4, 1, 1, 1)
                    found[name] = np.broadcast_to(extent, (4, *blind.shape[1:])).copy()
                at = np.array(lines).reshape(-1, 1, 1, 1)
                low, high = found[name][2 * kind], found[name][2 * kind + 1]
                np.minimum(low, np.where(blind, at, size[kind]).min(0), out=low)
                np.maximum(high, np.where(blind, at, -1).max(0), out=high)
    return found


def turned_blind(module: nn.Module, size, sites, kind, lines, inputs) -> dict[str, np.ndarray]:
    """For each site bool [line unit row col]: which neurons are NaN when one line of the picture is."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand((len(lines), inputs, *size), generator=generator, dtype=torch.float64)
    for stimulus, line in enumerate(lines):
        pictures[stimulus, :, *((line, slice(None)) if kind == 0 else (slice(None), line))] = torch.nan
    blind = {}

    def heard(name: str, value: Tensor) -> None:
        if name in sites:
            site = sites[name]
            by_unit = value.movedim(site.channel_axis, 1).reshape(len(lines), site.channels, *site.lattice)
            blind[name] = by_unit.isnan().numpy()

    with torch.no_grad(), torch.backends.nnpack.flags(False), hook_values(module, heard):
        module(pictures)
    return blind


def disagreements(module: nn.Module, size: tuple[int, int], sites: dict, *, inputs: int = 3) -> tuple[int, list[str]]:
    """How many neurons were compared, and a line for each exact site of which some neuron's box differs."""
    compared, lines = 0, []
    for name, truth in seen_by(module.double(), size, sites, inputs=inputs).items():
        site = sites[name]
        empty = (truth[1] < 0) | (truth[3] < 0)
        want = [np.where(empty, 0, side) for side in (truth[0], truth[2], truth[1] + 1, truth[3] + 1)]
        bounds = site.bounds
        have = [np.broadcast_to(s, want[0].shape) for s in (bounds.top, bounds.left, bounds.bottom, bounds.right)]
        compared += want[0].size
        wrong = np.any([a != b for a, b in zip(want, have, strict=True)], axis=0)
        if wrong.any():
            at = tuple(int(i) for i in np.argwhere(wrong)[0])
            lines.append(
                f"{name} ({site.operation}, {site.field().status}): {int(wrong.sum())} of {wrong.size}, first at {at}: "
                f"NaN {[int(s[at]) for s in want]}, maps {[int(s[at]) for s in have]}"
            )
    return compared, lines
