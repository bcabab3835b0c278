"""Errors tell a short story."""

from __future__ import annotations

import pytest

from unitscope.errors import BadInput, Failure, UnitscopeError, UnknownName, few, near, unknown_name


def test_what_was_wrong_to_ask_is_a_value_error_and_what_failed_a_runtime_error() -> None:
    assert issubclass(UnknownName, BadInput)
    assert issubclass(BadInput, UnitscopeError | ValueError)
    assert issubclass(BadInput, ValueError)
    assert issubclass(Failure, RuntimeError)
    assert not issubclass(Failure, BadInput)


def test_the_whole_story_of_an_unknown_name() -> None:
    error = unknown_name(
        "site", "layer1.0.relu1", ["conv1", "layer1.0.relu", "layer1.0.relu_1"], where="resnet34",
        advice="`unitscope sites resnet34` lists all 3.",
    )  # fmt: skip
    assert str(error) == (
        "resnet34 has no site 'layer1.0.relu1'. Close: 'layer1.0.relu_1', 'layer1.0.relu'. "
        "`unitscope sites resnet34` lists all 3."
    )


def test_a_name_that_nothing_resembles_and_that_is_nowhere() -> None:
    assert str(unknown_name("network", "zzz", ["resnet34"])) == "there is no network 'zzz'."


def test_near_names_come_best_first_and_ignore_case() -> None:
    assert near("MaxPool", ["avgpool", "maxpool", "conv1"])[0] == "maxpool"
    assert near("resnet43", ["resnet34", "resnet18", "vgg"], most=1) == ["resnet34"]
    assert near("zzz", ["maxpool"]) == []


@pytest.mark.parametrize(
    ("names", "sentence"),
    [([], ""), (["a"], "a"), (["a", "b", "c"], "a, b, c"), (["a", "b", "c", "d", "e"], "a, b, c and 2 more")],
)
def test_few(names: list[str], sentence: str) -> None:
    assert few(names) == sentence
    assert few(iter(names)) == sentence
