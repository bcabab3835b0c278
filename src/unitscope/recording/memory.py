"""Memory that is used again batch after batch."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Names of settings in glibc's malloc.h."""


def keep_what_is_freed() -> bool:
    """Let the C library keep freed memory for the next batch; whether it could be told.

    Else glibc gives response maps of more than 32 MB back to the system at once, which then clears each page anew: for
    MobileNetV2 a fifth of the time. Give it back afterwards.
    """
    mallopt = of_c("mallopt")
    return mallopt is not None and bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, 1 << 30))


def give_back_what_is_free() -> None:
    """Let the system have what was kept: when the last batch has been shown."""
    trim = of_c("malloc_trim")
    if trim is not None:
        trim(0)


def of_c(name: str) -> Any:
    """A function of the C library, or None where it is not glibc."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
