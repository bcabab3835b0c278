"""What a tuning session costs beside showing as many full pictures to the whole network: time and memory in one run.

    python benchmarks/tuning.py
    python benchmarks/tuning.py resnet34 --sites maxpool layer1.0.add layer1.1.add layer1.2.add

The battery of each site is shown whole: all stimuli of both parts, drawn, on the site's crop, to all of its units. Of
full pictures some batches of 20 are shown, already drawn, through the whole network, and their time is
multiplied up to the same number of stimuli. Each way runs in a process of its own, both with the same threads; memory
is what the process's peak grew by while it was showing.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch

import unitscope
from unitscope.anatomy.sites import sites as sites_of
from unitscope.networks import Network
from unitscope.recording.tuning_responses import crop_of, groups_of
from unitscope.tuning_session import show_group


def main() -> None:
    arguments = parse()
    if arguments.way:
        network = unitscope.load(arguments.model)
        print(json.dumps(full(network) if arguments.way == "full" else battery(network, arguments.way)))
        return
    whole = measured(arguments, "full")
    print(f"{arguments.model}: a full picture through the whole network {1000 * whole['seconds']:.1f} ms, "
          f"{whole['megabytes']:.0f} MB\n")  # fmt: skip
    print(
        f"{'site':<16}{'units':>6}{'stimuli':>9}{'crop':>9}{'battery':>10}{'full':>10}{'ratio':>8}{'MB':>7}{'full':>7}"
    )
    for site in arguments.sites:
        own = measured(arguments, site)
        expected = whole["seconds"] * own["stimuli"]
        print(
            f"{site:<16}{own['units']:>6}{own['stimuli']:>9}{own['crop']:>9}{own['seconds']:>8.1f} s{expected:>8.0f} s"
            f"{own['seconds'] / expected:>8.3f}{own['megabytes']:>7.0f}{whole['megabytes']:>7.0f}", flush=True
        )  # fmt: skip


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="resnet34")
    parser.add_argument("--sites", nargs="+", default=["maxpool", "layer1.0.add", "layer1.2.add"])
    parser.add_argument("--way", help=argparse.SUPPRESS)
    return parser.parse_args()


def measured(arguments: argparse.Namespace, way: str) -> dict[str, float]:
    """What one way says of itself, in a process of its own."""
    command = [sys.executable, "-W", "ignore", __file__, arguments.model, "--way", way]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def grown(what: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and how many megabytes the peak of memory rose."""
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    what()
    seconds = time.perf_counter() - start
    return seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def full(network: Network, *, batches: int = 4, count: int = 20) -> dict[str, float]:
    """Seconds for one full picture, drawn already, and memory."""
    pictures = torch.rand(count, network.inputs, *network.size, generator=torch.Generator().manual_seed(0))
    times = []

    def show() -> None:
        for _ in range(batches):
            start = time.perf_counter()
            with torch.no_grad():
                network(pictures)
            times.append(time.perf_counter() - start)

    _, megabytes = grown(show)
    return {"seconds": min(times) / count, "megabytes": megabytes}


def battery(network: Network, site: str) -> dict[str, float]:
    """The whole session of one site's center units."""
    chosen = {site: sites_of(network)[site]}
    (group,), _ = groups_of(chosen)
    size = crop_of(network, chosen, group).size
    shown: list[int] = []
    seconds, megabytes = grown(lambda: shown.append(len(show_group(network, chosen, group)[0])))
    return {"seconds": seconds, "megabytes": megabytes, "stimuli": shown[0], "units": chosen[site].channels,
            "crop": f"{size[0]}x{size[1]}"}  # fmt: skip


if __name__ == "__main__":
    main()
