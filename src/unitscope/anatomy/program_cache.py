"""Programs that are kept: a network is recorded once, as long as it stays the same.

Problem: sites, certificates, the graph of sites and filters all read the same program, and recording it takes as long
as showing some pictures. But a network may change in between: weights are loaded, a part is replaced, a slope is set, a
`forward` is patched.

Idea: a program is kept beside the stamp of its network, which holds all that a network can change in itself: each
tensor by its identity, version and sum, each module by its identity and its attributes. A program whose stamp is
another is recorded again. What lies outside the modules, such as a global variable, is in no stamp.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any
from weakref import ReferenceType, WeakKeyDictionary, ref

import torch
from torch import Tensor, nn

from unitscope.anatomy.program import Program

KEPT: WeakKeyDictionary[nn.Module, tuple[Hashable, Program]] = WeakKeyDictionary()
"""The last program of each module that is alive. Programs refer to tensors, and not to modules."""

DEPTH = 3
"""Attributes are followed through at most this many nested containers."""


def kept_program(module: nn.Module, key: Hashable, make: Callable[[], Program]) -> Program:
    """The program that `make` gives, made again only where the module or the `key` has changed."""
    stamp = (key, stamp_of(module))
    kept = KEPT.get(module)
    if kept is None or kept[0] != stamp:
        kept = KEPT[module] = stamp, make()
    return kept[1]


@torch.no_grad()
def stamp_of(module: nn.Module) -> Hashable:
    """What changes whenever the module does: stamps of all its tensors and of all its parts."""
    tensors = (*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False))
    return (
        tuple((name, tensor_stamp(tensor)) for name, tensor in tensors),
        tuple((name, module_stamp(part)) for name, part in module.named_modules(remove_duplicate=False)),
    )


def tensor_stamp(tensor: Tensor) -> Hashable:
    """Which tensor it is, how often it was written to, and its sum: torch does not count writes through `.data`."""
    version = 0 if tensor.is_inference() else tensor._version
    total = float(tensor.sum(dtype=torch.float64)) if tensor.dtype.is_floating_point and not tensor.is_meta else 0.0
    # repr: NaN is not equal to itself, and 'nan' is.
    return Same(tensor), version, tuple(tensor.shape), str(tensor.dtype), str(tensor.device), repr(total)


def module_stamp(part: nn.Module) -> Hashable:
    own = {name: value for name, value in vars(part).items() if name not in ("_parameters", "_buffers", "_modules")}
    kind = type(part)
    return Same(part), Same(kind), Same(getattr(kind, "forward", None)), attribute_stamp(own, DEPTH)


def attribute_stamp(value: Any, depth: int) -> Hashable:
    if isinstance(value, bool | int | float | str | bytes | type(None)):
        # With its type, since 1 == 1.0 == True in Python.
        return type(value).__name__, repr(value)
    if isinstance(value, Tensor):
        return tensor_stamp(value)
    if depth and isinstance(value, dict):
        return tuple((attribute_stamp(key, depth - 1), attribute_stamp(one, depth - 1)) for key, one in value.items())
    if depth and isinstance(value, list | tuple | set | frozenset):
        return type(value).__name__, tuple(attribute_stamp(one, depth - 1) for one in value)
    return Same(value)


class Same:
    """Equal to another Same of the same living object, and to nothing else. Keeps the object alive only if it must."""

    def __init__(self, value: Any) -> None:
        try:
            self.reference: Callable[[], Any] | ReferenceType[Any] = ref(value)
        except TypeError:  # None, a slice, a generator: what has no weak references is kept
            self.reference = lambda: value

    def __eq__(self, other: object) -> bool:
        mine = self.reference()
        return isinstance(other, Same) and mine is not None and mine is other.reference()

    def __hash__(self) -> int:
        # A hash must stay the same, also when the object has died. Stamps are only compared, so that it costs no time.
        return 0
