"""The pictures that a record keeps of its units, each read as a linear field: first-layer kernels, virtual filters,
mean preferred stimuli, optimal stimuli. A table of measures for each kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from unitscope.analysis.couplings import filter_array, read_filters
from unitscope.analysis.measure_declarations import Measure, Table
from unitscope.analysis.profiles import Kind, profile_numbers
from unitscope.errors import BadInput, UnknownName
from unitscope.record import Record

if TYPE_CHECKING:
    import pandas

LARGEST = 64
"""Pixels: of larger fields a record keeps mean stimuli in small only; their pictures are not read."""

FEW = 30
"""A mean preferred stimulus of fewer pictures is not read."""

KEPT = (
    "orientation", "orientation_selectivity", "frequency", "octaves", "gabor_explained", "difference_explained",
    "shape", "gabor_phase", "cycles_across", "cycles_along", "separability", "chromatic_energy", "hue_axis",
    "cone_l", "cone_m", "cone_s", "balance", "opponency",
)  # fmt: skip
SPATIAL = KEPT[: KEPT.index("separability")]
"""What pictures without colors say."""


class Some(NamedTuple):
    """Pictures [unit color height width] of some units of a site."""

    site: str
    channels: np.ndarray
    pictures: np.ndarray


def kernel(record: Record) -> pandas.DataFrame | None:
    """First-layer kernels, in pixel values, of the units that they make; None where the record keeps none."""
    return _table(record, "kernel", "weights", _kernels)


def virtual_filter(record: Record) -> pandas.DataFrame | None:
    """Virtual filters, in pixel values; None where `unitscope filters` has not left any."""
    return _table(record, "virtual_filter", "weights", _virtual)


def mean_stimulus(record: Record) -> pandas.DataFrame | None:
    """Mean preferred stimuli of center neurons with fields of at most LARGEST pixels, less the mean over the units of
    their site; null for fewer than FEW pictures.

    A mean of natural pictures keeps their correlations (methods 2.3): it is smoother than what the unit weighs.
    """
    return _table(record, "mean_stimulus", "colors", _means)


def optimum(record: Record) -> pandas.DataFrame | None:
    """Optimal stimuli, the strongest of their seeds, less the mean color; None where the record has none."""
    return _table(record, "optimum", "colors", _optima)


def _table(
    record: Record, name: str, kind: Kind, pictures_of: Callable[[Record], Iterator[Some]]
) -> pandas.DataFrame | None:
    import pandas

    parts = [_rows(record, name, kind, some) for some in pictures_of(record) if len(some.channels)]
    return pandas.concat(parts, ignore_index=True).sort_values("unit", ignore_index=True) if parts else None


def _rows(record: Record, name: str, kind: Kind, some: Some) -> pandas.DataFrame:
    import pandas

    colored = some.pictures.shape[1] == 3
    # A gray picture counts as the same in red, green and blue.
    pictures = some.pictures if colored else some.pictures.repeat(3, axis=1)
    numbers = profile_numbers(pictures, kind)
    units = record.sites[some.site].first_unit + some.channels
    table = pandas.DataFrame({"unit": units, "site": some.site, "channel": some.channels})
    return table.assign(**{f"{name}_{column}": numbers[column] for column in (KEPT if colored else SPATIAL)})


def _kernels(record: Record) -> Iterator[Some]:
    known = record.facts.get("kernels")
    if known is None:
        return
    pictures = _in_pixels(record, np.asarray(record.array("kernels")[...], np.float64), weights=True)
    for site in known["sites"]:
        if site in record.sites and pictures.shape[1] in (1, 3):
            count = min(record.sites[site].channels, len(pictures))
            yield Some(site, np.arange(count), pictures[:count])


def _virtual(record: Record) -> Iterator[Some]:
    try:
        listed = read_filters(record)
    except BadInput:
        return
    seen: set[str] = set()
    for number, one in enumerate(listed):
        if one["seed"] is not None:
            continue
        pictures = _in_pixels(record, filter_array(record, number, "pictures", of=one), weights=True)
        for site in one["shown_at"]:
            if site in record.sites and site not in seen and pictures.shape[1] in (1, 3):
                seen.add(site)
                yield Some(site, np.arange(len(pictures)), pictures)


def _in_pixels(record: Record, pictures: np.ndarray, *, weights: bool) -> np.ndarray:
    """Weights (or colors) of the network's normalized input, as those of red, green and blue pixel values."""
    network = record.facts["network"]
    std = np.asarray(network["std"], np.float64)[:, None, None]
    # A weight w of (pixel - mean) / std is a weight w / std of the pixel. A color c in normalized units is c std in
    # pixel values.
    scaled = pictures / std if weights else pictures * std
    return scaled[:, ::-1] if network.get("order") == "BGR" else scaled


