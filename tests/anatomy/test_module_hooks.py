"""Hooks on a few modules see what hooks on all values see, or are not used."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.conftest import needs
from unitscope.anatomy.module_hooks import find_taps, hook_modules
from unitscope.anatomy.sites import sites as sites_of
from unitscope.anatomy.value_hooks import hook_values
from unitscope.errors import BadInput
from unitscope.networks import Network, load
from unitscope.recording.electrode import choose, place


class Reused(nn.Module):
    """One module called twice, and overwritten in place; a sum whose value is given to a module."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.turns = 2

    def forward(self, x: Tensor) -> Tensor:
        first = self.relu(self.conv(x))
        for _ in range(self.turns - 1):
            x = self.relu(self.conv(first) + x)
        return self.pool(x)


class Functions(nn.Module):
    """A site whose value no module is given or gives."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.nn.functional.relu(self.conv(x) * 2).mean((2, 3))


def network_of(module: nn.Module) -> Network:
    return Network(module.eval(), size=16, mean=(0.5,) * 3, std=(0.3,) * 3)


def heard_both_ways(network: Network, names: list[str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    x = torch.rand(2, 3, *network.size, generator=torch.Generator().manual_seed(0))
    tapped: dict[str, Tensor] = {}
    overheard: dict[str, Tensor] = {}
    with torch.no_grad():
        taps = find_taps(network.module, x[:1], dict.fromkeys(names))
        assert taps is not None
        with hook_modules(taps, lambda name, value: tapped.update({name: value.clone()})):
            network.module(x)
        with hook_values(network.module, lambda name, value: overheard.update({name: value.clone()})):
            network.module(x)
    return tapped, overheard


def check(network: Network, names: list[str]) -> None:
    tapped, overheard = heard_both_ways(network, names)
    assert list(tapped) == [name for name in overheard if name in names]
    for name, value in tapped.items():
        assert torch.equal(value, overheard[name]), name
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.module.modules())


def test_a_module_that_is_called_twice_is_two_sites():
    network = network_of(Reused())
    assert list(sites_of(network)) == ["conv", "relu", "conv_1", "add", "relu_1", "pool"]
    check(network, ["conv", "relu", "conv_1", "add", "relu_1", "pool"])


@pytest.mark.parametrize("name", ["resnet18", "plainnet34"])
def test_the_default_sites_of_our_networks(name):
    network = load(name, width=4, classes=3, size=64)
    check(network, list(choose(sites_of(network), None)))


@needs("torchvision")
@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v2"])
def test_the_default_sites_of_others(name):
    network = load(f"torchvision:{name}")
    check(network, list(choose(sites_of(network), None)))


def test_a_site_that_no_module_gives_is_overheard():
    network = network_of(Functions())
    assert place(network, sites_of(network)).taps is None
    seen = {}
    place(network, sites_of(network)).show(
        torch.rand(1, 3, 16, 16), lambda site, value: seen.update({site.name: value})
    )
    assert seen.keys() == sites_of(network).keys()


def test_a_network_that_takes_another_path_is_refused():
    module = Reused()
    network = network_of(module)
    electrodes = place(network, sites_of(network))
    assert electrodes.taps is not None
    module.turns = 3
    with pytest.raises(BadInput, match="path depends on pictures"), torch.no_grad():
        electrodes.show(torch.rand(1, 3, 16, 16), lambda site, value: None)
    module.turns = 1
    with pytest.raises(BadInput, match="did not pass"), torch.no_grad():
        electrodes.show(torch.rand(1, 3, 16, 16), lambda site, value: None)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
