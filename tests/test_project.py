"""What is agreed is tested: layers, lightness, quiet, and that what is written runs."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import unitscope
from tests.conftest import PROJECT

SOURCE = PROJECT / "src" / "unitscope"

LAYERS = (
    "cli",
    "reproductions",
    "demo tuning_session",
    "report",
    "atlas_pages",
    "analysis perturbation synthesis training",
    "recording",
    "record",
    "anatomy stimuli networks",
    "vocabulary",
    "pristine durable html_templates",
    "errors",
)
HEIGHT = {chapter: height for height, row in enumerate(reversed(LAYERS)) for chapter in row.split()}
WRITTEN_IN = {
    "residual": "networks",
    "random_copies": "networks",
    "weights": "networks",
    "preprocessing": "networks",
    "model_zoos": "networks",
    "packaged_weights": "networks",
    "efficientnet_lite": "networks",
    "distributed": "training",
    "optima": "record",
    "resampling": "vocabulary",
    "option_groups": "vocabulary",
    "training_recipe": "vocabulary",
    "network_facts": "record",
    "facts": "record",
    "precision": "pristine",
}
"""Files that belong to the chapter of another name."""

LIGHT = (
    "unitscope",
    "unitscope.record",
    "unitscope.durable",
    "unitscope.optima",
    "unitscope.recording.patches",
    "unitscope.stimuli.images",
    "unitscope.cli.app",
    "unitscope.cli.text_tables",
)


def chapter(module: str) -> str:
    """The chapter of a module: "unitscope.anatomy.sites" belongs to "anatomy"."""
    name = [*module.split("."), ""][1]
    return WRITTEN_IN.get(name, name)


def modules_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py"))


def module_name(path: Path) -> str:
    parts = ("unitscope", *path.relative_to(SOURCE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """All modules of the package that a file imports, also within functions and for the type checker only."""
    return imports_in(ast.parse(path.read_text(encoding="utf-8")), path)


def imports_in(tree: ast.Module, path: Path) -> Iterator[str]:
    """All modules of the package that a syntax tree imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] == "unitscope")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module and node.module.partition(".")[0] == "unitscope":
                yield from imported(node.module, [alias.name for alias in node.names])


def imported(module: str, names: list[str]) -> Iterator[str]:
    """The modules behind `from module import names`: the module itself, or those of its modules that are named."""
    place = SOURCE.joinpath(*module.split(".")[1:])
    submodules = [name for name in names if (place / f"{name}.py").is_file() or (place / name).is_dir()]
    yield from (f"{module}.{name}" for name in submodules)
    if len(submodules) < len(names):
        yield module


@pytest.mark.parametrize("path", modules_below(SOURCE), ids=module_name)
def test_each_chapter_imports_only_lower_ones(path: Path) -> None:
    here = chapter(module_name(path))
    if here in ("", "__main__"):
        return  # the front door may show what lies in all chapters
    assert here in HEIGHT, f"{path} is of no chapter that LAYERS names"
    for module in imports(path):
        there = chapter(module)
        if there:
            assert there == here or HEIGHT[there] < HEIGHT[here], f"{path} ({here}) must not import {module}"


@pytest.mark.parametrize("path", modules_below(SOURCE), ids=module_name)
def test_the_defining_module_is_imported_and_never_a_package(path: Path) -> None:
    if path.name == "__init__.py":
        return
    for module in imports(path):
        place = SOURCE.joinpath(*module.split(".")[1:])
        is_package = place.is_dir()
        names_version_only = module == "unitscope" and chapter(module_name(path)) in ("cli", "__main__")
        assert not is_package or names_version_only, f"{path} imports the package {module}"


