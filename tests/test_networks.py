"""A Network shows pictures the way its module wants them; `load` finds networks by name, or says what is wrong."""

from __future__ import annotations

import collections
import random

import numpy as np
import pytest
import torch
from torch import nn

import unitscope.networks as networks
from tests import tiny
from tests.conftest import needs
from unitscope.errors import BadInput, Failure, UnknownName
from unitscope.networks import Network, load, save
from unitscope.weights import write_weights

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Echo(nn.Module):
    """Gives back what it is shown, in the form that `wrap` makes of it."""

    def __init__(self, wrap=lambda x: x):
        super().__init__()
        self.wrap = wrap

    def forward(self, pictures):
        return self.wrap(pictures)


def echo(wrap=lambda x: x, *, size=8, mean=MEAN, std=STD, **facts):
    return Network(Echo(wrap), size=size, mean=mean, std=std, **facts)


def small(**facts):
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    return Network(module, **{"size": 8, "mean": MEAN, "std": STD} | facts)


# How pictures are shown


@needs("torchvision")
def test_pictures_are_normalized_as_torchvision_does_it():
    from torchvision.transforms.functional import normalize

    pictures = torch.rand(4, 3, 8, 8)
    assert torch.equal(echo()(pictures), normalize(pictures, MEAN, STD))


def test_channels_are_put_in_the_order_of_the_network_before_its_mean_is_taken():
    network = echo(order="BGR", mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0))
    red, green, blue = (torch.rand(2, 8, 8) for _ in range(3))
    shown = network.prepare(torch.stack([red, green, blue], 1))
    torch.testing.assert_close(shown, torch.stack([blue - 0.1, green - 0.2, red - 0.3], 1))


@pytest.mark.parametrize("inputs", [1, 2, 4, 13])
def test_any_number_of_input_channels(inputs):
    network = echo(mean=[0.5] * inputs, std=[0.25] * inputs)
    pictures = torch.rand(2, inputs, 8, 8)
    assert network.inputs == inputs
    assert network.order == ""
    torch.testing.assert_close(network(pictures), (pictures - 0.5) / 0.25)


def test_pictures_are_brought_to_the_precision_of_the_weights():
    network = small()
    network.module.double()
    assert network.prepare(torch.rand(1, 3, 8, 8)).dtype == torch.float64
    assert network(torch.rand(1, 3, 8, 8).half()).dtype == torch.float64
    assert echo()(torch.rand(1, 3, 8, 8, dtype=torch.float64)).dtype == torch.float64


def test_preparing_can_be_differentiated_and_leaves_the_pictures_alone():
    pictures = torch.rand(1, 3, 8, 8, requires_grad=True)
    before = pictures.detach().clone()
    small()(pictures).sum().backward()
    assert pictures.grad.abs().sum() > 0
    assert torch.equal(pictures.detach(), before)


def test_crops_can_be_prepared_though_only_whole_pictures_are_shown():
    assert echo().prepare(torch.rand(1, 3, 5, 3)).shape == (1, 3, 5, 3)
    with pytest.raises(
        BadInput, match=r"Echo is shown pictures of 8 x 8; these are 5 x 3. Resize them, or load it with size="
    ):
        echo()(torch.rand(1, 3, 5, 3))


def test_no_picture_at_all_is_no_error():
    assert small()(torch.rand(0, 3, 8, 8)).shape == (0, 2)


def test_the_module_is_put_into_evaluation_mode():
    module = nn.Sequential(nn.Dropout(0.5))
    assert not Network(module, size=8, mean=MEAN, std=STD).module.training
    assert not module[0].training


def test_a_module_exported_by_torch_has_one_mode_only():
    exported = torch.export.export(small().module, (torch.rand(2, 3, 8, 8),)).module()
    network = Network(exported, size=8, mean=MEAN, std=STD)
    assert network(torch.rand(2, 3, 8, 8)).shape == (2, 2)


# What a module may return

