"""Random networks of what strangers build from: each is read rightly or refused with a story; never a wrong number.

A network is a chain of blocks, each a few lines of what people really write: writes in place, shapes that are read,
modules whose `forward` is called directly, activations made by hand, state, chance, several types, scripts, changes of
the batch. The truth is what plain hooks on a fresh copy hear when one picture is shown in the company of itself. A
chain without any block that joins pictures, remembers or draws must not be refused.
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from tests.strangers import SIZE, conv, norm, pictures
from unitscope.errors import UnitscopeError
from unitscope.networks import Network
from unitscope.recording.reading import read
from unitscope.recording.survey import survey
from unitscope.synthesis.maximize import maximize

COUNT = 5
CHANNELS = 4


class Block(nn.Module):
    """One step from a map of four channels to another, with some parts that it may use."""

    def __init__(self, step: Callable[[Block, Tensor], Tensor], seed: int) -> None:
        super().__init__()
        self.step = step
        self.conv, self.norm = conv(seed=seed), norm(seed=seed)
        self.relu, self.act, self.gate = nn.ReLU(), nn.ReLU(inplace=True), nn.Linear(4, 4)
        with torch.no_grad():
            self.gate.weight.copy_(torch.linspace(-1, 1, 16).view(4, 4))
            self.gate.bias.zero_()
        if step is scripted:
            self.script = torch.jit.script(nn.Sequential(nn.LeakyReLU(0.1), nn.Hardtanh(-2.0, 2.0)))
        self.last: Tensor | None = None
        self.calls = 0
        self.register_buffer("average", torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.step(self, x)


def plain(b: Block, x: Tensor) -> Tensor:
    return b.relu(b.norm(b.conv(x)))


def in_place(b: Block, x: Tensor) -> Tensor:
    return b.act(b.norm(b.conv(x)))


def in_place_function(b: Block, x: Tensor) -> Tensor:
    return functional.relu_(b.conv(x).add_(1).mul_(0.5))


def residual(b: Block, x: Tensor) -> Tensor:
    y = b.norm(b.conv(x))
    y += x
    return b.act(y)


def residual_read_before(b: Block, x: Tensor) -> Tensor:
    y = b.conv(x)
    return b.act(b.norm(y)) + y


def shape_read(b: Block, x: Tensor) -> Tensor:
    y = b.conv(x)
    z = b.act(b.norm(y))
    return z * (y.numel() / z.numel() + y.shape[1]) / 5


def direct_rectifier(b: Block, x: Tensor) -> Tensor:
    return b.relu(b.conv(b.relu.forward(b.norm(x))))


def direct_norm(b: Block, x: Tensor) -> Tensor:
    return b.relu(b.norm(b.conv(b.norm.forward(x))))


def silu_by_hand(b: Block, x: Tensor) -> Tensor:
    y = b.conv(x)
    return y * torch.sigmoid(y)


def gelu_by_hand(b: Block, x: Tensor) -> Tensor:
    y = b.conv(x)
    return 0.5 * y * (1 + torch.erf(y / 2**0.5))


def gate_by_hand(b: Block, x: Tensor) -> Tensor:
    y = b.conv(x)
    pooled = y.mean((2, 3))
    return y * torch.sigmoid(b.gate(pooled))[:, :, None, None] - (pooled * pooled)[:, :, None, None]


def by_view(b: Block, x: Tensor) -> Tensor:
    y = b.relu(b.conv(x))
    return y.view(y.shape[0], -1).view(y.shape)


def by_reshape(b: Block, x: Tensor) -> Tensor:
    return b.conv(x).permute(0, 2, 3, 1).reshape(len(x), -1, 4).sigmoid().permute(0, 2, 1).reshape(x.shape)


def assemble(b: Block, x: Tensor) -> Tensor:
    y = b.conv(x)
    out = torch.empty_like(y)
    out[:, :2], out[:, 2:] = y[:, 2:], y[:, :2] * 0.5
    return b.relu(out)


def write_into_a_view(b: Block, x: Tensor) -> Tensor:
    y = b.conv(x)
    y[:, 0].mul_(2)
    y[:, 1:3, ::2] = 0
    return b.relu(y)


def split_and_join(b: Block, x: Tensor) -> Tensor:
    one, other = b.conv(x).chunk(2, dim=1)
    return b.act(torch.cat([other, one], dim=1))


def shuffle(b: Block, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return b.conv(x).view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def in_other_types(b: Block, x: Tensor) -> Tensor:
    return b.relu(b.conv(x).double().mul(0.5)).float()


def scripted(b: Block, x: Tensor) -> Tensor:
    return b.script(b.conv(x))


@torch.inference_mode()
def inference(b: Block, x: Tensor) -> Tensor:
    return b.relu(b.conv(x))


def squeeze(b: Block, x: Tensor) -> Tensor:
    y = b.conv(x)
    pooled = functional.adaptive_avg_pool2d(y, 1).squeeze()
    return y + b.gate(pooled.view(-1, 4))[:, :, None, None]


def choose_by_value(b: Block, x: Tensor) -> Tensor:
    y = b.conv(x)
    return b.relu(y) if bool(y.isfinite().all()) else y


def count_calls(b: Block, x: Tensor) -> Tensor:
    b.calls += 1
    return b.relu(b.conv(x))


def by_keyword(b: Block, x: Tensor) -> Tensor:
    return b.relu(input=b.norm(input=b.conv(input=x)))


def same_module_twice(b: Block, x: Tensor) -> Tensor:
    return b.act(b.norm(b.conv(b.act(b.norm(b.conv(x))))))


def twice_as_many(b: Block, x: Tensor) -> Tensor:
    one, other = b.relu(torch.cat([x, x.flip(3)])).chunk(2)
    return b.conv(one + other)


def multiply_batch(b: Block, x: Tensor) -> Tensor:
    y = b.conv(x)
    return b.relu(y.repeat_interleave(2, 0).view(len(x), 2, *y.shape[1:]).sum(1))


def center_by_batch(b: Block, x: Tensor) -> Tensor:
    return b.relu(b.conv(x) - x.mean(0, keepdim=True))


def divide_by_batch(b: Block, x: Tensor) -> Tensor:
    return b.relu(b.conv(x)) / (1 + x.abs().amax())


def turn_batch(b: Block, x: Tensor) -> Tensor:
    return b.relu(b.conv(x).flip(0))


def halve_batch(b: Block, x: Tensor) -> Tensor:
    one, other = x.chunk(2) if len(x) > 1 else (x, x)
    return b.act(b.norm(b.conv(one - other)))


def keep_first(b: Block, x: Tensor) -> Tensor:
    return b.relu(b.conv(x[:1]).expand(len(x), -1, -1, -1))


def noise(b: Block, x: Tensor) -> Tensor:
    return b.relu(b.conv(x) + torch.randn_like(x))


def drop_out(b: Block, x: Tensor) -> Tensor:
    return functional.dropout2d(b.conv(x), 0.5, training=True)


def remember(b: Block, x: Tensor) -> Tensor:
    y = b.conv(x)
    y = y if b.last is None or b.last.shape != y.shape else y + b.last
    b.last = y.detach()
    return b.relu(y)


def average_over_time(b: Block, x: Tensor) -> Tensor:
    b.average.lerp_(x.abs().mean().view(1), 0.3)  # type: ignore[operator]
    return b.relu(b.conv(x)) / b.average


STEADY = (
    plain, in_place, in_place_function, residual, residual_read_before, shape_read, direct_rectifier, direct_norm,
    silu_by_hand, gelu_by_hand, gate_by_hand, by_view, by_reshape, assemble, write_into_a_view, split_and_join, shuffle,
    in_other_types, scripted, inference, squeeze, choose_by_value, count_calls, by_keyword, same_module_twice,
)  # fmt: skip
DOUBTFUL = (
    twice_as_many, multiply_batch, center_by_batch, divide_by_batch, turn_batch, halve_batch, keep_first, noise,
    drop_out, remember, average_over_time,
)  # fmt: skip
BY_NAME = {step.__name__: step for step in (*STEADY, *DOUBTFUL)}
CHAINS = st.tuples(
    st.lists(st.sampled_from([step.__name__ for step in STEADY]), min_size=1, max_size=4),
    st.lists(st.sampled_from([step.__name__ for step in (*STEADY, *DOUBTFUL)]), min_size=0, max_size=1),
    st.integers(0, 3),
)


class Chain(nn.Module):
    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.first = conv(3, seed=9)
        self.blocks = nn.ModuleList(Block(BY_NAME[name], seed) for seed, name in enumerate(names))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        return x.mean((2, 3))


def network_of(names: list[str]) -> Network:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit.script is deprecated
        return Network(Chain(names), size=SIZE, mean=(0.5,) * 3, std=(0.25,) * 3, name=" ".join(names))


def heard_by_hooks(names: list[str], shown: Tensor) -> dict[str, Tensor]:
    """What each convolution gives when it is called for the first time, one picture after the other, each in the
    company of itself, on a network made anew for each.
    """
    found: dict[str, list[Tensor]] = {}
    for picture in shown.split(1):
        network, first = network_of(names), dict[str, Tensor]()

        def keep(name: str, first: dict[str, Tensor] = first) -> Callable[..., None]:
            return lambda _module, _given, gives: None if name in first else first.update({name: gives[:1].clone()})

        for name, part in network.module.named_modules():
            if isinstance(part, nn.Conv2d):
                part.register_forward_hook(keep(name))
        with torch.no_grad():
            network.module(network.prepare(torch.cat([picture, picture])))
        for name, value in first.items():
            found.setdefault(name, []).append(value)
    return {name: torch.cat(values) for name, values in found.items()}


def write_pictures(folder: Path, shown: Tensor) -> None:
    for number, picture in enumerate(shown):
        Image.fromarray((picture * 255).round().byte().permute(1, 2, 0).numpy()).save(folder / f"{number}.png")


def check(names: list[str]) -> str:
    """Hold `read`, `survey` and `maximize` against hooks. Returns "right" or the story; anything else is raised."""
    network, shown = network_of(names), pictures(COUNT)
    before = copy.deepcopy(network.module.state_dict())
    truth = heard_by_hooks(names, shown)
    try:
        responses = read(network, shown, "*")
        compare({name: responses[name] for name in truth if name in responses}, truth)
        with tempfile.TemporaryDirectory() as folder:
            (place := Path(folder) / "pictures").mkdir()
            write_pictures(place, shown)
            record = survey(
                network, place, to=Path(folder) / "r", sites="*", resize=SIZE, batch=4, workers=0, responses=True
            )
            for name, value in truth.items():
                if name in record.sites:
                    first = record.sites[name].first_unit
                    peaks = record.array("responses/peak")[first : first + CHANNELS].T
                    np.testing.assert_allclose(peaks, value.amax((2, 3)), rtol=1e-3, atol=1e-4)
        last = max(name for name in truth if name in responses)
        optimum = maximize(network, f"{last}:1", at="center", seeds=1)
        picture = torch.from_numpy(np.ascontiguousarray(optimum.pictures[0, 0]))[None]
        if tuple(picture.shape[2:]) == network.size:
            row, col = responses[last].shape[2] // 2, responses[last].shape[3] // 2
            own = heard_by_hooks(names, picture)[last][0, 1, row, col]
            np.testing.assert_allclose(float(np.ravel(optimum.responses)[0]), float(own), rtol=2e-2, atol=2e-2)
    except UnitscopeError as story:
        assert all(torch.equal(value, before[key]) for key, value in network.module.state_dict().items())
        return str(story)
    assert all(torch.equal(value, before[key]) for key, value in network.module.state_dict().items())
    return "right"


def compare(found: dict[str, Tensor], truth: dict[str, Tensor]) -> None:
    for name, value in found.items():
        np.testing.assert_allclose(value, truth[name], rtol=1e-3, atol=1e-4, err_msg=name)


def hold(chain: tuple[list[str], list[str], int]) -> None:
    names, doubtful, place = chain
    names = [*names[:place], *doubtful, *names[place:]]
    story = check(names)
    if story != "right":
        assert any(BY_NAME[name] in DOUBTFUL for name in names), story


@pytest.mark.parametrize("name", BY_NAME)
def test_each_block_alone(name: str) -> None:
    hold(([name], [], 0))


RELAXED = [HealthCheck.too_slow, HealthCheck.data_too_large]


@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=RELAXED)
@given(chain=CHAINS)
def test_chains_are_read_rightly_or_refused_with_a_story(chain: tuple[list[str], list[str], int]) -> None:
    hold(chain)


@pytest.mark.long
@settings(max_examples=400, deadline=None, suppress_health_check=RELAXED)
@given(chain=CHAINS)
def test_many_chains_are_read_rightly_or_refused_with_a_story(chain: tuple[list[str], list[str], int]) -> None:
    hold(chain)