def _means(record: Record) -> Iterator[Some]:
    for name, site in record.sites.items():
        if max(site.field.size) > LARGEST or site.field.size == (0, 0):
            continue
        units = slice(site.first_unit, site.first_unit + site.channels)
        try:
            mean, n, size = (
                np.asarray(record.array(f"mean_stimulus_center{part}")[units]) for part in ("", "_n", "_size")
            )
        except (UnknownName, FileNotFoundError):
            return
        for sides in sorted({tuple(side) for side in size.tolist()}):
            members = np.flatnonzero((size == sides).all(1) & (n >= FEW))
            # The mean over units is subtracted, which would leave nothing of a single unit.
            if len(members) > 1 and min(sides) > 1:
                own = mean[members, :, : sides[0], : sides[1]].astype(np.float64)
                yield Some(name, members, own - np.average(own, axis=0, weights=n[members])[None])


def _optima(record: Record) -> Iterator[Some]:
    from unitscope.optima import sets_of

    names = sets_of(record.path / "optima")
    if not names:
        return
    chosen = "contrast-preferred" if "contrast-preferred" in names else names[0]
    by_size: dict[tuple[str, Any], list[tuple[int, np.ndarray]]] = {}
    for one in record.optima(name=chosen):
        picture = one.whitened[one.best].astype(np.float64)
        if one.site in record.sites and max(picture.shape[1:]) <= LARGEST and bool(one.moved[one.best]):
            by_size.setdefault((one.site, picture.shape), []).append((one.channel, picture))
    for (site, _), members in by_size.items():
        unique = dict(members)
        pictures = _in_pixels(record, np.stack(list(unique.values())), weights=False)
        yield Some(site, np.array(list(unique)), pictures)


def _measures(name: str) -> tuple[Measure, ...]:
    columns = (
        Measure("orientation", "bars at the peak of its Fourier transform, degrees counterclockwise from horizontal",
                (0, 180), "horizontal", "horizontal again", "", 180.0),
        Measure("orientation_selectivity", "1 - circular variance of its Fourier energy over orientation", (0, 1),
                "all orientations alike", "one orientation only", "ringach2002"),
        Measure("frequency", "at the peak of its Fourier transform, cycles per pixel", (0, 0.5), "coarse", "fine", ""),
        Measure("octaves", "bandwidth of that peak at 71 %, octaves", (0, 5), "sharp", "broad", ""),
        Measure("gabor_explained", "share of its spatial profile that a Gabor function explains", (0, 1), "none",
                "all", "jones1987"),
        Measure("difference_explained", "share of its spatial profile that a difference of two round Gaussians "
                "explains", (0, 1), "none", "all", ""),
        Measure("shape", "the nearer of the two, by the Bayesian information criterion", None, "", "", ""),
        Measure("gabor_phase", "phase of that Gabor function in its center, degrees", (0, 360), "bright bar",
                "bright bar again", "jones1987", 360.0),
        Measure("cycles_across", "standard deviation of its envelope across the bars, cycles", (0, 2), "a blob",
                "many bars", "ringach2002b"),
        Measure("cycles_along", "standard deviation of its envelope along the bars, cycles", (0, 2), "short bars",
                "long bars", "ringach2002b"),
        Measure("separability", "share of its energy that one color times one profile explains", (0, 1),
                "color changes from place to place", "one color, and its complement", ""),
        Measure("chromatic_energy", "share of its energy that is not gray", (0, 1), "gray", "no gray at all", ""),
        Measure("hue_axis", "its color in the plane of equal luminance, degrees from L-M to S", (0, 180), "L-M",
                "L-M again", "derrington1984", 180.0),
        Measure("cone_l", "what its color tells the L cones", (-1, 1), "less", "more", ""),
        Measure("cone_m", "what its color tells the M cones", (-1, 1), "less", "more", ""),
        Measure("cone_s", "what its color tells the S cones", (-1, 1), "less", "more", ""),
        Measure("balance", "sum over the magnitudes of its opponent channel", (0, 1), "balanced in space", "one sign",
                ""),
        Measure("opponency", "none; single: opposed weights of cones and of red, green and blue, balance 0.5 or more; "
                "double: and less", None, "", "", "johnson2008"),
    )  # fmt: skip
    return tuple(Measure(f"{name}_{m.name}", m.says, m.range, m.low, m.high, m.source, m.period) for m in columns)


PROFILES = tuple(
    Table(make.__name__, make, _measures(make.__name__)) for make in (kernel, virtual_filter, mean_stimulus, optimum)
)
