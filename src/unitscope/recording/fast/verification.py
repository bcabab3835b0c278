"""A short test of a compiled readout before it is used: each function is called once or twice, and compared with numpy.

The numbers are small integers, of which float32 takes sums exactly in any order, so that each function can be written
down by its definition; all are held to the bit. A library that was compiled wrong, or is another one than it says, is
found out here. That the readout gives the bits of PyTorch on real responses, too, is for the tests.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import numpy as np

from unitscope.recording.fast.signatures import SiteRows, address

UNITS, STIMULI, ROWS, COLS = 37, 5, 15, 20
"""More units than the widest register has lanes, with some left over, and more positions than are summed together."""

LARGEST = 9_223_372_036_854_774_784
"""The largest 64-bit integer that float64 holds."""


def find_fault(found: ctypes.CDLL) -> str:
    """The first function that gives a wrong number; "" where all are right."""
    return next((check.__name__.removeprefix("check_") for check in CHECKS if not check(found)), "")


def check_read_maps(found: ctypes.CDLL) -> bool:
    maps, readable = integers((STIMULI, UNITS, ROWS * COLS), 1), np.array([1, 1, 0, 1, 1], np.uint8)
    scale, shift = (integers((UNITS,), seed).astype(np.float32) for seed in (2, 3))
    normalized = maps * scale[:, None] + shift[:, None]
    return all(
        reads_maps(found, *case, readable, last)
        for case, last in [
            ((maps, None, None), False),
            ((maps, None, None), True),
            ((normalized, maps, (scale, shift)), True),
        ]
    )


def reads_maps(
    found: ctypes.CDLL,
    maps: np.ndarray,
    given: np.ndarray | None,
    norm: tuple[np.ndarray, np.ndarray] | None,
    readable: np.ndarray,
    last: bool,
) -> bool:
    """Whether responses [stimulus unit position] are read, and clipped to 0..6, as the definitions say.

    `norm` is what makes them of what is `given`; `last`: channels lie side by side in memory.
    """

    def in_memory(values: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(values.swapaxes(-1, -2) if last else values)

    x = in_memory(maps if given is None else given)
    lines = {name: np.zeros((STIMULI, UNITS), np.float32) for name in ("peak", "trough", "mean", "above")}
    lines |= {name: np.zeros((STIMULI, UNITS), np.uint8) for name in ("centered", "counted")}
    lines |= {name: np.zeros((STIMULI, UNITS), np.int32) for name in ("highest", "lowest")}
    sums = np.zeros((2, *x.shape[1:]), np.float32)
    best = [np.full((UNITS, 1), -np.inf, np.float32) for _ in range(4)]
    scratch = np.empty(6 * STIMULI * UNITS * 2, np.float32)
    out = SiteRows(units=UNITS, positions=ROWS * COLS, center=7, k=1, renewed=1)
    for name, line in (lines | {"map": sums, "scratch": scratch}).items():
        setattr(out, name, address(line))
    for pole in range(2):
        out.floors[pole], out.bars[pole] = address(best[pole]), address(best[2 + pole])
    rectified = np.empty_like(x)
    normal = (None, None) if norm is None else (address(norm[0]), address(norm[1]))
    place = ctypes.addressof(out)
    found.read_maps(place, address(x), 0, STIMULI, last, address(readable), address(rectified), 0.0, 6.0, *normal)
    seen = readable.astype(bool)
    expected = {
        "peak": maps.max(2), "trough": maps.min(2), "mean": maps.sum(2) / np.float32(ROWS * COLS),
        "above": (maps > 0).sum(2), "centered": maps[:, :, 7] > 0, "counted": np.ones((STIMULI, UNITS)),
        "highest": renewing(maps, seen), "lowest": renewing(-maps, seen),
    }  # fmt: skip
    # Each half of a batch has a sum of its own.
    half = (STIMULI + 1) // 2
    halves = [(maps * readable[:, None, None])[part].sum(0) for part in (slice(half), slice(half, None))]
    clipped = in_memory(maps.clip(0, 6))
    return (
        all(np.array_equal(lines[name][seen], value[seen]) for name, value in expected.items())
        and not lines["counted"][~seen].any()
        and np.array_equal(sums, in_memory(np.stack(halves)))
        and np.array_equal(rectified, clipped)
    )


def renewing(maps: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Where each peak lies that is higher than those of all stimuli before; else -1."""
    peaks = np.where(seen[:, None], maps.max(2), -np.inf)
    before = np.maximum.accumulate(np.concatenate([np.full((1, peaks.shape[1]), -np.inf), peaks[:-1]]))
    return np.where(peaks > before, maps.argmax(2), -1)


