"""Kobayashi & Shouno (2020) on given networks: preferred stimuli, virtual filters, shared channels, inactive units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from torch import nn

from unitscope.analysis.channel_sharing import titles_of
from unitscope.analysis.couplings import couplings
from unitscope.anatomy.computation import identity_of
from unitscope.anatomy.filters import pair
from unitscope.anatomy.site_graph import Node, depth_of, graph_of
from unitscope.anatomy.sites import sites as sites_of
from unitscope.anatomy.trace import PICTURE
from unitscope.atlas_pages.data_scripts import slugs
from unitscope.errors import BadInput
from unitscope.facts import read_facts
from unitscope.network_facts import difference
from unitscope.record import Record
from unitscope.recording.filter_tables import Filtered, filters
from unitscope.recording.survey import survey
from unitscope.report import Report, write_report
from unitscope.reproductions.kobayashi2020_figures import BEST, figure_3, optima_figure, preferred_figure
from unitscope.reproductions.kobayashi2020_inactive import disturb_inactive
from unitscope.reproductions.kobayashi2020_layers import compare_layers
from unitscope.reproductions.kobayashi2020_sentences import try_sentences
from unitscope.reproductions.kobayashi2020_study import (
    PAPER_PLACES,
    UNTRAINED,
    Progress,
    Study,
    channels_shown,
    find_paper_places,
)
from unitscope.resampling import beyond_copies_p
from unitscope.stimuli.images import Images, Source, open_images
from unitscope.synthesis.canvases import Noise
from unitscope.synthesis.maximize import maximize
from unitscope.tuning_session import tuning

if TYPE_CHECKING:
    import pandas

    from unitscope.networks import Network

SELECTIVE_UNITS = 0.5
"""From this 1 - circular variance on, a unit is called orientation selective."""

DEPARTURES = (
    "Departures: layers 3 and 7 are read before their last ReLU; the center neuron is at (rows // 2, cols // 2), "
    "in the field that it really has; a channel's best stimuli are one patch per photograph."
)

CONCLUSION = (
    "To be concluded: which of the paper's statements hold for these networks and images, each beside chance. "
    "Where untrained copies share channels, too, the skip does that by itself, and only what exceeds them is learned. "
    "Not to be concluded: that the paper's own networks differ from what it says of them; these are others, and so are "
    "the images. A network without inactive units can neither support nor refute what noise in such units does."
)


def reproduce(
    networks: Sequence[Network],
    images: Source,
    *,
    to: Path,
    channels: Sequence[int] = (),
    progress: Progress | None = None,
) -> tuple[Report, Path]:
    """Repeat the paper's figures and its table on these networks and images; the report is a page in the folder `to`.
    Figures show the given channels, or a few that answer.

    A record of the same network and images in `to`/records is used, else one is made there. What a network has no
    place for is left out, and the page says so. Raises Failure where the folder cannot be written, BadInput for a
    channel that there is not.
    """
    tell = progress or (lambda _what, _done, _all: None)
    opened, to = open_images(images), Path(to)
    names = [network.name.rpartition(":")[2] for network in networks]
    folders = slugs(f"{name}-{place}" if names.count(name) > 1 else name for place, name in enumerate(names)).values()
    records = [open_or_survey(n, opened, to / "records", f, tell) for n, f in zip(networks, folders, strict=True)]
    titles, places = titles_of(records), [find_paper_places(record) for record in records]
    study = Study(list(networks), records, titles, places, opened, to, tell, tuple(channels))
    for number in range(len(records)):
        shown_units(study, number)  # before anything long: a channel that there is not is refused
    for part in PARTS:
        part(study)
    where = f"{', '.join(titles)}; {len(opened):,} images ({opened.source}{'; ' + opened.note if opened.note else ''})"
    report = Report(
        paper="kobayashi2020",
        title="Kobayashi & Shouno (2020): interpretation of ResNet by preferred stimuli in receptive fields",
        circumstances=f"Here: {where}. The paper: its own ResNet34 and PlainNet34, 50,000 images. {DEPARTURES}",
        claims=study.claims,
        figures=study.figures,
        conclusion=CONCLUSION,
    )
    return report, write_report(report, to)


def open_or_survey(network: Network, images: Images, folder: Path, name: str, tell: Progress) -> Record:
    """A complete record of this network and these images in the folder, or a new survey."""
    for place in sorted(folder.glob("*")) if folder.is_dir() else ():
        facts = read_facts(place) if place.is_dir() else None
        if facts and facts.get("complete") and is_same_study(facts, network, images):
            return Record(place, facts)
    return survey(network, images, to=folder / name, progress=partial(tell, f"survey of {name}"))


def is_same_study(facts: Mapping[str, Any], network: Network, images: Images) -> bool:
    """Whether these are the facts of a record of this network and these images."""
    alike = facts["stimuli"]["fingerprint"] == images.fingerprint
    return alike and not difference(facts["network"], identity_of(network))


def compare_fields(study: Study) -> None:
    """Sizes of fields, figure 4; and where their centers are in the paper's published code."""
    for record, title, places in zip(study.records, study.titles, study.places, strict=True):
        found = [f"{name}: {record.sites[site].field.size[0]}" for name, site in places.items()]
        said = ", ".join(f"{name}: {size}" for name, size, _ in PAPER_PLACES)
        sizes = [record.sites[site].field.size[0] for site in places.values()]
        verdict = "as the paper says" if sizes == [size for _, size, _ in PAPER_PLACES] else "another network"
        study.claim(
            f"size of receptive fields, {title}", said, ", ".join(found) or "no such layers", verdict, "figure 4"
        )
    rows = centers(study.networks[0], list(study.places[0].values()))
    if rows:
        found = [f"{site}: {ours:g} (theirs {theirs:g}, {theirs - ours:+g} px)" for site, ours, theirs in rows]
        study.claim(
            f"center of the field of neuron 0, pixels from the edge, {study.titles[0]}",
            "not in print; the published code halves all padding, which moves fields to the lower right",
            "; ".join(found).replace("-", "\N{MINUS SIGN}"),
            "the places differ" if any(ours != theirs for _, ours, theirs in rows) else "as here", "published code",
        )  # fmt: skip


