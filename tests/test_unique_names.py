"""One name means one thing: a top-level name stands in one module of the package.

`names_in_several_modules.txt` lists the names that still stand in several modules. The list can only shrink: the test
fails if a name is new in a second module, and if a name on the list has become unique. To write the list anew:
`python -m tests.test_unique_names`.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import unitscope

SOURCE = Path(unitscope.__file__).parent
LIST = Path(__file__).parent / "names_in_several_modules.txt"

SAME_BY_DESIGN = {
    "unit_data": "each panel of the atlas answers the same calls (panel_registry.py)",
    "overview": "each panel of the atlas answers the same calls (panel_registry.py)",
    "reproduce": "each paper's module is called by the same name (cli/reproduce.py)",
}


def verbs() -> set[str]:
    """A verb of the command line has the name of the function that it calls, and stands in the file of its name."""
    return {path.stem for path in (SOURCE / "cli").glob("*.py")}


def top_level_names(path: Path) -> Iterator[str]:
    """Functions, classes and constants of a module that have no underscore in front."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)]
        else:
            names = []
        yield from (name for name in names if not name.startswith("_"))


def names_in_several_modules() -> set[str]:
    modules: dict[str, set[Path]] = defaultdict(set)
    for path in SOURCE.rglob("*.py"):
        for name in top_level_names(path):
            modules[name].add(path)
    return {name for name, paths in modules.items() if len(paths) > 1} - verbs() - set(SAME_BY_DESIGN)


def test_a_top_level_name_stands_in_one_module() -> None:
    known = set(LIST.read_text(encoding="utf-8").split())
    found = names_in_several_modules()
    assert found - known == set(), "these names stand in a second module; give one of the two another name"
    assert known - found == set(), f"these names are unique now; take them off {LIST.name}"


if __name__ == "__main__":
    LIST.write_text("\n".join(sorted(names_in_several_modules())) + "\n", encoding="utf-8")
