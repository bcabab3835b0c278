"""What an optimal stimulus costs: many at a time on what they see, against one unit, whole network, whole picture.

    python benchmarks/maximize.py
    python benchmarks/maximize.py shipped:resnet34 --turns 3 --units 64 --only center

The recipe is kobayashi2020's, 31 steps of Adam from the mean color, in all ways. `plain` is what one writes first: a
hook at the site, the network as it was loaded, a picture of the whole size, `torch.optim.Adam`, one unit; as in most
code, autograd finds the gradients of the weights, too. `frozen` is the same with `requires_grad_(False)`. `lucent` is
the package torch-lucent, where it can be imported, with a pixel canvas, no transforms, the same optimizer and steps.
Ours is given in float32 and, in brackets, in bfloat16. All take turns in one process; a ratio is that of the medians,
against ours in float32 (in brackets: bfloat16). Without weights the network has random ones, and normalizations with
random statistics.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import math
import time
from collections.abc import Callable
from statistics import median

import torch
from survey import allow_torchvision
from torch import Tensor, nn

import unitscope
from unitscope.networks import Network
from unitscope.synthesis.maximize import maximize

STEPS = 31
NEURONS = {"maxpool": "maxpool", "layer1.0": "layer1.0.relu_1", "layer1.2": "layer1.2.relu_1"}
MAPS = {name: f"{name}.relu_1" for name in ("layer1.2", "layer2.3", "layer3.5", "layer4.2")}


def main() -> None:
    arguments = parse()
    allow_torchvision()
    torch.set_num_threads(arguments.threads)
    network = lively(unitscope.load(arguments.model, weights=arguments.weights))
    print(f"{network.name}, {torch.get_num_threads()} threads, {STEPS} steps, milliseconds per unit")
    for place, named in (("center", NEURONS), ("all", MAPS)):
        for layer, site in named.items():
            if not arguments.only or arguments.only in (layer, place):
                count = arguments.units if place == "center" else arguments.maps
                found = compared(network, layer, site, place, count=count, turns=arguments.turns)
                print(line(layer, place, found), flush=True)


def line(layer: str, place: str, found: dict[str, list[float]]) -> str:
    """One row of the table: medians, and each over ours."""
    times = {name: median(each) for name, each in found.items()}
    ours, half = times.pop("ours"), times.pop("half")
    cells = [f"{name} {time:7.0f} = {time / ours:5.3g} x ({time / half:5.3g} x)" for name, time in times.items()]
    kind = "neuron" if place == "center" else "channel"
    return f"{kind:8}{layer:10}{ours:8.2f} ({half:7.2f})   " + "   ".join(cells)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="resnet34")
    parser.add_argument("--weights")
    parser.add_argument("--units", type=int, default=64, help="neurons at a time")
    parser.add_argument("--maps", type=int, default=8, help="units at all positions at a time")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", help="one layer, 'center' or 'all'")
    return parser.parse_args()


def lively(network: Network) -> Network:
    """Where no weights were given, normalizations with random statistics, so that no unit is dead at the mean color."""
    if network.weights not in (None, "", "random") and "random" not in str(network.weights):
        return network
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in network.module.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.copy_(0.3 * torch.randn(module.num_features, generator=generator))
                module.bias.copy_(0.3 * torch.randn(module.num_features, generator=generator))
    return network


def compared(network: Network, layer: str, site: str, place: str, *, count: int, turns: int) -> dict[str, list[float]]:
    """Milliseconds per unit of each way, turn by turn."""
    ways: dict[str, Callable[[int], float]] = {
        "plain": lambda n: plainly(network, layer, n, place, frozen=False),
        "frozen": lambda n: plainly(network, layer, n, place, frozen=True),
    }
    with contextlib.suppress(ImportError):
        importlib.import_module("lucent.optvis.render")
        ways["lucent"] = lambda n: with_lucent(network, layer, n, place)
    found: dict[str, list[float]] = {name: [] for name in ("ours", "half", *ways)}
    for bf16 in (False, True):
        maximize(network, f"{site}:0", at=place, recipe="kobayashi2020", bf16=bf16)
    for turn in range(turns):
        for name in ("ours", "half"):
            begin = time.perf_counter()
            optima = maximize(network, f"{site}:0-{count - 1}", at=place, recipe="kobayashi2020", bf16=name == "half")
            found[name].append((time.perf_counter() - begin) * 1000 / count)
            if name == "ours":
                ours = float(optima.history[turn, 0, STEPS - 1])
        for name, way in ways.items():
            begin = time.perf_counter()
            reached = way(turn)
            found[name].append((time.perf_counter() - begin) * 1000)
            agree(reached, ours)
    return found


def agree(plain: float, ours: float) -> None:
    """Both ways find the same, or they may not be compared."""
    if abs(plain - ours) > 0.03 * abs(ours):
        print(f"  (the plain way came to a response of {plain:.4g}, ours to {ours:.4g})")


def plainly(network: Network, layer: str, channel: int, place: str, *, frozen: bool) -> float:
    """One unit, the whole network, the whole picture; gives the response at the last step."""
    module = network.module.requires_grad_(not frozen)
    parts: list[Tensor] = []
    handles = hooked(module, layer, parts)
    x = torch.zeros(1, 3, *network.size, requires_grad=True)
    adam = torch.optim.Adam([x], lr=0.1, weight_decay=1e-6)
    try:
        for _ in range(STEPS):
            parts.clear()
            adam.zero_grad()
            module(x)
            response = reading(sum(parts[1:], parts[0]), channel, place, pooled=layer == "maxpool")
            (-response).backward()
            adam.step()
    finally:
        for handle in handles:
            handle.remove()
        module.zero_grad()
        module.requires_grad_(True)
    return float(response.detach())


def hooked(module: nn.Module, layer: str, parts: list[Tensor]) -> list[torch.utils.hooks.RemovableHandle]:
    """Hooks that keep what is summed before the layer's last nonlinearity."""
    if layer == "maxpool":
        return [module.bn1.register_forward_hook(lambda _m, _i, out: parts.append(out.clone()))]
    block = module.get_submodule(layer)
    into = block.register_forward_pre_hook(lambda _m, given: parts.append(given[0].clone()))
    return [into, block.bn2.register_forward_hook(lambda _m, _i, out: parts.append(out.clone()))]


def reading(maps: Tensor, channel: int, place: str, *, pooled: bool) -> Tensor:
    if pooled:
        maps = nn.functional.max_pool2d(maps, 3, 2, 1)
    one = maps[0, channel]
    return one.mean() if place == "all" else one[one.shape[0] // 2, one.shape[1] // 2]


def with_lucent(network: Network, layer: str, channel: int, place: str) -> float:
    """torch-lucent, a pixel canvas, no transforms, as many steps of the same optimizer."""
    objectives, param, render = (
        importlib.import_module(f"lucent.optvis.{n}") for n in ("objectives", "param", "render")
    )
    kind = objectives.channel if place == "all" else objectives.neuron
    render.render_vis(
        network.module,
        kind(layer.replace(".", "_"), channel),
        param_f=lambda: param.image(network.size[0], fft=False, decorrelate=False),
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.1, weight_decay=1e-6),
        transforms=[],
        thresholds=(STEPS,),
        progress=False,
        show_image=False,
    )
    return math.nan


if __name__ == "__main__":
    main()
