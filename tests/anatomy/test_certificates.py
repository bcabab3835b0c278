"""What is proven of a unit holds for every picture (methods 10, checks 28 and 29)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests import wiring
from tests.conftest import needs
from tests.recording.test_replay import network_of
from unitscope.anatomy.bounds import RULES, Operation
from unitscope.anatomy.certificates import certify, proven_values
from unitscope.anatomy.sites import sites
from unitscope.anatomy.trace import record
from unitscope.networks import Network, load
from unitscope.recording.reading import read


def certificates(network: Network):
    return certify(network, sites(network))


def test_the_bound_of_the_first_layer_is_reached_by_the_picture_of_the_boxes_ends() -> None:
    """Whatever its mean and std: the picture with the better end in every pixel drives the unit to its bound."""
    kernels = torch.randn(6, 3, 5, 5, generator=torch.Generator().manual_seed(1))
    network = wiring.wired(kernels, list(np.linspace(-3, 3, 6)), name="random", size=16, stride=2)
    network.mean, network.std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
    found = certificates(network)["conv1"]
    for channel in range(6):
        best = torch.full((1, 3, 16, 16), 0.5)
        best[0, :, 6:11, 6:11] = (kernels[channel] > 0).float()
        corner = torch.full((1, 3, 16, 16), 0.5)
        corner[0, :, :3, :3] = (kernels[channel, :, 2:, 2:] > 0).float()
        inner = float(read(network, best, "conv1")["conv1"][0, channel, 4, 4])
        outer = float(read(network, corner, "conv1")["conv1"][0, channel, 0, 0])
        assert found.highest_possible[channel] >= max(inner, outer)
        assert found.highest_possible[channel] == pytest.approx(max(inner, outer), rel=2e-3, abs=2e-2)
    assert found.kernel_norm == pytest.approx(kernels.flatten(1).norm(dim=1).numpy())
    assert found.offset == pytest.approx(np.linspace(-3, 3, 6), abs=1e-6)


def test_bounds_are_wider_than_the_rounding_of_what_they_are_made_of() -> None:
    """Of 256 sums of 147 products, rounded to float32, nearly half lie below the exact ones; no bound does."""
    kernels = torch.randn(256, 3, 7, 7, generator=torch.Generator().manual_seed(2))
    network = wiring.wired(kernels, [0.0] * 256, name="many", size=16, stride=2)
    network.mean, network.std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
    ends = (torch.tensor([[0.0], [1.0]], dtype=torch.float64) - torch.tensor(network.mean)) / torch.tensor(network.std)
    lowest, highest = (end.double()[None, :, None, None] for end in ends)
    exact = (kernels.double().clamp(min=0) * highest + kernels.double().clamp(max=0) * lowest).sum((1, 2, 3)).numpy()
    found = certificates(network)["conv1"].highest_possible
    assert (found > exact * (1 + 1e-6)).all()
    assert found == pytest.approx(exact, rel=2e-3)


def bounded_and_reached(
    deed,
) -> tuple[np.ndarray, np.ndarray]:
    """The bounds behind an operation, and the highest responses to 400 pictures of all contrasts."""
    torch.manual_seed(0)
    module = OneOperation(deed)
    module.conv.weight.data *= 3
    network = Network(module, size=4, mean=(0.5,) * 3, std=(0.25,) * 3)
    found = list(certificates(network).items())[-1]
    contrast = torch.linspace(0, 1, 400)[:, None, None, None]
    pictures = torch.rand(400, 3, 4, 4) * contrast + 0.5 * (1 - contrast)
    reached = read(network, pictures, found[0])[found[0]]
    return found[1].highest_possible, reached.amax((0, 2, 3)).numpy()


SIGNED = {
    "an average over a negative number": lambda x: F.avg_pool2d(x, 2, divisor_override=-4),
    "an average over a small number": lambda x: F.avg_pool2d(x, 2, divisor_override=1),
    "an average with padding left out": lambda x: F.avg_pool2d(x, 3, 2, 1, True, False),
    "a negative slope": lambda x: F.leaky_relu(x, -0.5),
    "a negative alpha": lambda x: F.elu(x, -2.0),
    "a negative alpha of celu": lambda x: F.celu(x, -2.0),
    "a steep slope": lambda x: F.leaky_relu(x, 3.0),
    "learned slopes": lambda x: F.prelu(x, torch.tensor([-1.0, 0.5, 2.0, 0.0])),
    "a threshold": lambda x: F.threshold(x, 0.5, 7.0),
    "ends the wrong way round": lambda x: x.clamp(1.0, -1.0),
    "a softplus turned round": lambda x: F.softplus(x, -1.0),
    "a softplus that jumps": lambda x: F.softplus(x, 1.0, 0.0),
    "a softplus that jumps down": lambda x: F.softplus(x, 2.0, -3.0),
    "a crop": lambda x: F.pad(x, (-1, 0, 0, -1)) * 1.0,
    "padding with a number": lambda x: F.pad(x, (1, 1, 1, 1), value=50.0) * 1.0,
    "a negative weight between": lambda x: torch.lerp(x, x * 2, -1.5),
    "a negative value of addcmul": lambda x: torch.addcmul(x, x, x, value=-1.0),
    "a square": lambda x: x**2,
    "a cube": lambda x: x**3,
    "a root": lambda x: x.abs() ** 0.5,
    "one over": lambda x: 1 / x,
    "over a negative number": lambda x: x / -3.0,
    "over nothing": lambda x: x / 0,
    "over zero and more": lambda x: x / torch.tensor([0.0, 1.0, -1.0, 2.0]).view(-1, 1, 1),
    "taken off": lambda x: torch.sub(x, x.relu(), alpha=-2.0),
    "taken off twice": lambda x: torch.add(x.relu(), x, alpha=-2.0),
    "taken from": lambda x: torch.rsub(x, 1.0, alpha=2.0),
    "a product with itself": lambda x: x * x,
    "a product of signs": lambda x: x * torch.tensor([-1.0, 0.0, 2.0, -3.0]).view(-1, 1, 1),
    "a negative normalization": lambda x: F.batch_norm(
        x, torch.zeros(4), torch.ones(4), torch.tensor([-1.0, 2.0, 0.0, -3.0])
    ),
    "the lowest": lambda x: -F.max_pool2d(-x, 2),
    "rounded": lambda x: x.round(),
    "hard edges": lambda x: F.hardshrink(x, 0.5) + F.softshrink(x, 0.5),
    "a negative range": lambda x: F.hardtanh(x, -3.0, -1.0),
    "the middle of a sigmoid": lambda x: F.hardsigmoid(-x) - F.sigmoid(-x),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", SIGNED)
def test_no_sign_of_a_parameter_makes_a_bound_too_low(what: str) -> None:
    highest, reached = bounded_and_reached(SIGNED[what])
    assert (np.isnan(highest) | ~(reached > highest)).all(), (highest, reached)


def test_padding_with_zeros_counts_at_the_border() -> None:
    """A unit that is dead inside, and answers in the corner, where zeros stand for the picture it is inhibited by."""
    kernels = -torch.ones(1, 3, 3, 3)
    kernels[0, :, 1, 1] = 1.0
    network = wiring.wired(kernels, [0.0], name="edge", size=8)
    network.mean = (-1.0, -1.0, -1.0)  # as shown, no pixel is below 1
    found = certificates(network)["conv1"]
    inside = 3 * 2.0 - 24 * 1.0
    corner = 3 * 2.0 - 9 * 1.0
    assert inside < corner < 0
    assert found.highest_possible[0] == pytest.approx(corner, abs=1e-3)
    assert found.dead.all()


def test_dead_units_and_why() -> None:
    found = certificates(wiring.dead_network())
    assert found["conv1"].dead.tolist() == [False, True, False, True]
    assert found["relu"].dead.tolist() == [False, True, False, True]
    assert found["conv1"].highest_possible == pytest.approx([1, -0.5, 0.25, 0], abs=1e-3)
    assert found["conv1"].kernel_norm == pytest.approx([27**-0.5, 27**-0.5, 0, 0])
    assert found["relu"].offset == pytest.approx([0, -1.5, 0.25, 0])


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


ROUNDED = {
    "convolution": lambda x: F.conv2d(x, drawn(20, 8, 5, 5, seed=1).to(x), drawn(20, seed=2).to(x)),
    "linear": lambda x: F.linear(x.flatten(1), drawn(50, 800, seed=1).to(x), drawn(50, seed=2).to(x)),
    "batch normalization": lambda x: F.batch_norm(x, drawn(8, seed=1).to(x), drawn(8, seed=2).abs().to(x),
                                                  drawn(8, seed=3).to(x), drawn(8, seed=4).to(x)),
    "average": lambda x: F.avg_pool2d(x, 10),
    "sum": lambda x: x + 0.1,
    "product": lambda x: x * 0.1,
    "sigmoid": torch.sigmoid,
}  # fmt: skip


@pytest.mark.parametrize("kind", ROUNDED)
def test_bounds_contain_the_exact_number_although_the_network_rounds(kind: str) -> None:
    """Of values that are known exactly: the bounds lie apart by what rounding can do, and by hardly more."""
    x = drawn(8, 10, 10)
    module = OneOperation(ROUNDED[kind], before=nn.Identity())
    with torch.no_grad():
        both = torch.stack([x, x])
        program = record(module, both)
        low, high = {value: proven.bounds for value, proven in proven_values(program, both)}[program.output]
        exact = ROUNDED[kind](x[None].double())[0]
    assert (low.double() < exact).all()
    assert (exact < high.double()).all()
    assert (high - low).max() < 0.5


class Normalized(nn.Module):
    """Two layers, both normalized. Of the second: unit 0 has a tiny gain and a low offset (dead), unit 1 the same gain
    and an offset of 1e-8 (numerically dead), unit 2 is ordinary.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3)
        self.relu = nn.ReLU(inplace=True)
        with torch.no_grad():
            self.bn2.weight.copy_(torch.tensor([1e-3, 1e-12, 1.0]))
            self.bn2.bias.copy_(torch.tensor([-10.0, 1e-8, 0.0]))

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x))).mean((2, 3))


