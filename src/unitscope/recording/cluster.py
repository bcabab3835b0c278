"""A survey on many machines: spans of blocks are tasks of an existing Ray cluster, and their parts are merged as a
tree.

Scheduling, retries and machines that die are left to Ray. A part is a file of the record's own folder, which all
machines must see; its name tells which blocks it spans, so that an interrupted survey continues from what is there. The
record is, bit for bit, the one of a single machine.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from unitscope.errors import Failure
from unitscope.recording.acceleration import keep_freed_memory
from unitscope.recording.blocks import show_blocks
from unitscope.recording.session import Session, resume, save
from unitscope.recording.site_state import BLOCK

if TYPE_CHECKING:
    from unitscope.networks import Network
    from unitscope.recording.plan import Plan
    from unitscope.stimuli.images import Images

Span = tuple[int, int]
"""The first block and the one after the last."""


def show_on_cluster(
    network: Network,
    images: Images,
    plan: Plan,
    parts: Path,
    *,
    workers: int,
    span: int,
    strict: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Session:
    """Show all blocks of the plan on a Ray cluster, and return the session of the whole.

    Each task has one GPU where the cluster has any, else `workers` processors. Raises Failure where there is no
    cluster.
    """
    ray = connect_cluster()
    gpus = 1 if ray.cluster_resources().get("GPU", 0) >= 1 else 0
    task = ray.remote(num_cpus=workers, num_gpus=gpus, max_retries=-1)
    seen = (ray.put(network.to("cpu")), ray.put(images), ray.put(detach_network(plan)), str(parts.resolve()))
    kept = find_spans(parts)
    running = {
        task(show_span).remote(*seen, wanted, workers, strict): wanted
        for wanted in cut_spans(plan, span)
        if not any(first <= wanted[0] and wanted[1] <= last for first, last in kept)
    }
    total = min(plan.last * BLOCK, len(images)) - plan.first * BLOCK
    shown = total - sum((last - first) * BLOCK for first, last in running.values())
    while running:
        [ready], _ = ray.wait(list(running))
        ray.get(ready)
        first, last = running.pop(ready)
        shown = min(shown + (last - first) * BLOCK, total)
        if progress is not None:
            progress(shown, total)
    return merge_as_tree(ray, seen[2], parts, plan)


def merge_as_tree(ray: Any, plan_there: Any, parts: Path, plan: Plan) -> Session:
    """Merge neighbors until one part is left."""
    join = ray.remote(num_cpus=1, max_retries=-1)(merge_spans)
    while len(kept := find_spans(parts)) > 1:
        pairs = zip(kept[::2], kept[1::2], strict=False)
        ray.get([join.remote(plan_there, str(parts.resolve()), left, right) for left, right in pairs])
    session = Session.begin(plan.sites, plan.settings)
    resume(session, part_of(parts, kept[0]))
    return session


def show_span(
    network: Network, images: Images, plan: Plan, parts: str, wanted: Span, workers: int, strict: bool
) -> None:
    """The task of one machine: show the blocks of a span, and leave their part."""
    torch.set_num_threads(workers)
    network = network.to("cuda" if torch.cuda.is_available() else "cpu")
    own = replace(plan, first=wanted[0], last=wanted[1])
    session = Session.begin(own.sites, own.settings, first=own.first)
    with keep_freed_memory():
        show_blocks(network, images, own, session, workers=workers, strict=strict)
    save(session, part_of(Path(parts), wanted))


def merge_spans(plan: Plan, parts: str, left: Span, right: Span) -> None:
    """The task of merging two neighbors: the part of both takes their place."""
    sessions = []
    for span in (left, right):
        session = Session.begin(plan.sites, plan.settings)
        resume(session, part_of(Path(parts), span))
        sessions.append(session)
    # The merged part is saved before the two are removed. A task that is killed in between leaves parts that lie
    # inside another one, which `find_spans` removes.
    save(sessions[0].merge(sessions[1]), part_of(Path(parts), (left[0], right[1])))
    for span in (left, right):
        part_of(Path(parts), span).unlink(missing_ok=True)


def detach_network(plan: Plan) -> Plan:
    """The plan without the network, to which its sites refer (`Site.views`): machines get the network once, apart."""
    return replace(plan, sites={name: replace(site, views=None) for name, site in plan.sites.items()})


def connect_cluster() -> Any:
    """Ray, connected to the cluster that is there. Raises Failure where Ray or a cluster is missing."""
    try:
        import ray
    except ImportError as error:
        raise Failure("the engine 'ray' needs Ray: pip install 'unitscope[ray]'.") from error
    if not ray.is_initialized():
        try:
            ray.init(address="auto", logging_level=logging.ERROR, log_to_driver=False)
        except ConnectionError as error:
            raise Failure(
                "no Ray cluster was found. Start one (`ray start --head`, then `ray start --address=...` on the other "
                "machines), or leave the engine at 'local'."
            ) from error
    return ray


def cut_spans(plan: Plan, span: int) -> list[Span]:
    """The plan's blocks in tasks of `span`, at multiples of it."""
    return [(first, min(first + span, plan.last)) for first in range(plan.first, plan.last, span)]


def part_of(parts: Path, span: Span) -> Path:
    """The file of a span's part."""
    return parts / f"blocks-{span[0]:09d}-{span[1]:09d}.safetensors"


def find_spans(parts: Path) -> list[Span]:
    """The spans whose parts are there, in order; a part inside a larger one is what a merge left over, and goes."""
    found = [re.fullmatch(r"blocks-(\d+)-(\d+)\.safetensors", path.name) for path in parts.iterdir()]
    kept: list[Span] = []
    for span in sorted(((int(m[1]), int(m[2])) for m in found if m), key=lambda span: (span[0], -span[1])):
        if kept and span[1] <= kept[-1][1]:
            part_of(parts, span).unlink(missing_ok=True)
        else:
            kept.append(span)
    return kept
