"""Memory that is freed stays with the process: the next batch's pages are there already."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

FAULTS = """
import contextlib, resource, sys
import numpy as np
from unitscope.recording.fast.allocator import keep_freed_memory
def faults():
    for _ in range(3):
        np.ones(10_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        np.ones(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
with keep_freed_memory():
    kept = faults()
print(kept, faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="told to glibc only")
def test_pages_are_asked_for_once_while_it_is_open_and_anew_afterwards():
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    kept, afterwards = map(int, done.stdout.split())
    pages = 5 * 80_000_000 // resource.getpagesize()
    assert kept < pages / 1000 < afterwards  # a huge page of 2 MB stands for 512
