"""The record: what a survey leaves on disk, and how it explains itself. Never imports torch.

A folder that opens without the network, its weights and the images: `record.json` (which network, which pictures,
which sites), tables as Parquet, arrays as Zarr v3 with one flat `unit` axis (unit = site.first_unit + channel).
pandas, DuckDB, polars and xarray read them as they are.
"""

from __future__ import annotations

import html
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitscope.errors import BadInput, Failure, unknown_name
from unitscope.vocabulary import ReceptiveField, Size, Unit

if TYPE_CHECKING:
    import pandas
    import pyarrow
    import xarray
    import zarr

    from unitscope.optima import Optima

CHUNK = 64
"""Units in a chunk of an array."""

FORMAT = 1
"""Version of the record's form. A record of another version is refused in words."""


@dataclass(frozen=True)
class SiteFacts:
    """What a record knows of one site. Its units are `first_unit` ... `first_unit + channels - 1` of the flat
    axis.
    """

    name: str
    channels: int
    lattice: Size
    operation: str
    preactivation: bool
    first_unit: int
    field: ReceptiveField
    module: str = ""
    """The path of the module whose output the site is; "" for a function's result, and in older records."""


@dataclass(frozen=True)
class Record:
    """What a survey left at `path`. Facts only: tables, arrays and where they come from."""

    path: Path
    facts: Mapping[str, Any]

    @cached_property
    def sites(self) -> dict[str, SiteFacts]:
        """The surveyed sites by name, in the order of execution."""
        return {site["name"]: _site_facts(site) for site in self.facts["sites"]}

    def units(self) -> pandas.DataFrame:
        """A row per unit: site, channel, images seen, extremes, means, inactive or not, size of its field."""
        return self._table("units.parquet")

    def stimuli(self, unit: str | Unit | None = None, *, pole: str | None = None) -> pandas.DataFrame:
        """A row per unit, pole and rank: which image, where, how strong, and the exact box of the field.

        Only those of one `unit` and one `pole` ("preferred" or "antipreferred") where they are given. Raises
        UnknownName, BadInput.
        """
        filters: list[tuple[str, str, Any]] = []
        if unit is not None:
            filters.append(("unit", "==", self.index(unit)))
        if pole is not None:
            if pole not in ("preferred", "antipreferred"):
                raise BadInput(f"{pole!r} is no pole; there are 'preferred' and 'antipreferred'.")
            filters.append(("pole", "==", pole))
        return self._table("stimuli.parquet", filters=filters or None)

    def images(self) -> pandas.DataFrame:
        """A row per image: where it is, its label, and whether it could be read."""
        return self._table("images.parquet")

    def measures(self, name: str) -> pandas.DataFrame:
        """The table `measures/NAME.parquet`. Raises UnknownName where the record has none of that name."""
        known = sorted(path.stem for path in (self.path / "measures").glob("*.parquet"))
        if name not in known:
            raise unknown_name("measure", name, known, where=f"the record {self.path}")
        return self._table(f"measures/{name}.parquet")

    def optima(
        self,
        objectives: str | Iterable[str] | None = None,
        *,
        name: str = "contrast-preferred",
        site: str | None = None,
    ) -> Optima:
        """Optimal stimuli of the set `optima/NAME`: all, those of one `site`, or of some objectives ("maxpool:18",
        "maxpool:18@all").

        Raises UnknownName where the record has no such set, or the set no such objective.
        """
        from unitscope.optima import read_optima, sets_of

        known = sets_of(self.path / "optima")
        if name not in known:
            advice = "`unitscope maximize` makes them."
            raise unknown_name("set of optima", name, known, where=f"the record {self.path}", advice=advice)
        asked = [objectives] if isinstance(objectives, str) else objectives
        return read_optima(self.path / "optima" / name, asked, site=site)

    def array(self, name: str) -> zarr.Array[Any]:
        """An array of `arrays.zarr`, unread. Raises UnknownName where the record has none of that name."""
        group = self._arrays()
        if name not in group:
            raise unknown_name("array", name, sorted(group.keys()), where=f"the record {self.path}")
        return group[name]  # type: ignore[return-value]

    def index(self, unit: str | Unit) -> int:
        """The unit's number on the flat axis. Raises UnknownName or BadInput for a unit that the record does not
        hold.
        """
        unit = Unit.parse(unit) if isinstance(unit, str) else unit
        if unit.site not in self.sites:
            raise unknown_name("site", unit.site, self.sites, where=f"the record {self.path}")
        site = self.sites[unit.site]
        if unit.channel >= site.channels:
            raise BadInput(
                f"{site.name} has {site.channels} channels, 0 to {site.channels - 1}; there is no {unit.channel}."
            )
        return site.first_unit + unit.channel

    def unit(self, index: int) -> Unit:
        """The unit of a number on the flat axis."""
        for site in self.sites.values():
            if site.first_unit <= index < site.first_unit + site.channels:
                return Unit(site.name, index - site.first_unit)
        raise BadInput(f"the record {self.path} has no unit number {index}.")

    def to_xarray(self) -> xarray.Dataset:
        """The unit table's columns and the arrays on one `unit` axis, lazily opened, with site and channel as
        coordinates.
        """
        import xarray

        units = self.units()
        data: dict[str, Any] = {
            name: ("unit", column.to_numpy())
            for name, column in units.items()
            if name not in ("unit", "site", "channel")
        }
        for name, array in sorted(self._arrays().arrays()):
            dimensions = getattr(array.metadata, "dimension_names", None)
            if dimensions and dimensions[0] == "unit":
                data[name] = (dimensions, array[...])
        coordinates = {
            name: ("unit", units[name].astype(object if name == "site" else "int64").to_numpy())
            for name in ("site", "channel")
        }
        return xarray.Dataset(
            data, coords={"unit": units["unit"].to_numpy(), **coordinates}, attrs={"record": str(self)}
        )

    def __str__(self) -> str:
        network, stimuli = self.facts["network"], self.facts["stimuli"]
        shown = stimuli["count"] - stimuli.get("unreadable", 0)
        parts = [
            f"record of {network['name']} (weights {network['fingerprint'][:6]}…{network['fingerprint'][-2:]})",
            f"{shown:,} stimuli ({stimuli['source']}, {stimuli['fingerprint'][:6]}…)".replace(",", "\u202f", 1),
            f"{len(self.sites)} sites",
            f"seed {self.facts['seed']}",
            "complete" if self.facts["complete"] else "incomplete",
        ]
        return " · ".join(parts)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(s.name)}</td><td>{html.escape(s.operation)}</td><td>{s.channels}</td>"
            f"<td>{s.lattice[0]} × {s.lattice[1]}</td><td>{s.field}</td><td>{html.escape(s.field.status)}</td></tr>"
            for s in self.sites.values()
        )
        head = "".join(f"<th>{word}</th>" for word in ("site", "operation", "channels", "lattice", "field", "status"))
        return f"<p>{html.escape(str(self))}</p><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"

    def _arrays(self) -> zarr.Group:
        import zarr

        return zarr.open_group(str(self.path / "arrays.zarr"), mode="r")

    def _table(self, name: str, *, filters: list[tuple[str, str, Any]] | None = None) -> pandas.DataFrame:
        try:
            import pandas  # noqa: F401
        except ImportError as error:
            raise Failure("reading tables needs pandas: pip install 'unitscope[analysis]'.") from error
        import pyarrow.parquet

        return pyarrow.parquet.read_table(self.path / name, filters=filters).to_pandas()


