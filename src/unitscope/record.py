"""The record: what a survey leaves on disk, and how it explains itself. Never imports torch.

A folder that opens without the network, its weights and the images: `record.json` (which network, which pictures,
which sites), tables as Parquet, arrays as Zarr v3 with one flat `unit` axis (unit = site.first_unit + channel).
pandas, DuckDB, polars and xarray read them as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitscope.durable import read_table
from unitscope.durable import write_arrays as write_arrays  # so that who makes up a record finds all of it here
from unitscope.durable import write_table as write_table
from unitscope.errors import BadInput, Failure, unknown_name
from unitscope.facts import find_fault, read_facts
from unitscope.facts import write_facts as write_facts
from unitscope.html_templates import render
from unitscope.vocabulary import ReceptiveField, Size, Unit

if TYPE_CHECKING:
    import pandas
    import xarray
    import zarr

    from unitscope.optima import Optima


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
    """What a survey left at `path`. Facts only: tables, arrays and where they come from.

    Example:
        >>> print(record)
        record of resnet18 (weights ...) · 12 stimuli (...) · 3 sites · seed 0 · complete
        >>> record.units()[["site", "channel", "inactive"]].head(2)
              site  channel  inactive
        0  maxpool        0     False
        1  maxpool        1     False
    """

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

    def verify(self) -> None:
        """Compare every file that the survey left with its digest in record.json; opening does it for the small ones.

        Raises Failure where a file lost data on the disk. Records of older versions have no digests, and pass.
        """
        refuse_torn(self.path, self.facts, thorough=True)

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
        return render("record.html.j2", title=str(self), sites=self.sites.values())

    def _arrays(self) -> zarr.Group:
        import zarr

        return zarr.open_group(str(self.path / "arrays.zarr"), mode="r")

    def _table(self, name: str, *, filters: list[tuple[str, str, Any]] | None = None) -> pandas.DataFrame:
        return read_table(self.path / name, filters=filters).to_pandas()


def open_record(path: str | Path) -> Record:
    """Open the record in a folder.

    Args:
        path: the folder that a survey wrote.

    Raises:
        BadInput: there is no record, or the record is damaged, of another format, or not complete.
        Failure: files that the record names lost data on the disk.

    Example:
        >>> unitscope.open("records/tiny").sites["maxpool"].channels
        4
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
    refuse_torn(path, facts)
    return Record(path, facts)


def refuse_torn(path: Path, facts: Mapping[str, Any], *, thorough: bool = False) -> None:
    """Raises Failure where files that the record names lost data on the disk."""
    if fault := find_fault(path, facts, thorough=thorough):
        raise Failure(
            f"the record {path} is torn: {fault}. Data were lost on the disk, perhaps in a power cut. Take a copy of "
            "the record, or delete the folder and run the survey again."
        )


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
