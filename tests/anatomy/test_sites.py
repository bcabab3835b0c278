"""Sites: names, lattices, readers, and the fields of issue and paper tables; stories for what cannot be looked at."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.conftest import needs
from unitscope.anatomy.sites import sites
from unitscope.errors import BadInput, UnknownName
from unitscope.residual import resnet
from unitscope.vocabulary import Box, Site


def network(module: nn.Module, size: int | tuple[int, int] = 64, inputs: int = 3) -> SimpleNamespace:
    return SimpleNamespace(module=module.eval(), size=(size, size) if isinstance(size, int) else size, inputs=inputs)


@pytest.fixture(scope="module")
def resnet34() -> dict[str, Site]:
    return sites(network(resnet("resnet34"), 224))


@pytest.mark.parametrize(
    ("name", "size", "stride", "start"),
    [
        ("conv1", 7, 2, -3), ("maxpool", 11, 4, -5), ("layer1.0.conv1", 19, 4, -9), ("layer1.0.conv2", 27, 4, -13),
        ("layer1.0.relu_1", 27, 4, -13), ("layer1.1.relu_1", 43, 4, -21), ("layer1.2.relu_1", 59, 4, -29),
        ("layer2.0.downsample.0", 59, 8, -29), ("layer2.0.conv1", 67, 8, -33), ("layer2.0.relu_1", 83, 8, -41),
        ("layer2.3.relu_1", 179, 8, -89), ("layer3.0.relu_1", 227, 16, -113), ("layer3.5.relu_1", 547, 16, -273),
        ("layer4.0.relu_1", 643, 32, -321), ("layer4.2.relu_1", 899, 32, -449),
    ],
)  # fmt: skip
def test_fields_of_resnet34(resnet34, name: str, size: int, stride: int, start: int):
    field = resnet34[name].field()
    assert (field.size, field.stride, field.start, field.status) == ((size,) * 2, (stride,) * 2, (start,) * 2, "exact")


def test_sites_of_resnet34_know_their_place(resnet34):
    site = resnet34["layer1.0.relu_1"]
    assert (site.channels, site.lattice, site.operation, site.channel_axis) == (64, (56, 56), "relu", 1)
    assert site.readers == ("conv2d", "add")
    assert not site.preactivation
    assert [name for name, one in resnet34.items() if one.preactivation][:4] == [
        "bn1",
        "layer1.0.bn1",
        "layer1.0.add",
        "layer1.1.bn1",
    ]
    assert sum(one.preactivation for one in resnet34.values()) == 33
    assert list(resnet34)[:5] == ["conv1", "bn1", "relu", "maxpool", "layer1.0.conv1"]
    assert resnet34["avgpool"].field().status == "whole image"
    assert resnet34["fc"].lattice == (1, 1)
    assert resnet34["fc"].box(0, 0) == Box(0, 0, 224, 224)


def test_a_box_hangs_over_the_edge_where_the_field_does(resnet34):
    site = resnet34["maxpool"]
    assert site.box(0, 0) == Box(-5, -5, 6, 6)
    assert site.box(28, 28) == Box(107, 107, 118, 118)
    assert resnet34["layer1.2.relu_1"].box(28, 28) == Box(83, 83, 142, 142)


def test_clipping_at_every_layer_is_not_clipping_at_the_picture():
    """A 1 x 1 convolution with stride 2 on an even size leaves the last column unseen (methods 1.3)."""
    module = nn.Sequential(nn.Conv2d(3, 2, 1, stride=2), nn.Conv2d(2, 2, 3, padding=1))
    site = sites(network(module, 8))["1"]
    assert site.field().box(3, 3) == Box(4, 4, 9, 9)
    assert site.box(3, 3) == Box(4, 4, 7, 7)
    assert site.box(0, 3) == Box(-2, 4, 3, 7)


class TwoBranches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(3, 2, (5, 1), padding=(4, 0))
        self.narrow = nn.Conv2d(3, 3, (3, 1), padding=(0, 0))

    def forward(self, x: Tensor) -> Tensor:
        wide = self.wide(x)[:, :, : x.shape[2]]
        narrow = F.pad(self.narrow(x), (0, 0, 0, 2))
        return torch.cat([wide, narrow], 1)


def test_channels_differ_where_branches_are_concatenated():
    """Methods, check 3: one branch covers [-4, 0], the other [0, 2]: together 7 rows, apart 5 and 3."""
    site = sites(network(TwoBranches(), 16))["cat"]
    assert (site.field(channel=0).size, site.field(channel=0).start) == ((5, 1), (-4, 0))
    assert (site.field(channel=4).size, site.field(channel=4).start) == ((3, 1), (0, 0))
    assert (site.field().size, site.field().start) == ((7, 1), (-4, 0))
    assert site.box(8, 8, channel=0) == Box(4, 8, 9, 9)
    assert site.box(8, 8, channel=4) == Box(8, 8, 11, 9)


def test_adaptive_pooling_reads_uneven_windows():
    """Methods, check 4: 7 positions pooled to 3 are [0, 2], [2, 4], [4, 6]."""
    site = sites(network(nn.Sequential(nn.AdaptiveAvgPool2d(3)), 7))["0"]
    assert [site.box(row, 0)[::2] for row in range(3)] == [(0, 3), (2, 5), (4, 7)]


def test_stories_for_places_that_are_not_there(resnet34):
    site = resnet34["maxpool"]
    with pytest.raises(BadInput, match=r"maxpool has no channel 64: its channels are 0 to 63"):
        site.field(channel=64)
    with pytest.raises(BadInput, match=r"maxpool has no neuron at 56,0: its lattice is 56 x 56, counted from 0,0"):
        site.box(56, 0)


@pytest.mark.usefixtures("unchecked")
def test_the_network_is_left_as_it_was():
    module = resnet("resnet18", width=4).eval()
    before = copy.deepcopy(module.state_dict())
    sites(network(module))
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    assert not any(part.training or part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in module.parameters())


def test_training_mode_is_refused():
    module = network(resnet("resnet18", width=4))
    module.module.train()
    with pytest.raises(BadInput, match=r"bn1 normalizes by the statistics of the batch.*Call `module\.eval\(\)` first"):
        sites(module)


def test_too_small_a_picture_is_refused():
    module = nn.Sequential(nn.Conv2d(3, 2, 5), nn.MaxPool2d(4), nn.Conv2d(2, 2, 3)).eval()
    with pytest.raises(BadInput, match=r"Sequential cannot be run on a picture of 6 x 6 pixels and 3 channels"):
        sites(network(module, 6))


class NeedsMore(nn.Module):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return x * mask


def test_a_network_that_needs_other_inputs_is_refused():
    with pytest.raises(BadInput, match=r"needs more than a picture has to be wrapped"):
        sites(network(NeedsMore()))


class ReturnsMuch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)

    def forward(self, x: Tensor) -> dict[str, object]:
        y = self.conv(x)
        return {"first": y, "others": (y.relu(), [y.tanh()])}


def test_dictionaries_and_tuples_as_outputs_are_fine():
    found = sites(network(ReturnsMuch()))
    assert list(found) == ["conv", "relu", "tanh"]
    assert found["conv"].readers == ("relu", "tanh")


class LooksAtValues(nn.Module):
    """Two convolutions, the second chosen by what `look` finds in the first one's values."""

    def __init__(self, look: Callable[[Tensor, nn.Module], object]) -> None:
        super().__init__()
        self.look = look
        self.stem = nn.Conv2d(3, 2, 3)
        self.narrow, self.wide = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 5, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        y = self.wide(y) if self.look(y, self) else self.narrow(y)
        return y.relu()


