"""The survey: every stimulus shown once, all sites read in one pass, summaries kept, a record left on disk."""

from __future__ import annotations

import dataclasses
import logging
import re
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unitscope.anatomy.certificates import certify, joined
from unitscope.anatomy.sites import sites as sites_of
from unitscope.errors import BadInput, Failure, unknown_name
from unitscope.facts import read_facts
from unitscope.option_groups import DistributionOptions, PresentationOptions, SummaryOptions
from unitscope.record import Record
from unitscope.recording.batches import PRECISIONS, Way, read_batch
from unitscope.recording.calibration import calibrate
from unitscope.recording.cluster import show_on_cluster
from unitscope.recording.electrode import choose, place
from unitscope.recording.field_windows import View
from unitscope.recording.manifest import describe, finished, first_kernels, kernel_sites, parts_of
from unitscope.recording.memory import keeping_what_is_freed
from unitscope.recording.session import BLOCK, MEANS, Session, Settings, resume, save
from unitscope.recording.showing import Batch, Shown, batches, default_workers, first_pictures, in_gray
from unitscope.recording.tables import finish, images_table
from unitscope.stimuli.images import Images, Source, open_images
from unitscope.stimuli.presentation import Presentation
from unitscope.vocabulary import Size

if TYPE_CHECKING:
    from unitscope.networks import Network
    from unitscope.vocabulary import Site

log = logging.getLogger(__name__)

ENGINES = ("local", "ray")
"""Where the images are shown: here, or on the Ray cluster that is there."""

BATCH = {"cpu": 32, "cuda": 64}
"""Images shown at once unless told otherwise."""

Progress = Callable[[int, int], None]
"""Told the number of stimuli shown so far, and of all."""