def test_a_low_offset_with_a_small_gain_is_proven_dead_behind_a_layer() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Network(Normalized(), size=12, mean=(0.5,) * 3, std=(0.5,) * 3)
    found = certificates(network)
    assert found["bn2"].dead.tolist() == [True, False, False]
    assert found["relu_1"].dead.tolist() == [True, False, False]
    assert found["bn2"].gain == pytest.approx([1e-3, 1e-12, 1.0])
    assert found["bn2"].offset == pytest.approx([-10, 1e-8, 0])
    assert found["bn2"].kernel_norm == pytest.approx(found["conv2"].kernel_norm)
    assert np.isnan(found["mean"].kernel_norm).all()


class Everything(nn.Module):
    """Sums, differences, products, gates, slices, shuffles and in-place operations, with signs of all kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.bn = nn.BatchNorm2d(8)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.scale = nn.Parameter(torch.randn(1, 8, 1, 1))
        self.gate = nn.Conv2d(8, 8, 1)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        y = self.bn(self.conv2(torch.relu(x))) * self.scale
        y -= 0.5 * x
        y = y - torch.nn.functional.silu(x)
        y = torch.cat([y[:, 4:], -y[:, :4]], 1)
        b, c, h, w = y.shape
        y = y.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)
        gate = torch.sigmoid(self.gate(y.mean((2, 3), keepdim=True)))
        y = y * gate
        y += torch.nn.functional.hardtanh(x, -0.3, 0.7)
        up = self.up(y)
        y = torch.nn.functional.max_pool2d(torch.nn.functional.leaky_relu(y), 2) + self.scale / 3
        y = 1 - torch.nn.functional.avg_pool2d(y, 2)
        y = torch.nn.functional.hardswish(y).flatten(2).mean(2) + up.mean((2, 3)).repeat_interleave(2, 1) * 0
        return self.fc(y)


def test_shuffled_channels_are_not_explained_by_the_kernels_of_others() -> None:
    def shuffled(x: Tensor) -> Tensor:
        return x.view(-1, 2, 2, 4, 4).transpose(1, 2).contiguous().view(-1, 4, 4, 4) * 1.0

    found = certificates(Network(OneOperation(lambda x: shuffled(torch.relu(x))), size=4, mean=(0,) * 3, std=(1,) * 3))
    assert not np.isnan(found["relu"].kernel_norm).any()
    assert np.isnan(list(found.values())[-1].kernel_norm).all()
    assert not np.isnan(list(found.values())[-1].highest_possible).any()


@pytest.mark.parametrize("seed", range(3))
def test_no_picture_exceeds_a_bound(seed: int) -> None:
    """Random pictures of all contrasts, and pictures that were made to drive units (ascent along the gradient)."""
    network = network_of(Everything(), size=16)
    with torch.no_grad():
        for parameter in network.module.parameters():
            parameter.mul_(1 + 0.1 * seed)
    found = certificates(network)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(200, 3, 16, 16, generator=generator)
    pictures = torch.cat([noise, noise.round(), torch.zeros(1, 3, 16, 16), torch.ones(1, 3, 16, 16)])
    pictures = torch.cat([pictures, driven(network, "conv1"), driven(network, "bn")])
    responses = read(network, pictures, "*")
    proven = [name for name in responses if not np.isnan(found[name].highest_possible).any()]
    assert {"conv1", "conv2", "bn", "mul", "silu", "cat", "sigmoid", "mul_1", "max_pool2d", "sub_2"} <= set(proven)
    assert not {"repeat_interleave", "fc"} & set(proven)
    for name in proven:
        highest = responses[name].amax((0, 2, 3)).numpy()
        assert (highest <= found[name].highest_possible).all(), name


def driven(network: Network, site: str) -> Tensor:
    """A picture per unit of a site that was moved along the sign of its gradient, ten times."""
    x = torch.full((8, 3, 16, 16), 0.5, requires_grad=True)
    module = network.module
    for _ in range(10):
        value = module.conv1(network.prepare(x))
        value = value if site == "conv1" else module.bn(module.conv2(torch.relu(value)))
        gradient = torch.autograd.grad(value.amax((2, 3)).diagonal().sum(), x)[0]
        x = (x + 0.1 * gradient.sign()).clamp(0, 1).detach().requires_grad_(True)
    return x.detach()


class OneOperation(nn.Module):
    def __init__(self, deed, *, before: nn.Module | None = None) -> None:
        super().__init__()
        self.conv = before or nn.Conv2d(3, 4, 1)
        self.deed = deed

    def forward(self, x: Tensor) -> Tensor:
        return self.deed(self.conv(x))


def overwritten_view(x: Tensor) -> Tensor:
    x.unfold(2, 2, 1).add_(1000)  # a view without a rule; what is written to it counts for the whole
    return x * 1.0


@pytest.mark.parametrize(
    "deed",
    [
        lambda x: x.flip(0) * 1.0,  # other pictures' responses
        lambda x: x.softmax(1) * 1.0,
        lambda x: (x > 0).float() * 1.0,
        lambda x: x.permute(1, 0, 2, 3).contiguous().permute(1, 0, 2, 3) * 1.0,
        lambda x: (x.exp() + 1) * 1.0,
        lambda x: torch.cat([x, x], 0)[:2] * 1.0,
        lambda x: x / (x + 100),
        lambda x: x.add_(torch.tensor([1.0, -1000.0]).reshape(2, 1, 1, 1)) * 1.0,
        overwritten_view,
    ],
)
def test_what_has_no_rule_is_not_proven(deed) -> None:
    network = Network(OneOperation(deed), size=4, mean=(0,) * 3, std=(1,) * 3)
    found = certificates(network)
    assert not np.isnan(found["conv"].highest_possible).any()
    assert np.isnan(list(found.values())[-1].highest_possible).all()


@pytest.mark.parametrize(
    "deed",
    [torch.relu, torch.sigmoid, torch.tanh, nn.functional.silu, nn.functional.gelu, nn.functional.hardswish,
     nn.functional.hardsigmoid, nn.functional.relu6, nn.functional.mish, nn.functional.elu, nn.functional.leaky_relu,
     nn.functional.softplus, lambda x: nn.functional.max_pool2d(x, 2), lambda x: nn.functional.avg_pool2d(x, 2),
     lambda x: x.clamp(0, 1), lambda x: x.clamp_min(0), lambda x: nn.functional.adaptive_avg_pool2d(x, 1),
     lambda x: nn.functional.interpolate(x, scale_factor=2.0), lambda x: x * 2, lambda x: x + 1, lambda x: -x],
)  # fmt: skip
def test_what_is_not_proven_stays_so_through_every_rule(deed) -> None:
    network = Network(OneOperation(lambda x: deed(x.exp())), size=4, mean=(0,) * 3, std=(1,) * 3)
    assert np.isnan(list(certificates(network).values())[-1].highest_possible).all()


def test_nothing_is_proven_behind_a_decision_by_values() -> None:
    def deed(x: Tensor) -> Tensor:
        return x - 100 if float(x.mean()) < 1e9 else x

    found = certificates(Network(OneOperation(deed), size=4, mean=(0,) * 3, std=(1,) * 3))
    assert not np.isnan(found["conv"].highest_possible).any()
    assert np.isnan(found["sub"].highest_possible).all()


def test_bounds_are_computed_in_full_precision_whatever_the_network_is_shown_in(monkeypatch) -> None:
    seen, rule = [], RULES["relu"]

    def watched(operation: Operation) -> Tensor:
        seen.append((torch.get_float32_matmul_precision(), torch.backends.cudnn.enabled))
        return rule(operation)

    monkeypatch.setitem(RULES, "relu", watched)
    network = Network(OneOperation(torch.relu), size=4, mean=(0,) * 3, std=(1,) * 3)
    found = sites(network)
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.enabled
    torch.set_float32_matmul_precision("medium")
    try:
        certify(network, found)
        assert seen == [("highest", False)]
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.enabled) == ("medium", before[1])
    finally:
        torch.set_float32_matmul_precision(before[0])


@needs("torchvision")
@pytest.mark.parametrize("model", ["resnet18", "torchvision:squeezenet1_1", "torchvision:shufflenet_v2_x0_5"])
def test_real_architectures_are_proven_through_and_left_as_they_were(model: str) -> None:
    network = load(model, size=64)
    before = network.fingerprint
    found = certificates(network)
    assert not any(np.isnan(one.highest_possible).any() for one in found.values())
    assert network.fingerprint == before
    pictures = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0)).round()
    for name, responses in read(network, pictures, "*").items():
        assert (responses.amax((0, 2, 3)).numpy() <= found[name].highest_possible).all()


def test_every_rule_is_for_an_operation_that_torch_has() -> None:
    absent = [name for name in RULES if not hasattr(torch.ops.aten, name)]
    assert absent == []
