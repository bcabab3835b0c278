"""Section 3.3 of kobayashi2020: do the layers of a stage share their channels? With untrained copies beside it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from unitscope.analysis.channel_sharing import along_skips, compare, pairs_of, stages, titles_of
from unitscope.anatomy.site_graph import graph_of, rectified
from unitscope.atlas_pages.sharing_figures import advantage_figure, matrix_figure
from unitscope.random_copies import untrained
from unitscope.recording.channel_correlations import sharing
from unitscope.recording.survey import survey
from unitscope.reproductions.kobayashi2020_study import AT_FIRST, UNTRAINED, Study, take_images

if TYPE_CHECKING:
    import pandas

    from unitscope.networks import Network
    from unitscope.record import Record
    from unitscope.stimuli.images import Images

Names = list[list[str]]
"""For each network the sites of the first stage."""

SHARED = 0.1
"""From this mean advantage of the same channel on, and with p < 0.05 (divided by the number of pairs of layers) for
most pairs of layers, channels are said to be shared; with fewer such pairs, in part.
"""


def compare_layers(study: Study) -> None:
    """Similarity of the same channel in two layers against that of different channels, by two kinds of evidence."""
    if not any(along_skips(record) for record in study.records):
        found = "no network here has skips at the surveyed sites"
        study.claim("shared channels", "ResNet shares, PlainNet does not", found, "does not apply", "section 3.3")
        return
    first = first_stage(study)
    few = take_images(study.images, AT_FIRST)
    twins = [twin for number in range(len(study.networks)) for twin in twin_records(study, number, first[number], few)]
    read = [sites_behind(network, names) for network, names in zip(study.networks, first, strict=True)]
    for number, (network, record) in enumerate(zip(study.networks, study.records, strict=True)):
        tell = partial(study.tell, f"{study.titles[number]} along skips")
        sharing(network, few, record=record, sites=read[number], baselines=UNTRAINED, progress=tell)
    table = compare(*study.records, *twins, to=study.to / "comparison", least=study.least)
    study.write("sharing", table)
    owners = pair_owners(study, twins)
    for what, names in (("mean stimulus", first), ("response", read)):
        claim_shared(study, table[table["what"] == what], names, owners, what)
        if (table["what"] == what).any():
            caption = (
                f"By {what}: how much more similar the same channel of two layers is than different channels are. "
                "Bars: 95 % over channels. Hollow: untrained copies."
            )
            study.keep(f"sharing-{what.replace(' ', '-')}", advantage_figure(table, what=what), caption)
    show_matrices(study, table, first)


def first_stage(study: Study) -> Names:
    return [[name for name in own if name is not None] for own in stages(study.records)[0]]


def twin_records(study: Study, number: int, sites: Sequence[str], few: Images) -> list[Record]:
    """Records of untrained copies of a network, over a few of the images, at the first stage."""
    made = []
    for seed in range(UNTRAINED):
        study.tell(f"untrained {study.titles[number]}", seed + 1, UNTRAINED)
        twin = untrained(study.networks[number], seed=seed)
        place = study.to / "untrained" / f"{study.records[number].path.name}-{seed}"
        made.append(survey(twin, few, to=place, sites=list(sites), top=1))
    return made


def sites_behind(network: Network, sites: Sequence[str]) -> list[str]:
    """What a nonlinearity makes of each site, which is what the next layer reads."""
    graph = graph_of(network)
    return [rectified(graph, site) for site in sites]


def pair_owners(study: Study, twins: Sequence[Record]) -> dict[str, int]:
    """For each name of a network in the comparison, an untrained copy's too, the number of the network."""
    names = titles_of([*study.records, *twins])
    count = len(study.records)
    return {name: place if place < count else (place - count) // UNTRAINED for place, name in enumerate(names)}


def claim_shared(study: Study, table: pandas.DataFrame, names: Names, owners: dict[str, int], what: str) -> None:
    for number, title in enumerate(study.titles):
        here = table["first"].isin(names[number]) & table["second"].isin(names[number])
        rows = table[here & (table["network"].map(owners) == number)]
        own, others = rows[rows["seed"].isna()], rows[rows["seed"].notna()]
        if own.empty:
            continue
        found = (
            f"advantage {own['advantage'].mean():.2f} (mean of {len(own)} pairs of layers, "
            f"{int((own['p'] < 0.05).sum())} with p < 0.05), {100 * own['identified'].mean():.0f} % of channels found "
            f"(chance {100 / own['channels'].mean():.0f} %)"
        )
        found += f"; untrained copies {others['advantage'].mean():.2f}" if len(others) else ""
        study.claim(
            f"channels shared in the first stage, by {what}, {title}",
            "the same channel has similar features in different layers of ResNet34, not of PlainNet34",
            found.replace("-", "\N{MINUS SIGN}"), layers_verdict(own, others), "section 3.3",
        )  # fmt: skip


def layers_verdict(own: pandas.DataFrame, others: pandas.DataFrame) -> str:
    """Whether channels are shared, and whether that was so before training."""
    trained, before = how_far(own), how_far(others)
    return trained if trained == "not shared" and before in ("", trained) else f"{trained}; untrained copies: {before}"


def how_far(rows: pandas.DataFrame) -> str:
    """Whether the same channel is more similar than others, by how many of the pairs of layers tell it from chance."""
    if rows.empty:
        return ""
    share = float((rows["p"] < 0.05 / len(rows)).mean()) if rows["advantage"].mean() > SHARED else 0.0
    return "shared" if share > 0.5 else "in part" if share > 0 else "not shared"


def show_matrices(study: Study, table: pandas.DataFrame, first: Names) -> None:
    """For each network the similarity of all channels of its first two layers."""
    wanted = {(title, "mean stimulus", *names[:2]): title for title, names in zip(study.titles, first, strict=True)}
    for pair, row in zip(pairs_of(study.records, least=study.least), table.itertuples(), strict=False):
        title = wanted.pop((pair.network, pair.what, pair.first, pair.second), None)
        if title is not None:
            number = study.titles.index(title)
            caption = (
                f"{title}: similarity of all channels of {pair.first} with all of {pair.second}, by mean stimulus."
            )
            study.keep(f"matrix-{study.records[number].path.name}", matrix_figure(pair, row), caption)