def fails(_: object) -> bool:
    raise ValueError


BY = {"flatten": "flatten by Python", "sum": "sum by numpy"}

CHOICES: dict[str, Callable[[Tensor, nn.Module], object]] = {
    "gt": lambda y, _: y.mean() > 1e9,
    "mean": lambda y, _: y.mean().item() > 1e9,
    "max": lambda y, _: int(y.max()) > 10**6,
    "flatten": lambda y, _: max(y.flatten().tolist()) > 1e9,
    "sum": lambda y, _: np.asarray(y.sum()) > 1e9,
    "nonzero": lambda y, _: len((y > 1e9).nonzero()),
    "lt": lambda y, _: y.mean() > 1e9 if not y.mean() < 1e9 else False,
    "le": lambda y, _: False if y.mean() <= 1e9 else True if y.mean() > 1e9 else fails(y),
}


@pytest.mark.parametrize("what", CHOICES)
def test_nothing_is_claimed_of_what_runs_after_a_choice_by_the_picture(what: str):
    found = sites(network(LooksAtValues(CHOICES[what]), 16))
    what = {"flatten": "flatten by Python", "sum": "sum by numpy"}.get(what, what)
    assert (found["stem"].field().size, found["stem"].field().status) == ((3, 3), "exact")
    for name in ("narrow", "relu"):
        assert found[name].field().status == "unknown"
        assert found[name].field(at="stem").status == "unknown"
        assert found[name].field(gating=False).status == "unknown"
        told = BY.get(what, what)
        assert found[name].field().cause == (
            f"the network looks at values ({told}) to choose its path; this is its path for a gray picture"
        )
        assert found[name].box(0, 0) == Box(0, 0, 16, 16)


