"""All sites and fields of a model against one forward pass of it: time, ratio, and how far the fields are known.

python benchmarks/fields.py resnet34 torchvision:googlenet timm:convnext_atto
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable

import torch
from survey import allow_torchvision

import unitscope
from unitscope.anatomy.sites import sites

STATUSES = ("exact", "whole image", "upper bound", "unknown")


def fastest(what: Callable[[], object], *, times: int = 3) -> float:
    """Seconds of the fastest of several runs."""
    durations = []
    for _ in range(times):
        start = time.perf_counter()
        what()
        durations.append(time.perf_counter() - start)
    return min(durations)


def line(model: str) -> str:
    """One row of the table."""
    network = unitscope.load(model)
    picture = torch.zeros(1, network.inputs, *network.size)
    with torch.no_grad():
        forward = fastest(lambda: network.module(picture))
    fields = fastest(lambda: sites(network))
    counts = Counter(site.field().status for site in sites(network).values())
    known = "  ".join(f"{counts[status]:>11}" for status in STATUSES)
    return f"{model:<40}{forward:>9.3f}{fields:>9.3f}{fields / forward:>8.1f}  {known}"


def main() -> None:
    allow_torchvision()
    models = sys.argv[1:] or ["resnet18", "resnet34", "resnet152"]
    print(f"{'model':<40}{'forward':>9}{'fields':>9}{'ratio':>8}  " + "  ".join(f"{status:>11}" for status in STATUSES))
    for model in models:
        print(line(model), flush=True)


if __name__ == "__main__":
    main()
