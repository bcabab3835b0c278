"""Sentences of kobayashi2020 that it shows in pictures only, each with a measure, a chance level and a verdict.

*Optimal stimuli resemble mean stimuli* (section 3.4): the correlation, over channels, of the center neuron's optimum
with its mean preferred stimulus, less that with the means of other channels; p by permuting the channels of the means.

*Means show broad trends only* (section 3.3): the share of a picture's power at `COARSE_CYCLES` cycles per field
or fewer, its mean color left out; that of the mean less that of the single patches of the same unit.

*Variety grows with depth* (section 3.3): (1 - r) / (1 - s), with r the mean correlation of the best patches of a unit
and s that of the patches of different units of the layer; 0 where a unit's patches are all the same, 1 where they
differ as those of any two units do, which is chance. The last layer less the first, channel by channel.

Pictures of a layer are taken less their mean over the layer's units, since all photographs are alike in that. A verdict
needs an interval, by Student's t over channels, that leaves only one answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from jaxtyping import Float

from unitscope.analysis.channel_sharing import means_of
from unitscope.reproductions.intervals import MeanInterval, describe_interval, student_interval
from unitscope.reproductions.kobayashi2020_figures import best_patches
from unitscope.reproductions.kobayashi2020_study import Study, channels_shown, responding_channels
from unitscope.resampling import permutation_p
from unitscope.synthesis.maximize import maximize

COARSE_CYCLES = 2.0
"""Waves of at most this many cycles per field are called broad."""

CLEAR = 0.1
"""By how much a correlation must exceed that with other channels to be a resemblance that one could see."""

SENTENCE_PERMUTATIONS = 999

UnitPictures = Float[np.ndarray, "unit color height width"]
Patches = dict[str, list[list[np.ndarray]]]
"""For each site, of each unit shown, its best patches."""


def try_sentences(study: Study) -> None:
    """The three sentences, on each network."""
    for number, (record, title, places) in enumerate(zip(study.records, study.titles, study.places, strict=True)):
        if len(places) < 2:
            study.claim(f"optimal and mean stimuli, {title}", "three layers", "fewer", "does not apply", "section 3.3")
            continue
        compare_optima(study, number)
        study.tell("variety and breadth", number + 1, len(study.records))
        units = channels_shown(record, list(places.values()), least=study.least, wanted=study.channels)
        patches = {site: [best_patches(record, f"{site}:{unit}") for unit in units] for site in places.values()}
        measure_breadth(study, number, units, patches)
        measure_variety(study, title, patches)


def compare_optima(study: Study, number: int) -> None:
    """Whether optima resemble the means of their own channels more than those of others."""
    network, record, title = study.networks[number], study.records[number], study.titles[number]
    found, excess = [], []
    for site in study.places[number].values():
        units, means = responding_channels(record, [site], least=study.least), means_of(record, site)
        tell = partial(study.tell, f"optimal stimuli of {title} beside means")
        if means is None or len(units) < 3:
            continue
        optima = maximize(network, [f"{site}:{unit}" for unit in units], recipe="kobayashi2020", progress=tell)
        own = np.stack([one.pictures[0] for one in optima]).astype(np.float64)
        if own.shape[1:] != means.pictures.shape[1:]:
            continue
        matched, other, p = resemblance(own, means.pictures[units], rng=np.random.default_rng(0))
        found.append(f"{site}: {matched:.2f}, other channels {other:.2f}, p {p:.3f} ({len(units)} channels)")
        excess.append(matched - other if p < 0.05 else 0.0)
    verdict = "cannot be told" if not found else resemblance_verdict(excess)
    study.claim(
        f"optimal stimuli resemble mean stimuli, {title}", "optimal stimuli look like the mean preferred stimuli",
        "mean correlation of a channel's optimum with its mean stimulus: "
        + ("; ".join(found) or "no layer where both are of one size").replace("-", "\N{MINUS SIGN}"),
        verdict, "section 3.4",
    )  # fmt: skip


def resemblance_verdict(excess: Sequence[float]) -> str:
    """A verdict on what each layer's correlation exceeds chance by, 0 where it does not significantly so."""
    clear, traces = sum(one >= CLEAR for one in excess), sum(one > 0 for one in excess)
    if clear == len(excess):
        return "as the paper says"
    if not traces:
        return "no more than by chance"
    return f"clearly in {clear} of {len(excess)} layers, by a trace (less than {CLEAR:g}) in {traces - clear}"


def resemblance(optima: UnitPictures, means: UnitPictures, *, rng: np.random.Generator) -> tuple[float, float, float]:
    """The mean correlation of optima with the means of their own channels, with those of others, and the p of the
    difference by permuting the channels of the means.
    """
    table = correlate_pictures(optima, means)
    own = np.diag(table).mean()
    other = table[~np.eye(len(table), dtype=bool)].mean()
    places = np.arange(len(table))
    drawn = np.array([table[places, rng.permutation(places)].mean() for _ in range(SENTENCE_PERMUTATIONS)])
    return float(own), float(other), float(permutation_p(own[None], drawn[None])[0])


