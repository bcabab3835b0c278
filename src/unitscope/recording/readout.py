"""The readout: what is read of response maps and blocks in one pass over memory, compiled where there is a compiler.

`readout.cc` is compiled on first use and kept in the user's cache, under a name made of all that it depends on, so that
a cache may be shared by different machines; it runs in PyTorch's own threads. It is an acceleration and nothing else:
wherever `library()` is None, its callers do the same in numpy or torch, with the same bits. UNITSCOPE_COMPILE=0 in the
environment does without; CXX names another compiler.
"""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int32, Int64, UInt8
from torch import Tensor

from unitscope.vocabulary import Box, Size

SOURCE = Path(__file__).with_name("readout.cc")

FLAGS = ("-O3", "-march=native", "-std=c++17", "-ffp-contract=off", "-fPIC", "-Wno-psabi")

OTHERWISE = "responses are read by PyTorch, with the same results, which takes longer."

FUNCTIONS = (
    "hear", "normalize", "pool", "tint", "insert", "moments", "histogram", "labels", "counts", "add_map", "add_pixels",
    "shrink",
)  # fmt: skip

log = logging.getLogger(__name__)


@cache
def library() -> ctypes.CDLL | None:
    """The compiled readout; None where it is not wanted or cannot be had."""
    if os.environ.get("UNITSCOPE_COMPILE", "1") == "0" or sys.platform != "linux":
        return None
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        log.warning("There is no C++ compiler: %s", OTHERWISE)
        return None
    try:
        return declared(ctypes.CDLL(str(compiled(compiler))))
    except (OSError, AttributeError, subprocess.SubprocessError) as error:
        told = (getattr(error, "stderr", None) or str(error).encode()).decode(errors="replace").strip().splitlines()
        log.warning("The readout could not be compiled (%s): %s", told[0] if told else error, OTHERWISE)
        return None


def compiled(compiler: str) -> Path:
    """The shared library, compiled unless the cache has it for this source, compiler, processor and PyTorch."""
    threads = threads_of_torch()
    known = (SOURCE.read_text(), *FLAGS, compiler, os.path.realpath(compiler), processor(), str(threads))
    name = f"readout-{hashlib.sha256(repr(known).encode()).hexdigest()[:16]}.so"
    folder = cache_folder()
    if not (folder / name).exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            part, whole = Path(scratch) / "readout.o", Path(scratch) / name
            parallel = ["-fopenmp"] if threads else []
            run([compiler, *FLAGS, *parallel, "-c", str(SOURCE), "-o", str(part)])
            run([compiler, "-shared", str(part), *([str(threads)] if threads else []), "-o", str(whole)])
            whole.replace(folder / name)
    return folder / name


def run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=120)


def cache_folder() -> Path:
    """The user's cache, or where that cannot be written a folder of this process's own."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unitscope"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        own = Path(tempfile.mkdtemp(prefix="unitscope-"))
        atexit.register(shutil.rmtree, own, ignore_errors=True)
        return own
    return folder


def threads_of_torch() -> Path | None:
    """The OpenMP library that PyTorch runs on, so that one set of threads serves both; None: one thread must do."""
    torch.get_num_threads()
    mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if ".so" in line}
    known = [Path(path) for path in sorted(mapped) if Path(path).name.startswith(("libgomp", "libomp", "libiomp"))]
    return next((path for path in known if "torch" in path.parts), known[0] if len(known) == 1 else None)


def processor() -> str:
    """What `-march=native` stands for here: a cache may be shared by machines that differ."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(
        sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))})
    )


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


def called(name: str, *arguments: Any, reads: tuple[np.ndarray, ...], writes: tuple[np.ndarray, ...]) -> None:
    """Call the compiled function: numbers first, then the arrays that it reads, then those that it changes."""
    found = library()
    assert found is not None
    places = [*(address(array) for array in reads), *(address(array, written=True) for array in writes)]
    getattr(found, name)(*arguments, *places)


