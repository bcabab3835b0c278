"""Zipser 2015: is what a neuron responds to specific to its position, once its field is as large as the picture?

The paper looks at optimal stimuli of units of a GoogLeNet at a few positions, three or more outcomes each, by eye. Here
that is repeated on given networks, with numbers (methods 3.6), intervals over units, and controls: positions whose
whole field lies on the picture, other units' outcomes, and an untrained network.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unitscope.durable import write_file
from unitscope.errors import BadInput, Failure
from unitscope.networks import Network
from unitscope.report import Claim, Figure, Report, write_report
from unitscope.reproductions.intervals import MeanInterval, describe_interval, student_interval
from unitscope.reproductions.untrained import untrained_network
from unitscope.reproductions.zipser_studies import Effort, Studied, studies_of
from unitscope.reproductions.zipser_verdicts import (
    LARGE_FIELDS,
    SMALL_FIELDS,
    complexities,
    correlation,
    growth,
    indices,
    sized_between,
    tilings,
    trained,
    verdict_complexity,
    verdict_fall_off,
    verdict_large,
    verdict_small,
    verdict_tiling,
)
from unitscope.stimuli.images import Images, Source, open_images
from unitscope.synthesis.position_figures import index_by_field, outcomes_by_position, transfer_by_fall_off

Progress = Callable[[str, int, int], None]
DEFAULT_EFFORT = Effort()


def reproduce(
    networks: Sequence[Network],
    images: Source,
    *,
    to: Path,
    progress: Progress | None = None,
    effort: Effort = DEFAULT_EFFORT,
    control: bool = True,
) -> tuple[Report, Path]:
    """Study units with small and large fields of each network, and, as a `control`, of an untrained twin of the first.

    Photographs only decide which units respond at all, and set the twin's batch normalizations. Leaves
    the optima, tables of units and of pairs of positions, figures, and a page. Raises BadInput for networks without
    sites that suit; Failure where the folder cannot be written.
    """
    opened, tell, to = open_images(images), progress or (lambda *_: None), Path(to)
    try:
        to.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Failure(f"the study cannot be written to {to}: {error.strerror or error}.") from error
    found: list[Studied] = []
    for network in [*networks, *(untrained_twin(networks[0], opened) if control else [])]:
        folder = to / network.name.replace(":", "-").replace(", ", "-").replace("/", "-")
        found += studies_of(network, opened, effort, folder, tell)
    if not found:
        raise BadInput("the networks have no site with exact fields, positions and units that respond to the images.")
    write_file(to / "units.csv", as_csv([one.facts() for one in found]).encode())
    write_file(to / "pairs.csv", as_csv([row for one in found for row in similarity_pairs(one)]).encode())
    report = Report(
        paper="zipser2015",
        title="Does it matter where on the picture a neuron looks?",
        circumstances=describe_studies(found, effort),
        claims=list_claims(found),
        figures=save_figures(found, to),
        conclusion=draw_conclusion(found),
    )
    return report, write_report(report, to)


def untrained_twin(network: Network, images: Images) -> list[Network]:
    """The untrained twin, where it can be drawn anew, and has batch normalizations: without these, responses of random
    weights fade from layer to layer.
    """
    if not any(isinstance(part, torch.nn.modules.batchnorm._BatchNorm) for part in network.module.modules()):
        return []
    try:
        return [untrained_network(network, images, seed=0)]
    except BadInput:
        return []


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def similarity_pairs(one: Studied) -> list[dict[str, Any]]:
    """A row per ordered pair of positions of a unit."""
    table = one.study.table().to_dict("records")
    head = {"network": one.network, "unit": str(one.study.unit), "field_ratio": one.ratio}
    return [head | {str(key): value for key, value in row.items()} for row in table]


def describe_studies(found: Sequence[Studied], effort: Effort) -> str:
    sizes = sorted({one.ratio for one in found})
    networks = list(dict.fromkeys(one.network for one in found))
    return (
        f"{', '.join(networks)}: {len(found)} units drawn at random from those that respond, at sites with fields of "
        f"{sizes[0]:.2f} to {sizes[-1]:.2f} of the picture's side; four positions (the corner; a quarter, the half and "
        f"three quarters of the diagonal), {effort.seeds} outcomes each, from random dots, in at most {effort.steps} "
        "normalized steps. The paper had a GoogLeNet of its own, and looked at outcomes by eye."
    )


# --- what is found ----------------------------------------------------------------------------------------


def by_network(found: Sequence[Studied], of: Callable[[Sequence[Studied]], str]) -> str:
    networks = list(dict.fromkeys(one.network for one in found))
    return "; ".join(f"{name}: {of([one for one in found if one.network == name])}" for name in networks)


def describe_index(units: Sequence[Studied], *, kind: str = "blurred", inside: bool = True) -> str:
    """The mean index of some units, and how many of them are specific by their own test."""
    if not units:
        return "no such unit"
    own = [(one.inside if inside else one.found)[kind] for one in units]
    significant = sum(one.p < 0.05 for one in own)
    index = describe_interval(student_interval([one.index for one in own]))
    return f"{index}, {significant} of {len(own)} units with p < 0.05 (by chance {0.05 * len(own):.1f})"


def list_claims(found: Sequence[Studied]) -> list[Claim]:
    small, large = (
        (lambda units: sized_between(units, 0, SMALL_FIELDS)),
        (lambda units: sized_between(units, LARGE_FIELDS, np.inf)),
    )
    known = trained(found)
    return [
        Claim(
            "Units with small fields respond to the same at all positions",
            "optimal stimuli at different positions are alike",
            "index of specificity at the inner positions: " + by_network(found, lambda n: describe_index(small(n))),
            by_network(known, lambda n: verdict_small(small(n))),
            "index 0 expected",
        ),
        Claim(
            "Units with fields as large as the picture respond to something else at each position",
            "optimal stimuli differ between positions, and outcomes of one position are alike",
            "index at the inner positions: " + by_network(found, lambda n: describe_index(large(n))),
            by_network(known, lambda n: verdict_large(small(n), large(n))),
            "index above 0 expected",
        ),
        Claim(
            "Outcomes of one position are alike",
            "three or more outcomes per position share what is specific to it",
            "similarity of outcomes within a position, across positions, and to other units' outcomes at the position: "
            + by_network(
                found,
                lambda n: "; ".join(
                    f"{name} fields {describe_similarities(rows)}"
                    for name, rows in (("small", unit_facts(small(n))), ("large", unit_facts(large(n))))
                    if rows
                ),
            ),
        ),
        Claim(
            "It is because parts of the field fall off the picture",
            "the more a field falls off, the more specific to its position is a neuron",
            "Spearman's correlation of the index of pairs of positions with the larger fall-off of both: "
            + by_network(found, lambda n: describe_interval(correlation(n, "specificity")))
            + ". At the corner, where small fields fall off, too (all four positions): "
            + by_network(found, lambda n: f"small {describe_index(small(n), inside=False)}"),
            by_network(known, lambda n: verdict_fall_off(correlation(n, "specificity"))),
        ),
        Claim(
            "Optimal stimuli grow more complex with the size of the field",
            "patterns are more complex in deeper layers",
            "waves that an outcome in the middle takes, Spearman's correlation with the field over units: "
            + by_network(found, lambda n: describe_interval(growth(n, relative=False)))
            + ". As a share of those of noise in the same field: "
            + by_network(found, lambda n: f"{describe_interval(growth(n, relative=True))}; {complexities(n)}"),
            by_network(known, verdict_complexity),
            "an untrained network and noise are the chance levels",
        ),
        Claim(
            "Driven at all positions, a unit tiles the picture with its pattern",
            "the outcome for all positions at once repeats that for one",
            "largest correlation of a unit's outcome with a part of its tiled one, beside other units' outcomes: "
            + by_network(found, tilings),
            by_network(known, verdict_tiling),
            "the tiled outcomes are the bottom rows of the figures",
        ),
        Claim(
            "Does an outcome drive the unit elsewhere?",
            "not asked",
            "response kept when an outcome is moved between inner positions, the mean over pairs: "
            + by_network(
                found,
                lambda n: (
                    f"small fields {describe_interval(kept_share(small(n)))}, "
                    f"large fields {describe_interval(kept_share(large(n)))}"
                ),
            ),
        ),
        Claim(
            "Does it depend on how likeness is measured?",
            "by eye",
            "; ".join(
                f"{words}: small fields {describe_index(small(known), kind=kind)}, large fields "
                f"{describe_index(large(known), kind=kind)}"
                for kind, words in SIMILARITY_KINDS.items()
            ),
        ),
    ]


SIMILARITY_LEVELS = ("within", "across", "strangers")
SIMILARITY_KINDS = {
    "blurred": "correlation of blurred pictures",
    "shifted": "best correlation over shifts",
    "features": "cosine of other units' responses",
}


def unit_facts(units: Sequence[Studied]) -> list[dict[str, float]]:
    """How alike outcomes are at the inner positions, and with those of other units."""
    return [
        {"within": (own := one.inside["blurred"]).within, "across": own.across, "strangers": one.strangers}
        for one in units
    ]


def describe_similarities(rows: Sequence[Mapping[str, float]]) -> str:
    return ", ".join(describe_interval(student_interval([row[level] for row in rows])) for level in SIMILARITY_LEVELS)


def kept_share(units: Sequence[Studied]) -> MeanInterval:
    """The share of a response that is kept when an outcome is moved between inner positions."""
    apart = ~np.eye(3, dtype=bool)
    # Without position 0, which is the corner.
    return student_interval([float(np.nanmean(one.study.kept[1:, 1:][apart])) for one in units])


def draw_conclusion(found: Sequence[Studied]) -> str:
    def both(units: Sequence[Studied]) -> str:
        small, large = (
            describe_interval(student_interval(indices(sized_between(units, *bounds))))
            for bounds in ((0, SMALL_FIELDS), (LARGE_FIELDS, np.inf))
        )
        return f"{small} and {large}"

    return (
        f"To be concluded: between inner positions the index is, for fields below {SMALL_FIELDS:g} of the picture, "
        f"where equal weights leave nothing to differ but chance, and for fields of {LARGE_FIELDS:g} and more: "
        f"{by_network(found, both)}. Not to be concluded: that a unit codes for another thing at each position; the "
        "index says how alike synthesized pictures are, an untrained network has the same borders, and the response "
        "that is kept elsewhere says how much of it matters."
    )


# --- figures ----------------------------------------------------------------------------------------------


def save_figures(found: Sequence[Studied], to: Path) -> list[Figure]:
    rows = [
        (one.network, one.ratio, s.index, s.low, s.high)
        for one in found
        if np.isfinite((s := one.inside["blurred"]).index)
    ]
    drawn = []
    if rows:
        index_by_field(rows, title="index of specificity, inner positions").savefig(to / "index.png", dpi=180)
        drawn.append(
            Figure("index.png", "Index of each unit against its field; bars: the middle 95 % of resampled outcomes.")
        )
    moved = [
        (one.network, row["other_fall_off"], row["transfer"])
        for one in found
        for row in similarity_pairs(one)
        if np.isfinite(row["transfer"])
    ]
    if moved:
        label = "response to an outcome moved there,\nover that to own outcomes"
        transfer_by_fall_off(moved, ylabel=label).savefig(to / "transfer.png", dpi=180)
        drawn.append(Figure("transfer.png", "What an outcome is worth at another position, a point per pair."))
    for one in choose_shown(found):
        name = f"outcomes-{one.network}-{one.study.unit}".replace(":", "-").replace("/", "-").replace(", ", "-")
        outcomes_by_position(one.study).savefig(to / f"{name}.png", dpi=130)
        caption = f"{one.network} {one.study.unit}: positions in rows, outcomes in columns. {one.found['blurred']}."
        drawn.append(Figure(f"{name}.png", caption))
    return drawn


def choose_shown(found: Sequence[Studied]) -> list[Studied]:
    """Of each trained network the unit, among those with a tiled outcome, with the smallest and the largest field."""
    chosen = []
    for name in dict.fromkeys(one.network for one in trained(found)):
        own = [one for one in found if one.network == name and one.study.tiled is not None]
        chosen += [own[0], *own[-1:]] if len(own) > 1 else own
    return chosen
