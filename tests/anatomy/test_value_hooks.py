"""Listening: every value by torchvision's name, at once, and no trace afterwards."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.conftest import needs
from unitscope.anatomy.sites import sites
from unitscope.anatomy.value_hooks import hook_values
from unitscope.errors import BadInput
from unitscope.residual import resnet


def heard_names(module: nn.Module, *shape: int) -> list[str]:
    names: list[str] = []
    with torch.no_grad(), hook_values(module, lambda name, _: names.append(name)):
        module(torch.zeros(shape))
    return names


def traced_names(module: nn.Module) -> list[str]:
    """Names of torchvision's nodes that hold tensors: not the input, not shapes and parameters."""
    from torchvision.models.feature_extraction import get_graph_node_names

    names = get_graph_node_names(module, suppress_diff_warning=True)[1]
    module.eval()
    words = {name.rsplit(".", 1)[-1] for name in names}
    assert words
    return [name for name in names[1:] if name.rsplit(".", 1)[-1].rstrip("_0123456789") not in NO_TENSORS]


NO_TENSORS = {"size", "getitem", "floordiv", "chunk", "getattr", "eq", "_assert", "dim"}

ZOO = {
    "resnet18": 64, "vgg11_bn": 64, "alexnet": 96, "squeezenet1_1": 64, "googlenet": 64, "mobilenet_v2": 64,
    "inception_v3": 96,
    "densenet121": 64, "shufflenet_v2_x0_5": 64, "mnasnet0_5": 64, "efficientnet_b0": 64, "regnet_y_400mf": 64,
}  # fmt: skip


@needs("torchvision")
@pytest.mark.parametrize("name", ZOO)
def test_names_are_those_of_torchvision(name: str):
    import torchvision.models

    more = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    module = getattr(torchvision.models, name)(weights=None, **more).eval()
    heard = heard_names(module, 2, 3, ZOO[name], ZOO[name])
    assert len(set(heard)) == len(heard)
    wanted = traced_names(module)
    known = set(wanted)
    assert [name for name in heard if name in known] == wanted


@needs("torchvision")
@pytest.mark.usefixtures("unchecked")  # torch.fx calls forward with something that is no tensor
@pytest.mark.parametrize("name", ["resnet18", "plainnet18", "resnet50"])
def test_names_in_our_own_networks_are_exactly_those_of_torchvision(name: str):
    module = resnet(name, width=8).eval()
    assert heard_names(module, 2, 3, 64, 64) == traced_names(module)