@pytest.mark.parametrize("path", modules_below(SOURCE), ids=module_name)
def test_only_the_command_line_prints(path: Path) -> None:
    if chapter(module_name(path)) == "cli":
        return
    calls = [node.func for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    assert not any(isinstance(function, ast.Name) and function.id == "print" for function in calls)


def imports_of_running_code(path: Path) -> set[str]:
    """All modules of the package that a file imports when it runs: also within functions, not for the type checker."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    return set(imports_in(tree, path))


def cycles(reads: dict[str, set[str]]) -> list[list[str]]:
    """The groups of modules that import each other, directly or through others of the group."""
    behind = {name: set(others) for name, others in reads.items()}
    for middle in behind:  # Warshall's closure: what is reached through `middle`
        for others in behind.values():
            if middle in others:
                others |= behind[middle]
    groups = {frozenset(other for other in behind[name] if name in behind.get(other, ())) for name in behind}
    return sorted(sorted(group) for group in groups if group)


def test_cycles_are_found() -> None:
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"d"}}) == [["b", "c"], ["d"]]
    assert cycles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_no_modules_import_each_other_not_even_within_functions() -> None:
    reads = {module_name(path): imports_of_running_code(path) for path in modules_below(SOURCE)}
    reads.pop("unitscope")  # the front door shows what lies in all chapters
    assert cycles(reads) == []


def loaded_after(statement: str) -> set[str]:
    """Names of all modules in a new process after a statement."""
    code = f"{statement}\nimport sys, json\nsys.stdout.write('\\n' + json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT / "src")
    return set(json.loads(done.stdout.splitlines()[-1]))


def without_torch() -> list[str]:
    """The modules that must not load torch: those named in LIGHT, and all of some chapters."""
    found = [module_name(path) for path in modules_below(SOURCE)]
    return sorted({*LIGHT, *(name for name in found if chapter(name) in ("analysis", "atlas_pages", "vocabulary"))})


def test_records_and_atlases_need_no_torch() -> None:
    statement = "\n".join(f"import {module}" for module in without_torch())
    assert not loaded_after(statement) & {"torch", "torchvision", "matplotlib.pyplot"}


def test_importing_the_package_is_light() -> None:
    assert not loaded_after("import unitscope") & {"torch", "matplotlib", "numpy", "pandas", "scipy", "zarr", "PIL"}


def test_every_name_at_the_top_is_there() -> None:
    for name in unitscope.__all__:
        assert getattr(unitscope, name) is not None
    assert set(unitscope.__all__) <= set(dir(unitscope))


def test_a_name_that_is_not_there_says_so() -> None:
    with pytest.raises(AttributeError, match="module 'unitscope' has no attribute 'surveil'"):
        _ = unitscope.surveil


HELP = (["--help"], ["survey", "--help"], ["train", "--help"], ["demo", "--help"])


@pytest.mark.parametrize("arguments", HELP, ids=" ".join)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    statement = f"from unitscope.cli.app import main\ntry:\n    main({arguments})\nexcept SystemExit:\n    pass"
    assert not loaded_after(statement) & {"torch", "numpy", "pandas", "scipy", "pyarrow", "tqdm", "matplotlib"}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)


def test_the_example_in_the_readme_runs(tmp_path: Path) -> None:
    (example,) = blocks((PROJECT / "README.md").read_text(encoding="utf-8"), "python")
    assert len(example.strip().splitlines()) <= 20
    done = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    promised = re.findall(r"#\s*->\s*(.*)", example)
    for words in promised:
        assert words.strip() in done.stdout


def test_every_name_at_the_top_has_its_place_in_the_docs() -> None:
    page = (PROJECT / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    described = re.findall(r"^\.\. auto\w+:: unitscope\.(\S+)", page, flags=re.MULTILINE)
    assert not set(unitscope._HOMES.values()) - set(described)


def test_the_readme_names_files_that_exist() -> None:
    page = (PROJECT / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", page):
        assert (PROJECT / target).exists(), f"README.md points to {target}"


def test_versions_agree() -> None:
    citation = (PROJECT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (\S+)", citation, re.MULTILINE)[1] == unitscope.__version__
    changelog = (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{unitscope.__version__}]" in changelog or "## [Unreleased]" in changelog


def test_what_the_tests_run_with_is_pinned() -> None:
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)", (PROJECT / "constraints.txt").read_text(), re.MULTILINE))
    pyproject = (PROJECT / "pyproject.toml").read_text()
    extras = re.search(r"^dependencies = \[(.*?)^\]", pyproject, re.MULTILINE | re.DOTALL)[1]
    extras += "".join(re.findall(r"^(?:analysis|demo|models) = \[(.*?)\]", pyproject, re.MULTILINE))
    for name in re.findall(r'"([\w-]+)', extras):
        assert name.lower() in {pin.lower() for pin in pinned}, f"constraints.txt has no version of {name}"


def test_every_paper_that_the_code_names_has_an_entry() -> None:
    entries = set(re.findall(r"^@\w+\{(\w+),", (PROJECT / "docs" / "references.bib").read_text(), re.MULTILINE))
    explained = set(re.findall(r"^(\w+)\n: ", (PROJECT / "docs" / "references.md").read_text(), re.MULTILINE))
    assert explained == entries
    for path in modules_below(SOURCE):
        for key in re.findall(r"\b[a-z]{3,}(?:19|20)\d\d\b", path.read_text(encoding="utf-8")):
            assert key in entries, f"{path} names {key}, which docs/references.bib lacks"


def test_no_file_names_a_place_on_somebodys_machine() -> None:
    places = re.compile(r"(?<![\w.~/-])/(?:home|root|work|Users)/\w")
    folders = [PROJECT / name for name in ("src", "tests", "docs", "benchmarks", "reproductions", ".ci")]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    files += [path for path in PROJECT.iterdir() if path.is_file() and path.name != ".git"]
    for path in files:
        if path.suffix in {".py", ".md", ".toml", ".txt", ".js", ".css", ".j2", ".csv", ".json", ".cff", ""}:
            found = places.search(path.read_text(encoding="utf-8", errors="replace"))
            assert found is None, f"{path} names {found}"