def open_record(path: str | Path) -> Record:
    """Open the record in a folder.

    Raises BadInput where there is none, or where it is of another form or has not been completed.
    """
    path = Path(path)
    facts = read_facts(path)
    if facts is None:
        raise BadInput(
            f"{path} is not a record: {_what_is_missing(path)} `unitscope survey MODEL IMAGES --to {path}` makes one."
        )
    if "shard" in facts:
        part = "{}/{}".format(*facts["shard"])
        raise BadInput(f"{path} is shard {part} of a survey; `unitscope merge` makes one record of all of them.")
    if facts.get("format") != FORMAT:
        raise BadInput(
            f"{path} is a record of form {facts.get('format')}; this version of unitscope reads form {FORMAT}."
        )
    return Record(path, facts)


def read_facts(path: Path) -> dict[str, Any] | None:
    """The contents of record.json, or None where there is none. Raises BadInput where it is damaged."""
    try:
        facts = json.loads((path / "record.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path / 'record.json'} is damaged ({error}).") from error
    if not isinstance(facts, dict):
        raise BadInput(f"{path / 'record.json'} is not a record's: it holds a {type(facts).__name__}.")
    return facts


def write_facts(path: Path, facts: Mapping[str, Any]) -> None:
    """Write record.json in one step, so that there is a whole one or none."""
    write_whole(path / "record.json", (json.dumps(facts, indent=1, ensure_ascii=False) + "\n").encode())


def write_whole(path: Path, data: bytes) -> None:
    """Write a file to a temporary name, sync, rename."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_table(path: Path, table: pyarrow.Table) -> None:
    """Write a Parquet table to a temporary name, then rename. The same table gives the same bytes."""
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    pyarrow.parquet.write_table(table, temporary, compression="zstd", row_group_size=1 << 16)
    temporary.replace(path)


@dataclass(frozen=True)
class Pieces:
    """An array that is never whole in memory: its pieces along the first axis, in order."""

    shape: tuple[int, ...]
    dtype: Any
    pieces: Iterable[Any]


def write_arrays(path: Path, arrays: Mapping[str, tuple[Any, tuple[str, ...]]]) -> None:
    """Write `arrays.zarr` anew from {name: (values or Pieces, dimension names)}: to a temporary name, then rename."""
    import numpy as np
    import zarr

    temporary = path.with_name(path.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    group = zarr.create_group(str(temporary))
    for name, (values, dimensions) in arrays.items():
        dtype = np.dtype(values.dtype)
        chunks = (min(256 if len(values.shape) == 1 else CHUNK, max(1, values.shape[0])), *values.shape[1:])
        array = group.create_array(
            name,
            shape=values.shape,
            chunks=chunks,
            dtype=dtype,
            fill_value=np.nan if dtype.kind == "f" else 0,
            dimension_names=dimensions,
        )
        first = 0
        for piece in values.pieces if isinstance(values, Pieces) else [values]:
            array[first : first + len(piece)] = piece
            first += len(piece)
    shutil.rmtree(path, ignore_errors=True)
    temporary.replace(path)


def _site_facts(site: Mapping[str, Any]) -> SiteFacts:
    field = site["field"]
    return SiteFacts(
        name=site["name"],
        channels=site["channels"],
        lattice=tuple(site["lattice"]),
        operation=site["operation"],
        preactivation=site["preactivation"],
        first_unit=site["first_unit"],
        module=site.get("module", ""),
        field=ReceptiveField(
            tuple(field["size"]), tuple(field["stride"]), tuple(field["start"]), field["status"], field.get("cause", "")
        ),
    )


def _what_is_missing(path: Path) -> str:
    if not path.exists():
        return "there is no such folder."
    if not path.is_dir():
        return "it is a file."
    if (path / "parts").is_dir():
        return "its survey has not been completed (run the same command again, and it resumes)."
    return "it holds no record.json."
