"""Are similar filters coupled more strongly than chance? Four tests by permutation (methods 4; after kobayashi2020).

A unit p is coupled to the channels k that it reads by a[p, k], the strongest tap of its kernels. Which channels are
read at all is one question, which are read together another. If all units read one kind of filter twice as strongly,
then the strongest pairs of every unit are similar, and yet no unit has selected them together. So the strength of each
unit and of each channel is taken out first: of log |a| remains z, what a unit reads more or less than its own and the
channel's strength would have it, in standard deviations of the channel. All tests compare with the same number under
permuted labels of the filters. One permutation serves all units: channels that every unit reads strongly would
otherwise count as evidence once for each unit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unitscope.durable import lock_folder, read_array, read_attributes, read_json, read_whole, write_table
from unitscope.errors import BadInput, Failure
from unitscope.record import Record, open_record
from unitscope.resampling import false_discovery, permutation_p

if TYPE_CHECKING:
    import pandas
    from jaxtyping import Bool, Float, Int

TESTS = {
    "T1": "what is read together is similar: covariance of z z' with the standardized similarity, over all pairs",
    "T2": "of equal sign where similar: correlation of products, of sign(a) exp(z), with the signed similarity",
    "T3": "one orientation: resultant of the orientations of the filters, weighted by exp(z) and their selectivity",
    "T4": "the strongest pairs: mean similarity of the five pairs of largest z + z', less that of all pairs",
}
PERMUTATIONS = 10_000
PAIRS = 5
"""How many of a unit's most strongly coupled pairs enter T4."""

DEGENERATE = 1e-3
"""A filter is left out whose norm is below this share of the median norm."""

SHIFT = 2
"""Two filters are as similar as at the best of all shifts up to this many pixels."""

SWEEPS = 20
"""Where couplings are missing, strengths of units and channels are taken out in turn, so often."""

CHUNK = 500
"""Permutations at once."""


@dataclass(frozen=True)
class Coupling:
    """Filters of the channels that are read, and how strongly each unit is coupled to each of them.

    `relative` [unit mid]: z, the strengths of unit and channel taken out, NaN where a coupling is 0; `similarity`
    [mid mid] is between 0 and 1, whatever the phase; `signed` [mid mid] the plain correlation; `orientation` [mid]
    holds complex numbers: twice the angle of the bars, and as length how selective the filter is.
    """

    coupling: Float[np.ndarray, "unit mid"]
    relative: Float[np.ndarray, "unit mid"]
    similarity: Float[np.ndarray, "mid mid"]
    signed: Float[np.ndarray, "mid mid"]
    orientation: Any
    kept: Bool[np.ndarray, " every"]


def coupling_of(
    basis: Float[np.ndarray, "every color height width"], coupling: Float[np.ndarray, "unit every"]
) -> Coupling:
    """The filters that are not degenerate, compared with each other."""
    norm = np.sqrt((basis**2).sum((1, 2, 3)))
    alive = norm[norm > 0]
    kept = norm > (DEGENERATE * np.median(alive) if len(alive) else 0)
    filters = basis[kept]
    own = coupling[:, kept]
    alike = similarity(filters), signed_similarity(filters), orientations(filters)
    return Coupling(own, remove_strengths(own), *alike, kept)


