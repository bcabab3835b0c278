"""What a calibration costs before a survey: wall-clock and processor seconds, and over one forward pass of 32 pictures.

python benchmarks/calibration.py resnet34 torchvision:mobilenet_v2
"""

from __future__ import annotations

import sys
import time

import torch
from fields import fastest
from survey import allow_torchvision

import unitscope
from unitscope.anatomy.sites import sites
from unitscope.recording.calibration import calibrate
from unitscope.recording.electrode import choose


def line(model: str) -> str:
    """One row of the table."""
    network = unitscope.load(model)
    chosen = choose(sites(network), None)
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (3, network.inputs, *network.size), dtype=torch.uint8, generator=generator)
    batch = torch.zeros(32, network.inputs, *network.size).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        forward = fastest(lambda: network.module(batch))
    calibrate(network, chosen, pictures)
    start = time.process_time()
    found = calibrate(network, chosen, pictures)
    processor = time.process_time() - start
    wall = fastest(lambda: calibrate(network, chosen, pictures))
    way = "quick" if found.way.quick else f"plain: {found.reason}"
    return f"{model:<32}{len(chosen):>6}{wall:>9.2f}{processor:>11.2f}{wall / forward:>8.2f}  {way}"


def main() -> None:
    allow_torchvision()
    print(f"{'model':<32}{'sites':>6}{'wall, s':>9}{'processor':>11}{'ratio':>8}  way")
    for model in sys.argv[1:] or ["resnet34", "torchvision:mobilenet_v2"]:
        print(line(model), flush=True)


if __name__ == "__main__":
    main()
