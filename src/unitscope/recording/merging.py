"""Shards of one survey made into one record, without the network and without the images.

Each shard left its session (session.py), with the anatomy of its sites, in `part.safetensors`. Sessions over
consecutive blocks are merged from the first to the last, and the record is written from the session of the whole:

    shard 1: blocks 0-3    shard 2: blocks 4-7    shard 3: blocks 8-9    ->    blocks 0-9
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from pathlib import Path
from typing import Any

import pyarrow as pa

from unitscope.durable import read_table
from unitscope.errors import BadInput, few
from unitscope.facts import OF_A_SHARD, fault_of, read_facts
from unitscope.record import Record, open_record, refuse_torn
from unitscope.recording.manifest import open_parts, refuse_foreign
from unitscope.recording.session import Session, load
from unitscope.recording.site_state import Settings
from unitscope.recording.tables import write_record


def merge(records: Iterable[str | Path], *, to: str | Path) -> Record:
    """Make one record of the shards of a survey: the same, bit for bit, as if the survey had not been cut.

    Neither the network nor the images are needed.

    Args:
        records: the folders of all shards, in any order.
        to: the folder of the new record.

    Raises:
        BadInput: a folder is no shard, or shards are missing.
        Failure: the shards are not of the same survey.

    Example:
        >>> parts = [f"records/part{number}" for number in (1, 2)]
        >>> for number, part in enumerate(parts, 1):
        ...     unitscope.survey(network, images, to=part, sites=["maxpool"], shard=f"{number}/2").facts["complete"]
        False
        False
        >>> unitscope.merge(parts, to="records/whole").facts["complete"]
        True
    """
    shards = sorted((read_shard(Path(path)) for path in records), key=lambda shard: shard[1]["shard"])
    if not shards:
        raise BadInput("no shard came to be merged.")
    facts = shards[0][1]
    for path, other in shards[1:]:
        refuse_foreign(path, other, facts)
    parts, of = [other["shard"][0] for _, other in shards], facts["shard"][1]
    if parts != list(range(1, of + 1)) or any(other["shard"][1] != of for _, other in shards):
        missing = few([f"{part}/{of}" for part in range(1, of + 1) if part not in parts])
        raise BadInput(
            f"a survey in {of} shards needs each of them once; "
            + (f"{missing} missing." if missing else "one came twice.")
        )
    kept = facts["settings"]
    settings = Settings(
        kept["top"],
        kept["per_image"],
        tuple(kept["labels"]),
        facts["network"]["inputs"],
        tuple(kept["means"]),
        kept.get("responses", False),
    )
    sessions = [load(path / "part.safetensors", facts["sites"], settings) for path, _ in shards]
    images = pa.concat_tables(read_table(path / "images.parquet") for path, _ in shards)
    folder, whole = Path(to), {name: value for name, value in facts.items() if name not in ("shard", "files")}
    with open_parts(folder, whole):
        write_record(folder, reduce(Session.merge, sessions), whole, images)
    return open_record(folder)


def read_shard(path: Path) -> tuple[Path, dict[str, Any]]:
    facts = read_facts(path)
    if facts is None or "shard" not in facts:
        what = "does not exist" if not path.exists() else "is a whole record" if facts else "holds no finished shard"
        raise BadInput(f"{path} {what}; `unitscope merge` takes what `unitscope survey --shard 1/8` and so on leave.")
    if fault := fault_of(facts, OF_A_SHARD):
        raise BadInput(f"{path / 'record.json'} is damaged: {fault}. Run the survey of this shard again.")
    refuse_torn(path, facts)
    return path, facts
