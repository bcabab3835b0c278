"""The compiled functions look at nothing, so what they are given is looked at before."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unitscope.recording.fast.kernels import insert_located, look_up_levels, shrink
from unitscope.recording.fast.library import call, library
from unitscope.recording.fast.signatures import ARRAYS, FUNCTIONS, check_arrays
from unitscope.recording.statistics import LabelSums
from unitscope.vocabulary import Box

KINDS = {"f": np.float32, "d": np.float64, "q": np.int64, "i": np.int32, "b": np.bool_}

SIZES = {"unit": 3, "stimulus": 4, "position": 5, "pixel": 6, "label": 2, "rank": 7, "last": 1}

needs_library = pytest.mark.skipif(library() is None, reason="no C++ compiler, or UNITSCOPE_COMPILE=0")


def fitting(name: str) -> tuple[list[int], list[np.ndarray]]:
    """Numbers and arrays such as a function takes."""
    names, *expected = ARRAYS[name]
    shapes = [(kind, [SIZES.get(axis) or int(axis) for axis in axes]) for kind, *axes in map(str.split, expected)]
    return [SIZES[size] for size in names.split()], [np.zeros(shape, KINDS[kind]) for kind, shape in shapes]


def test_all_functions_that_take_arrays_alone_are_known():
    assert set(FUNCTIONS) - set(ARRAYS) == {"read_maps", "pool", "tint", "shrink"}


@pytest.mark.parametrize("name", ARRAYS)
def test_what_fits_passes_and_nothing_else(name):
    numbers, arrays = fitting(name)
    check_arrays(name, numbers, arrays)
    for place in range(len(numbers)):
        if ARRAYS[name][0].split()[place] != "last":
            with pytest.raises(ValueError, match="was given"):
                check_arrays(name, [*numbers[:place], numbers[place] + 1, *numbers[place + 1 :]], arrays)
        with pytest.raises(ValueError, match="sizes below 0"):
            check_arrays(name, [*numbers[:place], -1, *numbers[place + 1 :]], arrays)
    for place, array in enumerate(arrays):
        for wrong in (array[:-1] if len(arrays) > 1 else array, array.astype(np.complex64)):
            if name == "labels" and wrong.dtype == array.dtype and place == 5:
                continue  # the first array of labels says how many there are; the others tell
            with pytest.raises(ValueError, match="was given"):
                check_arrays(name, numbers, [*arrays[:place], wrong, *arrays[place + 1 :]])


@needs_library
def test_wrappers_refuse_what_would_be_written_elsewhere():
    with pytest.raises(ValueError, match="moments was given float64"):
        call("moments", 2, 2, reads=(np.zeros((2, 2)), np.ones((2, 2), bool)),
             writes=(np.zeros(2, np.int64), np.zeros(2), np.zeros(2)))  # fmt: skip
    kinds = {"value": np.float32, "image": np.int64, "row": np.int32, "col": np.int32}
    held = {name: np.zeros((2, 0), kind) for name, kind in kinds.items()}
    with pytest.raises(ValueError, match="0 ranks"):
        insert_located(1, np.zeros((1, 2), np.float32), np.zeros((1, 2), np.int32), first=0, cols=1, **held)
    pictures = np.zeros((1, 4, 5, 3), np.uint8)
    for box, shape in ((Box(0, 0, 5, 5), (1, 1)), (Box(-1, 0, 4, 5), (1, 1)), (Box(2, 0, 2, 5), (1, 1)),
                       (Box(0, 0, 4, 5), (0, 1))):  # fmt: skip
        with pytest.raises(ValueError, match="cannot be made"):
            shrink(pictures, box, shape)
    with pytest.raises(ValueError, match="tint was given"):
        look_up_levels(torch.zeros(1, 3, 2, 2, dtype=torch.uint8), torch.zeros(255, 3), reverse=False)


@needs_library
def test_a_checkpoint_of_another_shape_is_not_written_to():
    from tests.recording.test_statistics import block_of

    sums = LabelSums.empty(4, labels=2)
    sums.restore({"peak": np.zeros((2, 3), np.int64)})
    with pytest.raises((ValueError, TypeError), match=r"labels was given int64 of shape|sum_by_label"):
        sums.take(block_of(np.ones((4, 4), np.float32)))  # TypeError: where the checker of signatures looks first
    assert not sums.peak.any()
