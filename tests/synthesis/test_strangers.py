"""Networks as strangers write them: several types, one channel, no gradients, NaN nearby, scripts, `squeeze()`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

import unitscope
from unitscope.errors import BadInput
from unitscope.networks import Network
from unitscope.recording.reading import read
from unitscope.synthesis.ascents import Adam
from unitscope.synthesis.recipes import recipe_of

SIZE = 20


def network(module, *, inputs=3):
    return Network(module.eval(), size=SIZE, mean=[0.5] * inputs, std=[0.25] * inputs)


def quick():
    """A recipe of few steps."""
    from dataclasses import replace

    return replace(recipe_of("kobayashi2020", size=(SIZE, SIZE)), ascent=Adam(steps=4))


def maximized(one, unit, **more):
    """An optimum, after which the response is what the network itself answers to the picture."""
    start = torch.rand(one.inputs, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    (optimum,) = unitscope.maximize(one, unit, recipe=quick(), start=start, after=True, **more)
    assert optimum.moved.all()
    assert optimum.history[0, -1] > optimum.history[0, 0]
    return optimum


def answer(one, optimum, site):
    """What the network answers at the center of its map, by plain reading of the picture on the mean color."""
    x = torch.zeros((2, one.inputs, *one.size))
    top, left, bottom, right = optimum.box
    inside = [max(top, 0), max(left, 0), min(bottom, SIZE), min(right, SIZE)]
    x[:, :, inside[0] : inside[2], inside[1] : inside[3]] = torch.from_numpy(optimum.whitened[0])[
        :, inside[0] - top : inside[2] - top, inside[1] - left : inside[3] - left
    ]
    pictures = x * torch.tensor(one.std).view(1, -1, 1, 1) + torch.tensor(one.mean).view(1, -1, 1, 1)
    maps = read(one, pictures, site)[site]
    return float(maps[0, optimum.channel, maps.shape[2] // 2, maps.shape[3] // 2])


def chain(*, bias=True):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=bias), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()
    )


# Several types (K14)


class HalfInTheMiddle(nn.Module):
    def __init__(self, kind=torch.float16, *, half_first=False):
        super().__init__()
        torch.manual_seed(0)
        if half_first:
            self.two = nn.Conv2d(4, 4, 3, padding=1).to(kind)
        self.one, self.norm, self.relu = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()
        if not half_first:
            self.two = nn.Conv2d(4, 4, 3, padding=1).to(kind)
        self.kind, self.act = kind, nn.ReLU()

    def forward(self, x):
        return self.act(self.two(self.relu(self.norm(self.one(x))).to(self.kind)))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("half_first", [False, True])
def test_each_operation_is_run_in_its_own_type(kind, half_first):
    one = network(HalfInTheMiddle(kind, half_first=half_first))
    assert one.dtype == torch.float32
    optimum = maximized(one, "two:1")
    assert optimum.evaluated_on == "cone"
    assert optimum.responses[0] == pytest.approx(answer(one, optimum, "two"), rel=0.02)
    assert maximized(one, "two:1", bf16=True).evaluated_on == "cone"


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_a_network_of_another_type_than_float32(kind):
    one = network(chain().to(kind))
    assert one.dtype == kind
    optimum = maximized(one, "3:1")
    assert optimum.evaluated_on == "cone"
    assert optimum.responses[0] == pytest.approx(answer(one, optimum, "3"), rel=1e-5 if kind == torch.float64 else 0.02)


def test_where_no_cone_can_be_had_the_picture_is_shown_in_the_networks_type():
    class Softened(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.last = chain(), nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x):
            y = self.inner(x)
            return self.last(F.softmax(y.flatten(2), 2).view_as(y))

    (optimum,) = unitscope.maximize(network(Softened().bfloat16()), "last:1", recipe=quick(), start="noise")
    assert optimum.moved.all()
    assert optimum.evaluated_on.startswith("whole picture")


# One input channel (K15)


@pytest.fixture
def photographs(tmp_path):
    chance = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for number in range(4):
        coarse = chance.integers(0, 256, (5, 5, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((SIZE, SIZE)).save(tmp_path / "images" / f"{number}.png")
    return tmp_path / "images"


def test_natural_stimuli_of_a_network_of_one_channel_are_gray(photographs, tmp_path):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())
    one = network(module, inputs=1)
    record = unitscope.survey(one, photographs, to=tmp_path / "record", resize=SIZE, workers=0, batch=4)
    optima = unitscope.maximize(one, "2:1", recipe=quick(), to=record)
    (score,) = optima.scores.to_dict("records")
    assert score["natural_n"] == 4
    assert np.isfinite(score["natural"])
    assert score["why"] == ""
    start = torch.rand(3, SIZE, SIZE)
    (begun,) = unitscope.maximize(one, "2:1", recipe=quick(), start=start)
    assert begun.pictures.shape[1] == 1


def test_a_start_with_another_number_of_channels_is_refused():
    with pytest.raises(BadInput, match="has 2 channels; the network is shown 3"):
        unitscope.maximize(network(chain()), "0:1", start=torch.rand(2, SIZE, SIZE))


# Gradients (K11, K12)


def switched_off(mode):
    return torch.no_grad() if mode == "no_grad" else torch.inference_mode()


@pytest.mark.parametrize("mode", ["no_grad", "inference_mode"])
def test_gradients_switched_off_by_the_caller_are_switched_on(mode):
    one = network(chain())
    expected = maximized(one, "3:1").whitened
    fresh = network(chain())
    with switched_off(mode):
        assert np.array_equal(maximized(fresh, "3:1").whitened, expected)
        assert not torch.is_grad_enabled()
        (optimum,) = unitscope.maximize(network(chain()), "3:1", recipe=quick(), scores=True)
        assert torch.is_inference_mode_enabled() is (mode == "inference_mode")
    assert optimum.moved.all()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_switched_off_in_the_forward_pass(mode):
    class Served(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = chain()

        @mode()
        def forward(self, x):
            return self.inner(x)

    assert np.array_equal(
        maximized(network(Served()), "inner.3:1").whitened, maximized(network(chain()), "3:1").whitened
    )


def test_weights_made_in_inference_mode():
    with torch.inference_mode():
        module = chain()
    assert np.array_equal(maximized(network(module), "3:1").whitened, maximized(network(chain()), "3:1").whitened)


class Chooses(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.last = chain(), nn.Linear(4, 3)

    def forward(self, x):
        y = self.inner(x).flatten(2)
        return self.last(F.one_hot(y.argmax(1) % 4, 4).float().mean(1))


@pytest.mark.filterwarnings("ignore")
def test_where_no_gradient_leads_to_the_picture_the_story_names_the_operation():
    with pytest.raises(BadInput, match=r"last:1 .*cannot be maximized.*no gradient.*ends at argmax"):
        unitscope.maximize(network(Chooses()), "last:1", recipe=quick())
    maximized(network(Chooses()), "inner.3:1")
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    one = network(torch.ao.quantization.quantize_dynamic(module, {nn.Linear}))
    with pytest.raises(BadInput, match=r"depends on the other pictures"):  # its scale is that of the whole batch
        unitscope.maximize(one, "4:1", recipe=quick())
    maximized(one, "0:1")


def test_what_does_not_depend_on_the_picture_has_a_story():
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

        def forward(self, x):
            return self.two(torch.zeros_like(self.one(x)).mean((2, 3)))

    with pytest.raises(BadInput):
        unitscope.maximize(network(Constant()), "two:1", recipe=quick())


# NaN that nobody reads (K28)


def test_nan_that_the_cone_does_not_read_is_no_obstacle():
    one = network(chain())
    one.module.register_buffer("thresholds", torch.tensor([0.5, torch.nan]))
    one.module[3].weight.data[0] = torch.nan
    maximized(one, "0:1")
    with pytest.raises(BadInput, match=r"the weights 3.weight of Sequential hold NaN or infinity"):
        unitscope.maximize(one, "3:1", recipe=quick())
    one = network(chain())
    one.module[1].running_var.data[2] = torch.nan
    with pytest.raises(BadInput, match=r"the weights 1.running_var of Sequential hold NaN or infinity"):
        unitscope.maximize(one, "3:1", recipe=quick())


def test_nan_behind_what_cannot_be_cut_has_a_story():
    one = network(Chooses())
    one.module.last.weight.data[:] = torch.nan
    with pytest.raises(BadInput, match=r"last of Chooses is NaN or infinite even for a picture of the mean color"):
        unitscope.maximize(one, "last:1", recipe=quick())


# One picture alone (K10)


class Squeezes(nn.Module):
    def __init__(self, *, strict=False):
        super().__init__()
        torch.manual_seed(0)
        self.one, self.relu, self.full, self.act = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(4, 5), nn.ReLU()
        self.strict = strict

    def forward(self, x):
        y = F.adaptive_avg_pool2d(self.relu(self.one(x)), 1).squeeze()
        return self.act(self.full(y.flatten(1) if self.strict else y))


@pytest.mark.parametrize("strict", [False, True])
def test_a_network_that_drops_the_axis_of_one_picture(strict):
    one = network(Squeezes(strict=strict))
    optimum = maximized(one, "full:1")
    assert optimum.responses[0] == pytest.approx(answer(one, optimum, "full"), rel=1e-4)
    maximized(one, "one:1")


# Scripts (K13)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("how", ["script", "trace"])
def test_a_scripted_network_has_the_optima_of_the_plain_one(how):
    module = chain().eval()
    made = torch.jit.script(module) if how == "script" else torch.jit.trace(module, torch.rand(2, 3, SIZE, SIZE))
    one = network(made)
    names = [name for name, site in unitscope.sites(one).items() if site.operation == "conv2d"]
    assert np.allclose(maximized(one, f"{names[1]}:1").whitened, maximized(network(module), "3:1").whitened, atol=1e-4)


# A weight changed without a trace


def test_a_weight_changed_through_data_is_seen():
    one = network(chain())
    before = one.fingerprint
    one.module[0].weight.data[0, 0, 0, 0] += 0.1
    changed = one.fingerprint
    assert changed != before
    weight = one.module[0].weight.data
    weight[0, 0, 0, 0], weight[0, 0, 0, 1] = float(weight[0, 0, 0, 1]), float(weight[0, 0, 0, 0])
    assert one.fingerprint != changed
