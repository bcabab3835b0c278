"""A readout that gives a wrong number anywhere is not used."""

from __future__ import annotations

import ctypes
import logging

import numpy as np
import pytest

from unitscope.recording.fast import library as library_module
from unitscope.recording.fast.library import library
from unitscope.recording.fast.signatures import FUNCTIONS, declare_functions
from unitscope.recording.fast.verification import CHECKS, find_fault
from unitscope.recording.field_windows import average_areas

pytestmark = pytest.mark.skipif(library() is None, reason="no C++ compiler, or UNITSCOPE_COMPILE=0")

WRITTEN = {
    "read_maps": 6, "normalize": 5, "pool": 11, "tint": 5, "insert": 3, "moments": 5, "histogram": 4, "labels": 6,
    "counts": 7, "add_map": 4, "add_pixels": 4, "shrink": 11,
}  # fmt: skip
"""The number of an argument that each function writes to."""


def altered(name: str) -> ctypes.CDLL:
    """The readout, of which one function writes one wrong byte."""
    known = library()
    assert known is not None
    changed = declare_functions(ctypes.CDLL(known._name))
    right = getattr(changed, name)

    def wrong(*arguments):
        right(*arguments)
        byte = ctypes.c_uint8.from_address(arguments[WRITTEN[name]])
        byte.value ^= 1

    setattr(changed, name, wrong)
    return changed


def test_every_function_is_tried():
    assert [check.__name__ for check in CHECKS] == [f"check_{name}" for name in FUNCTIONS]
    assert find_fault(library()) == ""


@pytest.mark.parametrize("name", FUNCTIONS)
def test_one_wrong_bit_is_found(name):
    assert find_fault(altered(name)) == name


def test_a_readout_that_gives_wrong_numbers_is_told_and_done_without(monkeypatch, caplog):
    wrong = altered("moments")
    monkeypatch.setattr(library_module, "declare_functions", lambda _: wrong)
    library.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert library() is None
    library.cache_clear()
    assert "The compiled readout gives wrong numbers (moments), and is not used" in caplog.text
    assert np.array_equal(average_areas(np.zeros((1, 4, 4, 3), np.uint8), (2, 2)), np.zeros((1, 3, 2, 2)))
