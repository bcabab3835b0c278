"""JSON for scripts: with --json a verb prints one document on stdout, and nothing else."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas

    from unitscope.networks import Network
    from unitscope.record import Record
    from unitscope.vocabulary import Site


def print_json(facts: Mapping[str, Any]) -> None:
    """Print facts as JSON. Numbers that are not finite become null, as the format has none."""
    print(json.dumps(replace_nonfinite(facts), indent=1, ensure_ascii=False, allow_nan=False))


def replace_nonfinite(value: Any) -> Any:
    """The same nested facts, with None for every number that is not finite."""
    if isinstance(value, Mapping):
        return {name: replace_nonfinite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [replace_nonfinite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def describe_network(network: Network, sites: Mapping[str, Site], surveyed: Iterable[str]) -> dict[str, Any]:
    """The sites of a network, and which of them a survey records by default."""
    surveyed = set(surveyed)
    listed = [
        {
            "site": site.name,
            "operation": site.operation,
            "module": site.module,
            "channels": site.channels,
            "lattice": site.lattice,
            "field": asdict(site.field()),
            "surveyed": site.name in surveyed,
        }
        for site in sites.values()
    ]
    return {"network": network.name, "weights": network.weights, "size": network.size, "sites": listed}


def describe_record(record: Record) -> dict[str, Any]:
    """What a survey found: where the record is, what was shown, and per site the units that never answered."""
    import pyarrow.parquet

    stimuli = record.facts["stimuli"]
    units = pyarrow.parquet.read_table(record.path / "units.parquet", columns=["inactive", "peak_max"])
    inactive, peaks = units["inactive"].to_pylist(), units["peak_max"].to_pylist()
    listed = []
    for site in record.sites.values():
        here = slice(site.first_unit, site.first_unit + site.channels)
        highest = max((peak for peak in peaks[here] if peak is not None), default=None)
        listed.append(
            {"site": site.name, "channels": site.channels, "inactive": sum(inactive[here]), "peak_max": highest}
        )
    return {
        "record": str(record.path),
        "network": record.facts["network"]["name"],
        "fingerprint": record.facts["network"]["fingerprint"],
        "images": stimuli["count"] - stimuli["unreadable"],
        "unreadable": stimuli["unreadable"],
        "units": len(inactive),
        "inactive": sum(inactive),
        "settings": record.facts["settings"],
        "sites": listed,
    }


def describe_measures(record: Path, tables: Mapping[str, pandas.DataFrame]) -> dict[str, Any]:
    """The tables of measures: where they are, and for each measure of how many units it is known, and a summary.

    The summary of numbers is their median, of yes or no the count of yes, of circular quantities their circular mean
    and the length of the resultant.
    """
    return {"record": str(record), "measures": {name: describe_table(record, name, t) for name, t in tables.items()}}


def describe_table(record: Path, name: str, table: pandas.DataFrame) -> dict[str, Any]:
    """One table of measures: its file, its rows, and each measure condensed to one or two numbers."""
    from unitscope.analysis.measures import TABLES, circular_mean

    periods = {measure.name: measure.period for measure in TABLES[name].columns} if name in TABLES else {}
    measures = {}
    for column, values in table.items():
        known = values.dropna()
        if column in ("unit", "site", "channel") or (len(known) and isinstance(known.iloc[0], str)):
            continue
        yes_or_no = str(values.dtype).lower().startswith("bool")
        condensed: dict[str, float] = {}
        if yes_or_no:
            condensed = {"holds_for": int(known.sum())}
        elif len(known) and (period := periods.get(str(column))):
            condensed = dict(zip(("circular_mean", "resultant_length"), circular_mean(known, period), strict=True))
        elif len(known):
            condensed = {"median": float(known.median())}
        measures[str(column)] = {"known": len(known), **condensed}
    return {"table": str(record / "measures" / f"{name}.parquet"), "rows": len(table), "columns": measures}