def remove_strengths(coupling: Float[np.ndarray, "unit mid"]) -> Float[np.ndarray, "unit mid"]:
    """z: log |a| less what unit and channel have in common with all others, over the channel's standard deviation.

    A coupling of 0 is left out: NaN. A channel whose couplings differ by their units' strengths only has 0.
    """
    import warnings

    read = coupling != 0
    z = np.where(read, np.log(np.where(read, np.abs(coupling), 1)), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of units that read nothing, and channels nobody reads
        # One sweep centers a table without gaps. With gaps, subtracting the means of columns shifts those of rows
        # again.
        for _ in range(SWEEPS if not read.all() else 1):
            z = z - np.nanmean(z, 1, keepdims=True)
            z = z - np.nanmean(z, 0, keepdims=True)
        spread = np.nanstd(z, 0, keepdims=True)
    return np.where(read, np.divide(z, spread, out=np.zeros_like(z), where=spread > 1e-9), np.nan)


def signed_similarity(filters: Float[np.ndarray, "mid color height width"]) -> Float[np.ndarray, "mid mid"]:
    """Pearson correlation of each two filters over all colors and pixels; 0 with a flat one."""
    return _correlation(filters, filters)


def _correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    sides = []
    for filters in (first, second):
        flat = filters.reshape(len(filters), -1)
        flat = flat - flat.mean(1, keepdims=True)
        norm = np.linalg.norm(flat, axis=1, keepdims=True)
        sides.append(np.divide(flat, norm, out=np.zeros_like(flat), where=norm > 1e-12))
    return sides[0] @ sides[1].T


def similarity(filters: Float[np.ndarray, "mid color height width"]) -> Float[np.ndarray, "mid mid"]:
    """The largest |correlation| of each two filters over shifts of up to two pixels, on what then overlaps.

    Small filters are shifted less, so that at least two thirds of a side overlap: not at all at 3 x 3, by one pixel
    below 7 x 7.
    """
    reach = [min(SHIFT, (side - 1) // 3) for side in filters.shape[2:]]
    best = np.zeros((len(filters), len(filters)))
    for down in range(-reach[0], reach[0] + 1):
        for right in range(-reach[1], reach[1] + 1):
            # What overlaps of the two filters when the second is shifted by (down, right).
            here = filters[:, :, *_overlap(down, right)]
            there = filters[:, :, *_overlap(-down, -right)]
            best = np.maximum(best, np.abs(_correlation(here, there)))
    # Shifts by d and by -d compare a pair on the same overlap: but for rounding, the matrix is symmetric already.
    return np.maximum(best, best.T)


def _overlap(down: int, right: int) -> tuple[slice, slice]:
    return tuple(slice(max(n, 0), n if n < 0 else None) for n in (down, right))  # type: ignore[return-value]


def orientations(filters: Float[np.ndarray, "mid color height width"]) -> Any:
    """For each filter a complex number: its angle is twice that of the bars, its length (0..1) how selective it is.

    From the energy of the kernel's Fourier transform, all colors together, without the uniform part: a grating whose
    bars lie at that angle drives it most. complex128 [mid].
    """
    side = 4 * max(filters.shape[2:])
    energy = (np.abs(np.fft.fft2(filters, s=(side, side))) ** 2).sum(1)
    y, x = np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None, :]
    bars = np.arctan2(-y, x) + np.pi / 2  # bars stand across the direction of the wave; rows count downwards
    energy[:, 0, 0] = 0
    total = energy.sum((1, 2))
    resultant = (energy * np.exp(2j * bars)).sum((1, 2))
    return np.divide(resultant, total, out=np.zeros(len(filters), complex), where=total > 0)


def coupling_tests(
    basis: Float[np.ndarray, "every color height width"],
    coupling: Float[np.ndarray, "unit every"],
    *,
    generator: np.random.Generator,
    permutations: int = PERMUTATIONS,
) -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """The tests T1 to T4 of one convolution.

    Args:
        basis: The filters of the first layer. Filters of less than a thousandth of the median norm are left out.
        coupling: How strongly each unit reads each filter: the strongest tap, with its sign.
        generator: Draws the permutations.
        permutations: How many.

    Returns:
        A table of all units together, and a table with a row per unit and test. Columns `test`, `value`, `chance` (mean
        under permutation), `z` and `p` (two-sided: the share of permutations as far from their mean). Per unit also
        `q`, Benjamini and Hochberg's over the units of a test; together the mean over units, `units`, and
        `significant`, the share of units with q < 0.05. A unit that reads fewer than three filters is null.
    """
    import pandas

    pairs = coupling_of(basis, coupling)
    orders = orders_of(len(pairs.similarity), permutations, generator)
    rows, each = [], []
    for test, statistic in STATISTICS.items():
        value, under = _under_chance(statistic, pairs, orders)
        defined = np.isfinite(value)
        p, z = _against(value, under)
        q = false_discovery(p)
        each.append(pandas.DataFrame({"channel": np.arange(len(value)), "test": test, "value": value,
                                      "chance": under.mean(1), "z": z, "p": p, "q": q}))  # fmt: skip
        whole = np.array([value[defined].mean()]) if defined.any() else np.array([np.nan])
        null = under[defined].mean(0, keepdims=True) if defined.any() else np.full((1, permutations), np.nan)
        p_all, z_all = _against(whole, null)
        rows.append({
            "test": test, "value": whole[0], "chance": null.mean(), "z": z_all[0], "p": p_all[0],
            "units": int(defined.sum()), "filters": int(pairs.kept.sum()),
            "significant": float((q[defined] < 0.05).mean()) if defined.any() else np.nan,
        })  # fmt: skip
    return pandas.DataFrame(rows), pandas.concat(each, ignore_index=True)


def orders_of(count: int, permutations: int, generator: np.random.Generator) -> Int[np.ndarray, "permutation mid"]:
    """Random orders of the labels 0 ... count - 1, one per permutation."""
    return generator.random((permutations, count)).argsort(1)


Statistic = Callable[[Coupling, "np.ndarray"], "np.ndarray"]
"""Given orders [permutation mid]: the value of each unit under each of them, [unit permutation]."""


def pair_similarity(pairs: Coupling, orders: Int[np.ndarray, "permutation mid"]) -> Float[np.ndarray, "unit p"]:
    """T1: covariance of z_k z_l with the similarity of the filters k and l, in its standard deviations, over all pairs.

    The mean over units is Mantel's statistic for the correlation of channels over units, but for a factor that
    permutations leave.
    """
    return _pair_covariance(np.nan_to_num(pairs.relative), _hollow(pairs.similarity), orders)[0]


def sign_agreement(pairs: Coupling, orders: Int[np.ndarray, "permutation mid"]) -> Float[np.ndarray, "unit p"]:
    """T2: Pearson correlation of b_k b_l, b = sign(a) exp(z), with the signed correlation of the filters k and l."""
    covariance, spread = _pair_covariance(np.sign(pairs.coupling) * _weights(pairs), _hollow(pairs.signed), orders)
    return _ratio(covariance, spread)


def _weights(pairs: Coupling) -> Float[np.ndarray, "unit mid"]:
    """exp(z), 0 where a coupling is 0."""
    return np.nan_to_num(np.exp(pairs.relative))


def _pair_covariance(
    b: Float[np.ndarray, "unit mid"], alike: Float[np.ndarray, "mid mid"], orders: Int[np.ndarray, "permutation mid"]
) -> tuple[Float[np.ndarray, "unit p"], Float[np.ndarray, "unit 1"]]:
    """Covariance of b_k b_l with a hollow matrix, standardized, over all pairs k != l, the matrix's labels permuted;
    and the standard deviation of b_k b_l.
    """
    count = max(len(alike) * (len(alike) - 1), 1)
    # Sums over pairs k != l, without forming the pairs: (sum b)^2 sums over all k and l, and the terms k = l are
    # subtracted.
    mean, squares = (b.sum(1) ** 2 - (b**2).sum(1)) / count, ((b**2).sum(1) ** 2 - (b**4).sum(1)) / count
    middle = alike.sum() / count
    deviation = np.sqrt(max((alike**2).sum() / count - middle**2, 0))
    covariance = _quadratic(b, alike, orders) / count - (mean * middle)[:, None]
    return _ratio(covariance, np.array(deviation)), np.sqrt(np.maximum(squares - mean**2, 0))[:, None]


def orientation_concentration(
    pairs: Coupling, orders: Int[np.ndarray, "permutation mid"]
) -> Float[np.ndarray, "unit p"]:
    """T3: |sum of w_k g_k exp(2i theta_k)|, divided by the sum of w_k g_k; w = exp(z)."""
    w, z = _weights(pairs), np.asarray(pairs.orientation)[orders].T
    return _ratio(np.abs(w @ z), w @ np.abs(z))


def strongest_pairs(pairs: Coupling, orders: Int[np.ndarray, "permutation mid"]) -> Float[np.ndarray, "unit p"]:
    """T4: mean similarity of the five pairs of largest z_k + z_l, less that of all pairs."""
    count = len(pairs.similarity)
    first, second = np.triu_indices(count, 1)
    if not len(first):
        return np.full((len(pairs.coupling), len(orders)), np.nan)
    # A coupling of 0 has no z, and must not stand among the strongest.
    read = np.where(np.isfinite(pairs.relative), pairs.relative, -np.inf)
    strength = read[:, first] + read[:, second]
    top = np.argsort(-strength, 1, kind="stable")[:, :PAIRS]
    of_all = pairs.similarity[first, second].mean()
    rows = [pairs.similarity[orders[:, first[t]], orders[:, second[t]]].mean(1) for t in top]
    return np.array(rows) - of_all


STATISTICS: dict[str, Statistic] = {
    "T1": pair_similarity, "T2": sign_agreement, "T3": orientation_concentration, "T4": strongest_pairs,
}  # fmt: skip


def _under_chance(statistic: Statistic, pairs: Coupling, orders: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The statistic of each unit as it is, and under all permutations [unit permutation]."""
    count = orders.shape[1]
    undefined = (pairs.coupling != 0).sum(1) < 3
    with np.errstate(invalid="ignore", divide="ignore"):
        value = statistic(pairs, np.arange(count)[None])[:, 0]
        under = np.concatenate([statistic(pairs, part) for part in _parts(orders)], axis=1)
    value[undefined], under[undefined] = np.nan, np.nan
    return value, under


def _parts(orders: np.ndarray) -> Iterator[np.ndarray]:
    yield from (orders[i : i + CHUNK] for i in range(0, len(orders), CHUNK))


def _quadratic(a: np.ndarray, matrix: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """a_p' M a_p with the labels of M permuted, for all units and permutations, in one product: [unit permutation].

    Each pair counts once in the product (M is symmetric), and twice in the sum.
    """
    first, second = np.triu_indices(len(matrix), 1)
    return 2 * (a[:, first] * a[:, second]) @ matrix[orders[:, first], orders[:, second]].T


def _hollow(matrix: np.ndarray) -> np.ndarray:
    return matrix * (1 - np.eye(len(matrix)))


def _ratio(value: np.ndarray, by: np.ndarray) -> np.ndarray:
    return np.divide(value, by, out=np.full(np.broadcast(value, by).shape, np.nan), where=np.abs(by) > 1e-300)


def _against(value: np.ndarray, under: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """p and z of each value against its row of values under permutation."""
    spread = under.std(1)
    z = np.divide(value - under.mean(1), spread, out=np.full(len(value), np.nan), where=spread > 1e-12)
    return permutation_p(value, under, tail="both"), z


def couplings(
    record: Record | str | Path, *, permutations: int = PERMUTATIONS, seed: int = 0
) -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """Test whether similar filters are coupled, for all filters that a record keeps, those of untrained networks too.

    Args:
        record: a record with filters (see `filters`), or its folder.
        permutations: permutations of labels per test.
        seed: from which all chance is drawn.

    Returns:
        Two tables. `filters.parquet`: a row per convolution, seed of an untrained network (or null), and test.
        `couplings.parquet`: the same for each unit of the network itself. Both are written to the record.

    Raises:
        BadInput: the record keeps no filters.

    Example:
        >>> filters = unitscope.filters(network, record=record)
        >>> tests, units = unitscope.couplings(record, permutations=9)
        >>> tests["test"].unique().tolist()
        ['T1', 'T2', 'T3', 'T4']
    """
    import pandas
    import pyarrow

    record = open_record(record) if not isinstance(record, Record) else record
    whole, units = [], []
    for about, basis, coupling in read_whole(record.path / "filters.zarr", lambda: _read_couplings(record)):
        generator = np.random.default_rng(seed)
        tests, each = coupling_tests(basis, coupling, generator=generator, permutations=permutations)
        named = {"site": about["site"], "seed": about["seed"]}
        whole.append(tests.assign(**named))
        units += [] if about["seed"] is not None else [each.assign(site=about["site"])]
    tables = pandas.concat(whole, ignore_index=True), pandas.concat(units, ignore_index=True)
    tables[0]["seed"] = tables[0]["seed"].astype("Int64")
    with lock_folder(record.path):
        for name, table in zip(("filters", "couplings"), tables, strict=True):
            made = pyarrow.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None)
            write_table(record.path / f"{name}.parquet", made)
    return tables


def _read_couplings(record: Record) -> list[tuple[dict[str, Any], np.ndarray, np.ndarray]]:
    return [
        (about, filter_array(record, number, "basis"), filter_array(record, number, "coupling"))
        for number, about in enumerate(read_filters(record))
    ]


def read_filters(record: Record) -> list[dict[str, Any]]:
    """What a record says of the filters that it keeps, by number. Raises BadInput where it keeps none.

    It stands beside the arrays, so that both are of one run; `filters.json` is a copy of it, and all that older records
    have.
    """
    beside = (read_attributes(record.path / "filters.zarr") or {}).get("filters")
    listed: list[dict[str, Any]] | None = read_json(record.path / "filters.json") if beside is None else beside
    if listed is None:
        raise BadInput(
            f"the record {record.path} keeps no filters; `unitscope filters MODEL --record {record.path}` adds them."
        )
    return listed


def filter_array(record: Record, number: int, name: str, *, of: Mapping[str, Any] | None = None) -> np.ndarray:
    """One array of kept filters in float64: "pictures", "basis", "coupling", "cosine" or "error".

    `of` is what `read_filters` returned for them. Raises Failure where that does not hold any more.
    """

    def read() -> np.ndarray:
        if of is not None and read_filters(record)[number : number + 1] != [of]:
            raise Failure(f"the filters of {record.path} were written anew while they were read. Read them again.")
        return read_array(record.path / "filters.zarr", f"{number}/{name}").astype(np.float64)

    return read_whole(record.path / "filters.zarr", read)
