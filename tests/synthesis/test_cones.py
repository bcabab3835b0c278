"""A cone answers what the network answers to the whole picture: center, edges, corners, branches, gates."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.conftest import needs
from tests.synthesis.networks import Gated, lively, plain, small_resnet
from unitscope.anatomy.program import Value
from unitscope.networks import Network, load
from unitscope.recording.reading import read
from unitscope.synthesis.cone_evaluation import Cone, make_unshuffled_convolution
from unitscope.synthesis.cones import plan_cone
from unitscope.synthesis.evaluators import make_evaluator
from unitscope.synthesis.network_cache import NetworkCache, cache_of
from unitscope.synthesis.objectives import neuron
from unitscope.vocabulary import Box, Site


def corners_and_edges(site: Site) -> set[tuple[int, int]]:
    rows, cols = site.lattice
    return {(rows // 2, cols // 2), (0, 0), (rows - 1, cols - 1), (rows // 2, 0), (rows - 1, cols // 2)}


def value_of(cache: NetworkCache, name: str) -> Value:
    value = cache.program.named[name].value
    assert value is not None
    return value


def assert_cones_answer_as_the_network(network: Network, *, every: int) -> None:
    cache = cache_of(network)
    picture = torch.rand((1, 3, *network.size), generator=torch.Generator().manual_seed(1))
    names = list(cache.sites)[1::every]
    responses, x = read(network, picture, names), network.prepare(picture)
    for name in names:
        site = cache.sites[name]
        if site.lattice == (1, 1):
            continue
        for row, col in corners_and_edges(site):
            plan, box = plan_cone(cache.program, [(value_of(cache, name), Box(row, col, row + 1, col + 1))])
            if len(site.fields) == 1:
                assert box == site.box(row, col).clip(site.picture)
            with torch.no_grad():
                (answer,) = Cone(cache.program, plan).evaluate(x[:, :, box.top : box.bottom, box.left : box.right])
            expected = responses[name][:, :, row, col]
            torch.testing.assert_close(answer[:, :, 0, 0], expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("name", ["resnet18", "plainnet18"])
def test_every_neuron_of_a_residual_network_and_its_plain_twin(name: str) -> None:
    assert_cones_answer_as_the_network(small_resnet(name), every=13)


@needs("torchvision")
@pytest.mark.parametrize("name", ["googlenet", "mobilenet_v2"])
def test_branches_and_linear_bottlenecks(name: str) -> None:
    assert_cones_answer_as_the_network(lively(load(f"torchvision:{name}", size=96)), every=71)


def test_the_field_of_the_papers_neuron_is_59_pixels() -> None:
    network = load("resnet34", width=8)
    cache = cache_of(network)
    _, box = plan_cone(cache.program, [(value_of(cache, "layer1.2.add"), Box(28, 28, 29, 29))])
    assert box == Box(83, 83, 142, 142)


def test_a_gate_makes_the_cone_the_whole_picture_and_it_says_so() -> None:
    network = plain(Gated())
    cache = cache_of(network)
    before = make_evaluator(cache, neuron("conv1:1"), post_activation=False, half=False)
    behind = make_evaluator(cache, neuron("conv2:1"), post_activation=False, half=False)
    assert (before.box.height, before.reason) == (3, "")
    assert (behind.box, "mean" in behind.reason) == (Box(0, 0, 32, 32), True)


def test_interior_neurons_share_a_plan_and_those_at_the_border_do_not() -> None:
    network = small_resnet()
    cache = cache_of(network)
    keys = [
        make_evaluator(cache, neuron(f"layer1.1.add:0@{at}"), post_activation=False, half=False).key
        for at in ("11,11", "12,13", "0,12")
    ]
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize("name", ["maxpool", "layer1.0.add", "layer1.0.relu", "layer2.0.relu_1", "layer2.1.add"])
@pytest.mark.parametrize("after", [True, False])
def test_one_channel_for_each_picture_is_what_all_channels_say(name: str, after: bool) -> None:
    network = small_resnet()
    for at in ("0,0", "3,4"):
        made = make_evaluator(cache_of(network), neuron(f"{name}:0@{at}"), post_activation=after, half=False)
        generator = torch.Generator().manual_seed(2)
        x = torch.randn(5, 3, made.box.height, made.box.width, generator=generator).requires_grad_()
        channels, weights = torch.tensor([[3], [0], [7], [3], [5]]), torch.ones(5, 1)
        answers = [made.bind_channels(channels, weights)(x), made.evaluate(x, channels, weights)]
        torch.testing.assert_close(answers[0], answers[1], rtol=1e-4, atol=1e-5)
        gradients = [torch.autograd.grad(answer.sum(), x)[0] for answer in answers]
        torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-5)


class Masked(nn.Module):
    """A map of one channel that all channels are multiplied by: spatial attention."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.mask = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(x)
        return (x * torch.sigmoid(self.mask(x))).mean((2, 3))


def test_one_channel_is_taken_after_a_mask_that_all_channels_share() -> None:
    network = plain(Masked())
    made = make_evaluator(cache_of(network), neuron("mul:2"), post_activation=False, half=False)
    x = torch.rand(3, 3, made.box.height, made.box.width, generator=torch.Generator().manual_seed(2))
    channels, weights = torch.tensor([[3], [0], [2]]), torch.ones(3, 1)
    torch.testing.assert_close(made.bind_channels(channels, weights)(x), made.evaluate(x, channels, weights))


@pytest.mark.parametrize("taps", [(1, 1), (2, 3), (3, 3), (4, 2), (7, 7), (11, 11)])
@pytest.mark.parametrize("stride", [2, 3, 4])
def test_a_strided_convolution_on_blocks_of_pixels_is_the_convolution(taps: tuple[int, int], stride: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(5, 3, *taps, generator=generator), torch.randn(5, generator=generator)
    for height, width in ((23, 24), (25, 26)):
        x = torch.randn(2, 3, height, width, generator=generator)
        answer = make_unshuffled_convolution(weight, bias, lambda values: values[0], stride=stride, pads=[1, 0, 2, 3])(
            [x]
        )
        expected = F.conv2d(F.pad(x, (1, 0, 2, 3)), weight, bias, stride)
        torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("rectifier", "before"),
    [(nn.LeakyReLU(0.5), True), (nn.LeakyReLU(-0.5), False), (nn.ELU(2.0), True), (nn.ELU(-1.0), False)],
)
def test_a_maximum_is_taken_before_a_nonlinearity_only_where_the_nonlinearity_never_decreases(rectifier, before):
    module = nn.Sequential(nn.Conv2d(3, 2, 3), rectifier, nn.MaxPool2d(2))
    cache = cache_of(Network(module, size=12, mean=[0.5] * 3, std=[0.25] * 3))
    assert (value_of(cache, "2") in cache.entering) == before
