"""The functions of `readout.cc` as ctypes calls them: which numbers and which arrays each of them takes.

A compiled function gets addresses, and checks nothing. So what it is given is checked here first.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence

import numpy as np

FUNCTIONS = (
    "read_maps", "normalize", "pool", "tint", "insert", "moments", "histogram", "labels", "counts", "add_map",
    "add_pixels", "shrink",
)  # fmt: skip


ARRAYS = {
    "normalize": ("position unit", "f position unit", "f unit", "f unit", "f position unit"),
    "moments": ("unit stimulus", "f stimulus unit", "b stimulus unit", "q unit", "d unit", "d unit"),
    "histogram": ("unit stimulus", "f stimulus unit", "b stimulus unit", "q unit 131"),
    "labels": (
        "unit stimulus", "f stimulus unit", "f stimulus unit", "b stimulus unit", "q stimulus", "q label unit",
        "q label unit", "q label unit", "i label unit",
    ),
    "counts": (
        "unit stimulus", "f stimulus unit", "f stimulus unit", "f stimulus unit", "b stimulus unit", "q unit", "q unit",
        "q unit", "f unit", "f unit",
    ),
    "add_map": ("unit position last", "f unit position", "q unit position"),
    "add_pixels": ("unit pixel", "i unit pixel", "i unit", "i unit pixel"),
    "insert": (
        "unit rank stimulus", "f unit rank", "q unit rank", "i unit rank", "i unit rank", "f stimulus unit",
        "i stimulus unit",
    ),
}  # fmt: skip
"""What functions that take arrays are given: the names of the numbers, then each array's kind and sizes. Kinds are
numpy's characters, and b for any byte; a size that is no number of these is the same in all arrays that have it.
"""


class SiteRows(ctypes.Structure):
    """Where the rows of a site's block go: `struct SiteRows` of readout.cc."""

    _fields_ = [
        *((name, ctypes.c_long) for name in ("units", "positions", "center", "k", "renewed")),
        *((name, ctypes.c_void_p) for name in ("map", "peak", "trough", "mean", "above", "centered", "counted")),
        *((name, ctypes.c_void_p) for name in ("highest", "lowest")),
        ("floors", ctypes.c_void_p * 2),
        ("bars", ctypes.c_void_p * 2),
        ("scratch", ctypes.c_void_p),
    ]


def declare_functions(found: ctypes.CDLL) -> ctypes.CDLL:
    """The library with the types of its functions' arguments. Raises AttributeError where one is not there."""
    whole, pointer = ctypes.c_long, ctypes.c_void_p
    found.read_maps.argtypes = [
        pointer, pointer, whole, whole, whole, pointer, pointer, *[ctypes.c_float] * 2, pointer, pointer
    ]  # fmt: skip
    found.normalize.argtypes = [*[whole] * 2, *[pointer] * 4]
    found.insert.argtypes = [
        whole, whole, ctypes.c_float, *[pointer] * 4, whole, pointer, pointer, ctypes.c_int64, whole
    ]  # fmt: skip
    found.moments.argtypes = [whole, whole, *[pointer] * 5]
    found.histogram.argtypes = [whole, whole, *[pointer] * 3]
    found.labels.argtypes = [whole, whole, *[pointer] * 8]
    found.counts.argtypes = [whole, whole, *[pointer] * 9]
    found.add_map.argtypes = [whole, whole, whole, pointer, pointer]
    found.add_pixels.argtypes = [whole, whole, pointer, pointer, pointer]
    found.shrink.argtypes = [pointer, *[whole] * 10, pointer]
    found.pool.argtypes = [pointer, *[whole] * 6, *[pointer] * 5]
    found.tint.argtypes = [*[whole] * 3, *[pointer] * 3]
    for name in FUNCTIONS:
        getattr(found, name).restype = None
    return found


def address(array: np.ndarray, *, written: bool = False) -> int:
    """Where an array begins. What is handed to the readout lies in one piece."""
    if not array.flags.c_contiguous or (written and not array.flags.writeable):
        raise ValueError("the readout takes arrays in one piece, and writes only into those that are its caller's")
    return int(array.ctypes.data)


def check_arrays(name: str, numbers: Sequence[int], arrays: Sequence[np.ndarray]) -> None:
    """Raises ValueError where an array is of another type, or has another number of elements, than ARRAYS says.

    The compiled functions check nothing: of an array that is too small they would read and write beyond the end.
    """
    names, *expected = ARRAYS[name]
    sizes = dict(zip(names.split(), (int(number) for number in numbers), strict=True))
    if min(sizes.values()) < 0:
        raise ValueError(f"the readout's {name} was given sizes below 0: {sizes}")
    for array, (kind, *axes) in zip(arrays, map(str.split, expected), strict=True):
        for axis in axes:
            if axis not in sizes:
                sizes[axis] = int(axis) if axis.isdigit() else len(array)
        # Booleans of numpy and PyTorch, and bytes, are all one byte in C.
        byte = kind == "b" and array.dtype.itemsize == 1
        if not (byte or array.dtype == kind) or array.size != math.prod(sizes[axis] for axis in axes):
            raise ValueError(
                f"the readout's {name} was given {array.dtype} of shape {array.shape}; expected {np.dtype(kind)} of "
                f"{' x '.join(f'{sizes[axis]} ({axis})' for axis in axes)}"
            )
