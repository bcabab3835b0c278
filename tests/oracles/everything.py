"""A survey the slow, certain way: all responses to all pictures are kept, and every summary is made from its
definition.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch


def ordered_extremes(responses: np.ndarray, *, k: int, pole: str) -> list[list[tuple[float, int, int, int]]]:
    """For each unit (value, image, row, col) of its k best images, by a full sort in the total order of methods 2.5.

    `responses` [stimulus unit row col]. An image whose map holds anything that is not finite does not take part.
    """
    sign = 1 if pole == "preferred" else -1
    lists = []
    for unit in range(responses.shape[1]):
        entries = []
        for image, responded in enumerate(responses[:, unit]):
            if np.isfinite(responded).all():
                best = (responded * sign).max() * sign
                row, col = next(zip(*np.nonzero(responded == best), strict=True))
                entries.append((float(best), image, int(row), int(col)))
        entries.sort(key=lambda entry: (-sign * entry[0], *entry[1:]))
        lists.append(entries[:k])
    return lists


def mean_of_patches(pictures: np.ndarray, positive: Sequence[bool], box: tuple[int, int, int, int]) -> np.ndarray:
    """Mean [color height width], 0..1, of the boxes of those uint8 `pictures` [stimulus color height width] that are
    `positive`.

    NaN where the box hangs over the edge.
    """
    top, left, bottom, right = box
    padded = np.full((pictures.shape[1], bottom - top, right - left), np.nan)
    chosen = pictures[np.asarray(positive)].astype(object)  # Python's own integers: as exact as can be
    for row in range(max(top, 0), min(bottom, pictures.shape[2])):
        for col in range(max(left, 0), min(right, pictures.shape[3])):
            for color in range(pictures.shape[1]):
                if len(chosen):
                    padded[color, row - top, col - left] = sum(chosen[:, color, row, col]) / len(chosen) / 255
    return padded


def all_responses(
    module: torch.nn.Module, paths: Sequence[str], prepared: torch.Tensor, *, batch: int
) -> dict[str, np.ndarray]:
    """The outputs [stimulus unit row col] of submodules, caught by plain hooks, for prepared pictures in batches."""
    caught: dict[str, list[np.ndarray]] = {path: [] for path in paths}
    handles = [
        module.get_submodule(path).register_forward_hook(
            lambda _module, _input, out, path=path: caught[path].append(out.detach().clone().numpy())
        )
        for path in paths
    ]
    with torch.no_grad():
        for part in prepared.split(batch):
            module(part.contiguous(memory_format=torch.channels_last))
    for handle in handles:
        handle.remove()
    return {path: np.concatenate(parts) for path, parts in caught.items()}
