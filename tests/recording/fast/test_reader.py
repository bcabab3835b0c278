"""The fast path gives the bits of the plain path."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.recording.pictures import write_many
from tests.recording.test_survey import contents
from unitscope.anatomy.sites import sites as sites_of
from unitscope.networks import Network, load
from unitscope.recording.batches import ImageStatus
from unitscope.recording.fast.fused_ops import Rectifier
from unitscope.recording.fast.library import library
from unitscope.recording.fast.reader import FastAccumulator
from unitscope.recording.field_windows import shrink
from unitscope.recording.session import Session
from unitscope.recording.site_state import Settings
from unitscope.recording.survey import survey
from unitscope.vocabulary import Box

needs_library = pytest.mark.skipif(library() is None, reason="no C++ compiler, or UNITSCOPE_COMPILE=0")

MANY = ["bn1", "maxpool", "layer2.0.bn2"]


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """With other variables, and what they say of the readout."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        library.cache_clear()
        yield
    library.cache_clear()


def session_over(responses: np.ndarray, kept: Settings, *, last: bool) -> Session:
    """A session that heard three blocks of responses [stimulus unit row col], batch after batch."""
    units, *lattice = responses.shape[1:]
    network = Network(torch.nn.Conv2d(3, units, 1), size=tuple(lattice), mean=(0, 0, 0), std=(1, 1, 1))
    session = Session.begin(sites_of(network), kept)
    [name] = session.sites
    rng = np.random.default_rng(1)
    pictures = torch.from_numpy(rng.integers(0, 256, (len(responses), 3, *lattice), dtype=np.uint8))
    readable = torch.from_numpy(rng.random(len(responses)) < 0.9)
    labels = rng.integers(-1, len(kept.labels), len(responses))
    maps = torch.from_numpy(responses).contiguous(
        memory_format=torch.channels_last if last else torch.contiguous_format
    )
    accumulators = None
    for block in np.array_split(np.arange(len(responses)), 3):
        accumulators = session.begin_block(torch.device("cpu"), accumulators)
        assert isinstance(accumulators[name], FastAccumulator) is (library() is not None)
        for part in np.array_split(block, 2):
            if len(part):
                accumulators[name].add(maps[part], torch.from_numpy(part), readable[part], pictures[part])
        statuses = [ImageStatus("", 0, "")] * len(block)
        session.take(accumulators, [session.cut(pictures[block])], readable[block].numpy(), labels[block], statuses)
    return session


def awkward(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Responses with ties, zeros of both signs, huge and tiny ones, and some that are not finite."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape).astype(np.float32)
    values *= np.float32(10.0) ** rng.integers(-6, 5, (1, shape[1], 1, 1)).astype(np.float32)
    values[:, ::3] = np.round(values[:, ::3])
    if seed % 2:
        for odd in (np.nan, np.inf, -np.inf):
            values[rng.random(shape) < 0.3 / values[0].size] = odd
    return values


@needs_library
@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 99),
    units=st.integers(1, 37),
    lattice=st.sampled_from([(1, 1), (1, 3), (2, 4), (3, 3), (7, 7), (13, 12), (16, 16), (17, 16), (27, 27), (40, 33)]),
    top=st.sampled_from([1, 4, 80]),
    last=st.booleans(),
)
def test_a_session_is_the_same_to_the_bit_with_and_without_it(seed, units, lattice, top, last):
    responses = awkward(seed, (17, units, *lattice))
    kept = Settings(top, 1, ("a", "b"), 3, ("all",) if seed % 3 == 0 else (), responses=True)
    quick = session_over(responses, kept, last=last).arrays()
    with environment(UNITSCOPE_COMPILE="0"):
        plain = session_over(responses, kept, last=last).arrays()
    assert quick.keys() == plain.keys()
    for name, array in quick.items():
        assert (array.dtype, array.shape) == (plain[name].dtype, plain[name].shape), name
        assert np.ascontiguousarray(array).tobytes() == np.ascontiguousarray(plain[name]).tobytes(), name


