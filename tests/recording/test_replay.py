"""A replay gives the very bits of a full forward pass, on networks of all kinds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.conftest import needs
from unitscope.anatomy.sites import sites
from unitscope.errors import BadInput
from unitscope.networks import Network, load
from unitscope.recording.electrode import inject
from unitscope.recording.replay import record_replay


def network_of(module: nn.Module, size: int = 24) -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=0.3)
    return Network(module, size=size, mean=(0.5,) * 3, std=(0.3,) * 3)


def pictures(network: Network, count: int = 3) -> Tensor:
    return torch.rand(count, 3, *network.size, generator=torch.Generator().manual_seed(5))


def add_noise(responses: Tensor) -> None:
    noise = torch.randn(responses[:, 1:3].shape, generator=torch.Generator().manual_seed(7))
    responses[:, 1:3] += noise.clamp(min=0)


def check(network: Network, name: str) -> None:
    site, shown = sites(network)[name], pictures(network)
    replay = record_replay(network, network.prepare(shown), site)
    with torch.no_grad():
        intact = network(shown)
        with inject(network, site, add_noise):
            disturbed = network(shown)
    assert torch.equal(replay.logits, intact)
    assert not torch.equal(disturbed, intact)
    for _ in range(2):  # a run leaves the replay as it was
        assert torch.equal(replay.run(add_noise), disturbed)
        assert torch.equal(replay.run(lambda responses: None), intact)
    assert torch.equal(network(shown), intact)


class Overwriting(nn.Module):
    """Everything that a replay may stumble over: memory that is written to before, at and after the site, by those who
    depend on it and by those who do not; views, slices, and constants that change after they were read.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 6, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        early = self.first(x)  # does not depend on the site
        late = self.second(early)  # the site
        early *= 2  # written to between
        out = early + late
        early -= 1  # after it was read by what depends
        buffer = torch.zeros_like(early)
        buffer[:, 2:4] = late[:, :2]  # what depends is written into what does not
        out += buffer
        early += self.relu(late)  # the site overwritten, and what does not depend overwritten by what does
        out = out + early.flip(1)
        return self.fc(out.mean((2, 3)))


@pytest.mark.parametrize("name", ["second", "first", "relu"])
def test_a_replay_survives_whatever_is_overwritten(name: str) -> None:
    check(network_of(Overwriting()), name)


@pytest.mark.parametrize("name", ["maxpool", "layer1.0.bn1", "layer1.0.add", "layer2.0.downsample.1"])
def test_the_replay_of_a_residual_network(name: str) -> None:
    check(load("resnet18", width=8, size=40, classes=5), name)


@needs("torchvision")
@pytest.mark.parametrize(
    ("model", "site"),
    [
        ("squeezenet1_1", "features.3.squeeze_activation"),
        ("mobilenet_v2", "features.2.conv.3"),
        ("shufflenet_v2_x0_5", "stage2.0.branch2.1"),
        ("densenet121", "features.denseblock1.denselayer1.conv1"),
    ],
)
def test_the_replay_of_other_networks(model: str, site: str) -> None:
    check(load(f"torchvision:{model}", size=64), site)


def test_noise_into_branch_and_skip_is_what_a_network_with_two_inputs_gives() -> None:
    """The block computed by hand, with one picture for the convolutions and another for the identity."""
    network = load("resnet18", width=8, size=40, classes=5)
    module, shown = network.module, pictures(network)
    site = sites(network)["maxpool"]
    replay = record_replay(network, network.prepare(shown), site)

    def by_hand(branch: Tensor, skip: Tensor) -> Tensor:
        block = module.layer1[0]
        out = block.bn2(block.conv2(torch.relu(block.bn1(block.conv1(branch))))) + skip
        out = module.layer1[1](torch.relu(out))
        out = module.layer4(module.layer3(module.layer2(out)))
        return module.fc(torch.flatten(module.avgpool(out), 1))

    intact, noisy = replay.responses.clone(), replay.responses.clone()
    add_noise(noisy)
    with torch.no_grad():
        assert torch.equal(replay.run(add_noise, path="branch"), by_hand(noisy, intact))
        assert torch.equal(replay.run(add_noise, path="skip"), by_hand(intact, noisy))
        assert torch.equal(replay.run(add_noise), by_hand(noisy, noisy))


def test_a_site_without_a_skip_is_refused_the_paths() -> None:
    network = load("plainnet18", width=8, size=40, classes=5)
    replay = record_replay(network, network.prepare(pictures(network)), sites(network)["maxpool"])
    assert not replay.has_skip
    with pytest.raises(BadInput, match="maxpool has no skip: its responses would have to be read by an addition"):
        replay.run(add_noise, path="skip")


class Looking(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x.mean((2, 3)) * (2 if float(x.sum()) > 0 else 3)


def test_a_network_that_looks_at_values_cannot_be_replayed() -> None:
    network = network_of(Looking())
    replay = record_replay(network, network.prepare(pictures(network)), sites(network)["conv"])
    with pytest.raises(BadInput, match="behind conv the network looks at values"):
        replay.run(add_noise)


def test_what_lies_before_the_site_is_not_in_the_replay() -> None:
    network = load("resnet18", width=8, size=40, classes=5)
    x, found = network.prepare(pictures(network)), sites(network)
    programs = [record_replay(network, x, found[name]).program for name in ("maxpool", "layer3.0.relu_1", "avgpool")]
    counts = [len(program.operations) for program in programs]
    assert counts[0] > 2 * counts[1] > 10 * counts[2]
    assert not any("convolution" in operation.name for operation in programs[-1].operations)
