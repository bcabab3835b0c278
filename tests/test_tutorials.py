"""The tutorials run as they are written: all code cells of a page, in order, in a folder of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT

PAGES = sorted((PROJECT / "docs" / "tutorials").glob("*.md"))


def cells(page: str) -> list[str]:
    """The code of a page's cells, without the options that begin with a colon."""
    found = re.findall(r"^```\{code-cell\}[^\n]*\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    return [re.sub(r"\A(?::.*\n)+", "", cell) for cell in found]


@pytest.mark.slow
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_the_tutorial_runs(path: Path, tmp_path: Path) -> None:
    code = cells(path.read_text(encoding="utf-8"))
    assert code, f"{path} has no code cell"
    script = tmp_path / f"{path.stem}.py"
    script.write_text("def display(*values):\n    print(*values)\n\n\n" + "\n".join(code), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(PROJECT / "src"), "MPLBACKEND": "Agg"}
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
