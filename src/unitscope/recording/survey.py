"""The survey: every stimulus shown once, all sites read in one pass, summaries kept, a record left on disk."""

from __future__ import annotations

import fcntl
import platform
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from unitscope.anatomy.sites import sites as sites_of
from unitscope.errors import BadInput, Failure, few
from unitscope.record import FORMAT, Record, open_record, read_facts, write_facts
from unitscope.recording.electrode import choose, show
from unitscope.recording.session import Session
from unitscope.recording.showing import Shown, batches, default_workers
from unitscope.recording.tables import write_tables
from unitscope.stimuli.images import Images, Source, open_images
from unitscope.stimuli.presentation import Presentation

if TYPE_CHECKING:
    from unitscope.networks import Network
    from unitscope.vocabulary import Site

BLOCK = 256
"""Stimuli in a block: the unit in which a session is shown, summed and put aside."""

Progress = Callable[[int, int], None]
"""Told the number of stimuli shown so far, and of all."""


def survey(
    network: Network,
    images: Source,
    *,
    to: str | Path,
    sites: str | Iterable[str] | None = None,
    top: int = 16,
    resize: int | None = None,
    batch: int = 32,
    workers: int | None = None,
    strict: bool = False,
    put_aside_every: float = 60.0,
    progress: Progress | None = None,
) -> Record:
    """Show every image once to `network`, read all chosen sites in the same pass, and leave a record in the folder `to`.

    Sites are given by name or glob; by default all pre-activations and max-poolings. Of each unit are kept the `top` highest and lowest
    responses (one per image) with position and exact box, extremes, means, counts, and the mean preferred stimulus of its center neuron
    (kobayashi2020, eq. 4 and 5). Memory does not grow with the number of images. The session is put aside every `put_aside_every` seconds;
    the same call resumes it, and the record does not depend, bit for bit, on `workers` or on interruptions. An image that cannot be
    read is noted in `images.parquet` and skipped; with `strict` it ends the survey.

    Raises BadInput for images or sites that are not there; Failure where the folder holds another survey, or cannot be written.
    """
    images = open_images(images)
    if network.inputs != 3:
        raise BadInput(f"photographs have 3 colors; {network.name} takes {network.inputs} input channels.")
    chosen = choose(sites_of(network), [sites] if isinstance(sites, str) else sites)
    presentation = Presentation(network.size, resize)
    facts = _facts(network, images, chosen, presentation, top=top, batch=batch)
    folder = Path(to)
    if _finished(folder, facts):
        return open_record(folder)
    with _parts(folder, facts) as parts:
        session = Session.begin(chosen, k=top, colors=network.inputs)
        session.resume(parts / "session.safetensors")
        _show_all(
            network, images, presentation, chosen, session, parts / "session.safetensors",
            k=top, batch=batch, workers=default_workers() if workers is None else workers,
            strict=strict, put_aside_every=put_aside_every, progress=progress,
        )  # fmt: skip
        facts["stimuli"]["unreadable"] = sum(map(bool, session.errors))
        facts["kernels"] = _kernels(network, chosen)
        write_tables(folder, session, images, _first_kernels(network, facts["kernels"]))
        write_facts(folder, facts | {"complete": True})
    shutil.rmtree(folder / "parts")
    return open_record(folder)


def _show_all(
    network: Network,
    images: Images,
    presentation: Presentation,
    sites: dict[str, Site],
    session: Session,
    path: Path,
    *,
    k: int,
    batch: int,
    workers: int,
    strict: bool,
    put_aside_every: float,
    progress: Progress | None,
) -> None:
    """Show what has not been shown, block by block, and put the session aside now and then and at the end."""
    first, aside = session.blocks * BLOCK, time.monotonic()
    heard = {name: state.listen(k=k, device=network.device) for name, state in session.sites.items()}
    pictures, readable = [], []
    stream = batches(images, presentation, first=first, last=len(images), batch=batch, workers=workers)
    for part in stream:
        _note(session, part.shown, images, strict=strict)
        _listen(network, part.pictures, part.images, part.readable, sites, heard)
        pictures.append(part.pictures)
        readable.append(part.readable.numpy())
        done = int(part.images[-1]) + 1
        if done % BLOCK == 0 or done == len(images):
            session.take(heard, pictures, np.concatenate(readable))
            heard = {name: state.listen(k=k, device=network.device) for name, state in session.sites.items()}
            pictures, readable = [], []
            if time.monotonic() - aside > put_aside_every:
                session.save(path)
                aside = time.monotonic()
        if progress is not None:
            progress(done, len(images))


def _listen(
    network: Network, pictures: torch.Tensor, images: torch.Tensor, readable: torch.Tensor, sites: dict[str, Site], heard: dict[str, Any]
) -> None:
    """Show one batch."""
    device = network.device
    images, readable = images.to(device), readable.to(device)
    with torch.no_grad():
        x = network.prepare(pictures.to(device).float().div_(255)).contiguous(memory_format=torch.channels_last)
        show(network, x, sites, lambda site, responses: heard[site.name].hear(responses.float(), images, readable))