def shown_units(study: Study, number: int) -> list[int]:
    """The channels of a network that figures show."""
    sites = list(study.places[number].values())
    return channels_shown(study.records[number], sites, least=study.least, wanted=study.channels)


def show_preferred(study: Study) -> None:
    """Preferred stimuli and mean preferred stimuli of the same channels in three layers."""
    for number, (record, title, places) in enumerate(zip(study.records, study.titles, study.places, strict=True)):
        units = shown_units(study, number)
        if units:
            study.tell("figures of preferred stimuli", number + 1, len(study.records))
            kernels = first_filters(study.networks[number], max(units) + 1)
            caption = (
                f"{title}: the same channels in three layers. Left of each block the {BEST} patches of photographs "
                "that drive a unit most, anywhere on the picture; right the mean preferred stimulus of its center "
                "neuron, as contrast to the mean of all channels"
                + ("; beside it the first filter." if kernels is not None else ".")
            )
            study.keep(f"preferred-{record.path.name}", preferred_figure(record, places, units, kernels), caption)


def first_filters(network: Network, least: int) -> Float[np.ndarray, "unit 3 height width"] | None:
    """The kernels, in RGB, of the convolution that reads the picture; None without one of three colors and so many
    channels.
    """
    readers = [each.module for each in graph_of(network).values() if list(each.reads) == [PICTURE]]
    module = next((one for one in readers if isinstance(one, nn.Conv2d)), None)
    if module is None or module.weight.shape[1] != 3 or len(module.weight) < least:
        return None
    kernels = module.weight.detach().double().cpu().numpy()
    return kernels[:, ::-1] if network.order == "BGR" else kernels