def correlate_pictures(ones: UnitPictures, others: UnitPictures) -> Float[np.ndarray, "unit other"]:
    """Correlations of pictures, each less the mean of its kind."""
    left, right = (normalize_pictures(pictures - pictures.mean(0)) for pictures in (ones, others))
    found: np.ndarray = left @ right.T
    return found


def normalize_pictures(pictures: UnitPictures) -> Float[np.ndarray, "unit value"]:
    flat = pictures.reshape(len(pictures), -1)
    flat = flat - flat.mean(1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.divide(flat, length, out=np.zeros_like(flat), where=length > 0)


def measure_breadth(
    study: Study, number: int, units: Sequence[int], patches: dict[str, list[list[np.ndarray]]]
) -> None:
    """Whether means have more of their power in broad waves than single patches."""
    found, differences = [], []
    for site, shown in patches.items():
        means = means_of(study.records[number], site)
        if means is None or sum(bool(one) for one in shown) < 3:
            continue
        deltas = means.pictures - means.pictures[np.asarray(means.n) > 0].mean(0)
        rest = np.mean([patch for one in shown for patch in one], 0)
        pairs = [
            (breadth(deltas[unit]), float(np.mean([breadth((patch - rest).transpose(2, 0, 1)) for patch in one])))
            for unit, one in zip(units, shown, strict=True)
            if one
        ]
        mean, single = np.mean(pairs, 0)
        differences.append(student_interval([a - b for a, b in pairs]))
        found.append(
            f"{site}: {mean:.2f}, single patches {single:.2f}, difference {describe_interval(differences[-1])}"
        )
    study.claim(
        f"mean stimuli show broad trends only, {study.titles[number]}",
        "only the broad trend of colors and of light and dark can be seen in mean preferred stimuli",
        f"share of power at up to {COARSE_CYCLES:g} cycles per field: "
        + ("; ".join(found) or "fewer than three channels").replace("-", "\N{MINUS SIGN}"),
        differences_verdict(differences), "section 3.3",
    )  # fmt: skip


def breadth(picture: Float[np.ndarray, "color height width"]) -> float:
    """The share of power at `COARSE_CYCLES` cycles per field or fewer, without the mean color; NaN without contrast."""
    power = (np.abs(np.fft.fft2(picture)) ** 2).sum(0)
    # With a spacing of 1 / n, frequencies are in cycles per picture.
    rows, cols = (np.fft.fftfreq(n, 1 / n) for n in power.shape)
    cycles = np.hypot(rows[:, None], cols[None, :])
    total = power[cycles > 0].sum()
    return float(power[(cycles > 0) & (cycles <= COARSE_CYCLES)].sum() / total) if total > 0 else float("nan")


def measure_variety(study: Study, title: str, patches: Patches) -> None:
    """Whether a unit's patches differ more in the last layer than in the first."""
    layers = {site: varieties(shown) for site, shown in patches.items()}
    known = {site: values for site, values in layers.items() if len(values) > 1}
    ends = [known[site] for site in (next(iter(known)), list(known)[-1])] if len(known) > 1 else []
    grown = (
        student_interval((ends[1] - ends[0]).tolist()) if ends and len(ends[0]) == len(ends[1]) else (float("nan"),) * 3
    )
    found = "; ".join(f"{site}: {values.mean():.2f}" for site, values in known.items())
    study.claim(
        f"variety grows with depth, {title}", "preferred stimuli of a unit are more varied in deeper layers",
        (f"variety of a unit's patches (1: as those of any units) {found}; "
         f"last less first layer {describe_interval(grown)}"
         if found else "fewer than two channels").replace("-", "\N{MINUS SIGN}"),
        differences_verdict([grown]), "section 3.3",
    )  # fmt: skip


def varieties(shown: Sequence[Sequence[np.ndarray]]) -> Float[np.ndarray, " unit"]:
    """Variety of the patches of each unit; empty where a unit has fewer than two patches."""
    if len(shown) < 2 or min(len(one) for one in shown) < 2:
        return np.zeros(0)
    whole = np.concatenate([np.stack(one) for one in shown]).astype(np.float64)
    table = correlate_pictures(whole, whole)
    unit = np.repeat(np.arange(len(shown)), [len(one) for one in shown])
    same = unit[:, None] == unit[None, :]
    other = table[~same].mean()
    # Only now, after `other`: a patch compared with itself belongs to neither group.
    np.fill_diagonal(same, False)
    own = np.array([table[same & (unit == n)[:, None]].mean() for n in range(len(shown))])
    return (1 - own) / (1 - other)


def differences_verdict(differences: Sequence[MeanInterval]) -> str:
    """A verdict on differences that are expected to be above 0, one per layer."""
    known = [one for one in differences if np.isfinite(one[1])]
    if not known:
        return "cannot be told: too few channels"
    if all(low > 0 for _, low, _ in known):
        return "as the paper says"
    if all(high < 0 for _, _, high in known):
        return "the opposite"
    above = sum(low > 0 for _, low, _ in known)
    return f"in {above} of {len(known)} layers" if above else "cannot be told: intervals hold 0"
