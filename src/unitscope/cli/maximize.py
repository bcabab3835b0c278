"""maximize: optimal stimuli, synthesized for units or neurons."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from unitscope.cli.common import Several, progress_bars, resumable, terminal_width
from unitscope.cli.options import DEFAULT_MODEL, ModelOptions, choose_device, open_network
from unitscope.cli.text_tables import Column, number_text, paragraph, size_text, table
from unitscope.errors import few
from unitscope.option_groups import SearchOptions

if TYPE_CHECKING:
    import pandas

    from unitscope.optima import Optimum

SEARCH = SearchOptions()


def maximize(
    model: str,
    units: list[str],
    /,
    *,
    record: Path,
    at: str = "center",
    recipe: str = "contrast",
    pole: Literal["preferred", "antipreferred", "both"] = "preferred",
    search: SearchOptions = SEARCH,
    start: str | None = None,
    images: Several[str] = None,
    scores: Annotated[bool, Parameter(negative="--no-scores")] = True,
    name: str | None = None,
    device: str = "auto",
    options: ModelOptions = DEFAULT_MODEL,
) -> None:
    """Find the pictures to which units or neurons respond most, or least.

    They are searched for on exactly the part of the picture that a neuron sees,
    many at a time. PNG files, arrays, the recipe and scores are kept in the
    record's folder `optima`; the same command resumes one that was interrupted.

    Args:
        model: What `unitscope sites` takes.
        units: maxpool:18, maxpool:3-7, 'layer1.*:*', layer1.0.relu:18@28,28 for a neuron, logits:7.
        record: The record of this network that they are kept in.
        at: center (the center neuron), all (the mean of the unit's map), or a position ROW,COL.
        recipe: contrast, kobayashi2020, zipser2015, spectrum or maco.
        pole: preferred, antipreferred or both.
        start: Begin at zeros, dots, noise, or an image file. By default as the recipe says.
        images: Photographs whose average spectrum maco keeps.
        scores: Hold each against the record's best natural stimuli, noise and more, at equal norm.
        name: The folder in `optima`. By default named for recipe, pole and, if given, --after and --start.
        device: auto, cpu, cuda or cuda:1.
    """
    from unitscope.optima import read_scores
    from unitscope.record import open_record
    from unitscope.synthesis.maximize import group_by_site, keep_scores, load_photograph, maximize
    from unitscope.synthesis.recipes import recipe_of

    opened = open_record(record)
    network = open_network(model, options).to(choose_device(device))
    made = recipe_of(recipe, images=images, size=network.size)
    begin = load_photograph(start, network) if start and Path(start).is_file() else start
    found: list[Optimum] = []
    kept = f"What was found so far is kept in {record}; the same command resumes."
    poles = ("preferred", "antipreferred") if pole == "both" else (pole,)
    with resumable(kept), progress_bars() as show_progress:
        for one in poles:
            label = name or "-".join(
                [made.name, one, *(["after"] if search.after else []), *([Path(start).stem] if start else [])]
            )
            for site, objectives in group_by_site(network, units, at=at).items():
                optima = maximize(
                    network, objectives, recipe=made, pole=one, start=begin, **vars(search), to=opened, name=label,
                    scores=False,
                    progress=lambda done, total, site=site: show_progress(site, done, total),  # type: ignore[misc]
                )  # fmt: skip
                if scores:
                    keep_scores(
                        network, opened.path / "optima" / label, optima.units, opened,
                        progress=lambda done, total, site=site: show_progress(f"{site}, scores", done, total),  # type: ignore[misc]
                    )  # fmt: skip
                found += [row.without_pictures() for row in optima]
            print(optima_table(found, read_scores(opened.path / "optima" / label), width=terminal_width()))
            print(f"\nThey are in {opened.path / 'optima' / label}.\nNext: unitscope atlas {record} --to atlas\n")
            found.clear()


OPTIMA: tuple[Column, ...] = (
    ("site", "<"), ("sought", ">"), ("field", ">"), ("start", ">"), ("median end", ">"), ("strongest", ">"),
    ("unmoved", ">"), ("ahead", ">"),
)  # fmt: skip


def optima_table(optima: Sequence[Optimum], scores: pandas.DataFrame | None = None, *, width: int = 80) -> str:
    """What was found, a line per site: responses at the start of the search and at its end, dead starts, and how many
    are ahead of the best natural stimulus.
    """
    sites: dict[str, list[Optimum]] = {}
    for one in optima:
        sites.setdefault(one.site, []).append(one)
    rows = []
    for site, group in sites.items():
        ends = sorted(float(value) for one in group for value in one.responses)
        begins = sorted(float(value) for one in group for value in one.history[:, 0])
        unmoved = sum(int((~one.moved).sum()) for one in group)
        box = group[0].box
        strongest = ends[-1] if ends[len(ends) // 2] >= begins[len(begins) // 2] else ends[0]
        numbers = [number_text(n) for n in (begins[len(begins) // 2], ends[len(ends) // 2], strongest)]
        cells = (site, str(len(group)), size_text((box.height, box.width)), *numbers, str(unmoved))
        rows.append((*cells, _ahead(group, scores)))
    ways: dict[str, dict[str, None]] = {}
    for one in optima:
        if one.evaluated_on != "cone":
            ways.setdefault(one.evaluated_on, {})[one.site] = None
    notes = [f"Heard on the {way}: {few(names)}." for way, names in ways.items()]
    notes += [f"{one.objective}: {one.reason}." for one in [one for one in optima if one.reason][:1]]
    if any(row[-1] != "–" for row in rows):
        notes.append("Ahead: how many are answered more strongly than the best natural stimulus at the same contrast.")
    text = [table(OPTIMA, rows, width=width), *([""] if notes else [])]
    return "\n".join([*text, *(paragraph(note, width=width) for note in notes)])


def _ahead(optima: Sequence[Optimum], scores: pandas.DataFrame | None) -> str:
    """Of how many optima the best seed beats the best natural stimulus."""
    if scores is None:
        return "–"
    known = scores[scores.objective.isin([one.objective for one in optima]) & scores.beats_natural.notna()]
    best = known.groupby(["objective", "contrast"]).beats_natural.max().groupby("objective").max()
    return f"{int(best.sum())} of {len(best)}" if len(best) else "–"
