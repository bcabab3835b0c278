"""Category selectivity at both poles: do the images that drive a unit most, and least, belong together (methods 6)?

Everything comes from a record. What the record holds decides what can be said:

    means of labels, lists of extremes (every record)          selectivity, shares at both ends
    each image's response (`unitscope survey --responses`)     the same of all images, d', AUROC, other poolings

Both are turned into the same `Evidence` first, from which the columns of the table are made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Bool, Float

from unitscope.analysis import enrichment, indices
from unitscope.analysis.categories import Asked, Membership, categories_of, membership
from unitscope.analysis.index_conflicts import notes
from unitscope.analysis.measure_declarations import Measure, Table
from unitscope.errors import BadInput, UnknownName
from unitscope.record import Record, SiteFacts
from unitscope.resampling import false_discovery

if TYPE_CHECKING:
    import pandas

Pool = Literal["max", "mean", "min"]
"""Which response of a map stands for an image: its peak, its mean over the lattice, or its trough."""

KIND = {"max": "peak", "mean": "mean", "min": "trough"}

PerCategory = Float[np.ndarray, "category unit"]


@dataclass(frozen=True)
class Evidence:
    """What is known of the responses of one site's units.

    `inside`, `outside`: mean rectified response to a category's images and to all others; `d_prime`, `auroc`: NaN where
    only summaries are kept; `means` and `rectified` [unit label], NaN for a label without images; `preferred` and
    `antipreferred`: the ends of each unit's responses, over the images that are known.
    """

    inside: PerCategory
    outside: PerCategory
    d_prime: PerCategory
    auroc: PerCategory
    means: Float[np.ndarray, "unit label"]
    rectified: Float[np.ndarray, "unit label"]
    preferred: Bool[np.ndarray, "unit image"]
    antipreferred: Bool[np.ndarray, "unit image"]
    finite: Bool[np.ndarray, " unit"]


def selectivity(record: Record, categories: Asked | Iterable[Asked], *, pool: Pool = "max") -> pandas.DataFrame:
    """A row per unit and category: indices of selectivity side by side, and the category's share at both ends.

    Args:
        record: A record of labeled images.
        categories: Categories in any form that `categories_of` takes.
        pool: Which response of a map counts. With "max" the lower end is that of the lowest troughs, so that the ends
            are those of record's preferred and antipreferred stimuli; else both are of the pooled response.

    Returns:
        The columns that `SELECTIVITY` declares, with `unit`, `site`, `channel`, `category`, `images` (labeled ones),
        `category_images`, `blocks` (whole labels, or photographs, that chance may exchange: see `enrichment.lottery`)
        and `category_blocks`, `preferred_images` and `antipreferred_images` (at each end), and `note`: where the
        indices disagree about a unit, or why one of them is null.

    Raises:
        BadInput: For a name that is no category here, fewer than two kinds of images, or no labels.
    """
    import pandas

    members = membership(record, categories_of(record, categories))
    each_image = has_responses(record)
    chance = [
        enrichment.lottery(one[members.known], members.label[members.known], members.photograph[members.known])
        for one in members.member
    ]
    found = evidence(record, members, pool=pool)
    tables = [_table(site, members, facts, chance, each_image=each_image) for site, facts in found]
    table = pandas.concat(tables, ignore_index=True)
    for pole in ("preferred", "antipreferred"):
        q = table.groupby("category", sort=False)[f"{pole}_p"].transform(lambda p: false_discovery(p.to_numpy(float)))
        table.insert(table.columns.get_loc(f"{pole}_p") + 1, f"{pole}_q", q)
    return table


def has_responses(record: Record) -> bool:
    """Whether the record keeps each unit's response to each image."""
    return bool(record.facts["settings"].get("responses"))


def has_array(record: Record, name: str) -> bool:
    """Whether the record keeps an array of that name; means per label need labels."""
    try:
        record.array(name)
    except UnknownName:
        return False
    return True


def label_curve(record: Record, unit: str, category: Asked) -> pandas.DataFrame:
    """A unit's mean response (peak over the lattice) to each label, highest first: `label`, `mean`, `images`, `member`.

    The study's half-normal test reads it: are all of a category's labels above the others, or only some of them?
    Raises BadInput, UnknownName.
    """
    import pandas

    members = membership(record, categories_of(record, category))
    number, count = record.index(unit), record.array("label_images")[...]
    curve = pandas.DataFrame(
        {
            "label": members.labels,
            "mean": record.array("label_peak_mean")[number],
            "images": count,
            "member": [label in members.categories[0].labels for label in members.labels],
        }
    )
    return curve[curve["images"] > 0].sort_values("mean", ascending=False, kind="stable", ignore_index=True)


