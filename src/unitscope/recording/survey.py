"""The survey: every stimulus shown once, all sites read in one pass, summaries kept, a record left on disk.

images -> batches.py: decoded, 32 at a time -> forward_pass.py: shown, all sites read -> accumulator.py: rows per map
       -> 256 images later, statistics.py: taken in as a block -> session.py: saved now and then
       -> after the last block, tables.py: units.parquet, stimuli.parquet, arrays.zarr, record.json
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from unitscope.anatomy.certificates import certify, concat_certificates
from unitscope.errors import unknown_name
from unitscope.facts import read_facts
from unitscope.option_groups import DistributionOptions, PresentationOptions, SummaryOptions
from unitscope.record import Record
from unitscope.recording.acceleration import keep_freed_memory
from unitscope.recording.batches import Progress, default_workers
from unitscope.recording.blocks import Checkpoint, show_blocks
from unitscope.recording.cluster import show_on_cluster
from unitscope.recording.manifest import first_kernels, is_finished, open_parts
from unitscope.recording.plan import Plan, calibrate_plan
from unitscope.recording.session import Session, resume
from unitscope.recording.tables import images_table, write_record
from unitscope.stimuli.images import Source, open_images
from unitscope.vocabulary import Size

if TYPE_CHECKING:
    from unitscope.networks import Network

ENGINES = ("local", "ray")
"""Where the images are shown: here, or on the Ray cluster that is there."""

BATCH = {"cpu": 32, "cuda": 64}
"""How many images are shown at once by default."""


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
        workers: threads that decode images.
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
    if is_finished(folder, plan.facts):
        shutil.rmtree(folder / "parts", ignore_errors=True)
        return Record(folder, read_facts(folder) or {})
    with open_parts(folder, plan.facts) as parts:
        plan = calibrate_plan(plan, network, images)
        workers = default_workers() if workers is None else workers
        if engine == "ray":
            session = show_on_cluster(
                network, images, plan, parts, workers=workers, strict=strict, span=span, progress=progress
            )
        else:
            session = Session.begin(plan.sites, plan.settings, first=plan.first)
            resume(session, parts / "session.safetensors")
            checkpoint = Checkpoint(session, parts / "session.safetensors", put_aside_every)
            with keep_freed_memory():
                show_blocks(
                    network,
                    images,
                    plan,
                    session,
                    workers=workers,
                    strict=strict,
                    checkpoint=checkpoint,
                    progress=progress,
                )
        session.kernels = first_kernels(network, plan.facts["kernels"])
        session.certificate = concat_certificates(certify(network, plan.sites))
        write_record(folder, session, plan.facts, images_table(session, images))
    return Record(folder, read_facts(folder) or {})
