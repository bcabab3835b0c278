"""survey: every image is shown once, and every unit is recorded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cyclopts.types import NonNegativeInt, PositiveInt

from unitscope.cli.common import Several, one_or_many, progress_bars, resumable, terminal_width
from unitscope.cli.json_output import describe_record, print_json
from unitscope.cli.options import DEFAULT_MODEL, ModelOptions, choose_device, open_network
from unitscope.cli.text_tables import Column, count_text, number_text, paragraph, table

if TYPE_CHECKING:
    from unitscope.record import Record


def survey(
    model: str,
    images: list[str],
    /,
    *,
    to: Path,
    sites: Several[str] = None,
    top: PositiveInt = 16,
    per_image: PositiveInt = 1,
    means: Several[str] = None,
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
    with resumable(kept), progress_bars(" images") as show_progress:
        record = survey_images(
            network, one_or_many(images), to=to, sites=sites, top=top, per_image=per_image, means=means or (),
            responses=responses, shard=shard, precision=precision, engine=engine, resize=resize, batch=batch,
            workers=workers, seed=seed, strict=strict,
            progress=lambda done, total: show_progress(network.name, done, total),
        )  # fmt: skip
    if shard and json:
        print_json({"part": str(to), "shard": shard, "network": network.name})
    elif shard:
        print(f"Part {shard} of the survey is {to}. When all parts are there: unitscope merge PART... --to RECORD")
    else:
        print_record(record, json=json)


def print_record(record: Record, *, json: bool) -> None:
    """The last words of who makes a record."""
    if json:
        print_json(describe_record(record))
        return
    print(survey_table(record, width=terminal_width()))
    print(f"\nThe record is {record.path}. Next: unitscope atlas {record.path} --to atlas")


SURVEYED: tuple[Column, ...] = (
    ("site", "<"), ("field", ">"), ("units", ">"), ("inactive", ">"), ("median peak", ">"), ("highest", ">"),
)  # fmt: skip


def survey_table(record: Record, *, width: int = 80) -> str:
    """What a survey found, a line per site, and in all."""
    units = _columns(record, "units.parquet", ("site", "inactive", "peak_max"))
    rows = []
    for site in record.sites.values():
        here = slice(site.first_unit, site.first_unit + site.channels)
        peaks = sorted(peak for peak in units["peak_max"][here] if peak is not None)
        rows.append(
            (
                site.name,
                str(site.field) if site.field.status in ("exact", "upper bound") else site.field.status,
                str(site.channels),
                str(sum(units["inactive"][here])),
                number_text(peaks[len(peaks) // 2]) if peaks else "",
                number_text(peaks[-1]) if peaks else "",
            )
        )
    return "\n".join([table(SURVEYED, rows, width=width), "", survey_facts(record, width=width)])


def survey_facts(record: Record, *, width: int = 80) -> str:
    """What a survey found, in a sentence."""
    inactive = _columns(record, "units.parquet", ("inactive",))["inactive"]
    share = f"{100 * sum(inactive) / max(len(inactive), 1):.1f} %"
    facts = f"{record.facts['network']['name']}: {count_text(len(inactive), 'unit')} at "
    facts += (
        f"{count_text(len(record.sites), 'site')}; {sum(inactive):,} ({share}) never had a response above 0 to any of "
    )
    return paragraph(facts + _shown(record) + _way(record), width=width)


def _way(record: Record) -> str:
    """Why the network was read in the plain way; nothing where it was not."""
    calibration = record.facts.get("calibration")
    reason = calibration.get("reason") if isinstance(calibration, dict) else None
    return f" The network was read in the plain way, which takes longer: {reason}." if reason else ""


def _shown(record: Record) -> str:
    stimuli = record.facts["stimuli"]
    unreadable = stimuli.get("unreadable", 0)
    text = count_text(stimuli["count"] - unreadable, "image")
    if unreadable:
        text += f" ({unreadable:,} more could not be read)"
    return text + (f" ({stimuli['note']})." if stimuli.get("note") else ".")


def _columns(record: Record, name: str, columns: Sequence[str]) -> dict[str, list[Any]]:
    import pyarrow.parquet

    return pyarrow.parquet.read_table(record.path / name, columns=list(columns)).to_pydict()
