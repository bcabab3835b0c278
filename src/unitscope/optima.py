"""Optimal stimuli as they are kept: pictures with what is known of each, in a folder of PNG files and arrays. No torch.

A set of optima is a folder `optima/NAME` of a record: `recipe.json` (how they were made, of which network), arrays in
`SITE-NUMBER.safetensors`, a PNG per objective with its seeds side by side, and `scores.parquet`, how good they are.
synthesis/maximize.py makes them, synthesis/evaluate.py scores them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from jaxtyping import Bool, Float32

from unitscope.durable import lock_folder, read_json, read_table, whole_file, write_file, write_json, write_table
from unitscope.errors import BadInput, Failure, unknown_name
from unitscope.facts import COUNT, NUMBER, TEXT, fault_of, read_facts
from unitscope.network_facts import difference
from unitscope.vocabulary import Box, Unit

if TYPE_CHECKING:
    import pandas

Pictures = Float32[np.ndarray, "seed color height width"]


@dataclass(frozen=True)
class Light:
    """How whitened pictures become RGB: mean and standard deviation per input channel, and whether these are BGR."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    bgr: bool

    def color(self, whitened: Float32[np.ndarray, "*many color height width"]) -> np.ndarray:
        """RGB, clipped to 0..1."""
        mean, std = (np.asarray(n, np.float32)[:, None, None] for n in (self.mean, self.std))
        pictures = np.clip(whitened * std + mean, 0, 1).astype(np.float32)
        return pictures[..., ::-1, :, :] if self.bgr else pictures


@dataclass(frozen=True, eq=False)
class Optimum:
    """The optimal stimuli found for one objective, one per seed.

    Attributes:
        objective: what was raised, in words.
        site: of its first term.
        channel: of its first term.
        box: the part of the network's picture that the pictures are; it may hang over the picture's edge. There, and
            wherever the neuron does not look, pictures have the mean color.
        whitened: what the network's module was shown, (RGB - mean) / std, in its order of channels.
        responses: of the network to `whitened`.
        history: responses on the way, the last one included; NaN after the end.
        moved: false where the gradient was 0 at the start, so that the picture stayed as it was; `reason` says why.
        light: how `whitened` becomes RGB.
        reason: why a picture did not move; "" where all did.
        evaluated_on: "cone", "aligned crop" or "whole picture", and why not on less (synthesis/evaluators.py).
    """

    objective: str
    site: str
    channel: int
    box: Box
    whitened: Pictures
    responses: Float32[np.ndarray, " seed"]
    history: Float32[np.ndarray, "seed step"]
    moved: Bool[np.ndarray, " seed"]
    light: Light
    reason: str = ""
    evaluated_on: str = "cone"

    @cached_property
    def pictures(self) -> Pictures:
        """`whitened` in RGB, clipped to 0..1."""
        return self.light.color(self.whitened)

    @property
    def clipped(self) -> float:
        """Share of the numbers in `whitened` that lie beyond RGB 0..1, and are clipped in `pictures`."""
        low, high = ((bound - np.asarray(self.light.mean)) / np.asarray(self.light.std) for bound in (0, 1))
        # 1e-5 allows for the rounding of pictures that were clipped exactly to the bounds.
        beyond = (self.whitened < low[:, None, None] - 1e-5) | (self.whitened > high[:, None, None] + 1e-5)
        return float(beyond.mean())

    def without_pictures(self) -> Optimum:
        """The facts alone, where there are too many pictures to be kept in memory."""
        return replace(self, whitened=np.zeros((*self.whitened.shape[:2], 0, 0), np.float32))

    @property
    def best(self) -> int:
        """The seed with the strongest response, in the direction that was asked for."""
        # Responses rise for preferred and fall for antipreferred optima: most seeds show which was asked for.
        rises = self.history[:, 0] <= self.responses
        return int(np.argmax(self.responses) if rises.mean() >= 0.5 else np.argmin(self.responses))


