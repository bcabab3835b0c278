"""Max-pooling by the compiled library: PyTorch's bits."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from unitscope.recording.fast.library import library
from unitscope.recording.fast.max_pool import max_pool, replace_max_pools

needs_library = pytest.mark.skipif(library() is None, reason="no C++ compiler, or UNITSCOPE_COMPILE=0")

last = torch.channels_last


@needs_library
@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    units=st.sampled_from([1, 3, 16, 21, 64, 83]),
    size=st.tuples(st.integers(7, 12), st.integers(7, 12)),
    side=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.sampled_from([1, 2, (3, 1)]),
    padding=st.booleans(),
    dilation=st.sampled_from([1, 2, (1, 3)]),
    ceil=st.booleans(),
    seed=st.integers(0, 9),
)
def test_it_gives_the_same_bits(units, size, side, stride, padding, dilation, ceil, seed):
    part = nn.MaxPool2d(side, stride, tuple(n // 2 for n in side) if padding else 0, dilation, ceil_mode=ceil)
    chance = torch.Generator().manual_seed(seed)
    x = torch.randn((3, units, *size), generator=chance).mul_(2).round_().contiguous(memory_format=last)
    odd = torch.rand(x.shape, generator=chance)
    for i, value in enumerate((torch.nan, torch.inf, -torch.inf, -0.0)):
        x[(odd > i / 50) & (odd < i / 50 + 0.01)] = value
    gives, expected = max_pool(part, x), part(x)
    assert gives.shape == expected.shape
    assert gives.is_contiguous(memory_format=last)
    assert torch.equal(gives.view(torch.int32), expected.view(torch.int32))


@needs_library
def test_only_plain_poolings_are_replaced_and_only_meanwhile():
    module = nn.Sequential(nn.MaxPool2d(2), nn.MaxPool2d(2, return_indices=True), nn.AvgPool2d(2))
    with replace_max_pools(module):
        assert ["forward" in vars(part) for part in module] == [True, False, False]
        x = torch.randn(2, 3, 8, 8)
        for other in (x, x.double().contiguous(memory_format=last), x[0]):  # what the readout does not take
            assert torch.equal(module[0](other), nn.MaxPool2d(2)(other))
        with pytest.raises(RuntimeError):
            module[0](torch.randn(2, 3, 0, 8).contiguous(memory_format=last))
    assert not any("forward" in vars(part) for part in module)
