"""Effective fields: the closed form for stacked uniform convolutions, and nothing outside the receptive field."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from unitscope.anatomy.effective_fields import effective_field
from unitscope.anatomy.sites import sites
from unitscope.errors import BadInput, UnknownName
from unitscope.networks import load


def uniform(depth: int) -> SimpleNamespace:
    module = nn.Sequential(*(nn.Conv2d(1, 1, 3, padding=1, bias=False) for _ in range(depth)))
    for part in module:
        nn.init.constant_(part.weight, 1 / 9)
    return SimpleNamespace(module=module.eval(), size=(61, 61), inputs=1)


@pytest.mark.parametrize(("depth", "deviation"), [(5, 1.826), (10, 2.582), (20, 3.651)])
def test_stacked_uniform_convolutions_spread_as_the_root_of_their_number(depth: int, deviation: float):
    """luo2016: sqrt(2 n / 3) for n convolutions of 3 x 3 (methods 1.7, check 8)."""
    network = uniform(depth)
    site = str(depth - 1)
    field = effective_field(network, torch.zeros(1, 1, 61, 61), sites=sites(network), site=site, channels=[0])
    rows = field.energy[0].sum(1) / field.energy[0].sum()
    assert field.center(0) == (30, 30)
    assert np.sqrt(((np.arange(61) - 30) ** 2 * rows).sum()) == pytest.approx(deviation, abs=2e-3)
    assert field.side(0.5)[0] < field.side(0.9)[0] < field.side(0.99)[0] <= 2 * depth + 1
    assert field.side(1)[0] <= 2 * depth + 1


def test_many_units_at_once_equal_each_alone_and_stay_in_their_field():
    network = load("resnet18", width=4, size=64, seed=0)
    found = sites(network)
    pictures = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    both = effective_field(network, pictures, sites=found, site="layer1.0.add", channels=[0, 3])
    alone = effective_field(network, pictures, sites=found, site="layer1.0.add", channels=[3])
    np.testing.assert_allclose(both.energy[1], alone.energy[0], rtol=1e-4, atol=1e-8)
    box = found["layer1.0.add"].box(8, 8).clip((64, 64))
    outside = both.energy[0].copy()
    outside[box.top : box.bottom, box.left : box.right] = 0
    assert outside.sum() == 0
    assert both.energy[0].sum() > 0
    assert all(parameter.grad is None for parameter in network.module.parameters())


def test_stories():
    network = uniform(2)
    found = sites(network)
    with pytest.raises(UnknownName, match="has no site '7'"):
        effective_field(network, torch.zeros(1, 1, 61, 61), sites=found, site="7", channels=[0])
    with pytest.raises(BadInput, match="1 has no channel 3"):
        effective_field(network, torch.zeros(1, 1, 61, 61), sites=found, site="1", channels=[3])
    with pytest.raises(BadInput, match="none were given"):
        effective_field(network, torch.zeros(1, 1, 61, 61), sites=found, site="1", channels=[])