def _note(session: Session, shown: tuple[Shown, ...], images: Images, *, strict: bool) -> None:
    """Keep what became of each image."""
    for fact in shown:
        if fact.error and strict:
            raise Failure(f"{images.items[len(session.errors)].uri} cannot be read: {fact.error}. Without --strict it is noted and skipped.")
        session.digests.append(fact.digest)
        session.sizes.append(fact.bytes)
        session.errors.append(fact.error)


def _facts(
    network: Network, images: Images, sites: dict[str, Site], presentation: Presentation, *, top: int, batch: int
) -> dict[str, Any]:
    """What record.json says: which network, which pictures, which sites."""
    if top < 1 or batch < 1 or BLOCK % batch:
        raise BadInput(f"top must be at least 1 (it was {top}) and batch a divisor of {BLOCK} (it was {batch}).")
    if not sites:
        raise BadInput(f"{network.name} has no pre-activation and no max-pooling; name the sites to survey.")
    first = 0
    listed = []
    for site in sites.values():
        listed.append(_site_facts(site, first))
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
        "settings": {"top": top, "batch": batch, "block": BLOCK},
        "seed": 0,
        "versions": {name: version(name) for name in ("unitscope", "torch", "numpy", "pillow")} | {"python": platform.python_version()},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "complete": False,
    }


def _site_facts(site: Site, first: int) -> dict[str, Any]:
    return {
        "name": site.name,
        "channels": site.channels,
        "lattice": list(site.lattice),
        "operation": site.operation,
        "preactivation": site.preactivation,
        "first_unit": first,
        "field": asdict(site.field()),
    }


def _identity(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts by which one survey is told from another, in words."""
    return {
        "weights or preprocessing": facts["network"]["fingerprint"],
        "images": facts["stimuli"]["fingerprint"],
        "size": [facts["stimuli"]["size"], facts["stimuli"]["resize"]],
        "sites": [site["name"] for site in facts["sites"]],
        "settings": facts["settings"],
    }


def _finished(folder: Path, facts: dict[str, Any]) -> bool:
    """Whether the folder holds the complete record of this very survey. Raises Failure where it is of another."""
    there = read_facts(folder) if folder.exists() else None
    if there is None:
        return False
    _refuse_foreign(folder, there, facts)
    return bool(there["complete"]) and (folder / "arrays.zarr").is_dir()


def _refuse_foreign(folder: Path, there: dict[str, Any], facts: dict[str, Any]) -> None:
    try:
        old, new = _identity(there), _identity(facts)
    except (KeyError, TypeError):
        raise Failure(f"{folder} holds something else than a survey's record; choose another folder.") from None
    different = [name for name in new if old[name] != new[name]]
    if different:
        raise Failure(
            f"{folder} holds a survey of {there['network']['name']} over {there['stimuli']['source']}, made with other {few(different, most=5)}; "
            "it cannot be continued with these. Choose another folder, or delete it."
        )


@contextmanager
def _parts(folder: Path, facts: dict[str, Any]) -> Iterator[Path]:
    """The folder for what is put aside, tried out before the long pass, and locked against a second survey."""
    parts = folder / "parts"
    try:
        parts.mkdir(parents=True, exist_ok=True)
        lock = (parts / "lock").open("w")
    except OSError as error:
        raise Failure(f"a record cannot be written to {folder}: {error.strerror or error}. Choose another folder.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Failure(f"another survey is writing to {folder}. Wait for it, or choose another folder.") from None
        begun = read_facts(parts)
        if begun is not None:
            _refuse_foreign(folder, begun, facts)
        write_facts(parts, facts)
        yield parts


def _kernels(network: Network, sites: dict[str, Site]) -> dict[str, Any] | None:
    """Where the first convolution is, and which surveyed sites share its channels (it and what follows it channel by channel)."""
    everything = list(sites_of(network).values())
    first = next((i for i, site in enumerate(everything) if site.operation == "conv2d"), None)
    if first is None or _first_convolution(network, everything[first].name) is None:
        return None
    sharing = [everything[first].name]
    for site in everything[first + 1 :]:
        if site.operation not in ("batch_norm", "relu", "relu6", "max_pool2d", "silu", "gelu", "hardswish") or site.channels != everything[first].channels:
            break
        sharing.append(site.name)
    return {"site": everything[first].name, "sites": [name for name in sharing if name in sites]}


def _first_convolution(network: Network, name: str) -> torch.Tensor | None:
    """The weight of the convolution behind a site, where it reads the picture itself."""
    module = dict(network.module.named_modules()).get(name)
    weight = getattr(module, "weight", None)
    return weight if isinstance(weight, torch.Tensor) and weight.ndim == 4 and weight.shape[1] == network.inputs else None


def _first_kernels(network: Network, kernels: dict[str, Any] | None) -> np.ndarray | None:
    weight = _first_convolution(network, kernels["site"]) if kernels else None
    return None if weight is None else weight.detach().cpu().float().numpy()
