"""Which tensors share memory: a number for each memory, as operations see it."""

from __future__ import annotations

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef


class Memories:
    """Gives each memory a number. Weak references keep a number from being given twice."""

    def __init__(self) -> None:
        self.numbers: dict[int, tuple[StorageWeakRef, int]] = {}

    def number(self, tensor: Tensor) -> int:
        storage = tensor.untyped_storage()
        known = self.numbers.get(storage._cdata)
        if known is None:
            known = self.numbers[storage._cdata] = StorageWeakRef(storage), len(self.numbers)
        return known[1]