def insert(
    sign: int,
    value: Float32[np.ndarray, "unit rank"],
    image: Int64[np.ndarray, "unit rank"],
    row: Int32[np.ndarray, "unit rank"],
    col: Int32[np.ndarray, "unit rank"],
    responses: Float32[np.ndarray, "stimulus unit"],
    places: Int32[np.ndarray, "stimulus unit"],
    *,
    first: int,
    cols: int,
) -> None:
    """Let a block's responses at the flat `places` (-1: none) of a lattice of `cols` contend; images from `first` on,
    later than those held.
    """
    found, (units, k) = library(), value.shape
    assert found is not None
    held = [address(column, written=True) for column in (value, image, row, col)]
    found.insert(units, k, sign, *held, len(responses), address(responses), address(places), first, cols)


def moments(
    values: Float32[np.ndarray, "stimulus unit"], counted: Bool[np.ndarray, "stimulus unit"]
) -> tuple[Int64[np.ndarray, " unit"], Float64[np.ndarray, " unit"], Float64[np.ndarray, " unit"]]:
    """Number, mean and sum of squared deviations of the counted responses of each unit."""
    stimuli, units = values.shape
    n, mean, m2 = np.empty(units, np.int64), np.empty(units), np.empty(units)
    called("moments", units, stimuli, reads=(values, counted), writes=(n, mean, m2))
    return n, mean, m2


def tint(
    pictures: UInt8[Tensor, "stimulus color height width"], table: Float32[Tensor, "level color"], *, reverse: bool
) -> Float32[Tensor, "stimulus color height width"]:
    """Each pixel's entry in `table`; with `reverse` the colors in reverse order. Channels lie side by side."""
    found = library()
    assert found is not None
    pictures = pictures.contiguous(memory_format=torch.channels_last)
    given = torch.empty_like(pictures, dtype=torch.float32)
    colors, table = pictures.shape[1], table.contiguous()
    places = (pictures.data_ptr(), table.data_ptr(), given.data_ptr())
    found.tint(pictures.numel() // colors, colors, reverse, *places)
    return given


def shrink(
    pictures: UInt8[np.ndarray, "stimulus height width color"], box: Box, shape: Size
) -> UInt8[np.ndarray, "stimulus color row col"]:
    """A part of each picture at another size, by averaging areas (as adaptive pooling cuts them; halves are rounded
    up).
    """
    stimuli, height, width, colors = pictures.shape
    small = np.empty((stimuli, colors, *shape), dtype=np.uint8)
    found = library()
    if found is None:
        for i in range(0, stimuli, 16):
            small[i : i + 16] = shrunk(pictures[i : i + 16, box.top : box.bottom, box.left : box.right], shape)
    else:
        sizes = (stimuli, height, width, colors, box.top, box.left, box.bottom, box.right, *shape)
        found.shrink(address(pictures), *sizes, address(small, written=True))
    return small


def shrunk(
    part: UInt8[np.ndarray, "stimulus height width color"], shape: Size
) -> UInt8[np.ndarray, "stimulus color row col"]:
    """`shrink` without the compiled readout, by way of the sums of all upper left corners."""
    if part.shape[1:3] == shape:
        return part.transpose(0, 3, 1, 2)
    corners = np.zeros((len(part), part.shape[1] + 1, part.shape[2] + 1, part.shape[3]), dtype=np.int64)
    corners[:, 1:, 1:] = part.cumsum(1, dtype=np.int64).cumsum(2)
    (top, bottom), (left, right) = (
        (steps[:-1] * side // n, (steps[1:] * side + n - 1) // n)
        for side, n, steps in ((part.shape[axis], n, np.arange(n + 1)) for axis, n in zip((1, 2), shape, strict=True))
    )
    rows = corners[:, bottom] - corners[:, top]
    sums = rows[:, :, right] - rows[:, :, left]
    area = ((bottom - top)[:, None] * (right - left))[:, :, None]
    return ((2 * sums + area) // (2 * area)).astype(np.uint8).transpose(0, 3, 1, 2)
