"""Aligned crops: the center neuron answers on them as it does on the whole picture."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from unitscope.anatomy.sites import sites
from unitscope.networks import Network, load
from unitscope.recording.aligned_crops import Crop, aligned_crop, center_responses, crop_agrees, plan_crop
from unitscope.recording.tuning_responses import groups_of
from unitscope.vocabulary import Box


@pytest.fixture(scope="module")
def network() -> Network:
    return load("resnet18", width=4, classes=2, size=96, seed=3)


@pytest.mark.parametrize("name", ["conv1", "maxpool", "layer1.1.add", "layer2.0.add"])
def test_the_center_neuron_answers_on_the_crop_as_on_the_whole(network: Network, name: str) -> None:
    site = sites(network)[name]
    box = site.box(*site.center).clip(network.size)
    crop = aligned_crop(network, {name: site}, box)
    assert crop.size[0] < 96
    pictures = torch.rand(3, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    part = pictures[:, :, crop.top : crop.top + crop.size[0], crop.left : crop.left + crop.size[1]]
    whole = network_responses(network, pictures, name)[:, :, site.center[0], site.center[1]]
    assert torch.allclose(center_responses(network, part, {name: site}, crop)[name], whole, atol=1e-4)


def network_responses(network: Network, pictures: torch.Tensor, name: str) -> torch.Tensor:
    from unitscope.recording.reading import read

    return read(network, pictures, name)[name]


def test_a_crop_that_is_not_aligned_is_found_out(network: Network) -> None:
    """The naive crop of the field through the padded network is wrong (methods 1.6)."""
    site = sites(network)["layer1.1.add"]
    box = site.box(*site.center)
    crop = plan_crop(network.size, {site.name: site}, box)
    whole = aligned_crop(network, {site.name: site}, box.shift(0, 0)._replace(top=0, left=0, bottom=96, right=96))
    assert crop is not None
    shifted = type(crop)(crop.top + 1, crop.left + 1, crop.size, crop.centers)
    assert crop_agrees(network, {site.name: site}, crop, whole)
    assert not crop_agrees(network, {site.name: site}, shifted, whole)


def test_the_center_of_a_box_is_counted_from_the_crops_corner() -> None:
    assert Crop(4, 16, (8, 16), {}).within(Box(6, 20, 9, 27)) == (3, 7)


def test_a_network_that_sees_the_whole_picture_is_shown_the_whole() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x) * x.mean((1, 2, 3), keepdim=True)

    network = Network(Gated(), size=24, mean=(0, 0, 0), std=(1, 1, 1))
    found = sites(network)
    name = list(found)[-1]
    crop = aligned_crop(network, {name: found[name]}, found[name].box(12, 12))
    assert crop.size == (24, 24)


def test_units_of_sites_that_see_the_same_share_their_stimuli(network: Network) -> None:
    found = sites(network)
    groups, refused = groups_of({name: found[name] for name in ("conv1", "bn1", "relu", "maxpool")})
    assert [list(group.channels) for group in groups] == [["conv1", "bn1", "relu"], ["maxpool"]]
    assert not refused


def test_what_is_smaller_than_a_cycle_is_refused() -> None:
    network = Network(nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU()), size=16, mean=(0, 0, 0), std=(1, 1, 1))
    groups, refused = groups_of(sites(network))
    assert not groups
    assert "less than a cycle" in refused["0"]