CHECKS: dict[str, Callable[[Tensor, nn.Module], object]] = {
    "an assertion": lambda y, _: fails(y) if y.max() > 1e9 else False,
    "two assertions": lambda y, _: fails(y) if y.max() > 1e9 or not (y > -1e9).all() else False,
    "isnan": lambda y, _: y.isnan().any(),
    "isfinite": lambda y, _: not torch.isfinite(y).all(),
    "counted": lambda y, _: y.isinf().sum().item() > 3,
    "a parameter": lambda _, module: module.stem.weight.sum() > 1e9,
    "a shape": lambda y, _: y.shape[2] > 100,
    "a constant": lambda y, _: torch.zeros_like(y).sum() > 1,
}


@pytest.mark.parametrize("check", CHECKS)
def test_checks_and_constants_choose_nothing(check: str):
    found = sites(network(LooksAtValues(CHECKS[check]), 16))
    assert [(one.field().size, one.field().status) for one in (found["narrow"], found["relu"])] == [
        ((5, 5), "exact")
    ] * 2


@pytest.mark.parametrize("inputs", [1, 12])
def test_any_number_of_inputs_and_pictures_that_are_not_square(inputs: int):
    found = sites(
        network(nn.Sequential(nn.Conv2d(inputs, 2, (3, 5), stride=(1, 2), dilation=(2, 1))), (31, 20), inputs)
    )
    field = found["0"].field()
    assert (field.size, field.stride, field.start) == ((5, 5), (1, 2), (0, 0))
    assert found["0"].lattice == (27, 8)


@needs("torchvision")
def test_sites_without_a_single_channel_axis_are_left_out():
    import torchvision.models

    found = sites(network(torchvision.models.swin_t(weights=None), 64))
    assert found["features.0.0"].channel_axis == 1
    assert found["features.1.0.add"].channel_axis == 3
    assert found["features.1.0.add"].lattice == (16, 16)


def test_fields_on_the_lattice_of_an_earlier_site(resnet34_network):
    """Two 3 x 3 convolutions further, the first with stride 2: 3 + 2 x 2 = 7."""
    found = sites(resnet34_network)
    site = found["layer3.0.relu_1"]
    field = site.field(at="layer2.3.relu_1")
    assert (field.size, field.stride, field.start, field.status) == ((7, 7), (2, 2), (-3, -3), "exact")
    assert site.box(0, 0, at="layer2.3.relu_1").clip((28, 28)) == Box(0, 0, 4, 4)
    assert found["layer2.3.relu_1"].field(at="layer2.3.relu_1").size == (1, 1)


@pytest.fixture(scope="module")
def resnet34_network() -> SimpleNamespace:
    return network(resnet("resnet34", width=2), 224)


def test_sites_that_do_not_depend_on_the_other_are_refused(resnet34_network):
    found = sites(resnet34_network)
    with pytest.raises(
        BadInput, match=r"maxpool does not depend on layer1\.0\.conv1: it runs before it or on another branch"
    ):
        found["maxpool"].field(at="layer1.0.conv1")
    with pytest.raises(UnknownName, match=r"has no site 'layer1\.0\.rely'. Close: 'layer1\.0\.relu'"):
        found["fc"].field(at="layer1.0.rely")


def test_the_projective_field_is_the_receptive_field_turned_round(resnet34_network):
    """Pixels at every place within the stride of 4, for one of them only is the last of a field's."""
    site = sites(resnet34_network)["layer1.0.relu_1"]
    boxes = {(row, col): site.box(row, col) for row in range(56) for col in range(56)}
    for y, x in [(100, 3), (101, 1), (102, 2), (103, 0), (0, 223), (223, 100)]:
        sees = [at for at, box in boxes.items() if box.top <= y < box.bottom and box.left <= x < box.right]
        rows, cols = zip(*sees, strict=True)
        assert site.reached_by(y, x) == Box(min(rows), min(cols), max(rows) + 1, max(cols) + 1)


@pytest.mark.parametrize(("stride", "taps"), [(1, 3), (2, 3), (2, 2), (3, 2)])
def test_the_projective_field_of_every_pixel_by_looking_at_every_box(stride: int, taps: int):
    """Also of pixels just beyond a field, and of such as nobody sees."""
    site = sites(network(nn.Conv2d(3, 2, (taps, taps + 1), stride=(stride, stride + 1)), (11, 13)))["conv2d"]
    for row in range(11):
        for col in range(13):
            seen = [
                (i, j) for i in range(site.lattice[0]) for j in range(site.lattice[1])
                if (box := site.box(i, j)).top <= row < box.bottom and box.left <= col < box.right
            ]  # fmt: skip
            rows, cols = [i for i, _ in seen], [j for _, j in seen]
            expected = Box(rows[0], min(cols), rows[-1] + 1, max(cols) + 1) if seen else Box(0, 0, 0, 0)
            assert site.reached_by(row, col) == expected


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.squeeze = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y * self.squeeze(F.adaptive_avg_pool2d(y, 1)).sigmoid()


