"""Which kernels a record shows, and at which sites."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unitscope.anatomy.sites import sites
from unitscope.networks import Network
from unitscope.perturbation.units import parse_units
from unitscope.recording.manifest import first_kernels, kernel_sites, site_facts
from unitscope.recording.reading import read
from unitscope.synthesis.objectives import Objective, neuron, parse_objectives


class Numbered(nn.Module):
    """The site `conv` is the output of the module `conv_1`, which runs first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_1, self.conv, self.relu = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.conv_1(x)) + self.relu(self.conv(x))


class Masked(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.mask, self.bias)

    def __init__(self) -> None:
        super().__init__(3, 4, 3)
        self.register_buffer("mask", torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))


class Dynamic(nn.Conv2d):
    """A kernel that the picture makes is nobody's kernel."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * x.mean(), self.bias)


def network(module: nn.Module) -> Network:
    return Network(module, size=10, mean=[0.5] * 3, std=[0.25] * 3)


def shown(module: nn.Module) -> tuple[dict | None, np.ndarray | None]:
    own = network(module)
    everything = sites(own)
    kernels = kernel_sites(own, everything, everything)
    return kernels, first_kernels(own, kernels)


def test_the_kernels_are_those_of_the_operation_not_of_a_module_of_that_name():
    module = Numbered()
    kernels, weight = shown(module)
    assert kernels == {"site": "conv", "sites": ["conv", "relu"]}
    np.testing.assert_array_equal(weight, module.conv_1.weight.detach().numpy())
    found = sites(network(module))
    assert [found[name].module for name in ("conv", "conv_1", "add")] == ["conv_1", "conv", ""]
    assert site_facts(found["conv"], 0)["module"] == "conv_1"


def test_masks_and_parametrizations_count():
    masked = Masked()
    np.testing.assert_array_equal(shown(masked)[1], (masked.weight * masked.mask).detach().numpy())
    bound = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))
    bound.parametrizations.weight.original0.data *= 3
    np.testing.assert_array_equal(shown(nn.Sequential(bound))[1], bound.weight.detach().numpy())


def test_a_kernel_that_the_picture_makes_is_none():
    assert shown(nn.Sequential(Dynamic(3, 4, 3))) == (None, None)


def test_what_runs_behind_the_first_convolution_but_reads_the_picture_shares_no_kernel():
    class Aside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.pool = nn.Conv2d(3, 3, 3, padding=1), nn.MaxPool2d(3, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return y + self.pool(x)

    kernels, _ = shown(Aside())
    assert kernels == {"site": "conv", "sites": ["conv"]}


@pytest.mark.parametrize("channels", [1, 3])
def test_a_first_convolution_of_other_channels_has_no_kernels_in_the_picture(channels: int):
    class Gray(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(channels, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x.mean(1, keepdim=True) if channels == 1 else x)

    assert (shown(Gray())[0] is None) == (channels == 1)


NAMES = ["block[1]", "a:b", "x@2,3", "what?", "st*r", "two words", "x + y", "a:7"]


class Named(nn.Module):
    """Convolutions of names that mean something in patterns and units."""

    def __init__(self) -> None:
        super().__init__()
        for name in NAMES:
            self.add_module(name, nn.Conv2d(3, 3, 3))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.relu(getattr(self, name)(x)) for name in NAMES], 1)


def test_a_site_of_any_name_is_found_by_it():
    own = network(Named())
    found = sites(own)
    pictures = torch.rand(2, 3, 10, 10)
    for name in NAMES:
        assert list(read(own, pictures, name)) == [name]
        assert parse_units([f"{name}:0-1"], found) == {name: [0, 1]}
        (asked,) = parse_objectives(f"{name}:1@2,3", found)
        assert str(asked) == f"{name}:1@2,3"
        both = asked - 0.5 * neuron(f"{name}:2")
        assert Objective.parse(str(both)) == both
    assert list(read(own, pictures, "block[1]*")) == ["block[1]"]
    assert [str(one) for one in parse_objectives("a:*:2", found)] == ["a:b:2", "a:7:2"]
