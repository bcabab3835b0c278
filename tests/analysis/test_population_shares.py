"""Shares of units by definition, beside untrained networks."""

from __future__ import annotations

from pathlib import Path

import pandas
import pytest
from scipy.stats import binomtest

from tests.recording.pictures import write_many
from tests.test_tuning_session import little
from unitscope import tuning_session
from unitscope.analysis.population_shares import DEFINITIONS, shares, shares_text, wilson
from unitscope.errors import BadInput
from unitscope.recording.survey import survey


@pytest.mark.parametrize(("hits", "count"), [(0, 12), (7, 20), (30, 30)])
def test_the_interval_of_a_share(hits: int, count: int) -> None:
    expected = binomtest(hits, count).proportion_ci(method="wilson")
    assert wilson(hits, count) == pytest.approx((hits / count, expected.low, expected.high), abs=1e-6)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pandas.DataFrame:
    folder = tmp_path_factory.mktemp("shares")
    record = survey(little([10.0, 100.0]), write_many(folder, 2), to=folder / "record", sites=["relu"])
    with pytest.raises(BadInput, match="holds no tuning"):
        shares(record)
    tuning_session.tuning(little([10.0, 100.0]), record, null=1)
    return shares(record)


def test_gray_gabors_are_oriented_by_every_definition(table: pandas.DataFrame) -> None:
    found = table.set_index(["claim", "definition"])
    assert found.loc["orientation", "share"].tolist()[:3] == [1.0] * 3
    assert found.loc[("color", "over 2, equal pixel change"), "share"] == 0
    assert (table["units"] == 2).all()
    assert (table["low"] <= table["share"]).all()
    assert (table["share"] <= table["high"]).all()


def test_untrained_networks_stand_beside_it(table: pandas.DataFrame) -> None:
    assert len(table) == len(DEFINITIONS)
    assert (table["untrained_units"] > 0).all()
    text = shares_text(table).splitlines()
    assert len(text) == len(table) + 1
    assert "n 2" in text[1]


def test_without_an_untrained_network_nothing_is_said_of_it(tmp_path: Path) -> None:
    record = survey(little([10.0]), write_many(tmp_path, 2), to=tmp_path / "record", sites=["relu"])
    tuning_session.tuning(little([10.0]), record)
    found = shares(record)
    assert found["untrained"].isna().all()
    beyond = found[found["definition"] == "1 - CV beyond 95 % of untrained"]
    assert beyond["share"].isna().all()
    assert "nan" in shares_text(beyond)


def test_measures_of_an_earlier_version_are_a_story(tmp_path: Path) -> None:
    record = survey(little([10.0]), write_many(tmp_path, 2), to=tmp_path / "record", sites=["relu"])
    tuning_session.tuning(little([10.0]), record)
    path = record.path / "measures" / "color.parquet"
    pandas.read_parquet(path).drop(columns="cone_opponency").to_parquet(path)
    with pytest.raises(BadInput, match="by an earlier version, which called gray units opponent; repeat the command"):
        shares(record)
