"""Optimal stimuli whose answer is known, and that nothing else matters: batch, order, interruption."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.conftest import needs
from tests.synthesis.networks import Gated, Shuffled, lively, plain, small_resnet
from tests.wiring import dead_network, wired
from unitscope.errors import BadInput, Failure, UnknownName
from unitscope.networks import Network, load
from unitscope.optima import Optima, read_optima
from unitscope.recording.reading import read
from unitscope.synthesis.ascents import Adam
from unitscope.synthesis.canvases import Scene, WhitenedPixels
from unitscope.synthesis.evaluators import make_evaluator
from unitscope.synthesis.maximize import load_photograph, maximize
from unitscope.synthesis.network_cache import cache_of
from unitscope.synthesis.objectives import Objective, neuron, unit
from unitscope.synthesis.recipes import contrast, kobayashi2020


def random_kernels(units: int = 3, side: int = 7) -> torch.Tensor:
    return torch.randn((units, 3, side, side), generator=torch.Generator().manual_seed(5))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


def test_at_fixed_contrast_a_linear_unit_orders_its_kernel() -> None:
    """Ground truth 17: x = rho w / |w|, f = rho |w| + b; mean 0.5 so that the box of 0..1 is far away."""
    kernels = random_kernels()
    network = wired(kernels, [0.5, -1.0, 0.0], name="linear")
    network.mean = (0.5, 0.5, 0.5)
    found = maximize(network, "conv1:*", recipe=contrast(0.02))
    rho = 0.02 * kernels[0].numel() ** 0.5
    for channel, bias in enumerate((0.5, -1.0, 0.0)):
        picture, kernel = found.whitened[channel, 0], kernels[channel].numpy()
        assert cosine(picture, kernel) > 0.9999
        np.testing.assert_allclose(found.responses[channel, 0], rho * np.linalg.norm(kernel) + bias, rtol=1e-4)


def test_the_antipreferred_picture_of_a_linear_unit_is_the_kernel_turned_round() -> None:
    network = wired(random_kernels(), name="linear")
    network.mean = (0.5, 0.5, 0.5)
    found = maximize(network, "conv1:0", recipe=contrast(0.02), pole="antipreferred")
    assert cosine(found.whitened[0, 0], random_kernels()[0].numpy()) < -0.9999
    assert found.responses[0, 0] < 0


def test_kobayashis_recipe_gives_3_1_times_the_signs_of_the_kernel() -> None:
    """Ground truth 18: every step of Adam is 0.1 sign(w)."""
    kernels = random_kernels()
    found = maximize(wired(kernels, name="linear"), "conv1:*", recipe="kobayashi2020")
    np.testing.assert_allclose(found.whitened[:, 0], 3.1 * kernels.sign().numpy(), atol=1e-3)
    assert found.history.shape == (3, 1, 32)


def test_outside_the_units_own_field_nothing_moves() -> None:
    """Ground truth 18, second half: channels of a concatenation see different boxes, and share a picture."""

    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.narrow, self.wide = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 5, padding=2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([self.narrow(x), self.wide(x)], 1).mean((2, 3))

    for recipe in ("kobayashi2020", "contrast"):
        found = maximize(plain(Branches()), "cat:0-3", recipe=recipe)
        assert found.whitened.shape == (4, 1, 3, 5, 5)
        moved = found.whitened[:, 0].any(1).sum((1, 2))
        assert moved.tolist() == [1, 1, 25, 25]


def test_a_dead_start_after_the_nonlinearity_does_not_move_and_says_why() -> None:
    """Ground truth 19."""
    network = dead_network()
    after = maximize(network, "relu:1", recipe="kobayashi2020", after=True)
    before = maximize(network, "relu:1", recipe="kobayashi2020")
    assert (after.moved[0, 0], before.moved[0, 0]) == (False, True)
    assert "gradient was 0" in after[0].reason
    assert not after.whitened.any()
    assert before.responses[0, 0] > -1.5


def test_a_unit_everywhere_is_the_sign_of_its_taps_summed_per_phase() -> None:
    """Ground truth 20: with stride 2 each interior pixel meets the taps of its phase only."""
    kernels = random_kernels(1, side=5)
    network = wired(kernels, name="linear", stride=2)
    found = maximize(network, "conv1:0", at="all", recipe="kobayashi2020")
    inside = found.whitened[0, 0][:, 8:24, 8:24]
    for row in (0, 1):
        for col in (0, 1):
            taps = kernels[0][:, row::2, col::2].sum((1, 2))  # padding 2 keeps even pixels on even taps
            expected = 3.1 * taps.sign().numpy()[:, None, None] * np.ones((1, 8, 8))
            np.testing.assert_allclose(inside[:, row::2, col::2], expected, atol=1e-3)


def test_interior_positions_order_the_same_picture() -> None:
    """Ground truth 21: transfer 1 between interior positions."""
    network = small_resnet()
    found = maximize(network, [f"layer1.0.add:3@{at}" for at in ("11,11", "12,9", "13,14")], recipe="kobayashi2020")
    np.testing.assert_allclose(found.whitened[1:], found.whitened[[0, 0]], atol=1e-5)
    np.testing.assert_allclose(found.responses[1:], found.responses[[0, 0]], rtol=1e-5)


def whole_picture(network: Network, found: Optima, number: int) -> torch.Tensor:
    """An optimum in its place, the mean color around it."""
    box = found.boxes[number]
    seen = box.clip(network.size)
    x = torch.zeros(1, network.inputs, *network.size)
    part = torch.from_numpy(found[number].whitened[:1])
    x[:, :, seen.top : seen.bottom, seen.left : seen.right] = part[
        :, :, seen.top - box.top : seen.bottom - box.top, seen.left - box.left : seen.right - box.left
    ]
    mean, std = (torch.tensor(n).view(1, -1, 1, 1) for n in (network.mean, network.std))
    return x * std + mean


@pytest.mark.parametrize("at", [(12, 12), (0, 0), (23, 23), (0, 12), (23, 5)])
@pytest.mark.parametrize("recipe", ["kobayashi2020", "contrast"])
def test_responses_are_those_to_the_whole_picture(at: tuple[int, int], recipe: str) -> None:
    network = small_resnet()
    found = maximize(network, "layer1.1.add:2-3", at=at, recipe=recipe)
    for number, channel in enumerate((2, 3)):
        responses = read(network, whole_picture(network, found, number), "layer1.1.add")["layer1.1.add"]
        np.testing.assert_allclose(found.responses[number, 0], float(responses[0, channel, at[0], at[1]]), rtol=1e-4)


def test_it_finds_what_the_plain_way_finds() -> None:
    """The oracle: one unit, the whole network, the whole picture, torch's own Adam."""
    network = small_resnet.__wrapped__()
    found = maximize(network, "layer1.1.relu_1:4", recipe="kobayashi2020")
    x = torch.zeros(1, 3, 96, 96, requires_grad=True)
    adam = torch.optim.Adam([x], lr=0.1, weight_decay=1e-6)
    kept: list[torch.Tensor] = []
    handle = network.module.layer1[1].bn2.register_forward_hook(lambda m, i, o: kept.append(o))
    identity = network.module.layer1[1].register_forward_pre_hook(lambda m, i: kept.append(i[0].clone()))
    for _ in range(31):
        kept.clear()
        adam.zero_grad()
        network.module(x * 1.0)
        before = kept[0][0, 4, 12, 12] + kept[1][0, 4, 12, 12]
        (-before).backward()
        last = before.item()
        adam.step()
    handle.remove()
    identity.remove()
    box = found.boxes[0]
    there = x.detach()[0, :, box.top : box.bottom, box.left : box.right].numpy()
    assert cosine(found.whitened[0, 0], there) > 0.999
    assert abs(last - found.history[0, 0, 30]) < 1e-2 * abs(last)