def survey(
    network: Network,
    images: Source,
    *,
    to: str | Path,
    sites: str | Iterable[str] | None = None,
    top: int = SummaryOptions.top,
    per_image: int = SummaryOptions.per_image,
    means: Iterable[str] = SummaryOptions.means,
    responses: bool = SummaryOptions.responses,
    resize: int | Size | None = PresentationOptions.resize,
    batch: int | None = PresentationOptions.batch,
    workers: int | None = PresentationOptions.workers,
    strict: bool = PresentationOptions.strict,
    shard: str | None = DistributionOptions.shard,
    precision: str = PresentationOptions.precision,
    engine: str = DistributionOptions.engine,
    span: int = 64,
    seed: int | None = PresentationOptions.seed,
    put_aside_every: float = 60.0,
    progress: Progress | None = None,
) -> Record:
    """Show every image once to a network, read all chosen sites in the same pass, and leave a record in a folder.

    Of each unit are kept: the highest and lowest responses with position and exact box, extremes, means, counts,
    histograms, the mean response at each position and for each label, and the mean preferred stimulus of the center
    neuron. Memory does not grow with the number of images, unless `responses` are kept.

    The same call resumes a survey that was interrupted. The record does not depend, bit for bit, on `workers`, shards
    or interruptions. Before the first image the network is calibrated on three of the images (see `calibration`), and
    `record.json` says what was found.

    Args:
        network: it is left as it was.
        images: what `open_images` takes. An image that cannot be read is noted in `images.parquet` and skipped.
        to: the folder of the record.
        sites: names or globs; by default all pre-activations and max-poolings.
        top: so many highest and so many lowest responses are kept of each unit.
        per_image: at most so many of them are of one image.
        means: further mean stimuli: "best", over the best positions, and "all", over all positions.
        responses: keep peak, trough and mean of every unit's response to every image, 12 bytes each.
        resize: the shorter side to which photographs are resized, or (height, width).
        batch: images shown at once; by default 32, on a GPU 64.
        workers: processes that read images.
        strict: an image that cannot be read ends the survey.
        shard: "2/8" shows the second of eight parts of the images; `merge` makes a record of all parts.
        precision: "float32", or "bfloat16": the network's convolutions and products are computed in 16 bits
            (torch.autocast). Responses keep 8 significant bits, so that ties and near ties are ordered otherwise.
        engine: "local", or "ray": a Ray cluster shows the images.
        span: blocks of 256 images in a task of the engine "ray".
        seed: for a network that draws random numbers when it runs; each batch draws from this seed.
        put_aside_every: seconds between two checkpoints.
        progress: called as progress(done, all).

    Raises:
        BadInput: images, sites, an engine or a precision do not exist; or the network's responses depend on other
            pictures, on chance, or on what was shown before.
        Failure: the folder holds another survey, or cannot be written.

    Source: kobayashi2020, eq. 4 and 5 (mean preferred stimuli).

    Example:
        >>> record = unitscope.survey(network, images, to="records/new", sites=["maxpool"], top=2)
        >>> record.stimuli()[["unit", "pole", "rank"]].head(4)
           unit           pole  rank
        0     0      preferred     0
        1     0      preferred     1
        2     0  antipreferred     0
        3     0  antipreferred     1
    """
    if engine not in ENGINES:
        raise unknown_name("engine", engine, ENGINES)
    images = open_images(images)
    batch = BATCH.get(network.device.type, BATCH["cuda"]) if batch is None else batch
    plan = Plan.of(
        network, images, sites=sites, resize=resize, batch=batch, top=top, per_image=per_image, means=means,
        responses=responses, precision=precision, shard=shard, seed=seed,
    )  # fmt: skip
    folder = Path(to)
    if finished(folder, plan.facts):
        shutil.rmtree(folder / "parts", ignore_errors=True)
        return Record(folder, read_facts(folder) or {})
    with parts_of(folder, plan.facts) as parts:
        plan = calibrated(plan, network, images)
        workers = default_workers() if workers is None else workers
        if engine == "ray":
            session = show_on_cluster(
                network, images, plan, parts, workers=workers, strict=strict, span=span, progress=progress
            )
        else:
            session = Session.begin(plan.sites, plan.settings, first=plan.first)
            resume(session, parts / "session.safetensors")
            aside = Aside(session, parts / "session.safetensors", put_aside_every)
            with keeping_what_is_freed():
                show_blocks(
                    network, images, plan, session, workers=workers, strict=strict, put_aside=aside, progress=progress
                )
        session.kernels = first_kernels(network, plan.facts["kernels"])
        session.certificate = joined(certify(network, plan.sites))
        finish(folder, session, plan.facts, images_table(session, images))
    return Record(folder, read_facts(folder) or {})


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
    precision: str = "float32"
    way: Way = dataclasses.field(default_factory=Way)

    @classmethod
    def of(
        cls,
        network: Network,
        images: Images,
        *,
        sites: str | Iterable[str] | None,
        resize: int | Size | None,
        batch: int,
        top: int,
        per_image: int,
        means: Iterable[str],
        responses: bool,
        shard: str | None,
        precision: str = "float32",
        seed: int | None = None,
    ) -> Plan:
        if network.inputs not in (1, 3):
            raise BadInput(
                f"photographs have 3 colors, or 1 when they are made gray; {network.name} takes {network.inputs} input "
                "channels."
            )
        if top < 1 or not 1 <= per_image <= top or batch < 1 or BLOCK % batch:
            raise BadInput(
                f"top must be at least 1 (it was {top}), per_image 1 to top (it was {per_image}) "
                f"and batch a divisor of {BLOCK} (it was {batch})."
            )
        if precision not in PRECISIONS:
            raise unknown_name("precision", precision, PRECISIONS, advice=f"There are {', '.join(PRECISIONS)}.")
        everything = sites_of(network)
        chosen = choose(everything, [sites] if isinstance(sites, str) else sites)
        if not chosen:
            cut = [f"{site.name}: {site.unreadable}" for site in everything.values() if site.unreadable]
            why = f" that can be read ({cut[0]})" if cut else ""
            raise BadInput(f"{network.name} has no pre-activation and no max-pooling{why}; name the sites to survey.")
        presentation = Presentation(network.size, resize)
        part, of = parse_shard(shard)
        blocks = -(-len(images) // BLOCK)
        settings = Settings(top, per_image, images.labels, network.inputs, known_means(means), responses)
        facts = describe(network, images, chosen, presentation, settings, batch=batch)
        facts["kernels"] = kernel_sites(network, everything, chosen)
        if precision != "float32":
            facts["settings"]["precision"] = precision
        if seed is not None:
            facts["seed"] = facts["settings"]["seed"] = seed
        if shard:
            facts["shard"] = [part, of]
        first, last = ((part - before) * blocks // of for before in (1, 0))
        return cls(chosen, settings, presentation, batch, first, last, facts, precision, Way(seed=seed))


def calibrated(plan: Plan, network: Network, images: Images) -> Plan:
    """The plan with the way of showing and reading that suits the network, tried on its first readable images."""
    found = calibrate(
        network, plan.sites, first_pictures(images, plan.presentation, inputs=network.inputs),
        precision=plan.precision, seed=plan.way.seed,
    )  # fmt: skip
    plan.facts["calibration"] = found.facts
    if not found.way.quick and found.steadiness is not None:
        log.info("%s is read in the plain way: %s.", network.name, found.reason)
    return dataclasses.replace(plan, way=found.way)


def known_means(means: Iterable[str]) -> tuple[str, ...]:
    """The names of means in one order. Raises UnknownName."""
    means = [means] if isinstance(means, str) else list(means)
    for name in means:
        if name not in MEANS:
            raise unknown_name("mean", name, MEANS, advice=f"There are {', '.join(MEANS)}, beside the center's.")
    return tuple(name for name in MEANS if name in means)


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
    first, last = session.blocks * BLOCK, min(plan.last * BLOCK, len(images))
    code: dict[str | None, int] = {label: number for number, label in enumerate(plan.settings.labels)}
    labels = np.array([code.get(item.label, -1) for item in images.items[first:last]], dtype=np.int64)
    heard, facts, cuts = session.hearings(network.device), list[Shown](), list[dict[View, np.ndarray]]()
    placed = place(network, plan.sites, fast=plan.way.quick)
    for part in batches(images, plan.presentation, first=first, last=last, batch=plan.batch, workers=workers):
        if strict:
            refuse_unreadable(part, images)
        part = part if network.inputs == 3 else in_gray(part)
        read_batch(network, part, placed, heard, way=plan.way, precision=plan.precision)
        cuts.append(session.cut(part.pictures))
        facts += part.shown
        done = int(part.images[-1]) + 1
        if done % BLOCK == 0 or done == last:
            readable = np.array([not fact.error for fact in facts])
            here = labels[done - first - len(facts) : done - first]
            session.take(heard, cuts, readable, here, facts)
            heard, facts, cuts = session.hearings(network.device, heard), [], []
            if put_aside is not None:
                put_aside()
        if progress is not None:
            progress(done - plan.first * BLOCK, last - plan.first * BLOCK)


def refuse_unreadable(batch: Batch, images: Images) -> None:
    for image, fact in zip(batch.images.tolist(), batch.shown, strict=True):
        if fact.error:
            raise Failure(
                f"{images.items[image].uri} cannot be read: {fact.error}. Without --strict it is noted and skipped."
            )
