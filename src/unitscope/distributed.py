"""Training in several processes that torchrun started. One process alone works in the same way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed
from torch import Tensor, nn

from unitscope.errors import BadInput


@dataclass(frozen=True)
class ProcessGroup:
    """This process among all that train one network. Alone, it is the first of one."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes, validates and tells."""
        return self.rank == 0

    def take_share(self, batch: list[int]) -> list[int]:
        """This process's part of a batch: every `size`-th image, so that all parts together are the batch."""
        return batch[self.rank :: self.size]

    def average_gradients(self, module: nn.Module) -> nn.Module:
        """The module, its gradients averaged over all processes after every backward pass."""
        if self.size == 1:
            return module
        device = next(module.parameters()).device
        return nn.parallel.DistributedDataParallel(module, device_ids=[device] if device.type == "cuda" else None)

    def sum(self, *numbers: float) -> list[float]:
        """The sums over all processes."""
        if self.size == 1:
            return list(numbers)
        device = torch.device("cuda", torch.cuda.current_device()) if _backend() == "nccl" else torch.device("cpu")
        total = torch.tensor(numbers, dtype=torch.float64, device=device)
        torch.distributed.all_reduce(total)
        return _listed(total)

    def wait(self) -> None:
        """Go on when all processes have come so far."""
        if self.size > 1:
            torch.distributed.barrier()


def _listed(numbers: Tensor) -> list[float]:
    return [float(number) for number in numbers.tolist()]


def _backend() -> str:
    return str(torch.distributed.get_backend())


@contextmanager
def join_processes(device: str) -> Iterator[tuple[ProcessGroup, str]]:
    """Join the other processes where torchrun has started several; gives also the device of this one.

    Raises BadInput where there are more processes on this machine than GPUs.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ProcessGroup(), device
        return
    kind = torch.device(device).type
    if kind == "cuda":
        device = _own_gpu()
    torch.distributed.init_process_group("nccl" if kind == "cuda" else "gloo")
    try:
        yield ProcessGroup(torch.distributed.get_rank(), size), device
    finally:
        torch.distributed.destroy_process_group()


def _own_gpu() -> str:
    place, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if place >= there:
        raise BadInput(
            f"torchrun started process {place + 1} on a machine of {there} GPUs; give it --nproc-per-node {there}."
        )
    torch.cuda.set_device(place)
    return f"cuda:{place}"
