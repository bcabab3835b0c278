"""Measures say what they are, and the docs say the same."""

from __future__ import annotations

import importlib.util
import math

import pytest

from tests.conftest import PROJECT
from unitscope.analysis.measures import Measure, tables

EVERY = [pytest.param(measure, id=f"{name}.{measure.name}") for name, table in tables().items()
         for measure in table.columns]  # fmt: skip


def test_the_page_of_measures_is_what_the_code_says() -> None:
    specification = importlib.util.spec_from_file_location("docs_measures", PROJECT / "docs" / "measures.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), "run `python docs/measures.py`"


@pytest.mark.parametrize("measure", EVERY)
def test_a_measure_says_what_it_is(measure: Measure) -> None:
    assert measure.says
    if measure.range is not None:
        low, high = measure.range
        assert low < high
        assert measure.low or math.isinf(low)
        assert measure.high or math.isinf(high)
