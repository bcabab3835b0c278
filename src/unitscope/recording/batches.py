"""Batches of pictures: decoded ahead of time, with fixed boundaries, and prepared for the network.

Problem: a network must not wait for photographs to be decoded, and neither the number of threads nor their speed may
change a result.

Idea: threads decode the next few batches while the network is at work. Batches come in order, with the same pictures:

    threads    decode 0-31   decode 32-63   decode 64-95
    network                  shows 0-31     shows 32-63    ...
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from unitscope.recording.acceleration import accelerated
from unitscope.stimuli.images import Images, Unreadable, digest
from unitscope.stimuli.presentation import Presentation

if TYPE_CHECKING:
    from unitscope.networks import Network

Progress = Callable[[int, int], None]
"""Called with how much has been done so far, and how much there is to do."""

AHEAD = 3
"""How many batches are decoded before they are needed."""


@dataclass(frozen=True)
class ImageStatus:
    """What became of one image: `error` is "" where it was shown."""

    digest: str
    bytes: int
    error: str


@dataclass(frozen=True)
class Batch:
    """Pictures [stimulus color height width] uint8, and the numbers of their images. Those not `readable` are black,
    and not counted.
    """

    images: Int[Tensor, " stimulus"]
    pictures: UInt8[Tensor, "stimulus color height width"]
    readable: Bool[Tensor, " stimulus"]
    statuses: tuple[ImageStatus, ...]


def convert_to_gray(batch: Batch) -> Batch:
    """The same pictures in one channel, their luma (ITU-R BT.601, rounded, as Pillow computes it): for networks that
    take one.
    """
    return replace(batch, pictures=luma(batch.pictures))


def luma(pictures: UInt8[Tensor, "stimulus 3 height width"]) -> UInt8[Tensor, "stimulus 1 height width"]:
    # 0.299, 0.587 and 0.114 times 2^16, as in Pillow; adding 0x8000, half of 2^16, rounds.
    weights = torch.tensor([19595, 38470, 7471]).view(1, 3, 1, 1)
    return ((pictures.int() * weights).sum(1, keepdim=True).add_(0x8000) >> 16).to(torch.uint8)


@accelerated
def prepare_pictures(
    network: Network, pictures: UInt8[Tensor, "stimulus color height width"], *, memory_format: torch.memory_format
) -> Float[Tensor, "stimulus color height width"]:
    """What the network's module is given of the pictures, on the network's device and in a memory format."""
    return network.prepare(pictures.to(network.device).float().div_(255)).contiguous(memory_format=memory_format)


def batches(
    images: Images, presentation: Presentation, *, first: int, last: int, batch: int, workers: int
) -> Iterator[Batch]:
    """Images `first` to `last` (excluded) in batches, decoded by `workers` threads while the network is at work."""
    starts = iter(range(first, last, batch))
    queue: deque[tuple[int, list[Future[tuple[np.ndarray, ImageStatus]]]]] = deque()
    with ThreadPoolExecutor(max(1, workers), thread_name_prefix="decode") as pool:
        try:
            while True:
                while len(queue) < AHEAD and (start := next(starts, None)) is not None:
                    numbers = range(start, min(start + batch, last))
                    queue.append((start, [pool.submit(_decode, images, presentation, i) for i in numbers]))
                if not queue:
                    return
                start, futures = queue.popleft()
                yield _collate(start, [future.result() for future in futures])
        finally:
            # If the caller stops early (an error, for example), the remaining pictures need not be decoded.
            pool.shutdown(wait=False, cancel_futures=True)


def first_pictures(
    images: Images, presentation: Presentation, *, inputs: int, count: int = 3
) -> UInt8[Tensor, "stimulus color height width"]:
    """The first `count` readable images, as a network with `inputs` input channels is going to be shown them."""
    found: list[Tensor] = []
    for part in batches(images, presentation, first=0, last=min(len(images), 256), batch=count, workers=1):
        part = convert_to_gray(part) if inputs == 1 else part
        found.append(part.pictures[part.readable])
        if sum(map(len, found)) >= count:
            break
    return torch.cat(found)[:count] if found else torch.empty((0, inputs, *presentation.size), dtype=torch.uint8)


def default_workers() -> int:
    """As many decoding threads as there are processors, up to 16."""
    return min(16, os.cpu_count() or 1)


def _decode(images: Images, presentation: Presentation, image: int) -> tuple[np.ndarray, ImageStatus]:
    data = b""
    try:
        data = images.bytes(image)
        return presentation.present(data), ImageStatus(digest(data), len(data), "")
    except Unreadable as error:
        black = np.zeros((*presentation.size, 3), dtype=np.uint8)
        return black, ImageStatus(digest(data) if data else "", len(data), error.reason)


def _collate(start: int, decoded: list[tuple[np.ndarray, ImageStatus]]) -> Batch:
    # A view: in memory the colors of a pixel stay side by side (channels last).
    pictures = torch.from_numpy(np.stack([picture for picture, _ in decoded])).permute(0, 3, 1, 2)
    statuses = tuple(status for _, status in decoded)
    readable = torch.tensor([not status.error for status in statuses])
    return Batch(torch.arange(start, start + len(decoded)), pictures, readable, statuses)