def test_a_result_does_not_depend_on_what_else_is_in_the_batch() -> None:
    network = small_resnet()
    alone = maximize(network, "layer1.0.add:3", seeds=2)
    among = maximize(network, "layer1.0.add:*", seeds=2, batch=6)
    np.testing.assert_allclose(among["layer1.0.add:3"].whitened, alone[0].whitened, atol=1e-4)


def test_seeds_differ_and_come_again() -> None:
    network = small_resnet()
    first, again, other = (maximize(network, "layer1.0.add:3", seeds=2, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first.whitened, again.whitened)
    assert not np.allclose(first.whitened, other.whitened)
    assert not np.allclose(first.whitened[0, 0], first.whitened[0, 1])


def test_sums_and_differences_of_units_and_sets_of_positions() -> None:
    kernels = random_kernels()
    network = wired(kernels, name="linear")
    difference = neuron("conv1:0") - 0.5 * neuron("conv1:2")
    pair = neuron("conv1:1", at=[(16, 16), (16, 17)])
    found = maximize(network, [difference, pair], recipe="kobayashi2020")
    assert found.units == ("conv1:0 - 0.5*conv1:2", "conv1:1@16,16+16,17")
    np.testing.assert_allclose(found[0].whitened[0], 3.1 * (kernels[0] - 0.5 * kernels[2]).sign().numpy(), atol=1e-3)
    assert found[1].whitened.shape == (1, 3, 7, 8)


def test_logits_are_reached_on_the_whole_picture() -> None:
    network = small_resnet()
    found = maximize(network, "logits:2", recipe="kobayashi2020")
    assert found.units == ("fc:2",)
    assert found[0].evaluated_on.startswith("whole picture")
    assert found.responses[0, 0] > found.history[0, 0, 0] + 1
    logits = network.module(torch.from_numpy(found[0].whitened))
    np.testing.assert_allclose(found.responses[0, 0], float(logits[0, 2].detach()), rtol=1e-4)


@pytest.mark.parametrize(
    ("module", "site", "way"), [(Gated(), "conv2", "cone (whole image"), (Shuffled(), "conv2", "aligned")]
)
def test_what_cannot_be_cut_is_heard_on_a_crop_or_the_whole_picture(module: nn.Module, site: str, way: str) -> None:
    network = plain(module)
    found = maximize(network, f"{site}:1", recipe="kobayashi2020")
    assert found[0].evaluated_on.startswith(way)
    row, col = (n // 2 for n in read(network, torch.zeros(1, 3, 32, 32), site)[site].shape[2:])
    answer = read(network, whole_picture(network, found, 0), site)[site][0, 1, row, col]
    np.testing.assert_allclose(found.responses[0, 0], float(answer), rtol=1e-4)


def test_the_network_is_left_as_it_was() -> None:
    network = small_resnet.__wrapped__()
    before = copy.deepcopy(network.module.state_dict())
    needing = [p.requires_grad for p in network.module.parameters()]
    maximize(network, ["layer1.0.relu_1:0", "fc:1"], recipe="kobayashi2020")
    assert all(torch.equal(before[name], value) for name, value in network.module.state_dict().items())
    assert [p.requires_grad for p in network.module.parameters()] == needing
    assert all(p.grad is None for p in network.module.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.module.modules())


def test_the_optima_are_kept_and_resumed(tmp_path: Path) -> None:
    network = small_resnet()
    whole = maximize(network, ["maxpool:*", "layer1.0.add:0"], seeds=2, to=tmp_path / "whole")

    def stop(done: int, _: int) -> None:
        if done:
            raise KeyboardInterrupt

    arguments = {"seeds": 2, "to": tmp_path / "cut", "batch": 4}
    with pytest.raises(KeyboardInterrupt):
        maximize(network, ["maxpool:*", "layer1.0.add:0"], progress=stop, **arguments)
    kept = read_optima(tmp_path / "cut" / "optima" / "contrast-preferred")
    assert kept.units == ("maxpool:0", "maxpool:1")
    resumed = maximize(network, ["maxpool:*", "layer1.0.add:0"], **arguments)
    assert resumed.units == whole.units
    for one, other in zip(resumed, whole, strict=True):
        np.testing.assert_allclose(one.whitened, other.whitened, atol=1e-4)
    assert (tmp_path / "cut/optima/contrast-preferred/maxpool/7.png").is_file()
    with pytest.raises(Failure, match=r"made otherwise \(seeds differ"):
        maximize(network, "maxpool:0", seeds=3, to=tmp_path / "cut")


def test_half_precision_climbs_and_measures_in_full() -> None:
    network = small_resnet()
    half, full = (maximize(network, "layer1.0.add:3", recipe="kobayashi2020", bf16=bf16) for bf16 in (True, False))
    assert half.responses[0, 0] > 0.9 * full.responses[0, 0]
    answer = read(network, whole_picture(network, half, 0), "layer1.0.add")["layer1.0.add"][0, 3, 12, 12]
    np.testing.assert_allclose(half.responses[0, 0], float(answer), rtol=1e-4)


@pytest.mark.parametrize("recipe", ["zipser2015", "spectrum", "contrast", "kobayashi2020"])
def test_every_recipe_climbs_and_stays_within_its_bounds(recipe: str) -> None:
    from unitscope.synthesis.recipes import recipe_of

    made = recipe_of(recipe)
    made = replace(made, ascent=replace(made.ascent, steps=min(made.ascent.steps, 100)))
    found = maximize(small_resnet(), "layer1.0.add:3", recipe=made, seeds=2)
    assert (found.responses > found.history[:, :, 0]).all()
    assert recipe == "kobayashi2020" or found[0].clipped == 0


def test_a_photograph_is_accentuated_where_the_neuron_looks() -> None:
    network = small_resnet()
    photograph = torch.rand(3, 96, 96, generator=torch.Generator().manual_seed(0))
    found = maximize(network, "layer1.0.add:3", recipe="kobayashi2020", start=photograph)
    box = found.boxes[0]
    part = network.prepare(photograph[None])[0, :, box.top : box.bottom, box.left : box.right].numpy()
    assert cosine(found.whitened[0, 0] - found.whitened[0, 0].mean(), part - part.mean()) > 0.2
    assert np.abs(found.whitened[0, 0] - part).max() <= 3.5


def test_a_recipe_of_ones_own() -> None:
    from unitscope.synthesis.recipes import Recipe, zeros

    def total_variation(x: torch.Tensor) -> torch.Tensor:
        return x.diff(dim=2).abs().sum((1, 2, 3)) + x.diff(dim=3).abs().sum((1, 2, 3))

    rough = kobayashi2020()
    smooth = Recipe("smooth", zeros, rough.canvas, rough.ascent, penalties=(lambda x: 0.05 * total_variation(x),))
    a, b = (maximize(small_resnet(), "layer1.0.add:3", recipe=recipe) for recipe in (rough, smooth))
    variation = [float(total_variation(torch.from_numpy(found[0].whitened))[0]) for found in (a, b)]
    assert variation[1] < 0.8 * variation[0]


@pytest.mark.parametrize(
    ("units", "more", "error", "story"),
    [
        ("layer1.0.ad:3", {}, UnknownName, "no site 'layer1.0.ad'. Close: 'layer1.0.add'"),
        ("layer1.0.add:8", {}, BadInput, "has no channel 8: its channels are 0 to 7"),
        ("layer1.0.add:3@24,0", {}, BadInput, "no neuron at 24,0: its lattice is 24 x 24"),
        ("fc:3@1,1", {}, BadInput, "fc has no position 1,1: it is a vector"),
        ("layer1.0.add", {}, BadInput, "names no units; write SITE:CHANNEL"),
        ("maxpool:0", {"recipe": "kobayashi"}, UnknownName, "no recipe 'kobayashi'. Close: 'kobayashi2020'"),
        ("maxpool:0", {"recipe": "maco"}, BadInput, "needs photographs"),
        ("maxpool:0", {"pole": "up"}, BadInput, "'up' is no pole"),
        ("maxpool:0", {"seeds": 0}, BadInput, "at least 1"),
        ("maxpool:0", {"at": "middle"}, BadInput, "expected 'center', 'all', or a position"),
        ("maxpool:0", {"start": "ones"}, BadInput, "'ones' is no start"),
        ("maxpool:0", {"start": torch.zeros(3, 32, 32)}, BadInput, "32 x 32 pixels; the network is shown 96 x 96"),
    ],
)
def test_what_was_asked_wrong_is_told_in_a_short_story(
    units: str, more: dict[str, object], error: type[Exception], story: str
) -> None:
    with pytest.raises(error, match=story):
        maximize(small_resnet(), units, **more)  # type: ignore[arg-type]


def test_weights_that_are_not_finite_are_refused() -> None:
    network = small_resnet.__wrapped__()
    with torch.no_grad():
        network.module.layer1[0].conv1.weight[0] = torch.nan
    with pytest.raises(BadInput, match=r"layer1.0.conv1.weight .* hold NaN"):
        maximize(network, "layer1.0.conv1:0")
    assert np.isfinite(maximize(network, "maxpool:0").responses).all()  # it does not read that weight


def test_objectives_print_themselves() -> None:
    assert str(unit("a.b:3")) == "a.b:3@all"
    assert str(neuron("a:1@2,3") + 2 * neuron("a:2")) == "a:1@2,3 + 2*a:2"
    assert isinstance(-unit("a:1"), Objective)


def test_the_gradient_of_the_tiling_is_that_of_the_mean_times_the_number_of_positions() -> None:
    """Ground truth 20, second half: zipser2015's tiling sets the gradient of every node to 1."""
    network = wired(random_kernels(1), name="linear")
    cache = cache_of(network)
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1)).requires_grad_()
    channels, weights = torch.zeros(1, 1, dtype=torch.int64), torch.ones(1, 1)
    mean = make_evaluator(cache, unit("conv1:0"), post_activation=False, half=False).evaluate(x, channels, weights)
    tiled = network.module.conv1(x).sum()
    (of_mean,), (of_tiling,) = (torch.autograd.grad(value.sum(), x) for value in (mean, tiled))
    torch.testing.assert_close(of_tiling, 32 * 32 * of_mean)


