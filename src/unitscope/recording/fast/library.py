"""The compiled library of the fast path: compiled on first use, tested, and loaded.

`readout.cc` is compiled where there is a C++ compiler and kept in the user's cache (compilation.py), under a name made
of all that it depends on, so that different machines may share a cache. Before its first use each of its functions is
tested (verification.py). It runs in PyTorch's own threads.

The library makes a survey faster and changes nothing else: where `library()` is None, NumPy and PyTorch compute the
same bits. UNITSCOPE_COMPILE=0 in the environment switches the library off; CXX names another compiler.
"""

from __future__ import annotations

import ctypes
import logging
import os
import subprocess
import sys
from functools import cache

import numpy as np

from unitscope.recording.fast.compilation import compile_library, find_compiler
from unitscope.recording.fast.signatures import address, check_arrays, declare_functions
from unitscope.recording.fast.verification import find_fault

OTHERWISE = "responses are read by PyTorch, with the same results, which takes longer."

log = logging.getLogger(__name__)


@cache
def library() -> ctypes.CDLL | None:
    """The compiled library, or None where it is switched off, cannot be compiled, or fails its test."""
    if os.environ.get("UNITSCOPE_COMPILE", "1") == "0" or sys.platform != "linux":
        return None
    compiler = find_compiler()
    if compiler is None:
        log.warning("There is no C++ compiler: %s", OTHERWISE)
        return None
    try:
        # AttributeError: one of the functions is missing.
        found = declare_functions(ctypes.CDLL(str(compile_library(compiler))))
    except (OSError, AttributeError, subprocess.SubprocessError) as error:
        lines = (getattr(error, "stderr", None) or str(error).encode()).decode(errors="replace").strip().splitlines()
        log.warning("The readout could not be compiled (%s): %s", lines[0] if lines else error, OTHERWISE)
        return None
    if fault := find_fault(found):
        log.warning("The compiled readout gives wrong numbers (%s), and is not used: %s", fault, OTHERWISE)
        return None
    return found


def call(name: str, *arguments: int, reads: tuple[np.ndarray, ...], writes: tuple[np.ndarray, ...]) -> None:
    """Call a compiled function with numbers, then the arrays that it reads, then the arrays that it changes.

    Raises:
        ValueError: An array has another type or size than the function takes (signatures.py).
    """
    found = library()
    assert found is not None
    check_arrays(name, arguments, (*reads, *writes))
    addresses = [*(address(array) for array in reads), *(address(array, written=True) for array in writes)]
    getattr(found, name)(*arguments, *addresses)
