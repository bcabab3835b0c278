"""Batch normalization by the compiled library: PyTorch's bits, or nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unitscope.networks import Network
from unitscope.recording.batches import prepare_pictures
from unitscope.recording.fast.batch_norm import ScaleAndShift
from unitscope.recording.fast.fused_ops import Rectifier
from unitscope.recording.fast.library import library
from unitscope.recording.fast.reader import FastAccumulator

pytestmark = pytest.mark.skipif(library() is None, reason="no C++ compiler, or UNITSCOPE_COMPILE=0")


def norm_of(units: int, *, affine: bool = True) -> nn.BatchNorm2d:
    chance = torch.Generator().manual_seed(units)
    norm = nn.BatchNorm2d(units, affine=affine).eval()
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.normal_(generator=chance)
    norm.running_var.uniform_(1e-6, 3, generator=chance)
    if affine:
        norm.weight.data.normal_(generator=chance)
        norm.bias.data.normal_(generator=chance)
    return norm


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("units", [2, 5, 24, 37, 64, 150])
@pytest.mark.parametrize("inplace", [True, False])
def test_it_is_done_to_the_bit_while_reading(units, affine, inplace):
    norm = norm_of(units, affine=affine)
    given = torch.randn((5, units, 19, 17), generator=torch.Generator().manual_seed(1)).mul_(3)
    given = given.contiguous(memory_format=torch.channels_last)
    given[0, :, 3, 3] = torch.inf
    readable = torch.tensor([True, True, False, True, True])
    floors = {sign: np.full((units, 3), -np.inf, dtype=np.float32) for sign in (1, -1)}
    with torch.no_grad():
        plain, fused = (FastAccumulator(units, (19, 17), (9, 8), size=5) for _ in range(2))
        for accumulator in (plain, fused):
            accumulator.begin(floors)
        expected = norm(given)
        plain.add(expected, torch.arange(5), readable)
        kept = given.clone()
        gives = fused.add_fused(given, torch.arange(5), readable, Rectifier(0, 6, inplace, norm))
    if ScaleAndShift.of(norm) is None:
        pytest.skip("this build of PyTorch does not normalize with one rounding")
    assert gives is not None
    assert (gives is given) is inplace
    assert inplace or torch.equal(given, kept)
    assert torch.equal(gives, nn.functional.relu6(expected))
    blocks = [one.finish(0, readable.numpy(), np.full(5, -1), {}) for one in (plain, fused)]
    for name in ("peak", "trough", "mean", "positive_positions", "center", "counted", "response_sum"):
        np.testing.assert_array_equal(*(getattr(block, name) for block in blocks), err_msg=name)
    for sign in (1, -1):
        np.testing.assert_array_equal(*(block.positions[sign] for block in blocks if block.positions is not None))


def test_what_normalizes_otherwise_is_left_to_the_module(monkeypatch: pytest.MonkeyPatch):
    norm = norm_of(7)
    own = nn.BatchNorm2d.forward

    def a_little_more(self: nn.BatchNorm2d, x: Tensor) -> Tensor:
        return own(self, x) * (1 + 2**-23)

    monkeypatch.setattr(nn.BatchNorm2d, "forward", a_little_more)
    assert ScaleAndShift.of(norm) is None
    given = torch.randn(2, 7, 5, 5).contiguous(memory_format=torch.channels_last)
    accumulator = FastAccumulator(7, (5, 5), (2, 2), size=2)
    accumulator.begin({sign: np.zeros((7, 1), dtype=np.float32) for sign in (1, -1)})
    kind = Rectifier(0, 6, inplace=True, norm=norm)
    assert accumulator.add_fused(given, torch.arange(2), torch.ones(2, dtype=torch.bool), kind) is None
    assert accumulator.count == 0
    assert ScaleAndShift.of(norm_of(3).double()) is None


@pytest.mark.parametrize(("order", "colors"), [("RGB", 3), ("BGR", 3), ("", 3), ("", 1)])
def test_pictures_are_given_to_the_network_as_by_preparing_each_pixel(order, colors):
    network = Network(
        nn.Conv2d(colors, 2, 3), size=(9, 7), mean=(0.485, 0.456, 0.406)[:colors], std=(0.229, 0.224, 0.225)[:colors],
        order=order,
    )  # fmt: skip
    chance = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (4, 9, 7, colors), dtype=torch.uint8, generator=chance).permute(0, 3, 1, 2)
    expected = network.prepare(pictures.float().div(255)).contiguous(memory_format=torch.channels_last)
    given = prepare_pictures(network, pictures, memory_format=torch.channels_last)
    assert torch.equal(given, expected)
    assert given.is_contiguous(memory_format=torch.channels_last)
