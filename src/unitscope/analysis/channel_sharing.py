"""Does the same channel prefer the same thing in the layers of a stage? (kobayashi2020, section 3.3; methods 8)

In a residual network a channel is passed on along the skips of a stage, so that channel 7 of one block may still be
channel 7 of the next. Two sites of a stage are compared channel by channel, [unit other]; the diagonal says whether
channels stay themselves (`channel_identity.py`). The similarity is one of two:

    mean preferred stimuli    every record holds them
    responses                 `unitscope sharing` adds them to a record
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unitscope.analysis.channel_identity import PERMUTATIONS, best_matching, identity, rank_of_same
from unitscope.analysis.site_alignment import align_sites
from unitscope.durable import (
    TEMPORARY,
    lock_folder,
    make_folder,
    read_array,
    read_attributes,
    read_json,
    read_whole,
    write_json,
    write_table,
)
from unitscope.errors import BadInput, Failure, UnknownName, unknown_name
from unitscope.record import Record, SiteFacts, open_record
from unitscope.vocabulary import Box, match_names

if TYPE_CHECKING:
    import pandas
    from jaxtyping import Float

LEAST = 30
"""A mean over fewer stimuli is not compared (methods 2.5)."""

SIDE = 32
"""Parts of fields that a record keeps at different scales are compared on a grid of at most this many rows."""

WHAT = {
    "mean stimulus": "correlation of the center neurons' mean preferred stimuli, less the mean of all channels",
    "response": "correlation of responses over images and positions",
    "branch": "correlation of what a branch adds with what skips it, over images and positions",
}


@dataclass(frozen=True, eq=False)
class Pair:
    """Similarities of the channels of two sites, [unit other], and where they are from.

    `network` is the title of a record, or of two where the sites are in different networks; `seed` that of an
    untrained network, else None; `alignment` linear CKA, NaN where it is not known.
    """

    network: str
    what: str
    first: str
    second: str
    similarity: Float[np.ndarray, "unit other"]
    seed: int | None = None
    alignment: float = float("nan")


def compare(
    *records: Record | str | Path,
    to: str | Path | None = None,
    sites: Iterable[str] | None = None,
    means: bool = True,
    least: int = LEAST,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> pandas.DataFrame:
    """Compare channels across the layers of a stage in one or more records, and between networks.

    Compared are the sites along the skips of the first record that has any (or those that `sites` names) with the sites
    at the same place in the other records: by mean preferred stimuli, and by responses where a record holds responses.

    Args:
        *records: records or their folders.
        to: a folder for the table (`sharing.parquet`), one with a row per channel (`channels.parquet`), and
            `comparison.json`.
        sites: names or globs.
        means: also compare mean preferred stimuli.
        least: a mean over fewer stimuli is left out.
        permutations: permutations of channels per test.
        seed: from which all chance is drawn.

    Returns:
        A row for each two sites: `network`, `seed` (of an untrained network), `what`, `first`, `second`, the statistics
        of `analysis.channel_identity.Identity`, and `cka`.

    Raises:
        BadInput: no record has sites along skips and `sites` names none, or the folder holds something else.

    Example:
        >>> table = unitscope.compare(record, least=1, permutations=99)
        >>> table[["first", "second", "channels"]].head(1)
             first        second  channels
        0  maxpool  layer1.0.add         4
    """
    import pandas

    opened = [one if isinstance(one, Record) else open_record(one) for one in records]
    if not opened:
        raise BadInput("no record came; a comparison needs at least one.")
    folder = None if to is None else _place(Path(to))
    pairs = list(pairs_of(opened, sites=sites, means=means, least=least))
    generator = np.random.default_rng(seed)
    rows = [row_of(pair, generator, permutations) for pair in pairs]
    table = pandas.DataFrame(rows).astype({"seed": "Int64"})
    if folder is not None:
        _write(folder, opened, table, channels_of(pairs))
    return table


def row_of(pair: Pair, generator: np.random.Generator, permutations: int) -> dict[str, Any]:
    named = {name: getattr(pair, name) for name in ("network", "seed", "what", "first", "second")}
    found = identity(pair.similarity, generator=generator, permutations=permutations, resamples=permutations)
    return {**named, **asdict(found), "cka": pair.alignment}


def pairs_of(
    records: Sequence[Record], *, sites: Iterable[str] | None = None, means: bool = True, least: int = LEAST
) -> Iterator[Pair]:
    """All pairs of sites that are compared: along the stages of each record, and between the first two networks."""
    titles = titles_of(records)
    for stage in stages(records, sites) if means else ():
        kept = [{name: means_of(one, name) for name in own if name} for one, own in zip(records, stage, strict=True)]
        for record, title, own in zip(records, titles, kept, strict=True):
            for first, second in combinations(own, 2):
                similarity = mean_similarity(own[first], own[second], least=least)
                if similarity is not None:
                    yield Pair(title, "mean stimulus", first, second, similarity, seed=seed_of(record))
        for first, second in zip(*stage[:2], strict=True) if len(stage) > 1 else ():
            if first is not None and second is not None:
                between = mean_similarity(kept[0][first], kept[1][second], least=least)
                if between is not None:
                    yield Pair(f"{titles[0]} | {titles[1]}", "mean stimulus", first, second, between)
    for record, title in zip(records, titles, strict=True):
        yield from response_pairs(record, title)


def titles_of(records: Sequence[Record]) -> list[str]:
    """The names of the networks, with the seed of untrained ones and, where two are alike, the record's folder."""
    names = [record.facts["network"]["name"].rpartition(":")[2] for record in records]
    seeds = [seed_of(record) for record in records]
    names = [n if s is None else f"{n} untrained {s}" for n, s in zip(names, seeds, strict=True)]
    return [f"{n} ({r.path.name})" if names.count(n) > 1 else n for n, r in zip(names, records, strict=True)]


