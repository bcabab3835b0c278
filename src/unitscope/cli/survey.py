"""survey: every image is shown once, and every unit is recorded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitscope.cli.common import Several, one_or_many, progress_bars, resumable, terminal_width
from unitscope.cli.json_output import describe_record, print_json
from unitscope.cli.options import DEFAULT_MODEL, ModelOptions, choose_device, open_network
from unitscope.cli.text_tables import Column, count_text, number_text, paragraph, table
from unitscope.option_groups import DistributionOptions, PresentationOptions, SummaryOptions

if TYPE_CHECKING:
    from unitscope.record import Record

SUMMARIES, DISTRIBUTION, PRESENTATION = SummaryOptions(), DistributionOptions(), PresentationOptions()


def survey(
    model: str,
    images: list[str],
    /,
    *,
    to: Path,
    sites: Several[str] = None,
    summaries: SummaryOptions = SUMMARIES,
    distribution: DistributionOptions = DISTRIBUTION,
    presentation: PresentationOptions = PRESENTATION,
    device: str = "auto",
    json: bool = False,
    options: ModelOptions = DEFAULT_MODEL,
) -> None:
    """Show every image once, and record to which images each unit responds most and least.

    The same command resumes a survey that was interrupted.

    Args:
        model: What `unitscope sites` takes.
        images: A folder, a list (CSV with the columns uri, label), tar or Parquet files, or builtin.
        to: The folder that the record goes to.
        sites: Names or globs, such as maxpool 'layer1.*'; '*' is all.
        device: auto, cpu, cuda or cuda:1.
        json: Tell what was found as JSON, for scripts.
    """
    from unitscope.recording.survey import survey as survey_images

    network = open_network(model, options).to(choose_device(device))
    advice = f"What was shown so far is kept in {to}; the same command resumes."
    with resumable(advice), progress_bars(" images") as show_progress:
        record = survey_images(
            network, one_or_many(images), to=to, sites=sites,
            **vars(summaries), **vars(distribution), **vars(presentation),
            progress=lambda done, total: show_progress(network.name, done, total),
        )  # fmt: skip
    shard = distribution.shard
    if shard and json:
        print_json({"part": str(to), "shard": shard, "network": network.name})
    elif shard:
        print(f"Part {shard} of the survey is {to}. When all parts are there: unitscope merge PART... --to RECORD")
    else:
        print_record(record, json=json)


def print_record(record: Record, *, json: bool) -> None:
    """Print what the record says of its sites, and the next step."""
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
    units = _read_columns(record, "units.parquet", ("site", "inactive", "peak_max"))
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
    inactive = _read_columns(record, "units.parquet", ("inactive",))["inactive"]
    share = f"{100 * sum(inactive) / max(len(inactive), 1):.1f} %"
    facts = f"{record.facts['network']['name']}: {count_text(len(inactive), 'unit')} at "
    facts += (
        f"{count_text(len(record.sites), 'site')}; {sum(inactive):,} ({share}) never had a response above 0 to any of "
    )
    return paragraph(facts + _images_text(record) + _plain_reading_note(record), width=width)


def _plain_reading_note(record: Record) -> str:
    """Why the network was read in the plain way; nothing where it was not."""
    calibration = record.facts.get("calibration")
    reason = calibration.get("reason") if isinstance(calibration, dict) else None
    return f" The network was read in the plain way, which takes longer: {reason}." if reason else ""


def _images_text(record: Record) -> str:
    stimuli = record.facts["stimuli"]
    unreadable = stimuli.get("unreadable", 0)
    text = count_text(stimuli["count"] - unreadable, "image")
    if unreadable:
        text += f" ({unreadable:,} more could not be read)"
    return text + (f" ({stimuli['note']})." if stimuli.get("note") else ".")


def _read_columns(record: Record, name: str, columns: Sequence[str]) -> dict[str, list[Any]]:
    import pyarrow.parquet

    return pyarrow.parquet.read_table(record.path / name, columns=list(columns)).to_pydict()
