"""The functions of `readout.cc` as ctypes calls them."""

from __future__ import annotations

import ctypes

import numpy as np

FUNCTIONS = (
    "hear", "normalize", "pool", "tint", "insert", "moments", "histogram", "labels", "counts", "add_map", "add_pixels",
    "shrink",
)  # fmt: skip


class Ear(ctypes.Structure):
    """Where the answers of a site's units go: `struct Ear` of readout.cc."""

    _fields_ = [
        *((name, ctypes.c_long) for name in ("units", "positions", "center", "k", "renewed")),
        *((name, ctypes.c_void_p) for name in ("map", "peak", "trough", "mean", "above", "centered", "counted")),
        *((name, ctypes.c_void_p) for name in ("highest", "lowest")),
        ("floors", ctypes.c_void_p * 2),
        ("bars", ctypes.c_void_p * 2),
        ("scratch", ctypes.c_void_p),
    ]


def declared(found: ctypes.CDLL) -> ctypes.CDLL:
    """The library with the types of its functions' arguments. Raises AttributeError where one is not there."""
    whole, pointer = ctypes.c_long, ctypes.c_void_p
    found.hear.argtypes = [
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
