"""Data as scripts, and file names that are safe."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unitscope.atlas_pages.data_scripts import as_script, round_digits, slugs


@given(st.text())
def test_any_text_survives_as_a_script_and_closes_no_element(text):
    script = as_script({"label": text})
    assert json.loads(script) == {"label": text}
    assert script.isascii()
    assert "<" not in script


def test_names_that_are_no_text_are_written_too():
    assert json.loads(as_script(["\udcff"])) == ["\udcff"]


def test_what_is_not_finite_becomes_null():
    value = {"a": [1.5, float("nan"), np.float32("inf")], "b": np.array([1, 2]), "c": np.array([0.5, np.nan])}
    assert json.loads(as_script(value)) == {"a": [1.5, None, None], "b": [1, 2], "c": [0.5, None]}


def test_what_cannot_stand_in_a_script_is_refused():
    with pytest.raises(TypeError, match="object cannot stand in a script"):
        as_script(object())


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e30, max_value=1e30))
def test_rounded_keeps_six_digits(value):
    assert round_digits(np.array([value]))[0] == pytest.approx(value, rel=5e-6, abs=1e-300)


def test_rounded_is_short_and_leaves_the_rest_alone():
    values = round_digits(np.array([1 / 3, 0.0, np.nan, np.inf, -1234567.0]))
    assert values[0] == 0.333333
    assert values[1] == 0
    assert np.isnan(values[2])
    assert values[3] == np.inf
    assert values[4] == -1234570


@given(st.lists(st.text(max_size=120), unique=True, max_size=30))
def test_slugs_are_safe_file_names_and_like_no_other(names):
    made = slugs(names)
    assert set(made) == set(names)
    assert len({slug.lower() for slug in made.values()}) == len(names)
    for slug in made.values():
        assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,90}", slug)


def test_slugs_keep_what_can_be_kept():
    names = ["layer1.0.relu_1", "../../etc/passwd", "..", "a/b", "a b", "A_b", "con", "index", ""]
    assert list(slugs(names).values()) == [
        "layer1.0.relu_1", "etc_passwd", "_", "a_b", "a_b-2", "A_b-3", "_con", "_index", "_-2",
    ]  # fmt: skip
