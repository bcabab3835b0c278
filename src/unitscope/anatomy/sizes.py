"""Numbers read from a tensor's shape, whose arithmetic is counted.

Problem: names of sites are those of torch.fx (node_names.py). For torch.fx `height * width` is an operation `mul`, so
that the next product in the module is `mul_1`; but the product of two Python numbers goes unseen.

Idea: a subclass of int and one of float, whose operators report each operation to a counter, as long as there is one.

    h, w = x.shape[2:]          h and w are counted
    y = x.reshape(n, h * w)     reports "mul"
    z = y * 2                   the site `mul_1`
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

COUNTED = ("add", "sub", "mul", "floordiv", "truediv", "mod", "pow", "lshift", "rshift", "and", "or", "xor")
"""The operators of two numbers that torch.fx makes nodes of; comparisons are left out, no site shares their names."""


@runtime_checkable
class Counter(Protocol):
    """Receives each operation: its name, as torch.fx has it, and its result. Gives back the result."""

    def arithmetic(self, word: str, result: Any) -> Any: ...


def counted_operator(operator: str, word: str, kind: type) -> Callable[..., Any]:
    """The operator of int or float, whose results go through the counter as long as there is one."""
    plain = getattr(kind, operator)

    def method(self: Any, *others: Any) -> Any:
        result = plain(self, *others)
        counter = self.counter()
        return result if counter is None or result is NotImplemented else counter.arithmetic(word, result)

    return method


def operators(kind: type) -> dict[str, Any]:
    """All counted operators that `kind` has, and how the number is pickled and copied: as the plain one."""
    methods = {
        f"__{side}{name}__": counted_operator(f"__{side}{name}__", f"{name}_" if name in ("and", "or") else name, kind)
        for name in COUNTED
        for side in ("", "r")
        if hasattr(kind, f"__{side}{name}__")
    }
    methods["__neg__"] = counted_operator("__neg__", "neg", kind)
    methods["__reduce__"] = lambda self: (kind, (kind(self),))
    return methods


KINDS: dict[type, type] = {kind: type(f"Counted{kind.__name__}", (kind,), operators(kind)) for kind in (int, float)}


def counted(value: Any, counter: Counter) -> Any:
    """An int or a float whose arithmetic goes to `counter`, as long as that lives; anything else as it is."""
    kind = KINDS.get(type(value))
    if kind is None:
        return value
    number = kind(value)
    # Weak: a module may keep a size, and with it the hooks of a pass that is over.
    number.counter = weakref.ref(counter)
    return number
