"""The checker of signatures that the tests switch on: beartype, and jaxtyping where shapes are named.

jaxtyping's own import hook binds the arguments of every call, checks parameters twice, and decorates functions within
functions anew at each call: most of the processor time of the tests went there. Here each function gets the cheapest
checker that understands its annotations:

    def paste(box: Box, by: int) -> Box                            beartype alone, a microsecond a call
    def peaks(responses: Float[Tensor, "stimulus unit row col"])   jaxtyping around beartype: one meaning of each axis

Annotations that only type checkers can resolve (imports under TYPE_CHECKING) are not checked.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

from beartype import BeartypeConf, beartype
from jaxtyping import jaxtyped

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""beartype, with int where float is asked for, as mypy has it."""

SHAPED = re.compile(r"\b(Float|Int|UInt|Bool|Complex|Num|Real|Inexact|Integer|Shaped)\w*\[")
"""An annotation of jaxtyping, as it is written."""


def check_signature(decorated: Any) -> Any:
    """A function or a class, with its annotations checked at each call."""
    if isinstance(decorated, type) or names_shapes(decorated):
        return jaxtyped(decorated, typechecker=checked)
    if not callable(decorated):
        return decorated  # a property and the like: what it wraps is checked
    decorated.__annotations__ = {
        name: resolve(annotation, decorated) for name, annotation in decorated.__annotations__.items()
    }
    return checked(decorated)


def names_shapes(function: Any) -> bool:
    annotations = getattr(function, "__annotations__", {}).values()
    return any(isinstance(one, str) and SHAPED.search(one) for one in annotations)


def resolve(annotation: Any, function: Callable[..., Any]) -> Any:
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, function.__globals__)
    except (NameError, AttributeError, TypeError):
        return Any


class Decorator(ast.NodeTransformer):
    """Every function and every class of a module gets the decorator `check_signature`, but not those within functions.

    A function within a function is made anew at each call; to make its checker costs a thousand times what a call does.
    """

    def __init__(self) -> None:
        self.decorator = ast.parse("__import__('sys').modules['tests.checking'].check_signature", mode="eval").body

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        node.decorator_list.insert(0, self.decorator)  # around what @dataclass makes
        self.generic_visit(node)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.decorator_list.append(self.decorator)  # the annotations are those of the function itself
        return node


class CheckingLoader(SourceFileLoader):
    def source_to_code(self, data: Any, path: Any, *, _optimize: int = -1) -> Any:
        tree = Decorator().visit(ast.parse(importlib.util.decode_source(data), path))
        return compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True, optimize=_optimize)

    def get_code(self, fullname: str) -> Any:
        # Without the bytecode cache: it holds the code of the undecorated module, for programs that tests start.
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


class CheckingFinder(MetaPathFinder):
    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.package and not fullname.startswith(f"{self.package}."):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = CheckingLoader(spec.loader.name, spec.loader.path)
        return spec


def check_package(package: str) -> None:
    """Check the signatures of all modules of a package that are imported from now on."""
    sys.meta_path.insert(0, CheckingFinder(package))