Named = collections.namedtuple("Named", ["features", "logits"])
RETURNED = {
    "tuple": lambda x: (x, x + 1),
    "list": lambda x: [x],
    "named tuple": lambda x: Named(x + 1, x),
    "dictionary": lambda x: {"aux": x + 1, "out": x},
    "nested": lambda x: {"first": (None, x)},
}


@pytest.mark.parametrize("form", RETURNED)
def test_the_logits_are_found_in_what_a_module_returns(form):
    pictures = torch.rand(1, 3, 8, 8)
    assert torch.equal(echo(RETURNED[form])(pictures), echo()(pictures))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("nothing", [None, "text", {}, (), 3.0])
def test_a_module_that_returns_no_tensor(nothing):
    with pytest.raises(BadInput, match=r"Echo returned a \w+ without a tensor; expected logits"):
        echo(lambda _: nothing)(torch.rand(1, 3, 8, 8))


@needs("torchvision")
def test_googlenet_with_its_auxiliary_outputs():
    network = load("torchvision:googlenet", size=64, classes=5)
    assert network(torch.rand(1, 3, 64, 64)).shape == (1, 5)


# Pictures that cannot be right

REFUSED = {
    "bytes": (
        torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
        r"are uint8; expected .* floating point, 0..1\. Divide them by 255",
    ),
    "whole numbers": (torch.zeros(1, 3, 8, 8, dtype=torch.int64), "are int64; expected"),
    "numpy": (
        np.zeros((1, 3, 8, 8)),
        r"are a ndarray; expected a Tensor\[stimulus color height width\] with 3 input channels",
    ),
    "one picture": (
        torch.zeros(3, 8, 8),
        r"have the shape \[3, 8, 8\]; expected .* One picture alone needs pictures\[None\]",
    ),
    "channels last": (torch.zeros(1, 8, 8, 3), r"have the shape \[1, 8, 8, 3\]; expected"),
    "gray": (torch.zeros(1, 1, 8, 8), r"have the shape \[1, 1, 8, 8\]; expected"),
    "0..255": (
        torch.full((1, 3, 8, 8), 200.0),
        r"reach 200, which looks like 0..255; expected 0..1: divide them by 255",
    ),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("case", REFUSED)
def test_pictures_that_cannot_be_right(case):
    pictures, story = REFUSED[case]
    with pytest.raises(BadInput, match=story):
        echo()(pictures)


def test_pictures_somewhat_outside_or_not_numbers_are_let_pass():
    echo()(torch.full((1, 3, 8, 8), -0.3))
    echo()(torch.full((1, 3, 8, 8), 1.2))
    assert echo()(torch.full((1, 3, 8, 8), float("nan"))).isnan().all()


def test_channels_that_are_no_colors_have_their_own_range():
    network = echo(mean=(270.0, 80.0), std=(20.0, 5.0))
    assert network(torch.full((1, 2, 8, 8), 300.0)).max() == 44


# Facts


@pytest.mark.usefixtures("unchecked")
def test_a_network_is_made_of_a_module_and_all_it_needs():
    with pytest.raises(BadInput, match=r"made of a torch.nn.Module; a str came. `unitscope.load` takes names"):
        Network("resnet34", size=8, mean=MEAN, std=STD)
    with pytest.raises(BadInput, match="give size, mean and std"):
        Network(nn.Identity(), size=None, mean=MEAN, std=STD)
    with pytest.raises(BadInput, match="mean and std have 3 and 1 numbers"):
        Network(nn.Identity(), size=8, mean=MEAN, std=(1.0,))


def test_facts_are_told():
    network = small(size=(8, 12), classes=["cat", "dog"], name="tiny")
    assert (network.size, network.mean, network.std, network.order, network.inputs) == ((8, 12), MEAN, STD, "RGB", 3)
    assert (network.name, network.weights, network.classes) == ("tiny", "as given", ("cat", "dog"))
    assert repr(network) == (
        "<Network tiny: weights as given, 130 parameters, pictures RGB 8 x 12, 2 named classes, cpu>"
    )
    assert "pictures of 4 channels 8 x 8" in repr(echo(mean=(0.5,) * 4, std=(1.0,) * 4))


def test_the_device_is_that_of_the_weights():
    network = small()
    assert network.device == torch.device("cpu")
    assert echo().device == torch.device("cpu")
    assert network.to("meta") is network
    assert network.device == torch.device("meta")
    assert network(torch.rand(2, 3, 8, 8)).device == torch.device("meta")


# Fingerprint


def test_the_fingerprint_is_that_of_weights_and_preprocessing():
    one, other = small(), small()
    other.module.load_state_dict(one.module.state_dict())
    assert one.fingerprint == other.fingerprint
    assert len(one.fingerprint) == 64
    assert int(one.fingerprint, 16) >= 0
    for fact in ({"size": 9}, {"mean": (0.5, 0.5, 0.5)}, {"std": (0.5, 0.5, 0.5)}, {"order": "BGR"}):
        assert Network(one.module, **{"size": 8, "mean": MEAN, "std": STD} | fact).fingerprint != one.fingerprint
    same = Network(one.module, size=8, mean=MEAN, std=STD, name="b", weights="c", classes=["d"])
    assert same.fingerprint == one.fingerprint


@pytest.mark.parametrize("name", ["0.weight", "1.running_mean", "1.num_batches_tracked", "4.bias"])
def test_the_fingerprint_follows_every_weight_and_buffer(name):
    network = small()
    before = network.fingerprint
    with torch.no_grad():
        network.module.state_dict()[name].view(-1)[-1:] += 1
    assert network.fingerprint != before


def test_the_fingerprint_sees_names_types_and_shapes():
    def of(**buffers):
        module = nn.Module()
        for name, tensor in buffers.items():
            module.register_buffer(name, tensor)
        return Network(module, size=8, mean=MEAN, std=STD).fingerprint

    zeros = torch.zeros(4)
    seen = [
        of(a=zeros), of(b=zeros), of(a=zeros.view(2, 2)), of(a=zeros.int()), of(a=zeros.bfloat16()),
        of(a=torch.tensor(0.0)), of(a=torch.zeros(0)),
    ]  # fmt: skip
    assert len(set(seen)) == len(seen)
    assert of(a=zeros, b=zeros + 1) == of(b=zeros + 1, a=zeros)
    assert of(a=torch.arange(6.0).view(2, 3).T) == of(a=torch.arange(6.0).view(2, 3).T.contiguous())


def test_the_fingerprint_is_made_once(monkeypatch):
    network = small()
    first = network.fingerprint
    monkeypatch.setattr(networks, "_digest", lambda *_: pytest.fail("made again"))
    assert network.fingerprint == first


def test_the_fingerprint_of_a_known_network_stays():
    """Records are recognized by it, across versions of this package."""
    module = nn.Linear(2, 1)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0, -2.0]]))
        module.bias.copy_(torch.tensor([0.5]))
    network = Network(module, size=8, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    assert network.fingerprint == "a7da63cfd3cf46668e79a5a2c5c90da562aed95e6a7fa77ceaf1f73373f84828"


@torch.inference_mode()
def test_the_fingerprint_of_weights_born_in_inference_mode():
    assert len(small().fingerprint) == 64


# Loading our own


def test_without_weights_they_are_random_and_drawn_from_the_seed():
    one, same, other = load("resnet18", width=4), load("resnet18", width=4), load("resnet18", width=4, seed=1)
    assert one.weights == "random (seed 0)"
    assert other.weights == "random (seed 1)"
    assert one.fingerprint == same.fingerprint != other.fingerprint
    assert (one.size, one.mean, one.std, one.order, one.classes) == ((224, 224), MEAN, STD, "RGB", None)


@pytest.mark.usefixtures("unchecked")  # the checker of signatures draws from `random`
def test_loading_touches_no_other_random_state():
    torch.manual_seed(7)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    load("plainnet18", width=4, seed=3)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]  # noqa: NPY002


