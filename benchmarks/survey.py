"""What a survey costs beside merely showing the pictures: wall time and peak memory, both ways in one run.

    python benchmarks/survey.py torchvision:mobilenet_v2 PHOTOGRAPHS --weights FILE --mean 0.5 --std 0.5
    python benchmarks/survey.py resnet34 PHOTOGRAPHS --count 512 --decoded

Each way runs in a process of its own, in turns; the ratio is that of the two times of a turn. With `--decoded` the
pictures are decoded beforehand, so that showing and listening alone are compared; without it both ways begin at the
files.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median


def main() -> None:
    arguments = parse()
    if arguments.way:
        print(json.dumps(run(arguments)))
        return
    print(f"{arguments.model} over {arguments.images}, {arguments.turns} turns")
    ratios = []
    for turn in range(arguments.turns):
        ways = ["forward", "survey"] if turn % 2 == 0 else ["survey", "forward"]
        found = {way: measure(way) for way in ways}
        ratios.append(found["survey"]["seconds"] / found["forward"]["seconds"])
        for way in ("forward", "survey"):
            facts = found[way]
            print(
                f"  {way:8} {facts['seconds']:8.1f} s  {facts['count'] / facts['seconds']:7.1f} images/s"
                f"  peak {facts['memory'] / 2**20:7.0f} MB  (loading alone {facts['before'] / 2**20:.0f} MB)"
            )
        print(f"  ratio {ratios[-1]:.3f}", flush=True)
    print(f"median ratio {median(ratios):.3f}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="resnet34")
    parser.add_argument("images", nargs="?", default="builtin")
    parser.add_argument("--weights")
    parser.add_argument("--mean", type=float)
    parser.add_argument("--std", type=float)
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--decoded", action="store_true")
    parser.add_argument("--way", choices=["forward", "survey"], help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(way: str) -> dict[str, float]:
    done = subprocess.run([sys.executable, *sys.argv, "--way", way], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def run(arguments: argparse.Namespace) -> dict[str, float]:
    """One way, in this process."""
    import torch

    import unitscope
    from unitscope.recording.showing import batches, default_workers
    from unitscope.stimuli.presentation import Presentation

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    allow_torchvision()
    statistics = {"mean": [arguments.mean] * 3, "std": [arguments.std] * 3} if arguments.mean else {}
    network = unitscope.load(arguments.model, weights=arguments.weights, **statistics)
    images = first(unitscope.open_images(arguments.images), arguments.count)
    if arguments.decoded:
        images = Decoded.of(images, Presentation(network.size))
    unitscope.sites(network)  # once for both, outside the clock
    before = peak()
    started = time.perf_counter()
    if arguments.way == "survey":
        with tempfile.TemporaryDirectory() as folder:
            unitscope.survey(network, images, to=Path(folder) / "record", batch=arguments.batch)
    else:
        stream = batches(
            images,
            Presentation(network.size),
            first=0,
            last=len(images),
            batch=arguments.batch,
            workers=default_workers(),
        )
        with torch.no_grad():
            for part in stream:
                x = network.prepare(part.pictures.float().div_(255)).contiguous(memory_format=torch.channels_last)
                network.module(x)
    return {"seconds": time.perf_counter() - started, "count": len(images), "memory": peak(), "before": before}


def first(images, count):  # type: ignore[no-untyped-def]
    """The first `count` images, evenly spread over the set."""
    from unitscope.stimuli.images import Images

    if count is None or count >= len(images):
        return images
    places = [i * len(images) // count for i in range(count)]
    return Images(
        tuple(images.items[i] for i in places),
        [images.sizes[i] for i in places],
        lambda i: images.bytes(places[i]),
        images.source,
    )


class Decoded:
    """Makes a set of images whose bytes are already what the network is shown."""

    @staticmethod
    def of(images, presentation):  # type: ignore[no-untyped-def]
        from unitscope.stimuli import presentation as module
        from unitscope.stimuli.images import Images

        pixels = [presentation.present(images.bytes(i)) for i in range(len(images))]
        module.Presentation.present = lambda _self, data: pixels[int(data)]  # type: ignore[method-assign]
        return Images(images.items, images.sizes, lambda i: str(i).encode(), images.source)


def allow_torchvision() -> None:
    """Let a torchvision that was built for CUDA be imported beside a CPU build of torch."""
    import torch

    if importlib.util.find_spec("torchvision") is None:
        return
    with contextlib.suppress(RuntimeError):
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        globals()["_library"] = library


def peak() -> int:
    """Bytes of memory that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
