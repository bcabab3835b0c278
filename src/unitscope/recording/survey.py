"""The survey: every stimulus shown once, all sites read in one pass, summaries kept, a record left on disk."""

from __future__ import annotations

import dataclasses
import fcntl
import platform
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import reduce
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch

from unitscope.anatomy.names import NONLINEARITIES
from unitscope.anatomy.sites import sites as sites_of
from unitscope.errors import BadInput, Failure, few
from unitscope.record import FORMAT, Record, open_record, read_facts, write_facts, write_table
from unitscope.recording.block import Hearing
from unitscope.recording.electrode import choose, show
from unitscope.recording.session import BLOCK, Session, Settings, load, resume, save
from unitscope.recording.showing import Batch, batches, default_workers
from unitscope.recording.tables import images_table, write_results
from unitscope.stimuli.images import Images, Source, open_images
from unitscope.stimuli.presentation import Presentation

if TYPE_CHECKING:
    from unitscope.networks import Network
    from unitscope.vocabulary import Site

CHANNEL_BY_CHANNEL = frozenset({"batch_norm", "max_pool2d", "avg_pool2d", "dropout"}) | NONLINEARITIES
"""Operations whose output channel i is made of input channel i alone."""

Progress = Callable[[int, int], None]
"""Told the number of stimuli shown so far, and of all."""


def survey(
    network: Network,
    images: Source,
    *,
    to: str | Path,
    sites: str | Iterable[str] | None = None,
    top: int = 16,
    per_image: int = 1,
    resize: int | None = None,
    batch: int = 32,
    workers: int | None = None,
    strict: bool = False,
    shard: str | None = None,
    put_aside_every: float = 60.0,
    progress: Progress | None = None,
) -> Record:
    """Show every image once to `network`, read all chosen sites in the same pass, and leave a record in the folder
    `to`.

    Sites are given by name or glob; by default all pre-activations and max-poolings. Of each unit are kept the `top`
    highest and lowest responses (`per_image` of one image) with position and exact box, extremes, means, counts,
    histograms, the mean response at each position and for each label, and the mean preferred stimulus of its center
    neuron (kobayashi2020, eq. 4 and 5). Memory does not grow with the number of images. The session is put aside
    every `put_aside_every` seconds; the same call resumes it, and the record does not depend, bit for bit, on
    `workers`, shards or interruptions. An image that cannot be read is noted in `images.parquet` and skipped; with
    `strict` it ends the survey. `shard` ("2/8") shows one part of the images only; `merge` makes a record of all
    parts.

    Raises BadInput for images or sites that are not there; Failure where the folder holds another survey, or cannot
    be written.
    """
    images = open_images(images)
    plan = Plan.of(network, images, sites=sites, resize=resize, batch=batch, top=top, per_image=per_image, shard=shard)
    folder = Path(to)
    if finished(folder, plan.facts):
        return open_record(folder)
    with parts_of(folder, plan.facts) as parts:
        session = Session.begin(plan.sites, plan.settings, first=plan.first)
        resume(session, parts / "session.safetensors")
        put_aside = Aside(session, parts / "session.safetensors", put_aside_every)
        show_blocks(
            network, images, plan, session, workers=default_workers() if workers is None else workers,
            strict=strict, put_aside=put_aside, progress=progress,
        )  # fmt: skip
        session.kernels = first_kernels(network, plan.facts["kernels"])
        finish(folder, session, plan.facts, images_table(session, images))
    shutil.rmtree(folder / "parts")
    return Record(folder, read_facts(folder) or {}) if shard else open_record(folder)