def test_squeeze_and_excitation_with_and_without_its_gates():
    site = sites(network(Gated(), 16))["mul"]
    assert site.field().status == "whole image"
    assert site.box(5, 5) == Box(0, 0, 16, 16)
    ungated = site.field(gating=False)
    assert (ungated.size, ungated.start, ungated.status) == ((3, 3), (-1, -1), "exact")
    assert site.box(0, 5, gating=False) == Box(-1, 4, 2, 7)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_scripted_modules_within_a_network():
    scripted = torch.jit.script(nn.Sequential(nn.Conv2d(2, 2, 3), nn.ReLU()))
    module = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), scripted, nn.Conv2d(2, 2, 3))
    found = sites(network(module, 16))
    assert found["2"].field().size == (7, 7)
    assert [name for name in found if name.startswith("1")] == ["1.conv2d", "1.relu"]
    assert found["1.conv2d"].preactivation
    assert found["1.relu"].field().size == (5, 5)


def test_what_a_site_says_of_itself(resnet34):
    site = resnet34["maxpool"]
    assert repr(site) == (
        "Site('maxpool': max_pool2d, 64 channels on 56 x 56, field ReceptiveField(size=(11, 11), stride=(4, 4), "
        "start=(-5, -5), status='exact'))"
    )
    assert "<caption>maxpool</caption>" in site._repr_html_()
    assert "<b>11 x 11</b> px, moving by 4 x 4" in site.field()._repr_html_()
    assert resnet34["avgpool"].field()._repr_html_().endswith("whole image <small>(mean)</small>")


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_fields_behind_upsampling_are_upper_bounds_and_their_boxes_exact(mode: str):
    class Up(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.interpolate(F.max_pool2d(x, 2), scale_factor=2.0, mode=mode)

    site = sites(network(Up(), 8))["interpolate"]
    assert site.field().status == "upper bound"
    assert site.field().cause == "upsampling: fields differ along the lattice"
    assert site.box(3, 3) == (Box(2, 2, 4, 4) if mode == "nearest" else Box(2, 2, 6, 6))


def test_an_operation_without_a_rule_is_unknown_and_named():
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.linalg.matrix_exp(x)

    site = sites(network(Odd(), 8))["linalg_matrix_exp"]
    assert site.field().status == "unknown"
    assert "matrix exp" in site.field().cause


def test_what_reads_a_flattened_map_sees_the_whole_image():
    module = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.Flatten(), nn.Linear(128, 4))
    found = sites(network(module, 8))
    assert found["1"].box(0, 0, channel=9) == Box(0, 0, 3, 3)
    assert (found["2"].field().status, found["2"].field().size) == ("whole image", (8, 8))


@pytest.mark.filterwarnings("ignore")
def test_what_was_exported_for_a_fixed_number_of_pictures_is_refused():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    for count, story in ((1, "a batch of 1 picture,"), (2, "a batch of 2 pictures,")):
        fixed = torch.export.export(module, (torch.rand(count, 3, 8, 8),)).module()
        for part in (fixed, nn.Sequential(fixed)):
            with pytest.raises(BadInput, match=f"exported for {story}"):
                sites(SimpleNamespace(module=part, size=(8, 8), inputs=3))
    free = torch.export.export(module, (torch.rand(2, 3, 8, 8),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    assert list(sites(SimpleNamespace(module=free.module(), size=(8, 8), inputs=3))) == ["conv2d", "relu"]
    assert list(sites(network(torch.fx.symbolic_trace(module), 8))) == ["0", "1"]


def test_a_network_without_weights_is_refused():
    with pytest.raises(BadInput, match=r"0\.weight is on the meta device"):
        sites(network(nn.Sequential(nn.Conv2d(3, 4, 3)).to("meta"), 8))


class Causal(nn.Conv2d):
    """Rows below, and the rest of the row, are masked."""

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.ones(7, 7)
        mask[3, 3:], mask[4:] = 0, 0
        return F.conv2d(x, self.weight * mask, self.bias, padding=3)


def test_exact_fields_behind_masked_kernels_say_that_sizes_count():
    found = sites(network(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), Causal(4, 4, 7), nn.ReLU()), 32))
    before, behind = found["1"].field(), found["3"].field()
    assert (before.status, before.cause) == ("exact", "")
    assert (behind.size, behind.status) == ((9, 9), "exact")
    assert behind.cause.startswith("by the kernels' sizes; outer taps of a kernel before it are 0")