def check_normalize(found: ctypes.CDLL) -> bool:
    x, scale, shift = integers((20, UNITS), 4), integers((UNITS,), 5), integers((UNITS,), 6)
    y = np.empty_like(x)
    found.normalize(*x.shape, *map(address, (x, scale, shift, y)))
    return np.array_equal(y, x * scale + shift)


def check_pool(found: ctypes.CDLL) -> bool:
    x, pooled = integers((2, 9, 8, UNITS), 7), np.empty((2, 5, 4, UNITS), np.float32)
    pairs = [(ctypes.c_long * 2)(*pair) for pair in ((3, 3), (2, 2), (1, 1), (1, 1))]
    found.pool(address(x), 2, 9, 8, UNITS, 5, 4, *pairs, address(pooled))
    # -inf, not 0, beyond the edge: no maximum may come from there.
    framed = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    windows = [framed[:, row : row + 9 : 2, col : col + 7 : 2] for row in range(3) for col in range(3)]
    return np.array_equal(pooled, np.max(windows, 0))


def check_tint(found: ctypes.CDLL) -> bool:
    levels, table = np.arange(768, dtype=np.uint8).reshape(256, 3), integers((256, 3), 8)
    ways = []
    for reverse in (False, True):
        given = np.empty((256, 3), np.float32)
        found.tint(256, 3, reverse, *map(address, (levels, table, given)))
        ways.append(np.array_equal(given, table[levels[:, ::-1] if reverse else levels, range(3)]))
    return all(ways)