@needs_library
@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 99),
    units=st.sampled_from([1, 5, 12, 24, 37, 64, 150]),
    lattice=st.sampled_from([(1, 1), (3, 3), (7, 7), (17, 16), (33, 33)]),
    module=st.sampled_from([nn.ReLU, nn.ReLU6, nn.Hardtanh]),
    inplace=st.booleans(),
    last=st.booleans(),
)
def test_a_rectifiers_work_is_done_to_the_bit_while_reading(seed, units, lattice, module, inplace, last):
    kind = torch.channels_last if last else torch.contiguous_format
    maps = torch.from_numpy(awkward(seed, (5, units, *lattice))).contiguous(memory_format=kind)
    readable = torch.tensor([True, True, False, True, True])
    floors = {sign: np.full((units, 3), -np.inf, dtype=np.float32) for sign in (1, -1)}
    blocks = []
    for rectifier in (None, Rectifier.of(module(inplace=inplace))):
        own = maps.clone(memory_format=torch.preserve_format)
        accumulator = FastAccumulator(units, lattice, (0, 0), size=5)
        accumulator.begin(floors)
        if rectifier is None:
            accumulator.add(own, torch.arange(5), readable)
        else:
            gives = accumulator.add_fused(own, torch.arange(5), readable, rectifier)
        blocks.append(accumulator.finish(0, readable.numpy(), np.full(5, -1), {}))
        if rectifier is None:
            continue
        assert gives is not None
        assert gives.stride() == own.stride()
        assert (gives.data_ptr() == own.data_ptr()) is inplace
        expected = module()(maps)
        assert np.array_equal(gives.view(torch.int32).numpy(), expected.view(torch.int32).numpy())
        if not inplace:
            assert torch.equal(own.view(torch.int32), maps.view(torch.int32))
    for name in ("peak", "trough", "mean", "positive_positions", "center", "counted", "response_sum"):
        np.testing.assert_array_equal(*(getattr(block, name) for block in blocks))
    for sign in (1, -1):
        np.testing.assert_array_equal(*(block.positions[sign] for block in blocks))


@needs_library
def test_means_over_positions_are_taken_before_anything_is_rectified(tmp_path):
    (tmp_path / "images").mkdir()
    images = write_many(tmp_path / "images", 20)
    network = load("resnet18", width=4, classes=2, size=48, seed=1)
    for name, means in (("few", []), ("more", ["all"])):
        survey(network, images, to=tmp_path / name, sites=["bn1", "maxpool"], means=means)
    few, more = (contents(tmp_path / name) for name in ("few", "more"))
    assert few["units.parquet"] == more["units.parquet"]


@needs_library
@pytest.mark.parametrize(
    "further",
    [{"top": 5}, {"top": 100, "sites": MANY, "means": ["best", "full", "halves"], "responses": True}],
)
def test_a_record_is_the_same_to_the_byte_with_and_without_it(further, tmp_path):
    (tmp_path / "images").mkdir()
    images = write_many(tmp_path / "images", 270)
    (images / "0100.png").write_text("not a picture")
    network = load("resnet18", width=4, classes=2, size=48, seed=1)
    survey(network, images, to=tmp_path / "quick", **further)
    with environment(UNITSCOPE_COMPILE="0"):
        survey(network, images, to=tmp_path / "plain", **further)
    assert contents(tmp_path / "quick") == contents(tmp_path / "plain")


@needs_library
@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    sides=st.tuples(st.integers(33, 90), st.integers(33, 90)), small=st.tuples(st.integers(1, 32), st.integers(1, 32))
)
def test_pictures_are_made_smaller_to_the_same_bytes(sides, small):
    pictures = np.random.default_rng(sides).integers(0, 256, (3, *sides, 3), dtype=np.uint8)
    box = Box(1, 0, sides[0], sides[1] - 1)
    quick = shrink(pictures, box, small)
    with environment(UNITSCOPE_COMPILE="0"):
        np.testing.assert_array_equal(quick, shrink(pictures, box, small))


@pytest.mark.skipif(sys.platform != "linux", reason="is compiled on Linux only")
def test_without_a_compiler_it_is_told_once(caplog):
    with environment(CXX="there-is-no-such-compiler", UNITSCOPE_COMPILE="1"), caplog.at_level(logging.WARNING):
        assert library() is None
        assert library() is None
    assert [entry.getMessage() for entry in caplog.records] == [
        "There is no C++ compiler: responses are read by PyTorch, with the same results, which takes longer."
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="is compiled on Linux only")
def test_a_compiler_that_fails_is_told_and_done_without(tmp_path, caplog):
    broken = tmp_path / "c++"
    broken.write_text("#!/bin/sh\necho 'no such header' >&2\nexit 1\n")
    broken.chmod(0o755)
    with environment(CXX=str(broken), UNITSCOPE_COMPILE="1"), caplog.at_level(logging.WARNING):
        assert library() is None
    assert "could not be compiled (no such header)" in caplog.text


@needs_library
def test_processes_that_compile_at_once_do_not_disturb_each_other(tmp_path):
    code = (
        "from unitscope.recording.fast import compilation, library;"
        "compilation.FLAGS = ('-O0', '-std=c++17', '-fPIC', '-Wno-psabi');"
        "assert library.library() is not None"
    )
    environ = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": "src"}
    several = [subprocess.Popen([sys.executable, "-c", code], env=environ) for _ in range(2)]
    assert [one.wait(timeout=120) for one in several] == [0, 0]
    assert len(list((tmp_path / "unitscope").iterdir())) == 1