class Everything(nn.Module):
    """Functions, operators, methods, repeated modules and tuples, as torch.fx names them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_2 = nn.Conv2d(3, 4, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.scale = nn.Parameter(torch.ones(4, 1, 1))
        self.register_buffer("offset", torch.ones(4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.conv_2(x))
        y += y * self.scale.exp()
        y = y.add_(1) / 2
        y = 1 / (y**2 + self.offset.exp())
        y = y.div(2) - y
        a, b = y.chunk(2, 1)
        y = torch.cat([a, F.relu(b)], 1)
        y = self.act(y) @ y.transpose(2, 3)
        return F.max_pool2d(y[:, 1:], 2).flatten(1)


@needs("torchvision")
def test_names_of_functions_operators_methods_and_tuples():
    module = Everything().eval()
    wanted = [
        "conv", "act", "exp", "mul", "add", "add_", "truediv", "pow", "add_1", "truediv_1", "div", "sub",
        "getitem", "getitem_1", "relu", "cat", "act_1", "transpose", "matmul", "getitem_2", "max_pool2d", "flatten",
    ]  # fmt: skip
    assert heard_names(module, 2, 3, 8, 8) == wanted
    from torchvision.models.feature_extraction import get_graph_node_names

    traced = get_graph_node_names(module)[1]
    assert [name for name in traced if name not in ("x", "scale", "chunk")] == wanted


class Sized(nn.Module):
    """Sums with sizes, which torch.fx counts among the operations, and a tuple that is taken apart further out."""

    def __init__(self) -> None:
        super().__init__()
        self.halves = Halves()
        self.kept: object = None

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        self.kept = h * w
        y = x.reshape(n, c, h * w) * (1 / c) ** 0.5
        y = y[:, :, : 2 * h - x.size(3)] * 2
        a, b = self.halves(y)
        return a * b


class Halves(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return x.chunk(x.shape[2] // 4, 2)


@needs("torchvision")
def test_sums_with_sizes_count_as_they_do_for_torchvision():
    wanted = ["reshape", "mul_2", "getitem_4", "mul_4", "getitem_5", "getitem_6", "mul_5"]
    module = Sized().eval()
    assert heard_names(module, 2, 4, 8, 8) == wanted
    from torchvision.models.feature_extraction import get_graph_node_names

    traced = get_graph_node_names(module)[1]
    assert [name for name in wanted if name not in traced] == []
    assert [name for name in traced if name.startswith("mul")][-1] == "mul_5"


def test_sizes_that_a_network_keeps_are_plain_numbers_again_when_they_travel():
    module = Sized().eval()
    with torch.no_grad(), hook_values(module, lambda *_: None, pristine=False):
        module(torch.randn(2, 4, 8, 8))
    assert module.kept == 64
    assert type(copy.deepcopy(module.kept)) is int
    assert type(module.kept * 2) is int
    assert pickle.loads(pickle.dumps(module)).kept == 64


def test_a_value_is_heard_before_it_is_overwritten():
    module = resnet("resnet18", width=4).eval()
    values: dict[str, Tensor] = {}

    def heard(name: str, value: Tensor) -> None:
        values[name] = value.clone()

    with torch.no_grad(), hook_values(module, heard):
        module(torch.randn(2, 3, 32, 32))
    assert values["bn1"].min() < 0
    assert values["relu"].min() == 0
    torch.testing.assert_close(values["layer1.0.add"], values["layer1.0.bn2"] + values["maxpool"])
    torch.testing.assert_close(values["layer1.0.relu_1"], values["layer1.0.add"].relu())


@pytest.mark.parametrize("name", ["conv1", "relu", "layer1.0.add", "layer1.0.relu_1", "flatten"])
def test_what_is_returned_takes_the_place_of_the_value(name: str):
    module = resnet("resnet18", width=4).eval()
    later: list[Tensor] = []

    def heard(site: str, value: Tensor) -> Tensor | None:
        if site == "fc":
            later.append(value.clone())
        return torch.full_like(value, 2.0) if site == name else None

    with torch.no_grad(), hook_values(module, heard):
        first = module(torch.randn(2, 3, 32, 32))
        second = module(torch.randn(2, 3, 32, 32))
    torch.testing.assert_close(first, second)
    torch.testing.assert_close(later[0], first)


def test_gradients_flow_through_what_was_put_in_place():
    module = resnet("resnet18", width=4).eval()
    noise = torch.zeros(1, requires_grad=True)
    picture = torch.randn(1, 3, 32, 32, requires_grad=True)
    with hook_values(module, lambda name, value: value + noise if name == "layer1.0.relu_1" else None):
        module(picture).sum().backward()
    assert noise.grad is not None
    assert noise.grad.abs() > 0
    assert picture.grad is not None
    assert picture.grad.abs().sum() > 0


def state(module: nn.Module) -> tuple:
    hooks = [
        (len(part._forward_hooks), len(part._forward_pre_hooks), len(part._forward_hooks_always_called), part.training)
        for part in module.modules()
    ]
    return hooks, copy.deepcopy(dict(module.state_dict())), [p.grad for p in module.parameters()]


def same(one: tuple, other: tuple) -> bool:
    return one[0] == other[0] and one[2] == other[2] and all(torch.equal(one[1][key], other[1][key]) for key in one[1])


class Stop(Exception):
    pass


@pytest.mark.parametrize("stop", ["", "conv1", "layer2.0.add"])
def test_the_network_is_left_as_it_was(stop: str):
    module = resnet("resnet18", width=4).eval()
    calls: list[int] = []
    module.fc.register_forward_hook(lambda *_: calls.append(1))
    before = state(module)

    def heard(name: str, _: Tensor) -> None:
        if name == stop:
            raise Stop

    if stop:
        with pytest.raises(Stop), torch.no_grad(), hook_values(module, heard):
            module(torch.zeros(1, 3, 32, 32))
    else:
        with torch.no_grad(), hook_values(module, heard):
            module(torch.zeros(1, 3, 32, 32))
    assert same(before, state(module))
    assert calls == ([] if stop else [1])


def test_after_a_stop_the_next_pass_is_heard_from_its_beginning():
    module = resnet("resnet18", width=4).eval()
    names: list[str] = []

    def heard(name: str, _: Tensor) -> None:
        names.append(name)
        if len(names) == 5:
            raise Stop

    with torch.no_grad(), hook_values(module, heard):
        with pytest.raises(Stop):
            module(torch.zeros(1, 3, 32, 32))
        module(torch.zeros(1, 3, 32, 32))
    assert names[:5] == names[5:10] == ["conv1", "bn1", "relu", "maxpool", "layer1.0.conv1"]


def test_what_heard_computes_is_not_heard():
    module = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU()).eval()
    names: list[str] = []

    def heard(name: str, value: Tensor) -> None:
        names.append(name)
        (value * 2).relu().sum()

    with torch.no_grad(), hook_values(module, heard):
        module(torch.zeros(1, 3, 4, 4))
    assert names == ["0", "1"]


class Parallel(nn.Module):
    """A part of the network is in DataParallel."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.head = nn.DataParallel(nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU())), nn.Conv2d(2, 2, 1)
        self.features.device_ids = []  # as on a machine without several GPUs

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def test_data_parallel_on_one_device_is_looked_into():
    assert heard_names(Parallel(), 1, 3, 4, 4) == ["features.module.0", "features.module.1", "head"]


