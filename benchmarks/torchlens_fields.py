"""Fields here beside those of TorchLens, and who is right where they differ: the NaN oracle decides, for every neuron.

    python -m venv lens; lens/bin/pip install -e . torchlens==2.36.1 pandas timm --no-deps torchvision==0.28.0 ...
    lens/bin/python benchmarks/torchlens_fields.py resnet18 torchvision:googlenet

For development only: TorchLens is no dependency. Values of the same shape and the same sum of magnitudes are taken to
be the same. TorchLens is asked for the first, center and last neuron of each site; it has one box for all channels, so
where they differ (branches that are concatenated) it is at best loose. Here every neuron of the site is compared.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict, deque
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from coverage import digest
from survey import allow_torchvision
from tests.oracles.blindness import seen_by

import unitscope
from unitscope.anatomy.sites import sites
from unitscope.anatomy.value_hooks import hook_values

NETWORKS = [
    "resnet18",
    "plainnet18",
    "torchvision:mobilenet_v2",
    "torchvision:mnasnet0_5",
    "torchvision:vgg11_bn",
    "torchvision:squeezenet1_1",
    "torchvision:googlenet",
    "torchvision:densenet121",
    "torchvision:shufflenet_v2_x0_5",
    "torchvision:efficientnet_b0",
    "torchvision:convnext_tiny",
    "torchvision:regnet_x_400mf",
    "timm:hrnet_w18_small",
    "timm:res2next50",
]

Sides = tuple[int, int, int, int]


def main() -> None:
    allow_torchvision()
    print(f"{'':<44} | {'TorchLens':^27} | {'here':^13}")
    print(f"{'network':<32}{'sites':>6}{'both':>6} |  right  loose  wrong   none |  right  wrong")
    for model in sys.argv[1:] or NETWORKS:
        compare(model)


def compare(model: str, size: int = 64) -> None:
    """One row: how many sites both know, and how many of either's boxes are what the oracle says."""
    network = unitscope.load(model, size=(size, size))
    found = sites(network)
    picture = torch.rand(1, network.inputs, size, size, generator=torch.Generator().manual_seed(0))
    pairs = matched(network.module, picture, found)
    truth = seen_by(network.module.double(), (size, size), {name: found[name] for name in pairs}, inputs=network.inputs)
    theirs: Counter[str] = Counter()
    stories: dict[str, list[str]] = defaultdict(list)
    wrong = []
    for name, op in pairs.items():
        site = found[name]
        places = sorted({(0, 0), site.center, (site.lattice[0] - 1, site.lattice[1] - 1)})
        want = [seen_at(truth[name], place) for place in places]
        there, status = answers(op, places, (size, size))
        verdict = judged(there, want)
        theirs[verdict] += 1
        if not agrees(site, truth[name]):
            wrong.append(name)
        if verdict != "right":
            stories[f"{verdict}, said to be {status}"].append(
                f"{name}, center: {there and there[len(there) // 2]}, true {sorted(want[len(want) // 2])[:3]}"
            )
    counts = "".join(f"{theirs[verdict]:>7}" for verdict in ("right", "loose", "wrong", "none"))
    print(
        f"{model:<32}{len(found):>6}{len(pairs):>6} |{counts} |{len(pairs) - len(wrong):>7}{len(wrong):>7}", flush=True
    )
    for story, lines in stories.items():
        print(f"    {len(lines)} {story}; first: {lines[0]}", flush=True)
    for name in wrong:
        print(f"    here wrong: {name}", flush=True)


def matched(module: Any, picture: torch.Tensor, found: dict[str, Any]) -> dict[str, Any]:
    """TorchLens's operation for each site that it knows as well."""
    import torchlens

    values: dict[Any, deque[Any]] = defaultdict(deque)
    with torch.no_grad():
        for op in torchlens.trace(module, picture).ops:
            if isinstance(op.out, torch.Tensor) and op.has_input_ancestor:
                values[rounded(op.out)].append(op)
    pairs: dict[str, Any] = {}

    def heard(name: str, value: torch.Tensor) -> None:
        if name in found and values.get(rounded(value)):
            pairs[name] = values[rounded(value)].popleft()

    with torch.no_grad(), hook_values(module, heard):
        module(picture)
    return pairs


def rounded(value: torch.Tensor) -> tuple[tuple[int, ...], str]:
    shape, total = digest(value)
    return shape, f"{total:.5g}"


def answers(op: Any, places: list[tuple[int, int]], size: tuple[int, int]) -> tuple[list[Sides] | None, str]:
    """TorchLens's boxes within the picture, and what it says of them; None where it has no answer."""
    try:
        view = op.receptive_field
        status = str(view.status.value)
        if status == "whole_input":
            return [(0, 0, *size)] * len(places), status
        if view.axes is None:
            return None, status
        return [clipped(view.at(place)) for place in places], status
    except Exception as error:
        return None, f"{type(error).__name__}: {error}".splitlines()[0][:100]


def clipped(box: Any) -> Sides:
    rows, cols = ((axis.clipped_start, axis.clipped_stop) for axis in box.axes[2:4])
    return int(rows[0]), int(cols[0]), int(rows[1]), int(cols[1])


def judged(boxes: list[Sides] | None, want: list[set[Sides]]) -> str:
    """Right: the boxes are those of all channels; loose: they hold them; wrong: they miss some of what is seen."""
    if boxes is None:
        return "none"
    if all(true == {box} for box, true in zip(boxes, want, strict=True)):
        return "right"
    return (
        "loose" if all(holds(box, other) for box, true in zip(boxes, want, strict=True) for other in true) else "wrong"
    )


def holds(box: Sides, other: Sides) -> bool:
    return all(a <= b for a, b in zip(box[:2], other[:2], strict=True)) and all(
        a >= b for a, b in zip(box[2:], other[2:], strict=True)
    )


def seen_at(truth: np.ndarray, place: tuple[int, int]) -> set[Sides]:
    """The boxes of all channels at a place, from what the oracle saw [4 unit row col]; who sees nothing has none."""
    channels = zip(*(side[:, place[0], place[1]].tolist() for side in truth), strict=True)
    return {(top, left, bottom + 1, right + 1) for top, bottom, left, right in channels if bottom >= 0 and right >= 0}


def agrees(site: Any, truth: np.ndarray) -> bool:
    """Whether every neuron's box here is what the oracle saw."""
    empty = (truth[1] < 0) | (truth[3] < 0)
    want = (np.where(empty, 0, side) for side in (truth[0], truth[2], truth[1] + 1, truth[3] + 1))
    bounds = site.bounds
    return all(
        (a == b).all() for a, b in zip(want, (bounds.top, bounds.left, bounds.bottom, bounds.right), strict=True)
    )


if __name__ == "__main__":
    main()
