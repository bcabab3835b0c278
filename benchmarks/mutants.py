"""Which bugs would the tests not see? Each mutant of mutants.toml is one wrong piece of code, planted in a copy.

A mutant names a file below src/unitscope, a piece of code that stands there exactly once, what to write in its place,
and the tests that should fail on that. The tree is copied into a temporary folder; there the tests run once without any
mutant (they must pass) and then with each, up to the first failure: the mutant is "killed" if one fails, "alive" if
none does, and "gone" if the code is no longer what the mutant replaces: then the table wants a new line. What is alive
lacks a test.

    python benchmarks/mutants.py              all
    python benchmarks/mutants.py analysis/    those whose name or file contains a word
    python benchmarks/mutants.py --list       names only
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
TABLE = Path(__file__).with_suffix(".toml")
COPIED = ("src", "tests", "docs", "benchmarks", "reproductions", "pyproject.toml", "README.md", "CHANGELOG.md")
PATIENCE = 1200
"""Seconds after which tests count as failed: a mutant may make them run for ever."""


@dataclass(frozen=True)
class Mutant:
    """One wrong piece of code, and the tests that should see it (files, or single tests as pytest names them)."""

    name: str
    file: str
    code: str
    mutant: str
    tests: tuple[str, ...]

    def planted(self, text: str) -> str | None:
        """The file's text with the mutant in it; None where its code does not stand there exactly once."""
        return text.replace(self.code, self.mutant) if text.count(self.code) == 1 else None


def read_mutants(path: Path = TABLE) -> list[Mutant]:
    rows = tomllib.loads(path.read_text(encoding="utf-8"))["mutants"]
    return [Mutant(**row | {"tests": tuple(row["tests"])}) for row in rows]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Plant bugs in a copy of the package, and see whether the tests fail.")
    parser.add_argument("words", nargs="*", help="only mutants whose name or file contains one of these")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    asked = parser.parse_args(arguments)
    mutants = [
        one for one in read_mutants() if not asked.words or any(w in f"{one.file} {one.name}" for w in asked.words)
    ]
    if asked.list:
        print(*(f"{one.file}: {one.name}" for one in mutants), sep="\n")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        tree = copy_tree(Path(folder))
        tests = sorted({test for one in mutants for test in one.tests})
        if tests and not passes(tree, tests):
            print("The tests fail without any mutant; nothing can be said of mutants.")
            return 1
        return report([(one, fate(one, tree)) for one in mutants])


def copy_tree(folder: Path) -> Path:
    """Copy what the tests need; real data beside the project stay where they are."""
    tree = folder / "project"
    tree.mkdir()
    for name in COPIED:
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__", "_build"))
        else:
            shutil.copyfile(source, tree / name)
    if (PROJECT.parent / "shared").is_dir():
        (folder / "shared").symlink_to(PROJECT.parent / "shared")
    return tree


def fate(one: Mutant, tree: Path) -> str:
    """ "killed", "alive" or "gone". The copy is afterwards what it was."""
    path = tree / "src" / "unitscope" / one.file
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    planted = one.planted(text)
    if planted is None:
        return "gone"
    began = time.monotonic()
    try:
        path.write_text(planted, encoding="utf-8")
        found = "alive" if passes(tree, one.tests) else "killed"
    finally:
        path.write_text(text, encoding="utf-8")
    print(f"{found:7}  {one.file}: {one.name} ({time.monotonic() - began:.0f} s)", flush=True)
    return found


def passes(tree: Path, tests: Sequence[str]) -> bool:
    """Whether the tests pass in a copy of the project.

    No bytecode is kept, which could outlive a mutant. Signatures stay unchecked: values must tell a mutant, not types.
    """
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(tree / "src"), str(tree)]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "UNITSCOPE_UNCHECKED": "1",
        "XDG_CACHE_HOME": str(tree.parent / "cache"),
    }
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return False
    if done.returncode > 1:
        raise SystemExit(f"pytest could not run {' '.join(tests)}:\n{done.stdout}{done.stderr}")
    return done.returncode == 0


def report(fates: Sequence[tuple[Mutant, str]]) -> int:
    """Print a table by chapter; 1 where a mutant is alive or gone."""
    chapters = Counter((one.file.partition("/")[0].removesuffix(".py"), found) for one, found in fates)
    names = ("killed", "alive", "gone")
    print(f"\n{'':14}" + "".join(f"{name:>12}" for name in names))
    for chapter in sorted({chapter for chapter, _ in chapters}):
        print(f"{chapter:14}" + "".join(f"{chapters[chapter, name]:12}" for name in names))
    print(f"{'all':14}" + "".join(f"{sum(found == name for _, found in fates):12}" for name in names))
    for one, found in fates:
        if found in ("alive", "gone"):
            print(f"{found}: {one.file}: {one.name}\n    {one.code}\n    -> {one.mutant}")
    return int(any(found in ("alive", "gone") for _, found in fates))


if __name__ == "__main__":
    raise SystemExit(main())