def claim_tuning(study: Study) -> None:
    """The abstract's claim, with gratings and colors in place of looking: orientation and double opponency."""
    for network, record, title, places in zip(study.networks, study.records, study.titles, study.places, strict=True):
        site, what = places.get(PAPER_PLACES[0][0]), f"orientation selective and double opponent units, {title}"
        said = "ResNet has orientation selective neurons and double opponent color neurons"
        if site is None:
            study.claim(what, said, "no max-pooling", "does not apply", "abstract")
            continue
        try:
            found = tuning(network, record, sites=site, null=UNTRAINED, progress=study.tell)
        except BadInput as error:
            study.claim(what, said, str(error), "cannot be told", "abstract")
            continue
        own = counts({name: table[table["site"] == site] for name, table in found.items()})
        others = [counts(one) for one in untrained_tables(record, list(found), seeds=UNTRAINED)]
        beside = [range_of_counts([one[i] for one in others]) for i in (0, 1)]
        told = (
            f"{site}: of {record.sites[site].channels} units {own[0]} orientation selective (1 less circular "
            f"variance is {SELECTIVE_UNITS} or more; untrained copies: {beside[0]}), "
            f"{own[1]} double opponent in cones and in channels (untrained copies: {beside[1]})"
        )
        study.claim(what, said, told, tuning_verdict(own, others), "abstract")