@dataclass(frozen=True)
class Plan:
    """What is going to be shown and read: fixed before the first stimulus, and the same for all shards."""

    sites: dict[str, Site]
    settings: Settings
    presentation: Presentation
    batch: int
    first: int
    last: int
    facts: dict[str, Any]

    @classmethod
    def of(
        cls,
        network: Network,
        images: Images,
        *,
        sites: str | Iterable[str] | None,
        resize: int | None,
        batch: int,
        top: int,
        per_image: int,
        shard: str | None,
    ) -> Plan:
        if network.inputs != 3:
            raise BadInput(f"photographs have 3 colors; {network.name} takes {network.inputs} input channels.")
        if top < 1 or not 1 <= per_image <= top or batch < 1 or BLOCK % batch:
            raise BadInput(
                f"top must be at least 1 (it was {top}), per_image 1 to top (it was {per_image}) "
                f"and batch a divisor of {BLOCK} (it was {batch})."
            )
        everything = sites_of(network)
        chosen = choose(everything, [sites] if isinstance(sites, str) else sites)
        if not chosen:
            raise BadInput(f"{network.name} has no pre-activation and no max-pooling; name the sites to survey.")
        presentation = Presentation(network.size, resize)
        part, of = parse_shard(shard)
        blocks = -(-len(images) // BLOCK)
        settings = Settings(top, per_image, images.labels, network.inputs)
        facts = describe(network, images, chosen, presentation, settings, batch=batch)
        facts["kernels"] = kernel_sites(network, everything, chosen)
        if shard:
            facts["shard"] = [part, of]
        return cls(chosen, settings, presentation, batch, (part - 1) * blocks // of, part * blocks // of, facts)


def parse_shard(text: str | None) -> tuple[int, int]:
    """The part and the number of parts behind "2/8". Raises BadInput."""
    if text is None:
        return 1, 1
    match = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise BadInput(f"{text!r} is no shard; write it as PART/PARTS, from 1/8 to 8/8.")
    return int(match[1]), int(match[2])


@dataclass
class Aside:
    """Puts the session aside every so many seconds."""

    session: Session
    path: Path
    every: float
    last: float = dataclasses.field(default_factory=time.monotonic)

    def __call__(self) -> None:
        if time.monotonic() - self.last > self.every:
            save(self.session, self.path)
            self.last = time.monotonic()


def show_blocks(
    network: Network,
    images: Images,
    plan: Plan,
    session: Session,
    *,
    workers: int,
    strict: bool = False,
    put_aside: Callable[[], None] | None = None,
    progress: Progress | None = None,
) -> None:
    """Show what has not been shown of the plan's blocks, and let the session take it in, block by block."""
    code = {label: number for number, label in enumerate(plan.settings.labels)}
    labels = np.array([code.get(item.label, -1) for item in images.items])
    first, last = session.blocks * BLOCK, min(plan.last * BLOCK, len(images))
    heard, shown = session.hearings(network.device), list[Batch]()
    for part in batches(images, plan.presentation, first=first, last=last, batch=plan.batch, workers=workers):
        if strict:
            refuse_unreadable(part, images)
        listen(network, part, plan.sites, heard)
        shown.append(part)
        done = int(part.images[-1]) + 1
        if done % BLOCK == 0 or done == last:
            readable = torch.cat([batch.readable for batch in shown]).numpy()
            here = labels[done - len(readable) : done]
            facts = [fact for batch in shown for fact in batch.shown]
            session.take(heard, [batch.pictures for batch in shown], readable, here, facts)
            heard, shown = session.hearings(network.device), []
            if put_aside is not None:
                put_aside()
        if progress is not None:
            progress(done - plan.first * BLOCK, last - plan.first * BLOCK)


def listen(network: Network, batch: Batch, sites: dict[str, Site], heard: dict[str, Hearing]) -> None:
    """Show one batch to the network, and let each site be heard."""
    device = network.device
    images, readable = batch.images.to(device), batch.readable.to(device)
    with torch.no_grad():
        x = network.prepare(batch.pictures.to(device).float().div_(255)).contiguous(memory_format=torch.channels_last)
        show(network, x, sites, lambda site, responses: heard[site.name].hear(responses.float(), images, readable))


def refuse_unreadable(batch: Batch, images: Images) -> None:
    for image, fact in zip(batch.images.tolist(), batch.shown, strict=True):
        if fact.error:
            raise Failure(
                f"{images.items[image].uri} cannot be read: {fact.error}. Without --strict it is noted and skipped."
            )


def finish(folder: Path, session: Session, facts: dict[str, Any], images: pa.Table) -> None:
    """Leave the record, or of a shard the part that `merge` takes, in the folder."""
    unreadable = sum(bool(fact.error) for fact in session.shown)
    facts = facts | {"stimuli": facts["stimuli"] | {"unreadable": unreadable}}
    write_table(folder / "images.parquet", images)
    if "shard" in facts:
        save(session, folder / "part.safetensors")
        write_facts(folder, facts)
    else:
        write_results(folder, session)
        write_facts(folder, facts | {"complete": True})


def merge(records: Iterable[str | Path], *, to: str | Path) -> Record:
    """Make one record of the shards of a survey: the same, bit for bit, as if it had not been cut.

    Neither the network nor the images are needed. Raises BadInput where a folder is no shard or shards are missing;
    Failure where they are not of the same survey.
    """
    shards = sorted((read_shard(Path(path)) for path in records), key=lambda shard: shard[1]["shard"])
    if not shards:
        raise BadInput("no shard came to be merged.")
    facts = shards[0][1]
    for path, other in shards[1:]:
        refuse_foreign(path, other, facts)
    parts, of = [other["shard"][0] for _, other in shards], facts["shard"][1]
    if parts != list(range(1, of + 1)) or any(other["shard"][1] != of for _, other in shards):
        missing = few([f"{part}/{of}" for part in range(1, of + 1) if part not in parts])
        raise BadInput(
            f"a survey in {of} shards needs each of them once; "
            + (f"{missing} missing." if missing else "one came twice.")
        )
    kept = facts["settings"]
    settings = Settings(kept["top"], kept["per_image"], tuple(kept["labels"]), facts["network"]["inputs"])
    sessions = [load(path / "part.safetensors", facts["sites"], settings) for path, _ in shards]
    images = pa.concat_tables(pyarrow.parquet.read_table(path / "images.parquet") for path, _ in shards)
    folder = Path(to)
    with parts_of(folder, {name: value for name, value in facts.items() if name != "shard"}):
        whole = reduce(Session.merge, sessions)
        finish(folder, whole, {name: value for name, value in facts.items() if name != "shard"}, images)
    shutil.rmtree(folder / "parts")
    return open_record(folder)


def read_shard(path: Path) -> tuple[Path, dict[str, Any]]:
    facts = read_facts(path)
    if facts is None or "shard" not in facts:
        what = "does not exist" if not path.exists() else "is a whole record" if facts else "holds no finished shard"
        raise BadInput(f"{path} {what}; `unitscope merge` takes what `unitscope survey --shard 1/8` and so on leave.")
    return path, facts


def describe(
    network: Network,
    images: Images,
    sites: dict[str, Site],
    presentation: Presentation,
    settings: Settings,
    *,
    batch: int,
) -> dict[str, Any]:
    """What record.json says: which network, which pictures, which sites."""
    first = 0
    listed = []
    for site in sites.values():
        listed.append(site_facts(site, first))
        first += site.channels
    return {
        "format": FORMAT,
        "network": {
            "name": network.name,
            "fingerprint": network.fingerprint,
            "weights": network.weights,
            "size": list(network.size),
            "mean": list(network.mean),
            "std": list(network.std),
            "order": network.order,
            "inputs": network.inputs,
            "classes": list(network.classes) if network.classes else None,
        },
        "stimuli": {
            "fingerprint": images.fingerprint,
            "source": images.source,
            "count": len(images),
            "unreadable": 0,
            "note": images.note,
            "size": list(presentation.size),
            "resize": presentation.resize,
        },
        "sites": listed,
        "settings": {
            "top": settings.top,
            "per_image": settings.per_image,
            "labels": list(settings.labels),
            "batch": batch,
            "block": BLOCK,
        },
        "seed": 0,
        "versions": {name: version(name) for name in ("unitscope", "torch", "numpy", "pillow")}
        | {"python": platform.python_version()},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "complete": False,
    }


def site_facts(site: Site, first: int) -> dict[str, Any]:
    return {
        "name": site.name,
        "channels": site.channels,
        "lattice": list(site.lattice),
        "picture": list(site.picture),
        "operation": site.operation,
        "preactivation": site.preactivation,
        "first_unit": first,
        "field": asdict(site.field()),
    }


def identity(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts by which one survey is told from another, in words."""
    return {
        "weights or preprocessing": facts["network"]["fingerprint"],
        "images": facts["stimuli"]["fingerprint"],
        "size": [facts["stimuli"]["size"], facts["stimuli"]["resize"]],
        "sites": [site["name"] for site in facts["sites"]],
        "settings": facts["settings"],
    }


def finished(folder: Path, facts: dict[str, Any]) -> bool:
    """Whether the folder holds the complete record of this very survey. Raises Failure where it is of another."""
    there = read_facts(folder) if folder.exists() else None
    if there is None:
        return False
    refuse_foreign(folder, there, facts)
    if there.get("shard") != facts.get("shard"):
        what = "another shard" if "shard" in there else "the whole"
        raise Failure(f"{folder} holds {what} of this survey; choose another folder.")
    return bool(there["complete"]) or (folder / "part.safetensors").exists()


def refuse_foreign(folder: Path, there: dict[str, Any], facts: dict[str, Any]) -> None:
    try:
        old, new = identity(there), identity(facts)
    except (KeyError, TypeError):
        raise Failure(f"{folder} holds something else than a survey's record; choose another folder.") from None
    different = [name for name in new if old[name] != new[name]]
    if different:
        raise Failure(
            f"{folder} holds a survey of {there['network']['name']} over {there['stimuli']['source']}, "
            f"made with other {few(different, most=5)}; "
            "it cannot be continued with these. Choose another folder, or delete it."
        )


@contextmanager
def parts_of(folder: Path, facts: dict[str, Any]) -> Iterator[Path]:
    """The folder for what is put aside, tried out before the long pass, and locked against a second survey."""
    parts = folder / "parts"
    try:
        parts.mkdir(parents=True, exist_ok=True)
        lock = (parts / "lock").open("w")
    except OSError as error:
        raise Failure(
            f"a record cannot be written to {folder}: {error.strerror or error}. Choose another folder."
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Failure(f"another survey is writing to {folder}. Wait for it, or choose another folder.") from None
        begun = read_facts(parts)
        if begun is not None:
            refuse_foreign(folder, begun, facts)
        write_facts(parts, facts)
        yield parts


def kernel_sites(network: Network, everything: Mapping[str, Site], chosen: Mapping[str, Site]) -> dict[str, Any] | None:
    """Where the first convolution is, and which surveyed sites share its channels (it, and what follows it channel by
    channel).
    """
    listed = list(everything.values())
    first = next((i for i, site in enumerate(listed) if site.operation == "conv2d"), None)
    if first is None or first_convolution(network, listed[first].name) is None:
        return None
    sharing = [listed[first].name]
    for site in listed[first + 1 :]:
        if site.operation not in CHANNEL_BY_CHANNEL or site.channels != listed[first].channels:
            break
        sharing.append(site.name)
    return {"site": listed[first].name, "sites": [name for name in sharing if name in chosen]}


def first_convolution(network: Network, name: str) -> torch.Tensor | None:
    """The weight of the convolution behind a site, where it reads the picture itself."""
    module = dict(network.module.named_modules()).get(name)
    weight = getattr(module, "weight", None)
    return (
        weight if isinstance(weight, torch.Tensor) and weight.ndim == 4 and weight.shape[1] == network.inputs else None
    )


def first_kernels(network: Network, kernels: dict[str, Any] | None) -> np.ndarray | None:
    weight = first_convolution(network, kernels["site"]) if kernels else None
    return None if weight is None else weight.detach().cpu().float().numpy()