def seed_of(record: Record) -> int | None:
    """The seed of an untrained network's weights, or None."""
    words = str(record.facts["network"].get("weights") or "")
    number = words.removeprefix("random (seed ").removesuffix(")")
    return int(number) if words.startswith("random (seed ") and number.isdecimal() else None


def plain_title(title: str) -> str:
    """The title of the network whose untrained copy this is, or the title itself."""
    return title.partition(" untrained ")[0]


Stage = list[list[str | None]]
"""For each record the sites of one stage, in order; None where it has none at that place."""


def stages(records: Sequence[Record], sites: Iterable[str] | None = None) -> list[Stage]:
    """The stages that are compared: sites of equal channels and lattice along the skips of the first record that has
    any, or those named by the globs `sites`, and what stands beside them in the others.

    Raises UnknownName for a glob that matches nothing, BadInput where there is nothing to compare.
    """
    rows = align_sites([list(record.sites.values()) for record in records])
    if sites is not None:
        there = list(dict.fromkeys(site.name for row in rows for site in row if site is not None))
        named: set[str] = set()
        for pattern in sites:
            matched = match_names(pattern, there)
            if not matched:
                raise unknown_name("site", pattern, {n for r in records for n in r.sites}, where="any of the records")
            named.update(matched)
        rows = [row for row in rows if any(site is not None and site.name in named for site in row)]
    else:
        # A record without skips does not show which sites form a stage: the stages are those of the first record with
        # skips.
        lead = next((i for i, record in enumerate(records) if along_skips(record)), None)
        if lead is None:
            raise BadInput(
                "no site of these records is a sum behind a skip. Name the sites to compare (sites, --sites), or "
                "survey a residual network with sites such as 'layer1.*.add'."
            )
        wanted = {name for stage in along_skips(records[lead]) for name in stage}
        rows = [row for row in rows if row[lead] is not None and _of(row[lead]).name in wanted]
    groups: dict[tuple[Any, ...], list[list[SiteFacts | None]]] = {}
    for row in rows:
        known = next(site for site in row if site is not None)
        groups.setdefault((known.channels, known.lattice), []).append(row)
    names = [[[site.name if site else None for site in row] for row in group] for group in groups.values()]
    found = [[list(column) for column in zip(*group, strict=True)] for group in names]
    return [stage for stage in found if max(len([name for name in col if name]) for col in stage) > 1]


