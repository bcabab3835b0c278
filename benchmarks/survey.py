"""What a survey costs beside merely showing the pictures: time, image for image, and peak memory.

    python benchmarks/survey.py                                        three networks, random weights, built-in pictures
    python benchmarks/survey.py --images PHOTOGRAPHS --count 1024      other pictures
    python benchmarks/survey.py torchvision:squeezenet1_1 --weights W --means best all --files

In one run and in turns, a block of 256 images each: the bare forward pass (in the best of both memory formats and of
several batch sizes, tried beforehand) and the survey with everything of the default set, over the same pictures,
already decoded. What is done once, whatever the number of images (finding the sites, writing the record), is told in
seconds. Peak memory is that of two processes of their own. `--files` adds the way from JPEG files: decoding alone, bare
forward with decoding, survey; `--means` the survey with further means.
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

NETWORKS = ("torchvision:resnet34", "torchvision:mobilenet_v2", "torchvision:squeezenet1_1")
BLOCK = 256
BATCHES = (4, 8, 16, 32)


def main() -> None:
    arguments = parse()
    if arguments.way:
        print(json.dumps(run(arguments)))
        return
    print(f"{arguments.count} images, {arguments.images}; best of {BATCHES} for the bare forward")
    head = ("network", "bare ms", "batch", "survey ms", "batch", "ratio", "fixed s", "bare MB", "survey MB", "more MB")
    print(" | ".join(head))
    for model in arguments.models or NETWORKS:
        turns = measure(model, "turns")
        bare, full = (measure(model, way)["memory"] / 2**20 for way in ("forward", "survey"))
        facts = (
            model, f"{turns['bare']:.2f}", turns["bare_batch"], f"{turns['survey']:.2f}", arguments.batch,
            f"{turns['ratio']:.3f}", f"{turns['before']:.1f} + {turns['after']:.1f}", f"{bare:.0f}", f"{full:.0f}",
            f"{full - bare:+.0f}",
        )  # fmt: skip
        print(" | ".join(map(str, facts)), flush=True)
        print("   ratios of the turns: " + " ".join(f"{ratio:.3f}" for ratio in turns["ratios"]), flush=True)
        for means in arguments.means:
            further = measure(model, "turns", "--with-means", means)
            print(f"   --means {means}: {further['survey']:.2f} ms, {further['ratio']:.3f} of the bare forward")
        if arguments.files:
            found = {way: measure(model, way) for way in ("decoding", "forward-files", "survey-files")}
            told = (f"{way} {1e3 * facts['seconds'] / facts['count']:.2f} ms" for way, facts in found.items())
            print("   from files: " + ", ".join(told), flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--images", default="builtin")
    parser.add_argument("--weights")
    parser.add_argument("--count", type=int, default=512)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--files", action="store_true")
    parser.add_argument("--means", nargs="*", default=[])
    parser.add_argument("--with-means", help=argparse.SUPPRESS)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(model: str, way: str, *further: str) -> dict[str, float]:
    """One way, in a process of its own."""
    given = [argument for argument in sys.argv[1:] if not argument.startswith("torchvision:")]
    command = [sys.executable, sys.argv[0], model, *given, "--way", way, *further]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def run(arguments: argparse.Namespace) -> dict[str, float]:
    """One way, in this process."""
    import torch

    import unitscope
    from unitscope.stimuli.presentation import Presentation

    torch.set_num_threads(arguments.threads)
    allow_torchvision()
    network = unitscope.load(arguments.models[0], weights=arguments.weights)
    images = some(unitscope.open_images(arguments.images), arguments.count)
    if not arguments.way.endswith(("files", "decoding")):
        images = Decoded.of(images, Presentation(network.size))
    if arguments.way == "turns":
        return in_turns(network, images, arguments)
    started = time.perf_counter()
    if arguments.way.startswith("survey"):
        with tempfile.TemporaryDirectory() as folder:
            unitscope.survey(network, images, to=Path(folder) / "record", batch=arguments.batch)
    else:
        through(network, images, arguments.batch, forward=arguments.way != "decoding")
    return {"seconds": time.perf_counter() - started, "count": len(images), "memory": peak()}


def in_turns(network, images, arguments):  # type: ignore[no-untyped-def]
    """Block for block the survey and the bare forward, each with its own clock."""
    import torch

    import unitscope

    pictures = torch.stack([torch.from_numpy(pixels) for pixels in images.pixels]).permute(0, 3, 1, 2)
    formats = (torch.contiguous_format, torch.channels_last)
    ways = [(batch, kind) for batch in BATCHES for kind in formats]
    tried = {way: min(bare(network, pictures[:32], *way)[0] for _ in (0, 1)) for way in ways}
    batch, kind = min(tried, key=tried.get)
    started = clock = clocks()
    before, surveyed, shown = 0.0, [], []

    def turn(done: int, _total: int) -> None:
        nonlocal clock, before
        now = clocks()
        if done == arguments.batch:  # what is done once lies before; what the first batch takes is added later
            before, clock = now[0] - clock[0], now
            return
        if done % BLOCK:
            return
        heard = BLOCK - arguments.batch if done == BLOCK else BLOCK
        surveyed.append([(b - a) / heard for a, b in zip(clock, now, strict=True)])
        shown.append([each / BLOCK for each in bare(network, pictures[done - BLOCK : done], batch, kind)])
        clock = clocks()

    with tempfile.TemporaryDirectory() as folder:
        means = [arguments.with_means] if arguments.with_means else []
        unitscope.survey(network, images, to=Path(folder) / "r", batch=arguments.batch, means=means, progress=turn)
        after = time.perf_counter() - clock[0]
    (wall, wall_bare), (cpu, cpu_bare) = (([turn[i] for turn in surveyed], [turn[i] for turn in shown]) for i in (0, 1))
    return {
        "bare": 1e3 * median(wall_bare),
        "survey": 1e3 * median(wall),
        "ratio": median(a / b for a, b in zip(wall, wall_bare, strict=True)),
        "ratios": [a / b for a, b in zip(wall, wall_bare, strict=True)],
        "cpu_bare": 1e3 * median(cpu_bare),
        "cpu_survey": 1e3 * median(cpu),
        "cpu_ratio": median(a / b for a, b in zip(cpu, cpu_bare, strict=True)),
        "bare_batch": f"{batch} {str(kind).split('.')[-1]}",
        "before": before,
        "after": after,
        "whole": time.perf_counter() - started[0],
    }


def clocks() -> tuple[float, float]:
    """Seconds that went by, and seconds that this process computed, on all its threads."""
    return time.perf_counter(), time.process_time()


def bare(network, pictures, batch, kind):  # type: ignore[no-untyped-def]
    """Seconds for showing the pictures and nothing else, of both clocks."""
    import torch

    started = clocks()
    with torch.no_grad():
        for i in range(0, len(pictures), batch):
            x = network.prepare(pictures[i : i + batch].float().div_(255)).contiguous(memory_format=kind)
            network.module(x)
    return [b - a for a, b in zip(started, clocks(), strict=True)]


def through(network, images, batch, *, forward):  # type: ignore[no-untyped-def]
    """All images through the decoding threads, and with `forward` through the network."""
    import torch

    from unitscope.recording.batches import batches, default_workers
    from unitscope.stimuli.presentation import Presentation

    shown = Presentation(network.size)
    stream = batches(images, shown, first=0, last=len(images), batch=batch, workers=default_workers())
    with torch.no_grad():
        for part in stream:
            if forward:
                x = network.prepare(part.pictures.float().div_(255)).contiguous(memory_format=torch.channels_last)
                network.module(x)


def some(images, count):  # type: ignore[no-untyped-def]
    """`count` images, evenly spread over the set, over again where it is smaller."""
    from unitscope.stimuli.images import Images

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

        known: dict[bytes, object] = {}
        pixels = []
        for i in range(len(images)):
            data = images.bytes(i)
            if data not in known:
                known[data] = presentation.present(data)
            pixels.append(known[data])
        module.Presentation.present = lambda _self, data: pixels[int(data)]  # type: ignore[method-assign]
        decoded = Images(images.items, images.sizes, lambda i: str(i).encode(), images.source)
        object.__setattr__(decoded, "pixels", pixels)
        return decoded


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
