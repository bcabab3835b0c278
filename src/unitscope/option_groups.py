"""Options that the Python functions and the command line share, each with its type, its default and its help, once.

    @dataclass
    class SummaryOptions:
        top: PositiveInt = 16              one place for the type, the default and the help
        "How many ..."

    def survey(..., top: int = SummaryOptions.top)   the Python function takes its default from the group
    unitscope survey ... --top 16          the fields of the group are options of the verb, their docstrings its help

A new option needs a field here and a parameter of the Python function. The verb passes all fields of a group on, so
that none is forgotten (`tests/test_verbs.py` compares names and defaults).

The types are those that cyclopts checks: what is typed wrong is refused before a network is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.types import NonNegativeInt, PositiveInt


@Parameter(name="*")
@dataclass(frozen=True)
class SummaryOptions:
    """What a survey keeps of the responses of each unit."""

    top: PositiveInt = 16
    "How many highest and lowest responses are kept of each unit."
    per_image: PositiveInt = 1
    "How many of these may come from one image."
    means: Annotated[tuple[str, ...], Parameter(consume_multiple=True, show_default=False)] = ()
    "Further mean stimuli to keep, beside that of the center neuron: best, all, full, halves."
    responses: bool = False
    "Keep every unit's answer to every image, 12 bytes each; some measures need them."


@Parameter(name="*")
@dataclass(frozen=True)
class DistributionOptions:
    """Which part of the images a survey shows, and where."""

    shard: str | None = None
    "Show one part of the images only, such as 2/8. `unitscope merge` makes a record of all parts."
    engine: Literal["local", "ray"] = "local"
    "Show them here, or on the Ray cluster that is there."


@Parameter(name="*")
@dataclass(frozen=True)
class PresentationOptions:
    """How a survey shows the images to the network."""

    resize: PositiveInt | None = None
    "Shorter side in pixels before the center crop. By default 256/224 of the network's size."
    batch: PositiveInt | None = None
    "Images shown at once. By default 32, on a GPU 64."
    precision: Literal["float32", "bfloat16"] = "float32"
    "What the network computes in. bfloat16 keeps 8 significant bits of a response."
    workers: NonNegativeInt | None = None
    "How many decode images. By default as many as suit the machine."
    seed: NonNegativeInt | None = None
    "For a network that draws random numbers when it runs: what they are drawn from. Others need none."
    strict: bool = False
    "Stop at an image that cannot be read; else it is noted and skipped."


@Parameter(name="*")
@dataclass(frozen=True)
class RepeatOptions:
    """How a perturbation is repeated, and over which images."""

    seeds: PositiveInt = 20
    "How often what is random is repeated."
    count: PositiveInt | None = None
    "Use so many of the images, drawn at random."
    batch: PositiveInt = 256
    "Images for which 'one per batch' keeps its unit."
    seed: NonNegativeInt = 0
    "Of order, noise and draws."
    resize: PositiveInt | None = None
    "Shorter side in pixels before the center crop. By default 256/224 of the network's size."
    workers: NonNegativeInt | None = None
    "How many decode images. By default as many as suit the machine."


@Parameter(name="*")
@dataclass(frozen=True)
class SearchOptions:
    """How optimal stimuli are searched for."""

    seeds: PositiveInt = 1
    "How many searches for each, from different starts."
    seed: NonNegativeInt = 0
    "What their chance is drawn from."
    after: bool = False
    "Read responses after the nonlinearity of the site, not before it."
    bf16: bool = False
    "Search in half precision. The final responses are measured in full precision all the same."
    batch: PositiveInt | None = None
    "Pictures in one pass. By default as many as suit the memory."


@Parameter(name="*")
@dataclass(frozen=True)
class PositionSearchOptions:
    """How optimal stimuli at several positions are searched for."""

    seeds: PositiveInt = 3
    "Outcomes for each position, from different starts."
    seed: NonNegativeInt = 0
    "What their chance is drawn from."
    after: bool = False
    "Read responses after the nonlinearity of the site, not before it."
    features: str | None = None
    "The site whose units tell which outcomes are alike in features; by default the unit's own."
    batch: PositiveInt | None = None
    "Pictures in one pass. By default as many as suit the memory."