def along_skips(record: Record) -> list[list[str]]:
    """What leaves the blocks of a record with skips, by stage, with the max-pooling just before where that is as large:
    a sum's rectification where the record holds it (which a plain twin has, too), else the sum.
    """
    found: list[list[str]] = []
    last: SiteFacts | None = None
    pooled: SiteFacts | None = None
    sites = list(record.sites.values())
    for site, following in zip(sites, [*sites[1:], None], strict=True):
        pooled = site if site.operation == "max_pool2d" else pooled
        if site.operation == "add":
            rectified = following is not None and following.operation == "relu" and _size(following) == _size(site)
            name = _of(following).name if rectified else site.name
            if last is not None and _size(last) == _size(site):
                found[-1].append(name)
            else:
                alike = pooled is not None and _size(pooled) == _size(site)
                found.append([_of(pooled).name, name] if alike and not found else [name])
            last = site
    return [stage for stage in found if len(stage) > 1]


def _size(site: SiteFacts) -> tuple[int, tuple[int, int]]:
    return site.channels, site.lattice


def _of(site: SiteFacts | None) -> SiteFacts:
    assert site is not None
    return site


def mean_similarity(
    first: Means | None, second: Means | None, *, least: int = LEAST
) -> Float[np.ndarray, "unit other"] | None:
    """Similarity of the mean preferred stimuli of two sites' center neurons, on the part of the picture both see.

    Each is taken less the mean over the channels of its site (which removes what all photographs share), as a vector of
    length 1; NaN for channels whose center neuron answered fewer than `least` stimuli. None where there
    are no means, or the two share no part.
    """
    if first is None or second is None:
        return None
    sides = (first, second)
    common = first.box & second.box
    if common.height < 1 or common.width < 1:
        return None
    # Fields that both records keep pixel by pixel are compared pixel by pixel, reduced ones on a common grid.
    exact = all(side.pictures.shape[2:] == (side.box.height, side.box.width) for side in sides)
    grid = tuple(length if exact else min(SIDE, length) for length in (common.height, common.width))
    vectors = [_vectors(side, common, grid, least) for side in sides]
    return vectors[0] @ vectors[1].T


@dataclass(frozen=True, eq=False)
class Means:
    """The mean preferred stimuli of a site's center neurons, of how many stimuli each, and the box that they show."""

    pictures: Float[np.ndarray, "unit color height width"]
    n: Any
    box: Box


def means_of(record: Record, name: str) -> Means | None:
    """The means that a record holds of one site; None where it holds none, or its channels see different parts."""
    site = record.sites[name]
    units = slice(site.first_unit, site.first_unit + site.channels)
    try:
        parts = [np.asarray(record.array(f"mean_stimulus_center{part}")[units]) for part in ("", "_n", "_size", "_box")]
    except (UnknownName, FileNotFoundError):
        return None
    mean, n, size, boxes = parts
    if (size != size[0]).any() or (boxes != boxes[0]).any():
        return None
    return Means(mean[:, :, : size[0, 0], : size[0, 1]].astype(np.float64), n, Box(*map(int, boxes[0])))


def _vectors(side: Means, common: Box, grid: tuple[int, ...], least: int) -> Float[np.ndarray, "unit pixel"]:
    """The means on a grid over the common box, less the mean of all channels, of length 1; NaN where undefined."""
    rows = _areas(side.pictures.shape[2], (side.box.top, side.box.bottom), (common.top, common.bottom), grid[0])
    cols = _areas(side.pictures.shape[3], (side.box.left, side.box.right), (common.left, common.right), grid[1])
    known = side.n >= max(least, 1)
    # NaN is off the picture: such pixels count as 0 for all channels.
    seen = np.isfinite(side.pictures[known]).all((0, 1)) if known.any() else np.zeros(side.pictures.shape[2:], bool)
    pictures = np.where(seen & known[:, None, None, None], side.pictures, 0.0)
    pictures = pictures - (pictures[known].mean(0) if known.any() else 0)
    vectors = (rows @ pictures @ cols.T).reshape(len(pictures), -1)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    defined = known[:, None] & (length > 1e-9)
    return np.where(defined, vectors / np.where(length > 0, length, 1), np.nan)


def _areas(count: int, span: tuple[int, int], part: tuple[int, int], rows: int) -> Float[np.ndarray, "row pixel"]:
    """Weights that average `count` pixels over `span` into so many equal rows of `part` of it."""
    edges, wanted = np.linspace(*span, count + 1), np.linspace(*part, rows + 1)
    low, high = np.maximum(edges[None, :-1], wanted[:-1, None]), np.minimum(edges[None, 1:], wanted[1:, None])
    overlap = np.maximum(high - low, 0)
    return overlap / overlap.sum(1, keepdims=True)


