"""The dog study: do units that are selective for dogs have dogs at their negative end, too?

Its subject was GoogLeNet before its ReLUs (figures: mixed4c), over 120 dog and 100 other classes of ImageNet. Here it
is repeated on given networks and images, with the controls that tell what the finding means: random groups of as many
labels, another group of classes, shuffled labels, and an untrained network.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from unitscope.analysis.categories import groups, readable_name, wnid_of
from unitscope.analysis.response_axis import quiet
from unitscope.durable import write_file
from unitscope.errors import BadInput, UnitscopeError, few
from unitscope.networks import Network
from unitscope.record import Record, SiteFacts
from unitscope.recording.source_images import originals_of
from unitscope.recording.survey import survey
from unitscope.report import Claim, Figure, Report, write_report
from unitscope.reproductions import dog_figures as figures
from unitscope.reproductions.dog_counts import SEED, THRESHOLD, DogFindings, EndCounts, Q, above_shares, find_dogs
from unitscope.reproductions.untrained import untrained_network
from unitscope.resampling import permutation_p
from unitscope.stimuli.images import Images, Source, open_images

CATEGORY = "dogs"
PER_ROW = 6

SIGNIFICANT = 0.05
"""Below this p a network has more than random groups of labels give."""

Progress = Callable[[str, int, int], None]


def reproduce(
    networks: Sequence[Network], images: Source, *, to: Path, progress: Progress | None = None
) -> tuple[Report, Path]:
    """Survey the networks, and an untrained twin of the first, over labeled images; leave tables, figures and a page.

    The images' labels are ImageNet's WordNet ids or names; some of them are dogs. Surveys that are there are not made
    anew. Raises BadInput where the images are others; Failure where the folder cannot be written.
    """
    opened = open_images(images)
    labels = tuple(opened.labels)
    inside = group_labels(CATEGORY, labels)
    if not inside.any() or inside.all() or len(labels) < 4:
        raise BadInput(
            f"the dog study needs images of ImageNet's classes, a sub-folder each, some of them dogs; {opened.source} "
            f"has {few(labels) if labels else 'no labels'}. Folders may be called n02085620 or Chihuahua."
        )
    records = survey_networks(
        [*networks, *untrained_twins(networks[:1], opened)], opened, Path(to), progress or (lambda *_: None)
    )
    control = control_category(labels)
    found = [find_dogs(name, record, inside, group_labels(control, labels)) for name, record in records.items()]
    write_file(Path(to) / "two-sided.csv", findings_table(found, control).encode())
    report = Report(
        paper=CATEGORY,
        title="Dog-selective units at both ends of their responses",
        circumstances=describe_study(found, opened, labels, inside),
        claims=make_claims(found, control),
        figures=draw_figures(found, Path(to)),
        conclusion=conclude(found),
    )
    return report, write_report(report, Path(to))


def group_labels(group: str, labels: Sequence[str]) -> Bool[np.ndarray, " label"]:
    """Which labels are of one of ImageNet's groups."""
    return np.array([(wnid_of(label) or "") in groups()[group] for label in labels], dtype=bool)


def control_category(labels: Sequence[str]) -> str:
    """The group without dogs that has most nearly as many of the labels as the dogs."""
    dogs = group_labels(CATEGORY, labels)
    others = {name: group_labels(name, labels) for name in groups()}
    apart = {name: which for name, which in others.items() if which.any() and not (which & dogs).any()}
    if not apart:
        raise BadInput("all labels that are known of ImageNet are dogs; the study needs other classes, too.")
    return min(apart, key=lambda name: (abs(int(apart[name].sum()) - int(dogs.sum())), name))


def untrained_twins(networks: Sequence[Network], images: Images) -> list[Network]:
    """Untrained twins, of those that can be drawn anew."""
    found = []
    for network in networks:
        try:
            found.append(untrained_network(network, images, seed=SEED))
        except BadInput:
            continue
    return found


def survey_networks(networks: Sequence[Network], images: Images, to: Path, tell: Progress) -> dict[str, Record]:
    """A record of each network, by its name."""
    names = [network.name.rpartition(":")[2] for network in networks]
    names = [name if names.count(name) == 1 else f"{name} {place}" for place, name in enumerate(names, 1)]
    records = {}
    for name, network in zip(names, networks, strict=True):
        folder = to / "records" / name.replace(", ", "-").replace(" ", "-").replace("/", "-")
        shown = lambda done, total, name=name: tell(f"{name} looks", done, total)  # noqa: E731
        records[name] = survey(network, images, to=folder, responses=True, progress=shown)
    return records


