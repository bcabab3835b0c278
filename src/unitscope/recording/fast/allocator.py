"""The C library's allocator, set so that memory is used again batch after batch."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
"""Names of settings in glibc's malloc.h."""

LARGE = 32 << 20
"""The largest block that glibc keeps by its own rules."""


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """While open, the C library keeps freed memory for the next batch; afterwards it gives the memory back.

    By default glibc returns blocks of more than 32 MB, such as response maps, to the system as soon as they are freed;
    the system then clears each page before the next batch may use it. That takes half of the time of MobileNetV2.
    """
    mallopt, trim = find_c_function("mallopt"), find_c_function("malloc_trim")
    if mallopt is None or trim is None:
        yield
        return
    # Without mmap all blocks come from the heap, and the heap returns memory only beyond 1 GB that is free.
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, 1 << 30)
    try:
        yield
    finally:
        # glibc's defaults. It stops adjusting its thresholds once one of them is set, so they are left at the largest
        # values that it would reach by itself.
        for setting, value in ((M_MMAP_MAX, 1 << 16), (M_MMAP_THRESHOLD, LARGE), (M_TRIM_THRESHOLD, 2 * LARGE)):
            mallopt(setting, value)
        trim(0)


def find_c_function(name: str) -> Any:
    """A function of the C library, or None where it is not glibc."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
