"""What fused reading buys: processor seconds of a batch with and without rectifiers and normalizations fused.

    python benchmarks/fusing.py                                          three networks, random weights
    python benchmarks/fusing.py torchvision:resnet50 --repeats 15        others

Shown in turns, and timed in processor seconds on one thread, so that other programs on the machine disturb little:

    bare         the forward pass alone
    unfused      all sites read by the compiled library, rectifiers and normalizations left to PyTorch
    rectifiers   rectifiers done while reading
    fused        rectifiers, and the batch normalizations before them, done while reading

Ratios are medians of the turns' ratios to `unfused`. Below 0.97, fusing pays for its code (fast/fused_ops.py).
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from contextlib import nullcontext
from statistics import median

import torch
from survey import allow_torchvision

import unitscope
from unitscope.anatomy.sites import sites as sites_of
from unitscope.recording.acceleration import keep_freed_memory
from unitscope.recording.batches import Batch, prepare_pictures
from unitscope.recording.electrode import choose
from unitscope.recording.fast.fused_ops import Rectifier
from unitscope.recording.fast.library import library
from unitscope.recording.fast.max_pool import replace_max_pools
from unitscope.recording.forward_pass import Reader, ReadingMode
from unitscope.recording.session import Session
from unitscope.recording.site_state import Settings

NETWORKS = ("torchvision:resnet34", "torchvision:mobilenet_v2", "timm:efficientnet_lite0")
WAYS = ("bare", "unfused", "rectifiers", "fused")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--batch", type=int, default=32)
    arguments = parser.parse_args()
    if library() is None:
        raise SystemExit("There is no compiled library here, so nothing is fused.")
    torch.set_num_threads(1)
    allow_torchvision()
    print("network | fused rectifiers, norms | " + " | ".join(f"{way} s" for way in WAYS) + " | " + " | ".join(WAYS))
    for model in arguments.models or NETWORKS:
        print(" | ".join(measure(model, arguments.repeats, arguments.batch)), flush=True)


def measure(model: str, repeats: int, count: int) -> list[str]:
    """A row of the table."""
    network = unitscope.load(model)
    chosen = choose(sites_of(network), None)
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (count, network.inputs, *network.size), dtype=torch.uint8, generator=generator)
    batch = Batch(torch.arange(count), pictures, torch.ones(count, dtype=torch.bool), ())
    session = Session.begin(chosen, Settings(16, 1, (), network.inputs))
    accumulators = session.begin_block(network.device)
    reader = Reader.of(network, chosen, ReadingMode())
    fused = reader.fast_pass
    if fused is None:
        raise SystemExit(f"{model} has sites that are not what a module gives or is given: nothing is fused.")
    passes = {"unfused": None, "rectifiers": dataclasses.replace(fused, norms={}), "fused": fused}

    def seconds(way: str) -> float:
        nonlocal accumulators
        accumulators = session.begin_block(network.device, accumulators)
        started = time.process_time()
        if way == "bare":
            with torch.no_grad():
                network.module(prepare_pictures(network, pictures, memory_format=torch.channels_last))
        else:
            with replace_max_pools(network.module) if way == "unfused" else nullcontext():
                dataclasses.replace(reader, fast_pass=passes[way]).read(batch, accumulators)
        return time.process_time() - started

    with keep_freed_memory():
        for way in WAYS:
            seconds(way)
        turns = [{way: seconds(way) for way in WAYS} for _ in range(repeats)]
    rectifiers = sum(tap.given and Rectifier.of(tap.module) is not None for tap in fused.taps)
    return [
        model,
        f"{rectifiers}, {len(fused.norms)} of {len(fused.taps)}",
        *(f"{median(turn[way] for turn in turns):.3f}" for way in WAYS),
        *(f"{median(turn[way] / turn['unfused'] for turn in turns):.3f}" for way in WAYS),
    ]


if __name__ == "__main__":
    main()
