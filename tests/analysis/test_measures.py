"""Measures say what they are, and the docs say the same."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import numpy as np
import pandas
import pytest

from tests.conftest import PROJECT
from unitscope.analysis.measure_declarations import Measure
from unitscope.analysis.measures import TABLES, circular_mean
from unitscope.cli.json_output import describe_table
from unitscope.cli.measure import measure_table

EVERY = [pytest.param(measure, id=f"{name}.{measure.name}") for name, table in TABLES.items()
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


@pytest.mark.parametrize("measure", EVERY)
def test_what_comes_again_has_a_period(measure: Measure) -> None:
    assert measure.period == (measure.range[1] if measure.range and measure.high.endswith("again") else None)


def test_the_mean_of_a_circular_quantity() -> None:
    mean, length = circular_mean([1.0, 179.0, np.nan], 180)
    assert (mean + 90) % 180 - 90 == pytest.approx(0, abs=1e-9)
    assert length == pytest.approx(np.cos(np.radians(2)))
    assert circular_mean([350.0, 20.0], 360)[0] == pytest.approx(5)
    mean, length = circular_mean([0.0, 45.0, 90.0, 135.0], 180)
    assert np.isnan(mean)
    assert length == pytest.approx(0, abs=1e-9)
    assert np.isnan(circular_mean([np.nan], 180)).all()


def test_orientations_are_condensed_to_their_circular_mean_and_not_to_a_median() -> None:
    """Bars a little to this and to that side of horizontal; their median is vertical."""
    (names,) = [[m.name for m in table.columns] for table in TABLES.values() if table.name == "orientation"]
    table = pandas.DataFrame({"unit": range(4), "site": "conv1", "channel": range(4)} | dict.fromkeys(names, np.nan))
    table["preferred_orientation"] = [2.0, 4.0, 176.0, 178.0]
    table["preferred_phase"] = [90.0, 90.0, 90.0, 90.0]
    said = measure_table("orientation", table, width=200)
    assert "90 (1.00)" in said
    assert " 0 (0.99)" in said
    assert "(circular mean; in parentheses 1 where all are alike, 0 where they are spread evenly)." in said
    facts = describe_table(Path("record"), "orientation", table)["columns"]["preferred_orientation"]
    assert set(facts) == {"known", "circular_mean", "resultant_length"}
    assert abs((facts["circular_mean"] + 90) % 180 - 90) < 1e-6