def findings_table(found: Sequence[DogFindings], control: str) -> str:
    """All counts as CSV."""
    text = io.StringIO()
    rows: list[Mapping[str, object]] = []
    for one in found:
        listed = [(CATEGORY, one.dogs), (control, one.control), (f"{CATEGORY}, ends of the map's mean", one.by_mean)]
        listed += [("random labels", counts) for counts in one.random]
        rows += [{"network": one.name, "group": group, **asdict(counts)} for group, counts in listed]
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def describe_study(
    found: Sequence[DogFindings], images: Images, labels: Sequence[str], inside: Bool[np.ndarray, " label"]
) -> str:
    dogs = ", ".join(readable_name(label) for label, dog in zip(labels, inside, strict=True) if dog)
    return (
        f"{', '.join(one.name for one in found)} over {len(images):,} labeled images of {len(labels)} classes, "
        f"{100 * found[0].dogs.prevalence:.1f} % of them dogs ({dogs}); the study had GoogLeNet, and 120 dog and 100 "
        "other classes. All units before a nonlinearity; the ends are the 1000 highest peaks and lowest troughs, or "
        f"5 % of the images. Selective: index of {THRESHOLD} or more. The study does not print the formula of its "
        "index; this one is a reconstruction: the mean rectified peak to dogs over that to dogs plus that to all else."
    )


def make_claims(found: Sequence[DogFindings], control: str) -> list[Claim]:
    trained = [one for one in found if "untrained" not in one.name]
    return [
        Claim(
            "Units are selective for dogs",
            "units of GoogLeNet with an index above 0.65 are called so",
            "; ".join(f"{one.name}: {one.dogs.selective:,} of {one.dogs.units:,}" for one in found)
            + ". Groups of as many labels drawn at random: "
            + "; ".join(f"{one.name}: {range_text([counts.selective for counts in one.random])}" for one in found),
            "as the paper says" if all(one.dogs.selective for one in trained) else "not in all networks",
        ),
        Claim(
            "Such units have dogs at their negative end, too",
            "among the most negative responses of dog-selective units there are dogs, beyond their prevalence",
            "; ".join(describe_ends(one) for one in found),
            "; ".join(f"{one.name}: {give_verdict(one)}" for one in trained),
            "figure 2",
        ),
        Claim(
            "Is it chance?",
            "not asked",
            "Share of selective units with more of the category at the lower end than its prevalence: "
            + "; ".join(describe_chance(one) for one in found),
        ),
        Claim(
            f"Is it about dogs? The same for {control}",
            "not asked",
            "; ".join(describe_ends(one, one.control) for one in found),
        ),
        Claim(
            "Responses to breeds fall off like half of a normal distribution",
            "a few breeds drive a unit most, and responses to the others fall off to nothing",
            "Over selective units: median of the breeds' mean responses, sorted, as shares of the largest; median "
            "share of breeds below the mean of all else; median skewness of the breeds' means (half-normal: 0.995): "
            + "; ".join(describe_breeds(one) for one in found),
            "; ".join(f"{one.name}: {breeds_verdict(one)}" for one in trained),
            "how many of the random groups of labels have as large a skewness is the chance level",
        ),
        Claim(
            "Does it depend on what the ends are?",
            "maps are reduced to mean, minimum and maximum",
            "With ends of the map's mean: " + "; ".join(describe_ends(one, one.by_mean) for one in found),
        ),
    ]


def describe_ends(one: DogFindings, counts: EndCounts | None = None) -> str:
    counts = counts or one.dogs
    if not counts.selective:
        return f"{one.name}: no selective unit"
    return (
        f"{one.name}: of {counts.selective:,} selective units {counts.above:,} "
        f"({100 * counts.above_share:.0f} %) have more there than the prevalence; one by one, against groups of as "
        f"many other labels, {counts.enriched:,} have more than chance, {counts.depleted:,} fewer (q < {Q}); "
        f"median share {counts.preferred_share:.2f} among the highest, {counts.antipreferred_share:.2f} among the "
        f"lowest, prevalence {counts.prevalence:.2f}"
    )


def describe_breeds(one: DogFindings) -> str:
    if not one.dogs.selective:
        return f"{one.name}: no selective unit"
    curve = ", ".join(f"{value:.2f}" for value in one.breeds.curve)
    others = [breeds.skewness for breeds in one.breeds_of_random if np.isfinite(breeds.skewness)]
    chance = f", random groups {np.median(others):.2f}" if others else ""
    return f"{one.name}: {curve}; {one.breeds.below:.2f} below; skewness {one.breeds.skewness:.2f}{chance}"


def breeds_verdict(one: DogFindings) -> str:
    """Skewness beside that of random groups of labels: a group of any classes has a first and a last."""
    others = np.array([breeds.skewness for breeds in one.breeds_of_random])
    others = others[np.isfinite(others)]
    if not np.isfinite(one.breeds.skewness) or len(one.breeds.curve) < 3 or len(others) < 20:
        return "cannot be told: too few breeds, units or groups"
    if one.breeds.skewness <= 0:
        return "not found: no longer tail above"
    (p,) = permutation_p(np.array([one.breeds.skewness]), others[None])
    return "skewed as the paper says" + ("" if p < 0.05 else ", and no more than random groups of classes")


def range_text(values: Sequence[float] | np.ndarray, *, percent: bool = False) -> str:
    """Median and 95 % range of draws."""
    if not len(values):
        return "no selective unit"
    low, middle, high = np.percentile(np.asarray(values, dtype=float) * (100 if percent else 1), (2.5, 50, 97.5))
    return f"{middle:.0f}{' %' * percent} (95 % between {low:.0f} and {high:.0f}{' %' * percent})"


