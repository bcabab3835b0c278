"""Virtual filters against the convolutions themselves (methods 10, checks 24 to 26)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.wiring import gabor
from unitscope.anatomy.filters import (
    NotLinear,
    Way,
    convolutions_in_reach,
    dense,
    strongest_taps,
    virtual_filter,
    virtual_filters,
)
from unitscope.anatomy.linearized import CenterTap, agreement, refuse_gates
from unitscope.anatomy.site_graph import graph_of, skips
from unitscope.networks import Network, resnet


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network_of(*parts: nn.Module, size: int = 24, inputs: int = 3) -> Network:
    """The parts one after the other, with drawn weights and statistics of batch normalization."""
    module = nn.Sequential(*parts)
    generator = torch.Generator().manual_seed(1)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.randn(tensor.shape, generator=generator))
            if name.endswith("running_var"):
                tensor.abs_().add_(0.5)
    return Network(module, size=size, mean=(0.0,) * inputs, std=(1.0,) * inputs)


@pytest.mark.parametrize("mode", ["max_tap", "max_tap_shifted", "full"])
def test_behind_a_one_by_one_convolution_every_mode_is_exact(mode: str) -> None:
    first, second, x = drawn(6, 3, 5, 5), drawn(4, 6, 1, 1, seed=1), drawn(2, 3, 16, 16, seed=2)
    virtual = virtual_filter(first, second, mode=mode, stride=2)
    behind = functional.conv2d(functional.conv2d(x, first, stride=2), second)
    torch.testing.assert_close(functional.conv2d(x, virtual, stride=2), behind)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_full_is_the_composition_of_both_convolutions(stride: int) -> None:
    first, second, x = drawn(5, 3, 4, 3), drawn(2, 5, 3, 3, seed=1), drawn(1, 3, 30, 29, seed=2)
    whole = virtual_filter(first, second, mode="full", stride=stride)
    behind = functional.conv2d(functional.conv2d(x, first, stride=stride), second, stride=2)
    torch.testing.assert_close(
        functional.conv2d(x, whole, stride=2 * stride)[..., : behind.shape[2], : behind.shape[3]], behind
    )
    slow = torch.zeros_like(whole)
    for a in range(3):
        for b in range(3):
            part = torch.einsum("pk,kcij->pcij", second[:, :, a, b], first)
            slow[:, :, a * stride : a * stride + 4, b * stride : b * stride + 3] += part
    torch.testing.assert_close(whole, slow)


def test_with_one_tap_per_kernel_the_strongest_tap_is_the_whole_up_to_its_place() -> None:
    first, second = drawn(5, 3, 7, 7), torch.zeros(4, 5, 3, 3, dtype=torch.float64)
    second[:, :, 2, 1] = drawn(4, 5, seed=1)
    shifted, still = (virtual_filter(first, second, mode=mode, stride=2) for mode in ("max_tap_shifted", "max_tap"))
    torch.testing.assert_close(shifted[:, :, 4:11, 2:9], still)
    torch.testing.assert_close(shifted, virtual_filter(first, second, mode="full", stride=2))
    assert shifted.abs().sum() == pytest.approx(still.abs().sum())


def test_the_strongest_tap_keeps_its_sign_and_the_first_of_equals_wins() -> None:
    kernel = torch.tensor([[[[0.0, 2.0, -2.0], [-3.0, 3.0, 1.0], [0.0, 0.0, 0.0]]]])
    assert strongest_taps(kernel).item() == -3


def test_groups_are_spread_out() -> None:
    conv = nn.Conv2d(6, 4, 3, groups=2, bias=False).double()
    x = drawn(1, 6, 9, 9)
    torch.testing.assert_close(functional.conv2d(x, dense(conv)), conv(x))


def test_a_pooling_of_even_size_passes_the_tap_right_below_its_middle() -> None:
    x = drawn(1, 2, 8, 8)
    torch.testing.assert_close(CenterTap(nn.MaxPool2d((2, 4)))(x), x[:, :, 1::2, 2::4])


PARTS = {
    "plain": lambda: (nn.Conv2d(3, 5, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(5, 4, 3, padding=1)),
    "normalized": lambda: (nn.Conv2d(3, 5, 3, bias=False), nn.BatchNorm2d(5), nn.Conv2d(5, 4, 3, dilation=2)),
    "pooled": lambda: (nn.Conv2d(3, 5, 3), nn.MaxPool2d(3, 2, 1), nn.Conv2d(5, 4, 3, stride=2, padding=1)),
    "oblong": lambda: (nn.Conv2d(3, 5, (3, 5), stride=(2, 1)), nn.Conv2d(5, 4, (3, 1), stride=(1, 2), padding=(1, 0))),
    "pooled evenly": lambda: (nn.Conv2d(3, 5, 3), nn.MaxPool2d((2, 4)), nn.Conv2d(5, 4, 3)),
    "three": lambda: (nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, groups=4, padding=1), nn.Conv2d(4, 2, 3)),
}  # fmt: skip


@pytest.mark.parametrize("kind", PARTS)
def test_full_and_folded_filters_are_the_weights_of_the_linearized_network(kind: str) -> None:
    network = network_of(*PARTS[kind]())
    graph = graph_of(network)
    last = [name for name, each in graph.items() if each.operation == "conv2d"][-1]
    exact = agreement(network, graph, virtual_filters(Way(graph, 3, "full", folded=True), last))
    np.testing.assert_allclose(exact.cosine, 1, atol=1e-10)
    np.testing.assert_allclose(exact.error, 0, atol=1e-9)
    rough = agreement(network, graph, virtual_filters(Way(graph, 3), last))
    assert (rough.cosine < 0.999).all()
    assert (rough.error > 0.01).all()


@pytest.mark.parametrize(
    ("pooling", "first", "step"),
    [((2, 2, 0), 1, 2), ((4, 2, 1), 1, 2), ((4, 4, 0), 2, 4), ((3, 2, 1), 0, 2), ((2, 2, 0, 2), 2, 2)],
)
def test_the_tap_at_the_center_of_a_pooling_is_the_one_behind_the_middle_where_there_are_two(
    pooling: tuple[int, ...], first: int, step: int
) -> None:
    x = torch.arange(16.0).expand(1, 1, 16, 16)
    passed = CenterTap(nn.MaxPool2d(*pooling))(x)[0, 0, 3]
    assert passed[:3].tolist() == [first, first + step, first + 2 * step]
    graph = graph_of(network_of(nn.Conv2d(3, 2, 1), nn.MaxPool2d(*pooling), size=16))
    assert Way(graph, 3).to("1").start == (first, first)
    if len(pooling) == 3:
        graph = graph_of(network_of(nn.Conv2d(3, 2, 1), nn.AvgPool2d(*pooling), size=16))
        assert Way(graph, 3).to("1").start == (first, first)


def test_the_way_follows_the_skip_and_the_error_knows_of_the_branch() -> None:
    network = Network(resnet("resnet18", width=4, classes=3), size=64, mean=(0.5,) * 3, std=(0.2,) * 3)
    graph = graph_of(network)
    near = convolutions_in_reach(Way(graph, 3))
    assert near == ["layer1.0.conv1", "layer1.1.conv1", "layer2.0.conv1", "layer2.0.downsample.0"]
    found = virtual_filters(Way(graph, 3, "full", folded=True), "layer2.0.downsample.0")
    assert found.chain == ("conv1", "layer2.0.downsample.0")
    weight = network.module.layer2[0].downsample[0].weight.detach().double().numpy()[:, :, 0, 0]
    assert found.coupling == pytest.approx(weight)
    assert agreement(network, graph, found).cosine.max() < 0.99
    for block in network.module.layer1:  # without its branches, the skip is all there is
        block.bn2.weight.data.zero_()
    np.testing.assert_allclose(agreement(network, graph, found).cosine, 1, atol=1e-10)


def test_skips_are_told_from_branches() -> None:
    network = Network(resnet("resnet18", width=4, classes=3), size=32, mean=(0.5,) * 3, std=(0.2,) * 3)
    found = skips(graph_of(network))
    assert (found["layer1.0.add"].identity, found["layer1.0.add"].branch) == ("maxpool", "layer1.0.bn2")
    assert found["layer2.0.add"].identity == "layer2.0.downsample.1"


def test_concatenated_branches_stand_side_by_side() -> None:
    class Fire(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(5, 2, 1)
            self.small, self.large = nn.Conv2d(4, 2, 1), nn.Conv2d(4, 3, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.first(x)
            return self.last(torch.cat([self.small(x), self.large(x)], 1).relu())

    network = Network(Fire(), size=16, mean=(0.0,) * 3, std=(1.0,) * 3)
    graph = graph_of(network)
    found = virtual_filters(Way(graph, 3, "full"), "last")
    assert found.pictures.shape == (2, 3, 5, 5)
    assert found.coupling.shape == (2, 5)
    with pytest.raises(NotLinear, match=r"relu.*cannot be left out"):
        agreement(network, graph, found)  # a function, not a module: the copy keeps it


def test_weighting_scales_each_channel_by_its_spread() -> None:
    network = network_of(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1))
    way, spread = Way(graph_of(network), 3), np.array([0.0, 1.0, 2.0, 3.0])
    plain, weighted = virtual_filters(way, "2"), virtual_filters(way, "2", spread=spread)
    np.testing.assert_allclose(weighted.coupling, plain.coupling * spread)
    np.testing.assert_allclose(weighted.pictures, np.einsum("pk,kcij->pcij", plain.coupling * spread, plain.basis))


def test_what_has_no_virtual_filter_says_why() -> None:
    network = network_of(nn.Conv2d(3, 4, 3), nn.Softmax(1), nn.Conv2d(4, 2, 1))
    way = Way(graph_of(network), 3)
    with pytest.raises(NotLinear, match=r"leads through 1 \(softmax\), which is not linear"):
        virtual_filters(way, "2")
    with pytest.raises(NotLinear, match="reads the picture itself"):
        virtual_filters(way, "0")
    with pytest.raises(NotLinear, match="1 is no convolution"):
        virtual_filters(way, "1")
    assert convolutions_in_reach(way) == []


def test_a_gated_linear_unit_is_not_passed_as_if_it_were_not_there() -> None:
    network = network_of(nn.Conv2d(3, 8, 3), nn.GLU(dim=1), nn.Conv2d(4, 5, 3))
    graph = graph_of(network)
    way = Way(graph, 3)
    assert convolutions_in_reach(way) == []
    with pytest.raises(NotLinear, match=r"the way leads through 1 .glu., which is not linear"):
        virtual_filters(way, "2")
    with pytest.raises(NotLinear, match=r"leads through 1 .glu., which cannot be left out"):
        refuse_gates(graph, "2")


def test_gabors_make_a_plaid() -> None:
    """Two Gabors, added by a later unit: its virtual filter is their sum."""
    kernels = torch.stack([gabor(0), gabor(90)]).double()
    both = virtual_filter(kernels, torch.ones(1, 2, 1, 1, dtype=torch.float64))
    torch.testing.assert_close(both[0], kernels.sum(0))
