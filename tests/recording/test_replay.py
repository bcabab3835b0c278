"""A tape played again gives the very bits of a full forward pass, on networks of all kinds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.conftest import needs
from unitscope.anatomy.sites import sites
from unitscope.errors import BadInput
from unitscope.networks import Network, load
from unitscope.recording.electrode import inject
from unitscope.recording.replay import record_tape


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
    tape = record_tape(network, network.prepare(shown), site)
    with torch.no_grad():
        intact = network(shown)
        with inject(network, site, add_noise):
            disturbed = network(shown)
    assert torch.equal(tape.logits, intact)
    assert not torch.equal(disturbed, intact)
    for _ in range(2):  # playing leaves the tape as it was
        assert torch.equal(tape.play(add_noise), disturbed)
        assert torch.equal(tape.play(lambda responses: None), intact)
    assert torch.equal(network(shown), intact)


class Overwriting(nn.Module):
    """Everything that a tape may stumble over: memory that is written to before, at and after the site, by those who
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
def test_the_tape_survives_whatever_is_overwritten(name: str) -> None:
    check(network_of(Overwriting()), name)


@pytest.mark.parametrize("name", ["maxpool", "layer1.0.bn1", "layer1.0.add", "layer2.0.downsample.1"])
def test_the_tape_of_a_residual_network(name: str) -> None:
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
def test_the_tape_of_other_networks(model: str, site: str) -> None:
    check(load(f"torchvision:{model}", size=64), site)


def test_noise_into_branch_and_skip_is_what_a_network_with_two_inputs_gives() -> None:
    """The block computed by hand, with one picture for the convolutions and another for the identity."""
    network = load("resnet18", width=8, size=40, classes=5)
    module, shown = network.module, pictures(network)
    site = sites(network)["maxpool"]
    tape = record_tape(network, network.prepare(shown), site)

    def by_hand(branch: Tensor, skip: Tensor) -> Tensor:
        block = module.layer1[0]
        out = block.bn2(block.conv2(torch.relu(block.bn1(block.conv1(branch))))) + skip
        out = module.layer1[1](torch.relu(out))
        out = module.layer4(module.layer3(module.layer2(out)))
        return module.fc(torch.flatten(module.avgpool(out), 1))

    intact, noisy = tape.heard.clone(), tape.heard.clone()
    add_noise(noisy)
    with torch.no_grad():
        assert torch.equal(tape.play(add_noise, path="branch"), by_hand(noisy, intact))
        assert torch.equal(tape.play(add_noise, path="skip"), by_hand(intact, noisy))
        assert torch.equal(tape.play(add_noise), by_hand(noisy, noisy))


def test_a_site_without_a_skip_is_refused_the_paths() -> None:
    network = load("plainnet18", width=8, size=40, classes=5)
    tape = record_tape(network, network.prepare(pictures(network)), sites(network)["maxpool"])
    assert not tape.has_skip
    with pytest.raises(BadInput, match="maxpool has no skip: its responses would have to be read by an addition"):
        tape.play(add_noise, path="skip")


class Looking(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x.mean((2, 3)) * (2 if float(x.sum()) > 0 else 3)


def test_a_network_that_looks_at_values_cannot_be_played() -> None:
    network = network_of(Looking())
    tape = record_tape(network, network.prepare(pictures(network)), sites(network)["conv"])
    with pytest.raises(BadInput, match="behind conv the network looks at values"):
        tape.play(add_noise)


def test_what_lies_before_the_site_is_not_on_the_tape() -> None:
    network = load("resnet18", width=8, size=40, classes=5)
    x, found = network.prepare(pictures(network)), sites(network)
    steps = [len(record_tape(network, x, found[name]).steps) for name in ("maxpool", "layer3.0.relu_1", "avgpool")]
    assert steps[0] > 2 * steps[1] > 10 * steps[2]
    assert sum("convolution" in str(step.function) for step in record_tape(network, x, found["avgpool"]).steps) == 0