def check_insert(found: ctypes.CDLL) -> bool:
    responses, place = integers((STIMULI, UNITS), 9), np.arange(STIMULI * UNITS, dtype=np.int32).reshape(STIMULI, -1)
    ways = []
    for sign in (1, -1):
        value, image = np.full((UNITS, 3), -sign * np.inf, np.float32), np.full((UNITS, 3), -1, np.int64)
        row, col = np.full((UNITS, 3), -1, np.int32), np.full((UNITS, 3), -1, np.int32)
        held: list[np.ndarray] = [value, image, row, col]
        found.insert(UNITS, 3, sign, *map(address, held), STIMULI, address(responses), address(place), 100, COLS)
        best = np.argsort(-sign * responses, axis=0, kind="stable")[:3]
        where = np.take_along_axis(place, best, 0)
        expected: list[np.ndarray] = [np.take_along_axis(responses, best, 0), 100 + best, where // COLS, where % COLS]
        ways += [np.array_equal(a, np.transpose(b)) for a, b in zip(held, expected, strict=True)]
    return all(ways)


def check_moments(found: ctypes.CDLL) -> bool:
    values, counted = integers((8, UNITS), 10), np.ones((8, UNITS), np.uint8)
    n, mean, m2 = np.empty(UNITS, np.int64), np.empty(UNITS), np.empty(UNITS)
    found.moments(UNITS, 8, *map(address, (values, counted, n, mean, m2)))
    return (n == 8).all() and np.array_equal(mean, values.mean(0, np.float64)) and np.array_equal(m2, spread(values))


def spread(values: np.ndarray) -> np.ndarray:
    """Sums of squared deviations of eight integers, which float64 holds exactly."""
    return np.square(values - values.mean(0, np.float64)).sum(0)


def check_histogram(found: ctypes.CDLL) -> bool:
    values, counted = 1.5 * integers((STIMULI, UNITS), 11), chosen((STIMULI, UNITS), 12)
    count = np.zeros((UNITS, 131), np.int64)
    found.histogram(UNITS, STIMULI, *map(address, (values, counted, count)))
    powers = (2.0 ** (np.arange(-32, 33) / 2)).astype(np.float32)
    bins = np.searchsorted(np.concatenate([-powers[::-1], powers]), values, side="right")
    expected = np.zeros_like(count)
    np.add.at(expected, (np.arange(UNITS), bins), counted)
    return np.array_equal(count, expected)


def check_labels(found: ctypes.CDLL) -> bool:
    peak, trough, counted = integers((STIMULI, UNITS), 13), integers((STIMULI, UNITS), 14), chosen((STIMULI, UNITS), 15)
    label = np.array([0, 1, -1, 1, 0])
    sums = [np.zeros((2, UNITS), np.int64) for _ in range(3)]
    positive = np.zeros((2, UNITS), np.int32)
    found.labels(UNITS, STIMULI, *map(address, (peak, trough, counted, label, *sums, positive)))
    kept: list[np.ndarray] = [*sums, positive]
    for values, scale, found_sums in zip(
        (peak, trough, peak.clip(0), peak > 0), (2**24,) * 3 + (1,), kept, strict=True
    ):
        whole = values.astype(np.int64) * scale * counted
        if not np.array_equal(found_sums, [whole[label == i].sum(0) for i in range(2)]):
            return False
    return True


def check_counts(found: ctypes.CDLL) -> bool:
    peak, trough, above = (integers((STIMULI, UNITS), seed) for seed in (16, 17, 18))
    above, counted = abs(above), chosen((STIMULI, UNITS), 19)
    sums = [np.zeros(UNITS, np.int64) for _ in range(3)]
    highest, lowest = np.full(UNITS, -np.inf, np.float32), np.full(UNITS, np.inf, np.float32)
    found.counts(UNITS, STIMULI, *map(address, (peak, trough, above, counted, *sums, highest, lowest)))
    seen = counted.astype(bool)
    expected: list[np.ndarray] = [seen.sum(0), ((peak > 0) & seen).sum(0), (above * seen).sum(0)]
    return (
        all(np.array_equal(a, b) for a, b in zip(sums, expected, strict=True))
        and np.array_equal(highest, np.where(seen, peak, -np.inf).max(0))
        and np.array_equal(lowest, np.where(seen, trough, np.inf).min(0))
    )


def check_add_map(found: ctypes.CDLL) -> bool:
    sums = integers((UNITS, 70), 20)
    sums[3, :4] = np.nan, np.inf, 3e38, -3e38
    expected = (np.where(np.isfinite(sums), sums, 0).clip(-1e6, 1e6) * (1 << 24)).astype(np.int64)
    # 3e38 and -3e38 become the nearest numbers that 64 bits hold.
    expected[3, 2:4] = LARGEST, -(2**63)
    ways = []
    for last, in_memory in ((False, sums), (True, np.ascontiguousarray(sums.T))):
        total = np.zeros((UNITS, 70), np.int64)
        found.add_map(UNITS, 70, last, address(in_memory), address(total))
        ways.append(np.array_equal(total, expected))
    return all(ways)


def check_add_pixels(found: ctypes.CDLL) -> bool:
    less, n = integers((UNITS, 30), 21).astype(np.int32), np.arange(UNITS, dtype=np.int32)
    total = np.ones((UNITS, 30), np.int32)
    found.add_pixels(UNITS, 30, *map(address, (less, n, total)))
    return np.array_equal(total, 1 + less + 128 * n[:, None])


def check_shrink(found: ctypes.CDLL) -> bool:
    pictures = (np.arange(2 * 14 * 16 * 3) * 37 % 251).astype(np.uint8).reshape(2, 14, 16, 3)
    small = np.empty((2, 3, 4, 5), np.uint8)
    found.shrink(address(pictures), 2, 14, 16, 3, 1, 1, 13, 16, 4, 5, address(small))
    areas = pictures[:, 1:13, 1:16].reshape(2, 4, 3, 5, 3, 3).sum((2, 4), dtype=np.int64)
    # Areas of 3 x 3 pixels: the rounded mean in integers.
    return np.array_equal(small, ((2 * areas + 9) // 18).transpose(0, 3, 1, 2))


CHECKS: tuple[Callable[[ctypes.CDLL], bool], ...] = (
    check_read_maps, check_normalize, check_pool, check_tint, check_insert, check_moments, check_histogram,
    check_labels, check_counts, check_add_map, check_add_pixels, check_shrink,
)  # fmt: skip
"""In the order of signatures.FUNCTIONS."""


def integers(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Whole numbers from -16 to 16 as float32; no zero below zero."""
    return np.random.default_rng(seed).integers(-16, 17, shape).astype(np.float32)


def chosen(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Truths, most of them true, as bytes."""
    return (np.random.default_rng(seed).random(shape) < 0.8).astype(np.uint8)