def test_a_glob_asks_for_every_unit_of_every_site_that_fits() -> None:
    network = small_resnet()
    recipe = replace(kobayashi2020(), ascent=Adam(steps=1))
    found = maximize(network, ["layer1.*.add:*", "maxpool:2-3"], recipe=recipe)
    assert found.units == tuple(
        [f"layer1.{block}.add:{channel}" for block in (0, 1) for channel in range(8)] + ["maxpool:2", "maxpool:3"]
    )
    assert isinstance(found.pictures, dict)
    assert {site: pictures.shape for site, pictures in found.pictures.items()} == {
        "layer1.0.add": (8, 1, 3, 27, 27), "layer1.1.add": (8, 1, 3, 43, 43), "maxpool": (2, 1, 3, 11, 11)
    }  # fmt: skip


@pytest.mark.parametrize("name", ["resnet34", "plainnet34"])
def test_crops_answer_as_the_whole_picture_at_center_edge_and_corner_of_34_layers(name: str) -> None:
    network = lively(load(name, width=4, classes=5, size=128))
    site = "layer2.0.add" if name == "resnet34" else "layer2.0.bn2"
    recipe = replace(kobayashi2020(), ascent=Adam(steps=2))
    for at in ((8, 8), (0, 8), (15, 15)):
        found = maximize(network, f"{site}:3", at=at, recipe=recipe)
        box = found.boxes[0].clip(network.size)
        assert (found[0].evaluated_on, max(box.height, box.width) < 128) == ("cone", True)
        answer = read(network, whole_picture(network, found, 0), site)[site][0, 3, at[0], at[1]]
        np.testing.assert_allclose(found.responses[0, 0], float(answer), rtol=1e-4, atol=1e-5)