def evidence(record: Record, members: Membership, *, pool: Pool = "max") -> Iterator[tuple[SiteFacts, Evidence]]:
    """What is known of the responses, site by site: from each image's response where these are kept, else from
    summaries. Raises BadInput for a pooling that the summaries are not of.
    """
    each_image = has_responses(record)
    if pool != "max" and not each_image:
        raise BadInput(f"the record {record.path} keeps peaks only; `unitscope survey --responses` keeps the {pool}.")
    lists = None if each_image else record.stimuli()
    for site in record.sites.values():
        yield (
            site,
            _evidence_of_responses(record, site, members, pool)
            if each_image
            else _evidence_of_summaries(record, site, members, lists),
        )


def _evidence_of_responses(record: Record, site: SiteFacts, members: Membership, pool: Pool) -> Evidence:
    """Evidence from each image's response."""
    from scipy.stats import rankdata

    peak, trough = (_responses(record, site, kind)[:, members.known] for kind in ("peak", "trough"))
    pooled = {"max": peak, "min": trough}.get(pool)
    pooled = _responses(record, site, KIND[pool])[:, members.known] if pooled is None else pooled
    finite = np.isfinite(peak).all(1) & np.isfinite(trough).all(1)
    # Zeros instead of NaN, so that ranks and ends can be computed. Where `finite` is false, columns become NaN at the
    # end.
    pooled, lowest = (np.where(finite[:, None], values, 0) for values in (pooled, trough if pool == "max" else pooled))
    above, ranks = pooled.clip(min=0).astype(np.float64), rankdata(pooled, axis=1)
    of = [member[members.known] for member in members.member]
    label = members.label[members.known]
    count = enrichment.size_of_end(pooled.shape[1])
    preferred = enrichment.end(pooled, highest=True, count=count) & finite[:, None]
    antipreferred = enrichment.end(lowest, highest=False, count=count) & finite[:, None]
    if bool((trough[finite] >= 0).all()):
        # Behind a rectification zeros prefer nothing, and there is no lower end (tables.stimuli_table).
        preferred, antipreferred = preferred & (pooled > 0), np.zeros_like(antipreferred)
    return Evidence(
        inside=np.stack([above[:, member].mean(1) for member in of]),
        outside=np.stack([above[:, ~member].mean(1) for member in of]),
        d_prime=np.stack([indices.d_prime(pooled, member) for member in of]),
        auroc=np.stack([indices.auroc(ranks, member) for member in of]),
        means=_by_label(pooled, label, len(members.labels)),
        rectified=_by_label(above, label, len(members.labels)),
        preferred=preferred,
        antipreferred=antipreferred,
        finite=finite,
    )


def _evidence_of_summaries(record: Record, site: SiteFacts, members: Membership, stimuli: Any) -> Evidence:
    """Evidence from means per label and from the lists of extremes."""
    units, images = slice(site.first_unit, site.first_unit + site.channels), int(members.known.sum())
    nothing = np.full((site.channels, len(members.labels)), np.nan)
    means, rectified = (
        np.asarray(record.array(name)[units], dtype=np.float64) if has_array(record, name) else nothing
        for name in ("label_peak_mean", "label_rectified_mean")
    )
    # How many images a label has among those that are known.
    weights = np.bincount(members.label[members.known & (members.label >= 0)], minlength=len(members.labels))
    inside, outside = _means_of_categories(rectified, weights, members)
    unknown = np.full(inside.shape, np.nan)
    of_site = stimuli[stimuli["site"] == site.name]
    preferred, antipreferred = (
        _images_at_end(of_site[of_site["pole"] == pole], site, members, enrichment.size_of_end(images))
        for pole in ("preferred", "antipreferred")
    )
    low = of_site.loc[of_site["pole"] == "antipreferred", "value"]
    if bool((low >= 0).all()):
        antipreferred = np.zeros_like(antipreferred)
    finite = (record.units()["not_finite_images"] == 0).to_numpy()[units]
    return Evidence(inside, outside, unknown, unknown, means, rectified, preferred, antipreferred, finite)


def _means_of_categories(
    rectified: Float[np.ndarray, "unit label"], images: np.ndarray, members: Membership
) -> tuple[PerCategory, PerCategory]:
    """Mean rectified responses inside and outside each category, of those per label. NaN where labels do not tell."""
    found = np.full((2, len(members.categories), len(rectified)), np.nan)
    total = np.where(images > 0, rectified, 0) * images
    for place, category in enumerate(members.categories):
        inside = np.array([label in category.labels for label in members.labels], dtype=bool)
        if members.by_label and (members.label[members.known] >= 0).all():
            for side, which in enumerate((inside, ~inside)):
                found[side, place] = total[:, which].sum(1) / images[which].sum()
    return found[0], found[1]


