"""Memory that is freed stays with the process: the next batch's pages are there already."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import numpy as np
from unitscope.recording.memory import keep_what_is_freed
if sys.argv[1] == "kept":
    assert keep_what_is_freed()
for _ in range(3):
    np.ones(10_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    np.ones(10_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(way: str) -> int:
    done = subprocess.run([sys.executable, "-c", FAULTS, way], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="told to glibc only")
def test_pages_are_asked_for_once():
    pages = 5 * 80_000_000 // resource.getpagesize()
    assert faults("kept") < pages / 100 < faults("as it is")
