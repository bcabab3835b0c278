"""sites, survey, merge: where an electrode can sit, showing the images, one record of several parts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from cyclopts.types import NonNegativeInt, PositiveInt

from unitscope.options import DEFAULT_MODEL, ModelOptions, choose_device, one_or_many, open_network
from unitscope.text_tables import site_table, survey_table
from unitscope.verbs.manners import bars, columns, resumable
from unitscope.verbs.scripts import network_facts, record_facts, tell

if TYPE_CHECKING:
    from unitscope.record import Record


def sites(model: str, /, *, json: bool = False, options: ModelOptions = DEFAULT_MODEL) -> None:
    """List the sites of a network: where an electrode can sit, and what its neurons see there.

    Args:
        model: resnet34, plainnet34, shipped:resnet34, torchvision:NAME, timm:NAME or package.module:factory.
        json: Tell it as JSON, for scripts.
    """
    from unitscope.anatomy.sites import sites as sites_of
    from unitscope.recording.electrode import choose

    network = open_network(model, options)
    found = sites_of(network)
    if json:
        tell(network_facts(network, found, choose(found, None)))
    else:
        print(site_table(network, found, choose(found, None), width=columns()))


def survey(
    model: str,
    images: list[str],
    /,
    *,
    to: Path,
    sites: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    top: PositiveInt = 16,
    per_image: PositiveInt = 1,
    means: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    responses: bool = False,
    shard: str | None = None,
    engine: Literal["local", "ray"] = "local",
    resize: PositiveInt | None = None,
    batch: PositiveInt | None = None,
    device: str = "auto",
    precision: Literal["float32", "bfloat16"] = "float32",
    workers: NonNegativeInt | None = None,
    seed: NonNegativeInt | None = None,
    strict: bool = False,
    json: bool = False,
    options: ModelOptions = DEFAULT_MODEL,
) -> None:
    """Show every image once and record what each unit prefers, what it shuns, and what it never answers to.

    The same command resumes a survey that was interrupted.

    Args:
        model: What `unitscope sites` takes.
        images: A folder, a list (CSV with the columns uri, label), tar or Parquet files, or builtin.
        to: The folder that the record goes to.
        sites: Names or globs, such as maxpool 'layer1.*'; '*' is all.
        top: How many highest and lowest responses are kept of each unit.
        per_image: How many of these may come from one image.
        means: Further mean stimuli to keep, beside that of the center neuron: best, all, full, halves.
        responses: Keep every unit's answer to every image, 12 bytes each; some measures need them.
        shard: Show one part of the images only, such as 2/8. `unitscope merge` makes a record of all parts.
        engine: Show them here, or on the Ray cluster that is there.
        resize: Shorter side in pixels before the center crop. By default 256/224 of the network's size.
        batch: Images shown at once. By default 32, on a GPU 64.
        device: auto, cpu, cuda or cuda:1.
        precision: What the network computes in. bfloat16 keeps 8 significant bits of a response.
        workers: How many decode images. By default as many as suit the machine.
        seed: For a network that draws random numbers when it runs: what they are drawn from. Others need none.
        strict: Stop at an image that cannot be read; else it is noted and skipped.
        json: Tell what was found as JSON, for scripts.
    """
    from unitscope.recording.survey import survey as survey_images

    network = open_network(model, options).to(choose_device(device))
    kept = f"What was shown so far is kept in {to}; the same command resumes."
    with resumable(kept), bars(" images") as show:
        record = survey_images(
            network, one_or_many(images), to=to, sites=sites, top=top, per_image=per_image, means=means or (),
            responses=responses, shard=shard, precision=precision, engine=engine, resize=resize, batch=batch,
            workers=workers, seed=seed, strict=strict, progress=lambda done, total: show(network.name, done, total),
        )  # fmt: skip
    if shard and json:
        tell({"part": str(to), "shard": shard, "network": network.name})
    elif shard:
        print(f"Part {shard} of the survey is {to}. When all parts are there: unitscope merge PART... --to RECORD")
    else:
        print_record(record, json=json)


def merge(parts: list[Path], /, *, to: Path, json: bool = False) -> None:
    """Make one record of all parts of a survey that was shown in shards.

    Args:
        parts: The folders that `unitscope survey --shard 1/8` and so on left.
        to: The folder that the record goes to.
        json: Tell what was found as JSON, for scripts.
    """
    from unitscope.recording.merging import merge as merge_shards

    print_record(merge_shards(parts, to=to), json=json)


def print_record(record: Record, *, json: bool) -> None:
    """The last words of who makes a record."""
    if json:
        tell(record_facts(record))
        return
    print(survey_table(record, width=columns()))
    print(f"\nThe record is {record.path}. Next: unitscope atlas {record.path} --to atlas")
