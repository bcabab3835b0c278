"""The top-level names: imported when first used, and where a verb and a chapter share a name, both can be had."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import unitscope


def run(code: str) -> str:
    """What `code` prints in a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("name", unitscope.__all__)
def test_every_name_leads_somewhere(name):
    assert callable(getattr(unitscope, name))


def test_every_name_is_listed_and_known_to_type_checkers():
    assert set(unitscope.__all__) == {*unitscope._HOMES, "atlas"}
    source = Path(unitscope.__file__).read_text(encoding="utf-8")
    imports = source.partition("if TYPE_CHECKING:")[2].partition("__version__")[0].replace(",", " ").split()
    assert set(unitscope.__all__) <= set(imports)
    assert set(unitscope.__all__) <= set(dir(unitscope))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'unitscope' has no attribute 'atlass'"):
        unitscope.atlass


def test_importing_the_package_loads_neither_torch_nor_matplotlib():
    code = "import sys, unitscope; print([m for m in ('torch', 'matplotlib', 'numpy', 'pandas') if m in sys.modules])"
    assert run(code) == "[]"


@pytest.mark.parametrize(
    "first",
    ["import unitscope", "import unitscope.atlas.site", "import unitscope.atlas", "from unitscope import atlas"],
)
def test_atlas_is_the_verb_and_the_chapter_whichever_came_first(first):
    """`unitscope.atlas([])` reaches the verb, which has a story for no records; the chapter's modules stay in reach."""
    code = f"""
import unitscope
{first}
try:
    unitscope.atlas([], to='nowhere')
except unitscope.BadInput as error:
    print(error)
import unitscope.atlas.data_scripts
from unitscope.atlas import data_scripts
assert unitscope.atlas.data_scripts is data_scripts
assert callable(unitscope.atlas)
"""
    assert run(code) == "no record came; an atlas needs at least one."


def test_open_gives_records():
    from unitscope.record import open_record

    assert unitscope.open is open_record