def test_data_parallel_on_several_devices_is_refused_by_the_name_of_the_part():
    module = Parallel()
    module.features.device_ids = [0, 1]
    for refused, story in (
        (module, r"features is wrapped in nn\.DataParallel on 2 devices.*`model\.features = model\.features\.module`"),
        (module.features, r"the network is wrapped in nn\.DataParallel on 2 devices.*one device: `model\.module`"),
    ):
        with pytest.raises(BadInput, match=story), hook_values(refused, lambda *_: None):
            pass


def test_dropout_in_evaluation_and_identity_are_sites_of_their_own():
    module = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Identity(), nn.Dropout()).eval()
    assert heard_names(module, 1, 3, 4, 4) == ["0", "1", "2"]


class Gained(nn.Module):
    """A block of one's own with a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.gain, self.one, self.relu = nn.Parameter(torch.ones(1)), nn.Conv2d(3, 4, 3), nn.ReLU()
        self.weight = nn.Parameter(torch.ones(2, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.gain * self.one(x)) * self.weight.sum()


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
@pytest.mark.parametrize(
    "bind",
    [
        lambda block: nn.utils.parametrize.register_parametrization(block, "gain", nn.Softplus()),
        nn.utils.parametrizations.weight_norm,
        nn.utils.parametrizations.spectral_norm,
        nn.utils.parametrizations.orthogonal,
        nn.utils.weight_norm,
        nn.utils.spectral_norm,
    ],
)
def test_what_is_in_a_block_with_a_parametrization_is_heard(bind: Callable[[nn.Module], nn.Module]):
    plain, bound = Gained().eval(), Gained().eval()
    bind(bound)
    for wrap in (nn.Sequential, lambda block: block):
        network, expected = (SimpleNamespace(module=wrap(one).eval(), size=(8, 8), inputs=3) for one in (bound, plain))
        assert list(sites(network)) == list(sites(expected))


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
@pytest.mark.parametrize("bind", [nn.utils.parametrizations.weight_norm, nn.utils.weight_norm, nn.utils.spectral_norm])
def test_a_convolution_with_a_parametrization_is_one(bind: Callable[[nn.Module], nn.Module]):
    found = sites(
        SimpleNamespace(module=nn.Sequential(bind(nn.Conv2d(3, 4, 3)), nn.ReLU()).eval(), size=(8, 8), inputs=3)
    )
    assert [(site.name, site.operation) for site in found.values()] == [("0", "conv2d"), ("1", "relu")]
