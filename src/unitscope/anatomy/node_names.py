"""What the operations of a network are called: torchvision's node names, and a plain word for each operation.

A site is named as torchvision's `feature_extraction` names the node: the path of the module that runs the operation,
and, for what is no leaf module, the function's name; a repeated name gets `_1`, `_2`, ... The rules are those of
torchvision's NodePathTracer and of torch.fx, on whose tracer it stands.
"""

from __future__ import annotations

import dis
import re
import sys
from collections import Counter
from types import FrameType
from typing import Any

from torch import nn

from unitscope.anatomy.operations import kind

OPERATORS = {
    "__add__": "add", "__radd__": "add", "__iadd__": "add",
    "__sub__": "sub", "__rsub__": "sub", "__isub__": "sub",
    "__mul__": "mul", "__rmul__": "mul", "__imul__": "mul",
    "__truediv__": "truediv", "__rtruediv__": "truediv", "__itruediv__": "truediv",
    "__div__": "truediv", "__rdiv__": "truediv", "__idiv__": "truediv",
    "__floordiv__": "floordiv", "__rfloordiv__": "floordiv",
    "__pow__": "pow", "__rpow__": "pow", "__ipow__": "pow",
    "__mod__": "mod", "__rmod__": "mod",
    "__matmul__": "matmul", "__rmatmul__": "matmul",
    "__getitem__": "getitem", "__setitem__": "setitem", "__get__": "getattr",
    "__and__": "and_", "__or__": "or_", "__xor__": "xor", "__invert__": "invert",
}  # fmt: skip
"""How torch.fx calls what Python's operators do."""

NUMBERED = re.compile(r".+_[0-9]+$")


class Counting:
    """The names given so far in one forward pass."""

    def __init__(self, taken: tuple[str, ...] = ()) -> None:
        self.times = Counter(taken)

    def name(self, path: str, function: str = "") -> str:
        """The name of the next operation at module `path`; `function` is empty where the module itself is the
        operation.

        Like torchvision, a number at the end of a name is taken for a counter and dropped before counting (`conv_2`
        alone is `conv`).
        """
        name = f"{path}.{function}" if path and function else path or function
        if NUMBERED.match(name):
            name = name.rsplit("_", 1)[0]
        times = self.times[name]
        self.times[name] += 1
        return f"{name}_{times}" if times else name


CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.DataParallel, nn.parallel.DistributedDataParallel)
"""Modules of torch.nn that are no operations."""


def is_leaf(module: nn.Module) -> bool:
    """Whether the module is one operation: what torch.nn brings, containers aside (torch.fx `is_leaf_module`)."""
    if is_whole(module):
        return not any(True for _ in module.children())
    kind = kind_of(module)
    return (
        kind.__module__.startswith(("torch.nn", "torch.ao.nn"))
        and kind is not nn.Module
        and not isinstance(module, CONTAINERS)
    )


def kind_of(module: nn.Module) -> type[nn.Module]:
    """The class of a module. For a parametrization torch makes a class of its own; what counts is the class before."""
    return nn.utils.parametrize.type_before_parametrizations(module)


def is_whole(module: nn.Module) -> bool:
    """Whether torchvision names the module's output as one node although there may be something to see within."""
    return any(kind.__module__.startswith("torchvision.ops") for kind in type(module).__mro__)


def paths_of(root: nn.Module) -> dict[nn.Module, str]:
    """The path of each module under which torch.fx knows it: the first one, without the wrappers of torch.compile."""
    return {
        module: path.replace("_orig_mod.", "").removesuffix("_orig_mod").rstrip(".")
        for path, module in root.named_modules()
    }


def function_name(function: Any, frame: FrameType | None) -> str:
    """The name that torch.fx gives to a call of `function` from `frame`."""
    name = getattr(function, "__name__", None) or type(function).__name__
    if name in OPERATORS:
        return OPERATORS[name]
    if "." in name:  # an overload: "conv2d.default"
        name = name.split(".", 1)[0]
    if name in AMBIGUOUS and frame is not None:
        return operator_at(frame) or snake_case(name)
    return snake_case(name)


AMBIGUOUS = {"add_", "sub_", "mul_", "div_", "div", "pow_", "remainder", "floor_divide_", "remainder_"}
"""Names that torch hands over for a method call and for Python's operator alike."""

BINARY_OP = dis.opmap.get("BINARY_OP", -1)
BINARY = {
    "ADD": "add", "SUBTRACT": "sub", "MULTIPLY": "mul", "TRUE_DIVIDE": "truediv", "POWER": "pow", "REMAINDER": "mod",
    "FLOOR_DIVIDE": "floordiv",
}  # fmt: skip


def operator_at(frame: FrameType) -> str:
    """The operator that `frame` is just running ("add" for `+` and for `+=`), or "" where it calls something."""
    code = frame.f_code.co_code
    # The instruction that the frame is just running; its argument is the number of the operator.
    if frame.f_lasti < 0 or code[frame.f_lasti] != BINARY_OP:
        return ""
    kind = dis._nb_ops[code[frame.f_lasti + 1]][0]  # type: ignore[attr-defined]
    return BINARY.get(kind.removeprefix("NB_").removeprefix("INPLACE_"), "")


PASSED_OVER = ("unitscope.anatomy", "jaxtyping", "beartype", "tests.checking")
"""Modules whose frames are not the network's: those that hook it, and what checks signatures in tests."""


def caller() -> FrameType | None:
    """The frame whose operation is being recorded: the nearest one that is not passed over."""
    frame: FrameType | None = sys._getframe(1)
    # Frames of unitscope's own networks (residual.py) count, and frames of this chapter do not.
    while frame is not None and frame.f_globals.get("__name__", "").startswith(PASSED_OVER):
        frame = frame.f_back
    return frame


def snake_case(name: str) -> str:
    """`BatchNorm2d` -> `batch_norm2d`; names in snake case stay."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def operation_of(name: str) -> str:
    """The plain word for an operation, from a module's class name or a function's name."""
    name = snake_case(name)
    if name not in ("and_", "or_"):
        name = name.rstrip("_")
    return kind(name).word
