"""Our residual networks are torchvision's, bit by bit; their plain twins are what remains without skips."""

from __future__ import annotations

import pytest
import torch

from tests.conftest import needs
from unitscope.errors import BadInput, UnknownName
from unitscope.residual import DEPTHS, RESIDUAL_NAMES, find_architecture, resnet

RESNETS = [f"resnet{depth}" for depth in DEPTHS]


def parameters(name, **shape):
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in resnet(name, **shape).parameters())


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("resnet18", 11_689_512),
        ("resnet34", 21_797_672),  # torchvision's documentation; kobayashi2020, section 3.1
        ("plainnet34", 21_623_848),
        ("resnet50", 25_557_032),
        ("resnet101", 44_549_160),
        ("resnet152", 60_192_808),
    ],
)
def test_parameter_counts(name, count):
    assert parameters(name) == count


@needs("torchvision")
@pytest.mark.parametrize("name", RESNETS)
def test_names_shapes_and_order_are_torchvisions(name):
    from torchvision.models import get_model

    with torch.device("meta"):
        ours, theirs = resnet(name).state_dict(), get_model(name, weights=None).state_dict()
    assert [(key, value.shape, value.dtype) for key, value in ours.items()] == [
        (key, value.shape, value.dtype) for key, value in theirs.items()
    ]


@needs("torchvision")
@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_checkpoints_load_strictly_both_ways_and_the_forward_is_the_same_bit_for_bit(name):
    from torchvision.models import get_model

    ours, theirs = resnet(name, classes=7).eval(), get_model(name, weights=None, num_classes=7).eval()
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand(2, 3, 64, 64, generator=generator)
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as after training, so that a lost buffer shows
            module.running_mean.copy_(torch.rand(module.num_features, generator=generator))
            module.running_var.copy_(torch.rand(module.num_features, generator=generator) + 0.5)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    with torch.no_grad():
        assert torch.equal(ours(pictures), theirs(pictures))
    theirs.load_state_dict(resnet(name, classes=7).state_dict(), strict=True)


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_twin_is_the_network_without_the_down_sampling_convolutions(depth):
    with torch.device("meta"):
        network, twin = resnet(f"resnet{depth}").state_dict(), resnet(f"plainnet{depth}").state_dict()
    kept = {name: tensor.shape for name, tensor in network.items() if ".downsample." not in name}
    assert kept == {name: tensor.shape for name, tensor in twin.items()}


@pytest.mark.parametrize("depth", ["18", "50"])
def test_the_twin_differs_by_the_skips_alone(depth):
    """With each block's last normalization silenced, skips still carry the picture; without them nothing arrives."""
    outputs = {}
    for kind in ("resnet", "plainnet"):
        network = resnet(f"{kind}{depth}", width=4, classes=3).eval()
        last = "bn2" if depth == "18" else "bn3"
        for name, module in network.named_modules():
            if name.endswith(last):
                torch.nn.init.zeros_(module.weight)
        with torch.no_grad():
            outputs[kind] = network(torch.rand(2, 3, 32, 32))
            outputs[f"{kind} bias"] = network.fc.bias.detach()
    assert torch.equal(outputs["plainnet"], outputs["plainnet bias"].expand(2, 3))
    assert not torch.equal(outputs["resnet"][0], outputs["resnet"][1])


@pytest.mark.parametrize("name", RESIDUAL_NAMES)
def test_any_width_classes_and_inputs(name):
    network = resnet(name, width=2, classes=5, inputs=4).eval()
    assert network(torch.rand(1, 4, 32, 32)).shape == (1, 5)
    assert network.conv1.weight.shape[:2] == (2, 4)


def test_an_unknown_name_has_near_ones():
    with pytest.raises(UnknownName, match=r"no network 'resnet43'. Close: 'resnet34'"):
        resnet("resnet43")


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("shape", [{"width": 0}, {"classes": -1}, {"inputs": 2.5}])
def test_shapes_must_be_whole_and_positive(shape):
    ((what, number),) = shape.items()
    with pytest.raises(BadInput, match=f"{what}={number}; expected a whole number of at least 1"):
        resnet("resnet18", **shape)


@pytest.mark.parametrize("name", RESIDUAL_NAMES)
def test_weights_are_recognized_by_their_names(name):
    with torch.device("meta"):
        assert find_architecture(resnet(name).state_dict()) == name


def test_weights_of_other_networks_are_not_recognized():
    assert find_architecture({}) is None
    assert find_architecture({"conv1.weight": torch.zeros(1), "fc.weight": torch.zeros(1)}) is None
