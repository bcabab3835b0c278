"""The top-level names: each is imported when it is first used, and no module takes the name of one."""

from __future__ import annotations

import inspect
import re
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
    assert set(unitscope.__all__) == set(unitscope._HOMES)
    source = Path(unitscope.__file__).read_text(encoding="utf-8")
    imports = source.partition("if TYPE_CHECKING:")[2].partition("__version__")[0].replace(",", " ").split()
    assert set(unitscope.__all__) <= set(imports)
    assert set(unitscope.__all__) <= set(dir(unitscope))


@pytest.mark.parametrize("name", unitscope.__all__)
def test_every_name_has_an_example_and_every_parameter_a_word(name):
    """The examples run as doctests; `conftest.py` of the project says what they start from."""
    what = getattr(unitscope, name)
    page = inspect.getdoc(what)
    assert "\nExample:\n    >>> " in page
    if inspect.isfunction(what):
        described = re.findall(r"^    \*?(\w+): ", page.partition("\nArgs:\n")[2].partition("\n\n")[0], re.MULTILINE)
        assert described == list(inspect.signature(what).parameters)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'unitscope' has no attribute 'atlass'"):
        unitscope.atlass


def test_importing_the_package_loads_neither_torch_nor_matplotlib():
    code = "import sys, unitscope; print([m for m in ('torch', 'matplotlib', 'numpy', 'pandas') if m in sys.modules])"
    assert run(code) == "[]"


def test_no_module_takes_the_name_of_a_function():
    """Importing the module `unitscope.atlas` would put that module in the place of the function of this name."""
    modules = {path.stem for path in Path(unitscope.__file__).parent.iterdir()}
    assert not modules & set(unitscope.__all__)


def test_atlas_is_a_function():
    with pytest.raises(unitscope.BadInput, match="no record came; an atlas needs at least one"):
        unitscope.atlas([], to="nowhere")


def test_open_gives_records():
    from unitscope.record import open_record

    assert unitscope.open is open_record
