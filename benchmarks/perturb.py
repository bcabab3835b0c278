"""Seconds per condition of a perturbation against a full forward pass: what lies before the site runs once per batch.

python benchmarks/perturb.py shipped:resnet34 maxpool layer2.0.relu_1 layer4.2.relu_1
"""

from __future__ import annotations

import sys

import torch
from fields import fastest
from survey import allow_torchvision

import unitscope
from unitscope.perturbation.conditions import Condition, make_alteration
from unitscope.recording.electrode import inject
from unitscope.recording.replay import record_replay

IMAGES = 32
CHANNELS = range(4)
CONDITIONS = 20


def line(network: unitscope.Network, name: str) -> str:
    """One row of the table: a batch shown as it is, shown with noise, recorded, and replayed with noise."""
    site = unitscope.sites(network)[name]
    pictures = torch.rand(IMAGES, network.inputs, *network.size, generator=torch.Generator().manual_seed(0))
    x = network.prepare(pictures).contiguous(memory_format=torch.channels_last)
    noise = make_alteration(Condition(), CHANNELS, generator=torch.Generator().manual_seed(1))

    def disturbed() -> None:
        with inject(network, site, noise):
            network.module(x)

    replay = record_replay(network, x, site)
    with torch.no_grad():
        forward = fastest(lambda: network.module(x), times=5)
        full = fastest(disturbed, times=5)
        recorded = fastest(lambda: record_replay(network, x, site), times=5)
        replayed = fastest(lambda: replay.run(noise), times=5)
    per_condition = recorded / CONDITIONS + replayed
    cells = "".join(
        f"{1000 * seconds / IMAGES:>10.2f}" for seconds in (forward, full, recorded, replayed, per_condition)
    )
    return f"{name:<30}{cells}{replayed / forward:>10.2f}{per_condition / forward:>10.2f}"


def main() -> None:
    model, *names = sys.argv[1:] or ["resnet34", "maxpool", "layer2.0.relu_1", "layer4.2.relu_1"]
    if model.startswith("torchvision:"):
        allow_torchvision()
    network = unitscope.load(model)
    print(f"{model}, {IMAGES} images, {torch.get_num_threads()} threads, {CONDITIONS} conditions; ms per image")
    heads = ("forward", "disturbed", "record", "replay", "condition", "run/fwd", "cond/fwd")
    print(f"{'site':<30}" + "".join(f"{head:>10}" for head in heads))
    for name in names:
        print(line(network, name), flush=True)


if __name__ == "__main__":
    main()