def _images_at_end(stimuli: Any, site: SiteFacts, members: Membership, count: int) -> Bool[np.ndarray, "unit image"]:
    """The end that the record's list gives: its first `count` images that are known, an image once.

    None of those that are equal at the border, where the list goes on behind it (see `enrichment.end`).
    """
    # The number of each known image among the known ones.
    place = np.cumsum(members.known) - 1
    chosen = np.zeros((site.channels, int(members.known.sum())), dtype=bool)
    kept = stimuli[members.known[stimuli["image"].to_numpy()]].drop_duplicates(["channel", "image"])
    for channel, rows in kept.groupby("channel", sort=False):
        values, images = rows["value"].to_numpy(), rows["image"].to_numpy()
        if len(values) > count:
            # The list is sorted: only places equal to the first one beyond the end are at the border.
            inside = values[:count] != values[count]
        else:
            # A list that is no longer than the end is the end, unless all its values are equal.
            inside = np.full(len(values), len(values) < 2 or values[0] != values[-1])
        chosen[channel, place[images[:count][inside]]] = True
    return chosen


def _responses(record: Record, site: SiteFacts, kind: str) -> Float[np.ndarray, "unit image"]:
    return np.asarray(record.array(f"responses/{kind}")[site.first_unit : site.first_unit + site.channels])


def _by_label(values: np.ndarray, label: np.ndarray, labels: int) -> Float[np.ndarray, "unit label"]:
    means = np.full((len(values), labels), np.nan)
    for number in np.unique(label[label >= 0]):
        means[:, number] = values[:, label == number].mean(1)
    return means


def _table(
    site: SiteFacts, members: Membership, facts: Evidence, chance: Sequence[enrichment.Lottery], *, each_image: bool
) -> pandas.DataFrame:
    """The rows of one site, all of one category after another, in the order of the units."""
    import pandas

    ends = {"preferred": facts.preferred, "antipreferred": facts.antipreferred}
    p = {pole: enrichment.enrichment_p(chosen, chance) for pole, chosen in ends.items()}
    known = pandas.concat(
        [
            _of_category(site, members, facts, place, chance[place], {pole: p[pole][place] for pole in p})
            for place in range(len(members.categories))
        ],
        ignore_index=True,
    )
    known["note"] = notes(
        known, each_image=each_image, label_means=members.by_label and bool(np.isfinite(facts.rectified).any())
    )
    return known.sort_values("unit", kind="stable", ignore_index=True)


def _of_category(
    site: SiteFacts,
    members: Membership,
    facts: Evidence,
    place: int,
    chance: enrichment.Lottery,
    p: Mapping[str, np.ndarray],
) -> pandas.DataFrame:
    import pandas

    category, member = members.categories[place], members.member[place][members.known]
    inside, outside = facts.inside[place], facts.outside[place]
    by_class, best = indices.class_selectivity(facts.rectified[:, ~np.isnan(facts.rectified).all(0)])
    names = np.array(members.labels, dtype=object)[~np.isnan(facts.rectified).all(0)]
    below, skewness = _half_normal(facts, members, place)
    columns = {
        "unit": site.first_unit + np.arange(site.channels),
        "site": site.name,
        "channel": np.arange(site.channels),
        "category": category.name,
        "images": len(member),
        "category_images": int(member.sum()),
        "blocks": len(chance.sizes),
        "category_blocks": int(chance.inside.sum()),
        "selectivity": indices.selectivity(inside, outside),
        "fsi": indices.face_selectivity(inside, outside),
        "d_prime": facts.d_prime[place],
        "auroc": facts.auroc[place],
        "class_selectivity": by_class,
        "preferred_label": [names[number] if number >= 0 else None for number in best],
        "proportion": indices.proportion(inside, outside, prevalence=member.mean()),
        **_pole("preferred", facts.preferred, members, place, p["preferred"]),
        **_pole("antipreferred", facts.antipreferred, members, place, p["antipreferred"]),
        "labels_below": below,
        "label_skewness": skewness,
    }
    columns["dichotomy"] = enrichment.dichotomy(columns["preferred_share"], columns["antipreferred_share"])
    columns["overlap"] = enrichment.overlap(facts.preferred, facts.antipreferred)
    for name in ("selectivity", "fsi", "d_prime", "auroc", "class_selectivity", "proportion", "dichotomy", "overlap"):
        columns[name] = np.where(facts.finite, columns[name], np.nan)
    return pandas.DataFrame(columns)


