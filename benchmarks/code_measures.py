"""Measures of the source code: how long it is, how often it says one thing, and how its modules hang together.

    python benchmarks/code_measures.py                     of this tree
    python benchmarks/code_measures.py OTHER/src/unitscope of another one; both columns are comparable

Files are parsed, not imported. A list of operations is a literal set, tuple, list or dictionary with three strings or
more, most of them names of PyTorch operations. An import cycle is a strongly connected set of modules; imports inside
functions count, those for type checkers do not.
"""

from __future__ import annotations

import ast
import statistics
import sys
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

HERE = Path(__file__).resolve().parents[1] / "src" / "unitscope"
Function = ast.FunctionDef | ast.AsyncFunctionDef


def main() -> None:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    trees = {
        module_name(path, root): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(root.rglob("*.py"))
    }
    for name, value in {**count_lines(root), **measure_names(trees), **measure_structure(trees)}.items():
        print(f"{name:44} {value}")


def module_name(path: Path, root: Path) -> str:
    parts = ("unitscope", *path.relative_to(root).with_suffix("").parts)
    return ".".join(part for part in parts if part != "__init__")


# --- lines ------------------------------------------------------------------------------------------------


def count_lines(root: Path) -> dict[str, object]:
    files = sorted(root.rglob("*.py"))
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    comments, code = map(sum, zip(*map(count_comments, files), strict=True))
    return {
        "files": len(files),
        "lines": sum(lines.values()),
        "longest file": max(lines.values()),
        "comment lines per 100 lines of code": f"{100 * comments / code:.1f}",
    }


def count_comments(path: Path) -> tuple[int, int]:
    """How many lines hold a comment that is no directive, and how many hold code."""
    comments, code = set(), set()
    silent = (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING, tokenize.ENDMARKER)
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.COMMENT:
                if not token.string.startswith(("# noqa", "# type:", "# fmt:", "# pragma", "# ---")):
                    comments.add(token.start[0])
            elif token.type not in silent:
                code.update(range(token.start[0], token.end[0] + 1))
    return len(comments), len(code)


# --- names ------------------------------------------------------------------------------------------------


def measure_names(trees: dict[str, ast.Module]) -> dict[str, object]:
    homes: dict[str, set[str]] = defaultdict(set)
    for module, tree in trees.items():
        for name in top_level_names(tree):
            homes[name].add(module)
    functions = [function for tree in trees.values() for function in functions_of(tree)]
    public = {function.name for function in functions if not function.name.startswith("_")}
    return {
        "functions": len(functions),
        "median lines of a function": statistics.median(one.end_lineno - one.lineno + 1 for one in functions),  # type: ignore[operator]
        "function names of one word": len({name for name in public if "_" not in name}),
        "names in several modules": sum(len(where) > 1 for where in homes.values()),
        "most parameters": max((count_parameters(one), one.name) for one in functions),
    }


def top_level_names(tree: ast.Module) -> Iterator[str]:
    """Functions, classes and constants of a module that are not private."""
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        else:
            continue
        yield from (name for name in names if not name.startswith("_"))


def functions_of(tree: ast.Module) -> list[Function]:
    return [node for node in ast.walk(tree) if isinstance(node, Function)]


def count_parameters(function: Function) -> int:
    given = function.args
    return len(given.posonlyargs) + len(given.args) + len(given.kwonlyargs)


# --- structure --------------------------------------------------------------------------------------------


def measure_structure(trees: dict[str, ast.Module]) -> dict[str, object]:
    cycles = import_cycles(trees)
    lists = {module: len(operation_lists(tree)) for module, tree in trees.items()}
    return {
        "recorders (dispatch or function modes)": sorted(name for tree in trees.values() for name in recorders(tree)),
        "lists of operation names": f"{sum(lists.values())} in {sum(map(bool, lists.values()))} files",
        "import cycles, lazy imports counted": [len(cycle) for cycle in cycles] or "none",
    }


def recorders(tree: ast.Module) -> list[str]:
    modes = {"TorchDispatchMode", "TorchFunctionMode"}
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    return [one.name for one in classes if modes & {base.id for base in one.bases if isinstance(base, ast.Name)}]


def operation_lists(tree: ast.Module) -> list[ast.AST]:
    found = []
    for node in ast.walk(tree):
        values = node.keys if isinstance(node, ast.Dict) else getattr(node, "elts", [])
        names = [each.value for each in values if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        if len(names) >= 3 and sum(name in operation_names() for name in names) > len(names) / 2:
            found.append(node)
    return found


@cache
def operation_names() -> frozenset[str]:
    import torch

    every = torch._C._dispatch_get_all_op_names()
    return frozenset(name.removeprefix("aten::").partition(".")[0] for name in every if "aten::" in name)


def import_cycles(trees: dict[str, ast.Module]) -> list[list[str]]:
    """The strongly connected sets of two or more modules, the largest first."""
    modules = list(trees)
    reads = [imported_modules(tree) for tree in trees.values()]
    edges = np.array([[module in others for module in modules] for others in reads])
    _, labels = connected_components(csr_array(edges), connection="strong")
    groups = [[module for module, own in zip(modules, labels, strict=True) if own == label] for label in set(labels)]
    return sorted((group for group in groups if len(group) > 1), key=len, reverse=True)


def imported_modules(tree: ast.Module) -> set[str]:
    found = set()
    for node in running_nodes(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def running_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only type checkers read."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield child
            yield from running_nodes(child)


if __name__ == "__main__":
    main()