@dataclass(frozen=True, eq=False)
class Optima:
    """Optimal stimuli of several objectives, in the order in which they were asked for, and how they were made.

    `scores` are how good they are: a row per objective, seed and contrast (synthesis/evaluate.py); None where that
    was not asked for.

    Example:
        >>> optima = unitscope.maximize(network, ["maxpool:1", "maxpool:2"], recipe="zipser2015")
        >>> optima
        <Optima: 2 objectives x 1 seeds, zipser2015, preferred>
        >>> optima.pictures.shape  # unit seed color height width
        (2, 1, 3, 11, 11)
    """

    optima: tuple[Optimum, ...]
    facts: Mapping[str, Any]
    scores: pandas.DataFrame | None = None

    @property
    def units(self) -> tuple[str, ...]:
        """What was maximized: a unit, or an objective, as it prints itself."""
        return tuple(one.objective for one in self.optima)

    @property
    def pictures(self) -> np.ndarray | dict[str, np.ndarray]:
        """[unit seed color height width], RGB 0..1; where fields differ, one such array per site."""
        return self._stack("pictures")

    @property
    def whitened(self) -> np.ndarray | dict[str, np.ndarray]:
        """As `pictures`, on the scale of the network's module, not clipped."""
        return self._stack("whitened")

    @property
    def boxes(self) -> tuple[Box, ...]:
        return tuple(one.box for one in self.optima)

    @property
    def responses(self) -> Float32[np.ndarray, "unit seed"]:
        return np.stack([one.responses for one in self.optima])

    @property
    def moved(self) -> Bool[np.ndarray, "unit seed"]:
        return np.stack([one.moved for one in self.optima])

    @property
    def history(self) -> Float32[np.ndarray, "unit seed step"]:
        """Responses on the way; NaN after the end of those that were stable sooner."""
        longest = max(one.history.shape[1] for one in self.optima)
        ends = [((0, 0), (0, longest - one.history.shape[1])) for one in self.optima]
        return np.stack(
            [np.pad(one.history, end, constant_values=np.nan) for one, end in zip(self.optima, ends, strict=True)]
        )

    def _stack(self, what: str) -> np.ndarray | dict[str, np.ndarray]:
        arrays = [getattr(one, what) for one in self.optima]
        if len({array.shape for array in arrays}) == 1:
            return np.stack(arrays)
        sites: dict[str, list[np.ndarray]] = {}
        for one, array in zip(self.optima, arrays, strict=True):
            sites.setdefault(one.site, []).append(array)
        uneven = [site for site, group in sites.items() if len({array.shape for array in group}) > 1]
        if uneven:
            raise BadInput(
                f"the pictures of {uneven[0]} differ in size (positions, or sets of positions); "
                "take them one by one: optima[0].pictures."
            )
        return {site: np.stack(group) for site, group in sites.items()}

    def __len__(self) -> int:
        return len(self.optima)

    def __iter__(self) -> Iterator[Optimum]:
        return iter(self.optima)

    @overload
    def __getitem__(self, which: int | str | Unit) -> Optimum: ...
    @overload
    def __getitem__(self, which: slice) -> Optima: ...
    def __getitem__(self, which: int | str | Unit | slice) -> Optimum | Optima:
        if isinstance(which, slice):
            optima = self.optima[which]
            return Optima(optima, self.facts, rows_of(self.scores, [one.objective for one in optima]))
        if isinstance(which, int):
            return self.optima[which]
        found = {one.objective: one for one in self.optima}
        if str(which) not in found:
            raise unknown_name("optimum", str(which), found, where="this set of optima")
        return found[str(which)]

    def __repr__(self) -> str:
        seeds = self.optima[0].responses.shape[0] if self.optima else 0
        made = self.facts.get("recipe", {}).get("name", "?")
        return f"<Optima: {len(self.optima)} objectives x {seeds} seeds, {made}, {self.facts.get('pole', '')}>"


def paste_pictures(pictures: Pictures, source: Box, target: Box) -> Float32[np.ndarray, "seed color rows cols"]:
    """Whitened pictures of the box `source` as pictures of the box `target`; 0, the mean color, where they say nothing.

    Example: pictures of a crop that begins left of a field, as pictures of the field.
    """
    if source == target:
        return pictures
    result = np.zeros((*pictures.shape[:2], target.height, target.width), np.float32)
    shared = source & target
    result[:, :, *shared.slices(target)] = pictures[:, :, *shared.slices(source)]
    return result


# --- on disk ----------------------------------------------------------------------------------------------

ARRAYS = ("whitened", "responses", "history", "moved")

RECIPE: dict[str, Any] = {
    "recipe": {"name": TEXT}, "pole": TEXT, "seeds": COUNT, "reads": TEXT,
    "network": {"fingerprint": TEXT, "mean": [NUMBER], "std": [NUMBER], "order": TEXT},
}  # fmt: skip
"""What `recipe.json` must hold, and below each entry of a file of arrays (facts.SCHEMA)."""