def test_the_random_weights_do_not_depend_on_the_default_device():
    expected = load("resnet18", width=4).fingerprint
    with torch.device("meta"):
        assert load("resnet18", width=4).fingerprint == expected


@pytest.mark.parametrize("half", [False, True])
def test_what_was_saved_is_loaded_shape_and_preprocessing_and_all(tmp_path, half):
    names = [f"breed {number}" for number in range(5)]
    network = load(
        "plainnet34", width=4, classes=names, size=(64, 96), mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0), order="BGR"
    )
    again = load("plainnet34", save(network, tmp_path / "w.safetensors", half=half))
    facts = ("size", "mean", "std", "order", "classes", "inputs")
    assert [getattr(again, fact) for fact in facts] == [getattr(network, fact) for fact in facts]
    assert again.weights == "w.safetensors"
    assert again.module.conv1.weight.dtype == torch.float32
    assert (again.fingerprint == network.fingerprint) is not half
    pictures = torch.rand(2, 3, 64, 96)
    torch.testing.assert_close(again(pictures), network(pictures), rtol=0, atol=0.02 if half else 0)


def test_arguments_come_before_the_weights_file_and_that_before_the_zoo(tmp_path):
    """Weights that were trained at another size, with other means, are shown pictures as they were in training."""
    trained = Network(tiny.network(), size=48, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    network = load("tests.tiny:known", save(trained, tmp_path / "w.safetensors"), std=(0.7, 0.8, 0.9))
    assert (network.size, network.mean, network.std) == ((48, 48), (0.1, 0.2, 0.3), (0.7, 0.8, 0.9))
    assert load("tests.tiny:known").mean == (0.5, 0.5, 0.5)


def test_the_shape_is_read_off_the_weights(tmp_path):
    torch.save(load("resnet50", width=2, classes=7, mean=(0.5,), std=(0.5,)).module.state_dict(), tmp_path / "w.pt")
    network = load("resnet50", weights=tmp_path / "w.pt", mean=(0.4,), std=(0.2,), size=64)
    assert network(torch.rand(1, 1, 64, 64)).shape == (1, 7)
    with pytest.raises(
        BadInput, match="resnet50 has 1 input channel, and neither mean nor std are known; give one number of each per"
    ):
        load("resnet50", weights=tmp_path / "w.pt")
    with pytest.raises(BadInput, match="resnet50 has 1 input channel, and mean has 3 numbers"):
        load("resnet50", weights=tmp_path / "w.pt", mean=MEAN, std=STD)


def test_arguments_win_over_the_file(tmp_path):
    path = save(load("resnet18", width=2, classes=["a", "b"], size=64), tmp_path / "w.safetensors")
    network = load("resnet18", path, size=32, mean=(0.5, 0.5, 0.5), classes=["c", "d"])
    assert (network.size, network.mean, network.std, network.classes) == ((32, 32), (0.5, 0.5, 0.5), STD, ("c", "d"))


def test_names_of_classes_must_be_as_many_as_the_logits(tmp_path):
    path = save(load("resnet18", width=2, classes=["a", "b"]), tmp_path / "w.safetensors")
    with pytest.raises(
        BadInput, match=r"2 of another shape: fc.weight 2 x 16 instead of 3 x 16, fc.bias 2 instead of 3"
    ):
        load("resnet18", path, classes=["a", "b", "c"])
    network = load("resnet18", width=2, classes=3)
    write_weights(tmp_path / "x.safetensors", network.module.state_dict(), networks.Preprocessing(classes=("a", "b")))
    with pytest.raises(BadInput, match="resnet18 has 3 logits with these weights, and 2 names of classes came"):
        load("resnet18", tmp_path / "x.safetensors")


def test_weights_of_another_of_our_networks_are_recognized(tmp_path):
    path = save(load("resnet18", width=2, classes=2), tmp_path / "w.safetensors")
    story = r"not fit resnet34 \(218 tensors expected, 122 came\): 80 missing: layer1.2.conv1.weight, .* and 77 more. "
    with pytest.raises(BadInput, match=story + "The file looks like resnet18"):
        load("resnet34", path)
    with pytest.raises(BadInput, match=r"18 unexpected: layer2.0.downsample.0.weight, .* The file looks like resnet18"):
        load("plainnet18", path)
    with pytest.raises(
        BadInput, match=r"of another shape: conv1.weight 2 x 3 x 7 x 7 instead of 4 x 3 x 7 x 7, .* more\.$"
    ):
        load("resnet18", path, width=4)


# Names that nothing goes by, and other slips


@pytest.mark.parametrize(
    ("model", "story"),
    [
        (
            "resnet43",
            r"unitscope has no network 'resnet43'. Close: 'resnet34', .*torchvision:NAME, timm:NAME and package.mod",
        ),
        ("ResNet34", "Close: 'resnet34'"),
        ("planenet34", "Close: 'plainnet34'"),
        ("shipped:resnet43", r"Close: 'shipped:resnet34'"),
        ("", "unitscope has no network ''"),
        (":resnet34", "Close: 'resnet34'"),
        ("torchvision:", r"unitscope has no network 'torchvision:'"),
    ],
)
def test_names_that_nothing_goes_by(model, story):
    with pytest.raises(UnknownName, match=story):
        load(model)


@needs("torchvision")
def test_a_name_that_torchvision_knows():
    with pytest.raises(UnknownName, match="torchvision has 'torchvision:mobilenet_v2'"):
        load("mobilenet_v2")


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("given", "options", "story"),
    [
        (
            ["w.safetensors"],
            {},
            r"is a weights file; which network is it for\? load\('resnet34', weights='w.safetensors'\)",
        ),
        (["resnet34", "nowhere.pt"], {}, "there is no weights file nowhere.pt"),
        (["resnet34", "some/where"], {}, "there is no weights file some/where"),
        (["resnet34", "DEFAULT"], {}, "no weights file 'DEFAULT', and none are published under that name for resnet34"),
        (
            [nn.Identity()],
            {},
            r"takes the name of a network; a Identity came. A module is wrapped: unitscope.Network\(",
        ),
        (["resnet34"], {"seed": 0.5}, "the seed is 0.5; expected a whole number"),
        (["resnet34"], {"width": 0}, "width=0; expected a whole number of at least 1"),
        (["resnet34"], {"classes": 0}, "classes=0; expected"),
        (["resnet34"], {"size": -1}, "size is -1; expected one whole number of pixels"),
        (["resnet34"], {"mean": (0.5,)}, "mean and std have 1 and 3 numbers"),
        (["torchvision:resnet18"], {"width": 32}, "width is for our own networks"),
        (["shipped:resnet34", "w.pt"], {}, r"comes with its weights; for others: load\('resnet34', weights=FILE\)"),
    ],
)
def test_other_slips(given, options, story):
    with pytest.raises(BadInput, match=story):
        load(*given, **options)


# The pair in the package


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A folder in place of the installed package."""
    (tmp_path / "data").mkdir()
    monkeypatch.setattr(networks.importlib.resources, "files", lambda _: tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["resnet34", "plainnet34"])
def test_the_shipped_pair_is_loaded_by_name(package, name):
    network = load(name, width=2, classes=["a", "b"], size=112)
    save(network, package / "data" / f"{name}_w32_dogs20.safetensors", half=True)
    shipped = load(f"shipped:{name}")
    assert (shipped.name, shipped.weights) == (f"shipped:{name}", f"{name}_w32_dogs20.safetensors")
    assert (shipped.size, shipped.classes) == ((112, 112), ("a", "b"))


@pytest.mark.usefixtures("package")
def test_a_package_without_its_pair_says_so():
    with pytest.raises(
        Failure, match=r"resnet34_w32_dogs20.safetensors is missing from this installation of unitscope. Inst"
    ):
        load("shipped:resnet34")