def _pole(
    pole: str, chosen: Bool[np.ndarray, "unit image"], members: Membership, place: int, p: np.ndarray
) -> dict[str, np.ndarray]:
    """What stands at one end: how many images, the category's share, its enrichment, chance, evenness of its labels."""
    member, label = members.member[place][members.known], members.label[members.known]
    drawn, hits = chosen.sum(1), (chosen & member).sum(1)
    share = np.divide(hits, drawn, out=np.full(len(drawn), np.nan), where=drawn > 0)
    own = [number for number, name in enumerate(members.labels) if name in members.categories[place].labels]
    counts = np.stack([(chosen & (label == number) & member).sum(1) for number in own], axis=1) if own else None
    return {
        f"{pole}_images": drawn,
        f"{pole}_share": share,
        f"{pole}_enrichment": share / member.mean(),
        f"{pole}_p": p,
        f"{pole}_evenness": np.full(len(drawn), np.nan) if counts is None else enrichment.evenness(counts),
    }


def _half_normal(facts: Evidence, members: Membership, place: int) -> tuple[np.ndarray, np.ndarray]:
    """Share of the category's labels whose mean response is below that of the other labels, and the skewness of the
    category's means.
    """
    from scipy.stats import skew

    inside = np.array([label in members.categories[place].labels for label in members.labels], dtype=bool)
    shown = ~np.isnan(facts.means).all(0)
    own, others = facts.means[:, inside & shown], facts.means[:, ~inside & shown]
    nothing = np.full(len(facts.means), np.nan)
    if not own.shape[1] or not others.shape[1]:
        return nothing, nothing
    below = np.where(facts.finite, (own < others.mean(1, keepdims=True)).mean(1), np.nan)
    # Skewness divides by the deviation, which is a rounding error where all means are equal.
    varies = facts.finite & (np.ptp(own, axis=1) > 1e-9 * np.abs(own).max(1))
    if own.shape[1] < 3 or not varies.any():
        return below, nothing
    skewness = nothing.copy()
    skewness[varies] = skew(own[varies], axis=1)
    return below, skewness


# --- what the columns of measures/selectivity.parquet mean; the table has a row per unit and category ---

POLES = (("preferred", "highest"), ("antipreferred", "lowest"))

INDEX_COLUMNS = (
    Measure("selectivity", "mean rectified response to the category over that to the category plus that to all else",
            (0, 1), "answers to all else only (0.5: no difference)", "answers to the category only", ""),
    Measure("fsi", "difference of the same two means over their sum", (-1, 1), "answers to all else only",
            "answers to the category only; 1/3: twice as strongly", "freiwald2010"),
    Measure("d_prime", "distance of the two means in standard deviations", (-np.inf, np.inf),
            "answers less to the category (0: no difference)", "answers more to it", "vinken2023"),
    Measure("auroc", "how often an image of the category has the higher response, of pairs with one of another",
            (0, 1), "never (0.5: no difference)", "always", ""),
    Measure("class_selectivity", "highest mean of one label against the mean of all other labels' means", (0, 1),
            "all labels alike", "answers to one label only", "morcos2018"),
    Measure("proportion", "share of all rectified response that goes to the category; chance is its prevalence", (0, 1),
            "none", "all", ""),
)  # fmt: skip

POLE_COLUMNS = tuple(
    measure
    for pole, which in POLES
    for measure in (
        Measure(f"{pole}_share", f"share of the category among the images with the {which} responses", (0, 1),
                "none of it", "nothing else", ""),
        Measure(f"{pole}_enrichment", f"that share among the {which} responses over the category's prevalence",
                (0, np.inf), "none of it (1: as by chance)", "many times as many as by chance", ""),
        Measure(f"{pole}_p", f"chance of so large a share among the {which} responses, of as many other labels or "
                "photographs", (0, 1), "no chance", "by chance", ""),
        Measure(f"{pole}_q", "the same, controlled for false discoveries over all units", (0, 1), "no chance",
                "by chance", "benjamini1995"),
        Measure(f"{pole}_evenness", f"entropy of the category's labels among the {which} responses over its maximum",
                (0, 1), "one label only", "all labels alike", ""),
    )
)  # fmt: skip

FURTHER_COLUMNS = (
    Measure("dichotomy", "the smaller of the two shares over the larger", (0, 1), "the category stands at one end only",
            "at both ends alike", ""),
    Measure("overlap", "images at both ends over images at either (Jaccard)", (0, 1), "no image at both",
            "the same images", ""),
    Measure("labels_below", "share of the category's labels with a mean response below that of all other labels",
            (0, 1), "all above", "all below", ""),
    Measure("label_skewness", "skewness of the mean responses to the category's labels", (-np.inf, np.inf),
            "a few labels far below", "a few labels far above", ""),
)  # fmt: skip


SELECTIVITY = Table("selectivity", None, (*INDEX_COLUMNS, *POLE_COLUMNS, *FURTHER_COLUMNS))
