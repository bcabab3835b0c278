"""Every neuron's field against the NaN oracle (tests/oracles/blindness.py), which knows nothing of operations: a row or
a column of the picture is NaN, and whoever turns NaN sees it. Float64, random weights.

    python benchmarks/oracle.py                                  the networks below, at 64 x 64 pixels
    python benchmarks/oracle.py torchvision:densenet121 --size 96

The oracle tells too little where NaN does not travel (a comparison, an integer) and too much where a value is divided
by a sum that holds a NaN; no network below has such an operation.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from survey import allow_torchvision

NETWORKS = [
    "resnet18",
    "resnet34",
    "plainnet34",
    "torchvision:alexnet",
    "torchvision:vgg11_bn",
    "torchvision:resnet50",
    "torchvision:googlenet",
    "torchvision:inception_v3@96",
    "torchvision:densenet121",
    "torchvision:squeezenet1_1",
    "torchvision:shufflenet_v2_x0_5",
    "torchvision:mobilenet_v2",
    "torchvision:mobilenet_v3_small",
    "torchvision:mnasnet0_5",
    "torchvision:efficientnet_b0",
    "torchvision:regnet_x_400mf",
    "torchvision:convnext_tiny",
    "torchvision:swin_t",
    "timm:convnext_atto",
    "timm:hrnet_w18_small",
    "timm:dla46x_c",
    "timm:res2next50",
    "timm:selecsls42",
    "timm:cs3darknet_focus_s",
    "timm:skresnet18",
    "timm:ghostnet_050",
    "timm:test_mambaout",
    "timm:xception41p",
]
"""Plain, with skips, concatenating, shuffling, depthwise, gated, channels last, upsampling; `@96`: too deep for 64."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=NETWORKS, help="MODEL or MODEL@SIZE")
    parser.add_argument("--size", type=int, default=64, help="rows and columns of the picture")
    arguments = parser.parse_args()
    allow_torchvision()
    print(f"{'network':<34}{'size':>5}{'sites':>7}{'exact':>7}{'whole':>7}{'bound':>7}{'neurons':>12}{'wrong':>7}")
    total = Counter()
    for name in arguments.networks:
        model, _, size = name.partition("@")
        total.update(compared(model, int(size or arguments.size)))
    print(f"{'all':<34}{'':>5}{total['sites']:>7}{'':>21}{total['neurons']:>12,}{total['wrong']:>7}")


def compared(model: str, size: int) -> dict[str, int]:
    """Compares every neuron of every site of a model; prints a row, and a line per site that differs."""
    from tests.oracles.blindness import disagreements

    import unitscope
    from unitscope.anatomy.sites import sites

    network = unitscope.load(model, size=(size, size))
    found = sites(network)
    known = Counter(site.field().status for site in found.values())
    start = time.perf_counter()
    neurons, lines = disagreements(network.module, (size, size), found, inputs=network.inputs)
    counts = [known[status] for status in ("exact", "whole image", "upper bound")]
    shown = "".join(f"{count:>7}" for count in (len(found), *counts))
    seconds = time.perf_counter() - start
    print(f"{model:<34}{size:>5}{shown}{neurons:>12,}{len(lines):>7}  {seconds:.0f} s", flush=True)
    print("".join(f"    {line}\n" for line in lines), end="", flush=True)
    return {"sites": len(found), "neurons": neurons, "wrong": len(lines)}


if __name__ == "__main__":
    main()