def response_similarity(record: Record, first: str, second: str) -> Float[np.ndarray, "unit other"] | None:
    """The correlations of responses at two sites that `unitscope sharing` has added to a record, None where it has
    none of these.
    """
    wanted = ("response", first, second, None)

    def read() -> Float[np.ndarray, "unit other"] | None:
        for about in _pairs_along_sites(record):
            if (about["what"], about["first"], about["second"], about["seed"]) == wanted:
                return _kept(record, about)
        return None

    return read_whole(record.path / "sharing.zarr", read)


def response_pairs(record: Record, title: str) -> Iterator[Pair]:
    """What `unitscope sharing` has added to a record: correlations of responses, of untrained copies too."""

    def read() -> list[tuple[dict[str, Any], np.ndarray]]:
        return [(about, _kept(record, about)) for about in _pairs_along_sites(record)]

    for about, similarity in read_whole(record.path / "sharing.zarr", read):
        cka = float("nan") if about["cka"] is None else about["cka"]
        yield Pair(title, about["what"], about["first"], about["second"], similarity, about["seed"], cka)


def _pairs_along_sites(record: Record) -> list[dict[str, Any]]:
    """They stand beside the arrays, so that both are of one run; older records have them in `sharing.json` alone."""
    attributes = read_attributes(record.path / "sharing.zarr") or {}
    found = attributes if "pairs" in attributes else read_json(record.path / "sharing.json") or {}
    return list(found.get("pairs", []))


def _kept(record: Record, about: dict[str, Any]) -> Float[np.ndarray, "unit other"]:
    return read_array(record.path / "sharing.zarr", f"similarity/{about['number']}").astype(np.float64)


def channels_of(pairs: Iterable[Pair]) -> pandas.DataFrame:
    """A row per channel and two sites: its similarity to itself, the rank of that among all, the most similar channel,
    and the one that the best one-to-one matching gives it; null for channels that are not defined at both sites.
    """
    import pandas

    rows = []
    for pair in pairs:
        kept = np.flatnonzero(np.isfinite(np.diag(pair.similarity)))
        matrix = np.nan_to_num(pair.similarity[np.ix_(kept, kept)])
        if len(matrix) > 1:
            ranks, partner = rank_of_same(matrix), best_matching(matrix)[1]
            rows.append(pandas.DataFrame({
                "network": pair.network, "seed": pair.seed, "what": pair.what, "first": pair.first,
                "second": pair.second, "channel": kept, "same": np.diag(matrix), "rank": ranks,
                "most_similar": kept[matrix.argmax(1)], "highest": matrix.max(1), "matched": kept[partner],
            }).astype({"seed": "Int64"}))  # fmt: skip
    return pandas.concat(rows, ignore_index=True) if rows else pandas.DataFrame()


def _place(folder: Path) -> Path:
    """Try the place before the work is done."""
    if (folder / "record.json").exists():
        raise BadInput(f"{folder} is a survey's record; give the comparison a folder of its own.")
    known = {"sharing.parquet", "channels.parquet", "comparison.json"}
    there = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    if any(name not in known and not TEMPORARY.fullmatch(name) for name in there) and "comparison.json" not in there:
        raise BadInput(f"{folder} holds other things and no comparison; give the comparison a folder of its own.")
    try:
        make_folder(folder)
    except OSError as error:
        raise Failure(f"the comparison cannot be written to {folder}: {error.strerror or error}.") from error
    return folder


def _write(folder: Path, records: Sequence[Record], table: pandas.DataFrame, channels: pandas.DataFrame) -> None:
    import pyarrow

    tables = {
        name: pyarrow.Table.from_pandas(each, preserve_index=False).replace_schema_metadata(None)
        for name, each in (("sharing", table), ("channels", channels))
    }
    named = zip(titles_of(records), records, strict=True)
    about = [{"title": title, "record": str(one.path), "network": one.facts["network"]["fingerprint"],
              "stimuli": one.facts["stimuli"]["fingerprint"]} for title, one in named]  # fmt: skip
    with lock_folder(folder):
        for name, made in tables.items():
            write_table(folder / f"{name}.parquet", made)
        write_json(folder / "comparison.json", {"records": about, "what": WHAT})