def describe_chance(one: DogFindings) -> str:
    if not one.dogs.selective:
        return f"{one.name}: no selective unit"
    share = f"{100 * one.dogs.above_share:.0f} %"
    groups = range_text(above_shares(one), percent=True)
    return f"{one.name}: {share}, of groups of as many labels drawn at random {groups}, p = {one.p:.3f}"


def give_verdict(one: DogFindings) -> str:
    """One for each network, from random groups of labels."""
    if not one.dogs.selective:
        return "cannot be told: no selective unit"
    if not one.p < SIGNIFICANT:
        return "no more than random groups of classes have"
    return "as the paper says" if one.dogs.above_share > 0.5 else "for some units only, but more than by chance"


def conclude(found: Sequence[DogFindings]) -> str:
    trained = [one.dogs for one in found if "untrained" not in one.name]
    above, selective = (sum(getattr(one, what) for one in trained) for what in ("above", "selective"))
    return (
        f"To be concluded: of {selective:,} dog-selective units, {above:,} have more dogs among their lowest "
        f"responses than among all, and {selective - above:,} have not, so that a high index alone does not tell what "
        "a unit's negative responses are to. Not to be concluded: that such a unit codes for dogs with both signs, or "
        "that this is peculiar to dogs; random groups of labels and other groups show how much comes from classes "
        "being alike, and an untrained network how much comes from the images' own contrast."
    )


def draw_figures(found: Sequence[DogFindings], to: Path) -> list[Figure]:
    figures.figure_of_shares({one.name: one.units for one in found}, to / "figure-2.png", category=CATEGORY)
    named = {one.name: one for one in found if one.dogs.selective}
    drawn = [
        Figure(
            "figure-2.png",
            "Share of dogs among the highest against among the lowest responses, a point per unit; red: selectivity "
            f"of {figures.RED_FROM} or more; dashed: prevalence.",
        )
    ]
    if named:
        shares = {name: one.dogs.above_share for name, one in named.items()}
        random = {name: above_shares(one) for name, one in named.items()}
        figures.figure_of_controls(shares, random, to / "controls.png", category=CATEGORY)
        drawn.append(Figure("controls.png", "What random groups of labels give, beside dogs."))
    for place, one in enumerate(one for one in found if one.dogs.selective and "untrained" not in one.name):
        caption = draw_axis(one, to / f"figure-1-{place}.png")
        drawn += [Figure(f"figure-1-{place}.png", caption)] if caption else []
    return drawn


def draw_axis(one: DogFindings, path: Path) -> str | None:
    """Figure 1 of the most selective unit with more dogs at its lower end than their prevalence, or of the most
    selective one; its caption, None where the photographs are gone.
    """
    units = one.units
    rank = np.where(np.isfinite(units.selectivity), units.selectivity, -1)
    both = (units.antipreferred_share > units.prevalence) & (rank >= THRESHOLD)
    of_preactivations = int(np.where(both, rank, -1).argmax() if both.any() else rank.argmax())
    numbers = [n for site in one.record.sites.values() if site.preactivation for n in _numbers(site)]
    unit = one.record.unit(numbers[of_preactivations])
    site = one.record.sites[unit.site]
    silent = quiet(one.record, site, count=PER_ROW)
    rows = [("strongest", _listed(one.record, str(unit), "preferred"))]
    if silent is not None:
        rows.append(("no", list(zip(*(of[unit.channel].tolist() for of in (silent.image, silent.value)), strict=True))))
    rows.append(("most negative", _listed(one.record, str(unit), "antipreferred")))
    try:
        pictures = [(f"{name} response", _shown(one.record, listed)) for name, listed in rows]
    except (UnitscopeError, OSError):
        return None
    title = f"{one.name} {unit}: selectivity {units.selectivity[of_preactivations]:.2f}"
    figures.figure_of_axis(pictures, path, title=title)
    return (
        f"{title}; dogs are {100 * units.preferred_share[of_preactivations]:.0f} % of the highest and "
        f"{100 * units.antipreferred_share[of_preactivations]:.0f} % of the lowest responses."
    )


def _numbers(site: SiteFacts) -> range:
    return range(site.first_unit, site.first_unit + site.channels)


def _listed(record: Record, unit: str, pole: str) -> list[tuple[int, float]]:
    rows = record.stimuli(unit, pole=pole).sort_values("rank").drop_duplicates("image")[:PER_ROW]
    return list(zip(rows["image"].tolist(), rows["value"].tolist(), strict=True))


def _shown(record: Record, listed: Sequence[tuple[int, float]]) -> list[tuple[np.ndarray, str]]:
    originals, labels = originals_of(record), record.images()["label"]
    return [
        (originals.shown(image), f"{value:.3g}  {readable_name(labels[image])}"[:28])
        for image, value in listed
        if image >= 0
    ]
