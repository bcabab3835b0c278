"""Watching a network's operations run, with the maps of what each tensor sees beside it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

import unitscope.anatomy.extent_rules
import unitscope.anatomy.normalizations
import unitscope.anatomy.rearrangements  # noqa: F401  these enter their rules
from unitscope.anatomy.blanks import blank
from unitscope.anatomy.calls import (
    ELEMENTWISE,
    RULES,
    Call,
    Constant,
    Gates,
    coarse_like,
    elementwise,
    flat,
)
from unitscope.anatomy.looks import HANDED_OUT, Looks
from unitscope.anatomy.maps import (
    Factors,
    Map,
    Seen,
    condensed,
    labeled,
    nothing,
)
from unitscope.anatomy.views import (
    expanded,
)


class Watching(TorchDispatchMode):
    """Keeps the maps of every tensor that depends on the picture while the network runs.

    With `cheaply`, what costs time or room is not computed but answered by zeros of the right shape (blanks.py):
    fields do not depend on values, unless the network looks at one in order to decide something. `looks` follows what
    it reads.
    """

    def __init__(self, *, cheaply: bool = True, gating: bool = True, looks: Looks | None = None) -> None:
        super().__init__()
        self.cheaply = cheaply
        self.gates = Gates(count=gating)
        self.looks = looks or Looks()
        self.known: WeakIdKeyDictionary = WeakIdKeyDictionary()
        self.holders: dict[int, list[Any]] = {}
        self.handed: list[Seen] = []
        """What those values saw that left torch; what comes from nowhere afterwards may be made of them."""

    def seen(self, tensor: Any) -> Seen | None:
        return self.known.get(tensor) if isinstance(tensor, Tensor) else None

    def know(self, tensor: Tensor, seen: Seen) -> None:
        self.known[tensor] = seen

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        arguments = named(func, args, kwargs)
        for tensor in flat(arguments.values()) if self.handed else []:
            self.welcome(tensor)
        before = {id(tensor): seen for tensor in flat(arguments.values()) if (seen := self.seen(tensor)) is not None}
        name = plain_name(func)
        result = blank(name, func, args, kwargs, arguments, seeing=bool(before)) if self.cheaply else None
        result = func(*args, **kwargs) if result is None else result
        if before:
            seeing = [tensor for tensor in flat(arguments.values()) if id(tensor) in before]
            result = self.looks.through(name, arguments, seeing, result)
            call = Call(name, func, arguments, result, lambda tensor: before.get(id(tensor)), self.gates)
            self.keep(call, outcome(call))
        elif func._schema.is_mutable:
            for tensor in written(func, arguments):
                self.rewrite(tensor, None)
        for tensor in flat([result]):
            self.hold(tensor)
        return result

    def keep(self, call: Call, seen: Any) -> None:
        """Enter what the results of an operation see, and what became of the tensors that it wrote to."""
        targets = written(call.function, call.arguments)
        for tensor, maps in zip(flat([call.result]), of_tensors(call.result, seen), strict=True):
            if maps is None:
                continue
            maps = replace(maps, shape=tuple(tensor.shape)) if maps.shape != tuple(tensor.shape) else maps
            if any(tensor is target for target in targets):
                self.rewrite(tensor, maps)
            else:
                self.known[tensor] = maps

    def welcome(self, tensor: Tensor) -> None:
        """Take a tensor that no operation made for one made of the values that left torch."""
        if tensor in self.known or isinstance(tensor, nn.Parameter) or self.is_held(tensor):
            return
        alike = [seen for seen in self.handed if seen.shape == tuple(tensor.shape)]
        count = next((seen.shape[0] for seen in self.handed if seen.shape and seen.label(0) == "stimulus"), None)
        if alike or (tensor.ndim in (2, 4) and tensor.shape[0] == count):
            seen = coarse_like(self.handed, tensor, why="numpy")
            words = ("stimulus", "channel", "row", "col")[: tensor.ndim]
            dims = alike[0].dims if alike else tuple(((word, n),) for word, n in zip(words, tensor.shape, strict=True))
            self.known[tensor] = replace(seen, dims=dims, bounded=frozenset(), unknown=frozenset([OUTSIDE_TORCH]))

    # tensors that share their memory

    def is_held(self, tensor: Tensor) -> bool:
        """Whether an operation made the memory of a tensor, or it is the network's own."""
        return not tensor.is_sparse and tensor.untyped_storage()._cdata in self.holders

    def hold(self, tensor: Tensor) -> None:
        """Remember who shares memory with whom."""
        if tensor.is_sparse or not tensor.numel():
            return
        holders = self.holders.setdefault(tensor.untyped_storage()._cdata, [])
        if not any(holder() is tensor for holder in holders):
            holders.append(torch.utils.weak.TensorWeakRef(tensor))

    def rewrite(self, tensor: Tensor, seen: Seen | None) -> None:
        """`tensor` was overwritten by what sees `seen` (None: a constant); so were all that look at the same memory."""
        key = tensor.untyped_storage()._cdata
        sharing = [other for ref in self.holders.get(key, []) if (other := ref()) is not None and other is not tensor]
        same = [other for other in sharing if other.untyped_storage()._cdata == key]
        if seen is None and not any(other in self.known for other in (*same, tensor)):
            return
        seen = nothing(tuple(tensor.shape)) if seen is None else seen
        for other in same:
            if geometry(other) == geometry(tensor):
                self.known[other] = seen
            else:
                self.known[other] = overwritten(other, self.seen(other), tensor, seen)
        self.known[tensor] = seen