@needs("torchvision")
def test_squeeze_and_excitation_is_heard_on_the_whole_picture_and_says_why() -> None:
    network = lively(load("torchvision:mobilenet_v3_small", size=64))
    recipe = replace(kobayashi2020(), ascent=Adam(steps=2))
    before, behind = maximize(network, ["features.1.block.0.0:3", "features.2.block.0.0:3"], recipe=recipe)
    assert (before.evaluated_on, before.box.height) == ("cone", 7)
    assert (behind.box.clip(network.size).height, "mean" in behind.evaluated_on) == (64, True)
    whole = Optima((behind,), {})
    answer = read(network, whole_picture(network, whole, 0), behind.site)[behind.site]
    center = float(answer[0, 3, answer.shape[2] // 2, answer.shape[3] // 2])
    np.testing.assert_allclose(behind.responses[0], center, rtol=1e-4)


def test_a_canvas_smaller_than_the_field_is_refused_and_the_network_is_as_it_was() -> None:
    class Stamp(WhitenedPixels):
        def whitened(self, parameters: torch.Tensor, scene: Scene) -> torch.Tensor:
            return super().whitened(parameters, scene)[:, :, :9, :9]

    network = small_resnet()
    recipe = replace(kobayashi2020(), name="stamp", canvas=Stamp())
    for site in ("layer1.0.add", "fc"):
        with pytest.raises(BadInput, match=r"'stamp' makes pictures of 3 x 9 x 9 .* sees 3 x"):
            maximize(network, f"{site}:1", recipe=recipe)
    assert all(p.requires_grad for p in network.module.parameters())
    assert not any(module._forward_hooks for module in network.module.modules())


def test_a_file_that_is_no_picture_cannot_be_started_from(tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("no picture")
    with pytest.raises(BadInput, match=r"notes\.png cannot be read as a picture to start from"):
        load_photograph(tmp_path / "notes.png", small_resnet())
