"""maximize: the pictures that units would order if they could."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from cyclopts.types import NonNegativeInt, PositiveInt

from unitscope.options import DEFAULT_MODEL, ModelOptions, choose_device, open_network
from unitscope.text_tables import optima_table
from unitscope.verbs.manners import bars, columns, resumable

if TYPE_CHECKING:
    from unitscope.optima import Optimum


def maximize(
    model: str,
    units: list[str],
    /,
    *,
    record: Path,
    at: str = "center",
    recipe: str = "contrast",
    pole: Literal["preferred", "antipreferred", "both"] = "preferred",
    seeds: PositiveInt = 1,
    seed: NonNegativeInt = 0,
    after: bool = False,
    start: str | None = None,
    images: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    bf16: bool = False,
    scores: Annotated[bool, Parameter(negative="--no-scores")] = True,
    name: str | None = None,
    batch: PositiveInt | None = None,
    device: str = "auto",
    options: ModelOptions = DEFAULT_MODEL,
) -> None:
    """Find the pictures that units or neurons would order, or that silence them.

    They are searched for on exactly the part of the picture that a neuron sees,
    many at a time. PNG files, arrays, the recipe and scores come to lie in the
    record's folder `optima`; the same command resumes one that was interrupted.

    Args:
        model: What `unitscope sites` takes.
        units: maxpool:18, maxpool:3-7, 'layer1.*:*', layer1.0.relu:18@28,28 for a neuron, logits:7.
        record: The record of this network that they are kept in.
        at: center (the center neuron), all (the mean of the unit's map), or a position ROW,COL.
        recipe: contrast, kobayashi2020, zipser2015, spectrum or maco.
        pole: preferred, antipreferred or both.
        seeds: How many searches for each, from different starts.
        seed: What their chance is drawn from.
        after: Read responses after the nonlinearity of the site, not before it.
        start: Begin at zeros, dots, noise, or an image file. By default as the recipe says.
        images: Photographs whose average spectrum maco keeps.
        bf16: Search in half precision. The final responses are measured in full precision all the same.
        scores: Hold each against the record's best natural stimuli, noise and more, at equal norm.
        name: The folder in `optima`. By default named for recipe, pole and, if given, --after and --start.
        batch: Pictures in one pass. By default as many as suit the memory.
        device: auto, cpu, cuda or cuda:1.
    """
    from unitscope.optima import read_scores
    from unitscope.record import open_record
    from unitscope.synthesis.maximize import by_site, keep_scores, maximize, photograph
    from unitscope.synthesis.recipes import recipe_of

    opened = open_record(record)
    network = open_network(model, options).to(choose_device(device))
    made = recipe_of(recipe, images=images, size=network.size)
    begin = photograph(start, network) if start and Path(start).is_file() else start
    found: list[Optimum] = []
    kept = f"What was found so far is kept in {record}; the same command resumes."
    poles = ("preferred", "antipreferred") if pole == "both" else (pole,)
    with resumable(kept), bars() as tell:
        for one in poles:
            label = name or "-".join(
                [made.name, one, *(["after"] if after else []), *([Path(start).stem] if start else [])]
            )
            for site, objectives in by_site(network, units, at=at).items():
                optima = maximize(
                    network, objectives, recipe=made, pole=one, seeds=seeds, seed=seed, after=after, start=begin,
                    bf16=bf16, batch=batch, to=opened, name=label, scores=False,
                    progress=lambda done, total, site=site: tell(site, done, total),  # type: ignore[misc]
                )  # fmt: skip
                if scores:
                    keep_scores(
                        network, opened.path / "optima" / label, optima.units, opened,
                        progress=lambda done, total, site=site: tell(f"{site}, scores", done, total),  # type: ignore[misc]
                    )  # fmt: skip
                found += [row.without_pictures() for row in optima]
            print(optima_table(found, read_scores(opened.path / "optima" / label), width=columns()))
            print(f"\nThey are in {opened.path / 'optima' / label}.\nNext: unitscope atlas {record} --to atlas\n")
            found.clear()