ENTRIES: list[dict[str, Any]] = [
    {"objective": TEXT, "site": TEXT, "channel": COUNT, "box": [NUMBER], "reason": TEXT, "way": TEXT}
]


def set_identity(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts by which one set is told from another."""
    kept = ("recipe", "pole", "seeds", "seed", "reads", "precision")
    # As JSON would return them (tuples become lists), to be compared with facts that were read from disk.
    return json.loads(json.dumps({name: facts.get(name) for name in kept}))


def refuse_foreign(folder: Path, here: Mapping[str, Any]) -> None:
    """Optima of one network, of which `here` are the facts, do not go into the record of another. Raises Failure."""
    there = read_facts(folder)
    known = (there or {}).get("network", {})
    other = difference(known, here) if known else ""
    if other:
        raise Failure(
            f"{folder} is a record of {known.get('name')} ({known.get('weights')}) with other {other}; "
            f"optima of this {here.get('name')} do not belong there. Choose another folder, or survey this network."
        )


def begin_set(folder: Path, facts: Mapping[str, Any]) -> set[str]:
    """Open or continue the set of optima in a folder; gives the objectives that it holds. Raises Failure where it was
    made otherwise, or cannot be written.
    """
    try:
        with lock_folder(record_folder(folder)):
            there = read_recipe(folder) or facts
            if there is facts:
                write_json(folder / "recipe.json", facts)
    except OSError as error:
        raise Failure(f"optima cannot be written to {folder}: {error.strerror or error}.") from error
    refuse_otherwise(folder, there, facts)
    return {entry["objective"] for file in array_files(folder) for entry in read_entries(file)}


def refuse_otherwise(folder: Path, there: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Raises Failure where the optima of a set were made otherwise than `facts` say."""
    old, new = set_identity(there), set_identity(facts)
    different = [name for name in new if old.get(name) != new[name]]
    other = difference(there.get("network", {}), facts.get("network", {}))
    if different or other:
        different += [f"the network's {other}"] if other else []
        raise Failure(
            f"{folder} holds optima that were made otherwise ({', '.join(different)} differ). Choose another name for "
            "these, or delete that folder."
        )


def record_folder(folder: Path) -> Path:
    """The record, or other folder, in whose `optima` a set lies: what writers of the set lock."""
    return folder.parents[1]


def write_part(folder: Path, optima: Sequence[Optimum]) -> None:
    """Add optima of one site to a set: PNGs, then arrays and facts in a file of their own, whole or not at all.

    Those that another run has added meanwhile are left as they are: two runs may fill one set.
    """
    with lock_folder(record_folder(folder)):
        files = [file for file in array_files(folder) if file.name.startswith(f"{file_name(optima[0].site)}-")]
        known = {entry["objective"] for file in files for entry in read_entries(file)}
        if new := [one for one in optima if one.objective not in known]:
            _write_part(folder, new)


def _write_part(folder: Path, optima: Sequence[Optimum]) -> None:
    from safetensors.numpy import save

    site = file_name(optima[0].site)
    tensors: dict[str, np.ndarray] = {}
    entries = []
    for number, one in enumerate(optima):
        tensors |= {f"{number}/{name}": np.ascontiguousarray(getattr(one, name)) for name in ARRAYS}
        entries.append(
            {
                "objective": one.objective, "site": one.site, "channel": one.channel, "box": list(one.box),
                "reason": one.reason, "way": one.evaluated_on,
            }
        )  # fmt: skip
        write_png(folder / site / f"{file_name(one.objective.removeprefix(one.site + ':'))}.png", one.pictures)
    # Not the number of files: one may have been deleted, as the message for damaged files advises.
    number = 1 + max((int(file.stem.rpartition("-")[2]) for file in folder.glob(f"{site}-*.safetensors")), default=-1)
    write_file(folder / f"{site}-{number:04}.safetensors", save(tensors, {"optima": json.dumps(entries)}))


def write_scores(folder: Path, scores: pandas.DataFrame) -> None:
    """Add scores to those that a set of optima has, but for objectives that have some."""
    import pandas
    import pyarrow

    with lock_folder(record_folder(folder)):
        there = read_scores(folder)
        if there is not None:
            scores = scores[~scores.objective.isin(set(there.objective))]
        whole = scores if there is None else pandas.concat([there, scores], ignore_index=True)
        table = pyarrow.Table.from_pandas(whole, preserve_index=False).replace_schema_metadata(None)
        write_table(folder / "scores.parquet", table)


def read_scores(folder: Path) -> pandas.DataFrame | None:
    """The scores of a set of optima, or None where it has none."""
    path = folder / "scores.parquet"
    return read_table(path).to_pandas() if path.is_file() else None


def rows_of(scores: pandas.DataFrame | None, objectives: Sequence[str]) -> pandas.DataFrame | None:
    """The scores of some objectives, in that order; None where there are none."""
    if scores is None or not len(scores):
        return None
    order = {objective: number for number, objective in enumerate(objectives)}
    chosen = scores[scores.objective.isin(order)]
    if not len(chosen):
        return None
    return chosen.sort_values("objective", key=lambda names: names.map(order), kind="stable").reset_index(drop=True)


def write_png(path: Path, pictures: Pictures) -> None:
    """The seeds side by side, for looking at; pictures that are neither gray nor RGB are left out."""
    from PIL import Image

    if pictures.shape[1] not in (1, 3):
        return
    row = (np.concatenate(list(pictures), axis=2) * 255).round().astype(np.uint8).transpose(1, 2, 0)
    with whole_file(path) as temporary:
        Image.fromarray(np.ascontiguousarray(row if row.shape[2] == 3 else row[..., 0])).save(temporary, "PNG")


def file_name(name: str) -> str:
    """A name as a file's."""
    return re.sub(r"[^\w.,@+-]+", "_", name)


def array_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*-[0-9][0-9][0-9][0-9].safetensors"))


def read_entries(file: Path) -> list[dict[str, Any]]:
    """What a file of arrays holds. Raises Failure where it is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as opened:
            entries = json.loads(opened.metadata()["optima"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise _damaged(file, type(error).__name__) from error
    if fault := fault_of(entries, ENTRIES):
        raise _damaged(file, fault)
    return list(entries)


def _damaged(file: Path, why: str) -> Failure:
    return Failure(f"the optima in {file} are damaged ({why}). Delete that file, and make them again.")


def read_recipe(folder: Path) -> dict[str, Any] | None:
    """How a set was made, or None where there is none. Raises BadInput where that is damaged."""
    facts: dict[str, Any] | None = read_json(folder / "recipe.json")
    if facts is not None and (fault := fault_of(facts, RECIPE)):
        raise BadInput(f"{folder / 'recipe.json'} is damaged, or of no set of optima: {fault}.")
    return facts


def sets_of(folder: Path) -> list[str]:
    """The names of the sets in a record's folder `optima`."""
    return sorted(path.parent.name for path in folder.glob("*/recipe.json"))


def read_optima(folder: Path, objectives: Iterable[str] | None = None, *, site: str | None = None) -> Optima:
    """The optima of a set: all, those of one site, or those of some objectives, in that order.

    Raises BadInput where there is no such set, UnknownName for objectives that it does not hold.
    """
    facts = read_recipe(folder)
    if facts is None:
        raise BadInput(f"{folder} holds no optima; `unitscope maximize` makes them.")
    light = Light(tuple(facts["network"]["mean"]), tuple(facts["network"]["std"]), facts["network"]["order"] == "BGR")
    asked = None if objectives is None else list(objectives)
    found: dict[str, Optimum] = {}
    known: list[str] = []
    for file in array_files(folder):
        entries = read_entries(file)
        known += [entry["objective"] for entry in entries]
        wanted = [
            (number, entry)
            for number, entry in enumerate(entries)
            if (site is None or entry["site"] == site) and (asked is None or entry["objective"] in asked)
        ]
        found |= dict(_read(file, wanted, light))
    missing = [name for name in asked or () if name not in found]
    if missing:
        raise unknown_name("optimum", missing[0], known, where=f"the set {folder}")
    names = list(found) if asked is None else asked
    return Optima(tuple(found[name] for name in names), facts, rows_of(read_scores(folder), names))


def _read(file: Path, wanted: Sequence[tuple[int, dict[str, Any]]], light: Light) -> Iterator[tuple[str, Optimum]]:
    from safetensors import safe_open

    if not wanted:
        return
    with safe_open(file, framework="numpy") as opened:
        for number, entry in wanted:
            arrays = {name: opened.get_tensor(f"{number}/{name}") for name in ARRAYS}
            facts = {name: entry[name] for name in ("objective", "site", "channel", "reason")}
            yield (
                entry["objective"],
                Optimum(box=Box(*entry["box"]), light=light, evaluated_on=entry["way"], **facts, **arrays),
            )
