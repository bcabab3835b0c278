"""Memory that is used again batch after batch."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
"""Names of settings in glibc's malloc.h."""

LARGE = 32 << 20
"""From this size on memory is the system's own business: what glibc by itself comes to, at most."""


@contextmanager
def keeping_what_is_freed() -> Iterator[None]:
    """While open, the C library keeps freed memory for the next batch; afterwards the system has it back.

    Else glibc gives response maps of more than 32 MB back to the system at once, which then clears each page anew: for
    MobileNetV2 half of the time.
    """
    mallopt, trim = of_c("mallopt"), of_c("malloc_trim")
    if mallopt is None or trim is None:
        yield
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, 1 << 30)
    try:
        yield
    finally:
        for setting, value in ((M_MMAP_MAX, 1 << 16), (M_MMAP_THRESHOLD, LARGE), (M_TRIM_THRESHOLD, 2 * LARGE)):
            mallopt(setting, value)
        trim(0)


def of_c(name: str) -> Any:
    """A function of the C library, or None where it is not glibc."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
