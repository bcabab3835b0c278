"""The fast path stands apart: one module chooses between the plain path and the fast one, and no other knows of it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from tests.recording.fast.test_reader import environment, needs_library
from tests.test_project import SOURCE, imports, module_name, modules_below
from unitscope.recording.acceleration import accelerated
from unitscope.recording.fast import kernels

FAST = "unitscope.recording.fast"
CHOOSES = "unitscope.recording.acceleration"


def test_only_one_module_knows_of_the_fast_path():
    know = {
        module_name(path)
        for path in modules_below(SOURCE)
        if not module_name(path).startswith(FAST) and any(name.startswith(FAST) for name in imports(path))
    }
    assert know == {CHOOSES}


def test_the_fast_path_does_not_know_who_chooses_it():
    for path in modules_below(SOURCE / "recording" / "fast"):
        assert CHOOSES not in set(imports(path)), path


def test_what_has_no_twin_is_the_plain_function():
    def no_such_twin() -> str:
        return "plain"

    assert accelerated(no_such_twin) is no_such_twin


@needs_library
def test_a_twin_is_called_where_the_library_is_and_may_decline(monkeypatch):
    def count_things(values: np.ndarray) -> str:
        return f"plain {len(values)}"

    monkeypatch.setattr(
        kernels, "count_things", lambda values: NotImplemented if len(values) > 2 else "fast", raising=False
    )
    chosen = accelerated(count_things)
    assert (chosen(np.ones(2)), chosen(np.ones(3))) == ("fast", "plain 3")
    with environment(UNITSCOPE_COMPILE="0"):
        assert chosen(np.ones(2)) == "plain 2"


def test_each_twin_has_a_plain_function():
    marked = {
        name for path in modules_below(SOURCE / "recording") for name in _decorated(path.read_text(encoding="utf-8"))
    }
    public = {name for name, value in vars(kernels).items() if getattr(value, "__module__", "") == kernels.__name__}
    assert public - {"look_up_levels"} == marked


def _decorated(source: str) -> list[str]:
    """Names of the functions marked with @accelerated."""
    lines = source.splitlines()
    return [line.removeprefix("def ").partition("(")[0] for before, line in pairwise(lines) if before == "@accelerated"]
