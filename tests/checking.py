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
import functools
import importlib.util
import re
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype
from jaxtyping import jaxtyped

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""beartype, with int where float is asked for, as mypy has it."""


def check_signature(decorated: Any) -> Any:
    """A function or a class, with its annotations checked at each call."""
    if isinstance(decorated, type):
        return jaxtyped(decorated, typechecker=checked)
    if not callable(decorated):
        return decorated  # a property and the like: what it wraps is checked
    hints = {name: resolve_hint(annotation, decorated) for name, annotation in decorated.__annotations__.items()}
    if any("jaxtyping" in repr(hint) for hint in hints.values()):
        return jaxtyped(decorated, typechecker=checked)
    decorated.__annotations__ = hints
    guarded = checked(decorated)

    @functools.wraps(decorated)
    def call(*args: Any, **kwargs: Any) -> Any:
        # The fixture `unchecked` sets this switch, which jaxtyping's own checks obey, too.
        return (decorated if jaxtyping.config.jaxtyping_disable else guarded)(*args, **kwargs)

    return call


def resolve_hint(annotation: Any, function: Callable[..., Any]) -> Any:
    """What a written annotation stands for; Any where a name in it is known to type checkers only."""
    if not isinstance(annotation, str):
        return annotation
    try:
        hint = eval(annotation, function.__globals__)
    except (NameError, AttributeError, TypeError):
        return Any
    # A type within quotes, as in `dict[str, "Site | None"]`. The axes of jaxtyping and literal values have quotes, too.
    written = re.sub(r"Literal\[[^]]*\]|<class '[^']*'>", "", repr(hint))
    return Any if "ForwardRef" in written or ("'" in written and "jaxtyping" not in written) else hint


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