def range_of_counts(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"


def counts(tables: Mapping[str, pandas.DataFrame]) -> tuple[int, int]:
    """How many units are orientation selective, and how many double opponent."""
    selective = int((tables["orientation"]["orientation_selectivity"] >= SELECTIVE_UNITS).sum())
    return selective, int((tables["color"]["opponency"] == "double").sum()) if "color" in tables else 0


def untrained_tables(record: Record, names: Sequence[str], *, seeds: int) -> list[dict[str, pandas.DataFrame]]:
    """The measures of tuning of each untrained copy, by name."""
    import pandas

    tables = {name: pandas.read_parquet(record.path / "tuning" / f"null-{name}.parquet") for name in names}
    return [{name: table[table["seed"] == seed] for name, table in tables.items()} for seed in range(seeds)]


def tuning_verdict(own: tuple[int, int], others: Sequence[tuple[int, int]]) -> str:
    """For both kinds of units: none, more than untrained copies have (see `beyond_copies_p`), or no more."""
    said = []
    for kind, count, beside in zip(("orientation", "double opponency"), own, zip(*others, strict=True), strict=True):
        more = beyond_copies_p(count, beside) < 0.05
        how = "more than in untrained copies" if more else "not clearly more than in untrained copies"
        said.append(f"{kind}: {how if count else 'none'}")
    return "; ".join(said)


def show_filters(study: Study) -> None:
    """Virtual filters, figure 3, and whether similar filters are coupled."""
    for number, (network, record, title) in enumerate(zip(study.networks, study.records, study.titles, strict=True)):
        study.tell("virtual filters", number + 1, len(study.networks))
        try:
            found = filters(network, record=record, baselines=UNTRAINED)
        except BadInput as error:
            study.claim(f"virtual filters, {title}", "figure 3", str(error), "does not apply", "section 3.2")
            continue
        tests, _ = couplings(record)
        site = next((name for name in found if name.endswith("downsample.0")), next(iter(found)))
        caption = (
            f"{title}: virtual filters of {site}, each beside the first filters that it is made of, the most strongly "
            "coupled first, with the coupling coefficients."
        )
        study.keep(f"filters-{record.path.name}", figure_3(found[site], title), caption)
        claim_coupling(study, tests, site, title)
        claim_agreement(study, found[site], title)


def claim_coupling(study: Study, tests: pandas.DataFrame, site: str, title: str) -> None:
    """T1 to T4 of one convolution beside those of untrained networks."""
    what, said = f"similar filters are coupled, {title} {site}", "coupling to similar filters is stronger"
    own = tests[(tests["site"] == site) & tests["seed"].isna() & (tests["units"] > 0)]
    if own.empty:
        study.claim(what, said, "undefined: its units read fewer than three filters", "cannot be told", "section 3.2")
        return
    found = "; ".join(f"{row.test}: z {row.z:+.1f}, p {row.p:.4f}" for row in own.itertuples())
    others = tests[(tests["site"] == site) & tests["seed"].notna()]["z"].dropna()
    found += f" (untrained: z {others.min():+.1f} to {others.max():+.1f})" if len(others) else ""
    study.claim(what, said, found.replace("-", "\N{MINUS SIGN}"), coupling_verdict(own), "section 3.2, figure 3")


def coupling_verdict(own: pandas.DataFrame) -> str:
    """What the tests of one convolution say, their number counted (Bonferroni)."""
    strong = own[own["p"] < 0.05 / len(own)]
    if strong.empty:
        return "no more than by chance"
    return "as the paper says" if (strong["z"] > 0).any() else "the opposite"


def claim_agreement(study: Study, one: Filtered, title: str) -> None:
    cosine = float(np.nanmedian(one.cosine)) if np.isfinite(one.cosine).any() else np.nan
    found = f"median cosine {cosine:.2f} with what the linearized network weighs, branches included"
    what = f"virtual filters as an approximation, {title} {one.filters.site}"
    verdict = "a good picture" if cosine > 0.9 else "a rough picture" if np.isfinite(cosine) else "cannot be told"
    study.claim(what, "nonlinearities, normalizations and shifts are neglected",
                found if np.isfinite(cosine) else one.why, verdict, "eq. 3")  # fmt: skip


TIES = (
    " From a blank picture all taps of a max-pooling tie, and torch sends the gradient to the first: the optima of the "
    "first max-pooling fill the upper left of their field, and no other window, for one tap decides a maximum. The "
    "last row begins at noise of 0.001 instead, which breaks the ties by chance."
)


def show_optima(study: Study) -> None:
    """Optimal stimuli by the paper's recipe in three layers: of center neurons, and of whole units (figure 9)."""
    for number, (network, record, title) in enumerate(zip(study.networks, study.records, study.titles, strict=True)):
        units, places = shown_units(study, number), study.places[number]
        for at, who in (("center", "center neurons of the same channels"), ("all", "whole channels (figure 9)")):
            if units:
                tell = partial(study.tell, f"optimal stimuli of {who}")
                find = partial(maximize, network, at=at, recipe="kobayashi2020", progress=tell)
                rows = {site: list(find([f"{site}:{unit}" for unit in units])) for site in places.values()}
                caption = (
                    f"{title}: optimal stimuli of {who}, by the paper's recipe (Adam, 31 steps from zero), each at its "
                    "own contrast."
                )
                pooled = next(iter(places.values()))
                if at == "center" and record.sites[pooled].operation == "max_pool2d":
                    names = [f"{pooled}:{unit}" for unit in units]
                    rows[f"{pooled}, ties broken"] = list(find(names, start=Noise(0.001)))
                    caption += TIES
                study.keep(f"optima-{at}-{record.path.name}", optima_figure(rows), caption)


def centers(network: Network, sites: Sequence[str]) -> list[tuple[str, float, float]]:
    """For each site the center of neuron 0's field, here and in the paper's published code, from the picture's edge.

    The code takes the padding that all windows need and puts half of it, rounded down, in front; the network has its
    own padding in front, whatever is left over behind.
    """
    graph, known = graph_of(network), sites_of(network)
    rows = []
    for site in sites:
        size, at, jump = network.size[0], 0.5, 1
        for kernel, stride, padding in windows(graph, site):
            out = (size + 2 * padding - kernel) // stride + 1
            needed = (out - 1) * stride - size + kernel
            # The center moves by half a kernel, less the padding in front, in steps of `jump` pixels of the picture.
            at += ((kernel - 1) / 2 - needed // 2) * jump
            size, jump = out, jump * stride
        rows.append((site, known[site].field().center[0] + 0.5, at))
    return rows


def windows(graph: Mapping[str, Node], site: str) -> list[tuple[int, int, int]]:
    """Kernel, stride and padding (rows) of all convolutions and poolings on the longest way to a site."""
    found: list[tuple[int, int, int]] = []
    while site != PICTURE:
        each = graph[site]
        if isinstance(each.module, nn.Conv2d | nn.MaxPool2d):
            kernel, stride, padding = (pair(getattr(each.module, n))[0] for n in ("kernel_size", "stride", "padding"))
            found.insert(0, (kernel, stride, padding))
        site = max(each.reads, key=lambda name: depth_of(graph, name), default=PICTURE)
    return found


PARTS = (
    compare_fields, show_preferred, claim_tuning, show_filters, compare_layers, disturb_inactive, show_optima,
    try_sentences,
)  # fmt: skip
