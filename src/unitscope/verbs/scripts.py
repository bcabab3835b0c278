"""What verbs tell scripts: with --json one document on stdout, and nothing else there."""

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


def tell(facts: Mapping[str, Any]) -> None:
    """Print facts as JSON. Numbers that are not finite become null, as the format has none."""
    print(json.dumps(finite(facts), indent=1, ensure_ascii=False, allow_nan=False))


def finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def network_facts(network: Network, sites: Mapping[str, Site], surveyed: Iterable[str]) -> dict[str, Any]:
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


def record_facts(record: Record) -> dict[str, Any]:
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


def measure_facts(record: Path, tables: Mapping[str, pandas.DataFrame]) -> dict[str, Any]:
    """The tables of measures: where they are, and for each measure of how many units it is known, and its median (of
    yes or no: how many it holds for; of circular quantities: their circular mean, and how far they agree on it).
    """
    return {"record": str(record), "measures": {name: table_facts(record, name, t) for name, t in tables.items()}}


def table_facts(record: Path, name: str, table: pandas.DataFrame) -> dict[str, Any]:
    from unitscope.analysis.measures import circular_mean, tables

    periods = {measure.name: measure.period for measure in tables()[name].columns} if name in tables() else {}
    measures = {}
    for column, values in table.items():
        known = values.dropna()
        if column in ("unit", "site", "channel") or (len(known) and isinstance(known.iloc[0], str)):
            continue
        yes_or_no = str(values.dtype).lower().startswith("bool")
        told: dict[str, float] = {}
        if yes_or_no:
            told = {"holds_for": int(known.sum())}
        elif len(known) and (period := periods.get(str(column))):
            told = dict(zip(("circular_mean", "resultant_length"), circular_mean(known, period), strict=True))
        elif len(known):
            told = {"median": float(known.median())}
        measures[str(column)] = {"known": len(known), **told}
    return {"table": str(record / "measures" / f"{name}.parquet"), "rows": len(table), "columns": measures}