OUTSIDE_TORCH = "what is done outside torch"


class WatchingHands(TorchFunctionMode):
    """Sees values leave torch for lists and numpy arrays, which operations do not tell."""

    def __init__(self, watching: Watching) -> None:
        super().__init__()
        self.watching = watching

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name in HANDED_OUT and (seen := self.watching.seen(args[0])) is not None:
            self.watching.handed.append(seen)
            return self.watching.looks.through(name, {"self": args[0]}, [args[0]], result)
        return result


def geometry(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.storage_offset(), tensor.shape, tensor.stride()


def places(tensor: Tensor) -> np.ndarray:
    """The position in memory of each element."""
    position = np.array(tensor.storage_offset())
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        position = position[..., None] + np.arange(size) * stride
    return position


def overwritten(other: Tensor, old: Seen | None, tensor: Tensor, new: Seen) -> Seen:
    """The maps of `other` after `tensor`, which shares some of its memory, was overwritten."""
    shape = tuple(other.shape)
    old = nothing(shape) if old is None else old
    here, there = places(other), places(tensor)
    source = np.full(max(int(here.max()), int(there.max())) + 1, -1)
    source[there.ravel()] = np.arange(there.size)
    chosen = source[here]

    def change(array: Map, written: Map) -> Map:
        fresh = np.broadcast_to(written, (2, *new.shape)).reshape(2, -1)
        kept = np.broadcast_to(array, (2, *shape))
        return condensed(np.where(chosen >= 0, fresh[:, chosen], kept).astype(np.int32))

    dims = old.dims if any(old.dims) else meaning(other, tensor, new)
    doubts = {
        "lost": old.lost | new.lost,
        "bounded": old.bounded | new.bounded,
        "unknown": old.unknown | new.unknown,
    }
    steps = tuple(a if a is not None else b for a, b in zip(old.steps, new.steps, strict=True))
    maps = (change(old.maps[0], new.maps[0]), change(old.maps[1], new.maps[1]))
    rules = (change(old.rules[0], new.rules[0]), change(old.rules[1], new.rules[1]))
    return replace(old, maps=maps, rules=rules, dims=dims, steps=steps, **doubts)  # type: ignore[arg-type]


def meaning(other: Tensor, tensor: Tensor, seen: Seen) -> tuple[Factors, ...]:
    """The dimensions of `other`, as far as they are those of `tensor`, which was written into its memory."""
    if tensor.ndim == other.ndim:
        return labeled(seen.dims, tuple(other.shape))
    dims = dict(zip(tensor.stride(), seen.dims, strict=True))
    return labeled(tuple(dims.get(stride, ()) for stride in other.stride()), tuple(other.shape))


def plain_name(func: Any) -> str:
    """`aten::add_.Tensor` -> `add`."""
    name = func._schema.name.split("::")[1]
    if name.endswith("_") and not name.startswith("__"):
        return name.rstrip("_")
    return {"__iand__": "logical_and", "__and__": "logical_and", "__or__": "logical_or"}.get(name, name)


def named(func: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    """The arguments by name, with the defaults that were left out."""
    arguments: dict[str, Any] = {}
    for position, argument in enumerate(func._schema.arguments):
        if position < len(args):
            arguments[argument.name] = args[position]
        elif argument.name in kwargs:
            arguments[argument.name] = kwargs[argument.name]
        elif argument.has_default_value():
            arguments[argument.name] = argument.default_value
    return arguments


def written(func: Any, arguments: dict[str, Any]) -> list[Tensor]:
    """The arguments that the operation writes to."""
    if not func._schema.is_mutable:
        return []
    names = [a.name for a in func._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    return flat([arguments.get(name) for name in names])


def outcome(call: Call) -> Any:
    """What the results see, by the operation's rule; where there is none, everything, and marked as unknown.

    A rule that fails meets arguments that nobody thought of: nothing is claimed of the result.
    """
    try:
        seen = ruled(call)
    except Exception:
        return doubted(call)
    return seen if fits(call.result, seen) else doubted(call)


def ruled(call: Call) -> Any:
    own = RULES.get(call.name)
    if own is not None:
        return own(call)
    if call.name == "copy":
        source = call.seen(call["src"])
        shape = tuple(call.result.shape)
        return nothing(shape) if source is None else expanded(source, shape)
    if call.name in ("fill", "zero") and not (isinstance(call.get("value"), Tensor) and call.seen(call["value"])):
        return nothing(tuple(call.result.shape))
    if call.name in BLIND:
        return None
    if torch.Tag.pointwise in call.function.tags or call.name in ELEMENTWISE:
        return elementwise(call)
    raise Constant


def fits(result: Any, seen: Any) -> bool:
    """Whether maps are those of tensors of these shapes: equal to them, or of length 1, along each dimension."""
    try:
        pairs = list(zip(flat([result]), of_tensors(result, seen), strict=True))
    except ValueError:
        return False
    return all(
        maps is None
        or all(
            array.ndim == 1 + value.ndim and all(n in (1, m) for n, m in zip(array.shape[1:], value.shape, strict=True))
            for array in (*maps.maps, *maps.rules)
        )
        for value, maps in pairs
    )


BLIND = frozenset(
    [
        "zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like", "new_zeros", "new_ones",
        "new_empty",
        "new_full", "new_empty_strided", "_local_scalar_dense", "is_nonzero", "equal", "resize", "set", "bernoulli",
    ]
)  # fmt: skip
"""Operations whose result does not depend on the tensor's values."""


def doubted(call: Call) -> Any:
    seens = coarse_like(call.all_seen, call.result, why=call.name)

    def mark(seen: Seen | None) -> Seen | None:
        return (
            None
            if seen is None
            else replace(seen, unknown=seen.unknown | {call.name}, bounded=seen.bounded - {call.name})
        )

    return tuple(mark(seen) for seen in seens) if isinstance(seens, tuple) else mark(seens)


def of_tensors(result: Any, seen: Any) -> list[Seen | None]:
    """One entry of `seen` per tensor of the result."""
    count = len(flat([result]))
    if isinstance(seen, tuple):
        return [maps for value, maps in zip(result, seen, strict=True) if isinstance(value, Tensor)]
    return [seen] * count
