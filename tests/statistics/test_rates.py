"""No test calls chance a finding more often than it says, and every interval holds the truth as often as it says."""

from __future__ import annotations

import re

import pytest

from tests.conftest import PROJECT
from tests.statistics.simulations import INTERVALS, TESTS, Simulation, share_of_runs

EVERY = TESTS + INTERVALS
NAMES = [f"{one.name}, {one.data}" for one in EVERY]

SHORT, LONG = 40, 500


@pytest.mark.parametrize("one", EVERY, ids=NAMES)
def test_of_few_runs_not_many_are_wrong(one: Simulation) -> None:
    """What is far off shows soon: between the bounds, and four standard deviations beyond."""
    low, high = one.bounds
    slack = [4 * (bound * (1 - bound) / SHORT) ** 0.5 for bound in one.bounds]
    assert low - slack[0] <= share_of_runs(one, SHORT, seed=1) <= high + slack[1]


@pytest.mark.long
@pytest.mark.parametrize("one", EVERY, ids=NAMES)
def test_rates_and_coverages_are_what_they_say(one: Simulation) -> None:
    low, high = one.bounds
    assert low <= share_of_runs(one, LONG) <= high


def test_the_table_in_the_docs_is_of_all_simulations() -> None:
    page = (PROJECT / "docs" / "reference" / "statistics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \| `[^|]+` \| ([^|]+) \|", page, flags=re.MULTILINE)
    assert rows == [(one.name, one.data) for one in EVERY]
