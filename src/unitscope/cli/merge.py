"""merge: one record of all parts of a survey that was shown in shards."""

from __future__ import annotations

from pathlib import Path

from unitscope.cli.survey import print_record


def merge(parts: list[Path], /, *, to: Path, json: bool = False) -> None:
    """Make one record of all parts of a survey that was shown in shards.

    Args:
        parts: The folders that `unitscope survey --shard 1/8` and so on left.
        to: The folder that the record goes to.
        json: Tell what was found as JSON, for scripts.
    """
    from unitscope.recording.merging import merge as merge_shards

    print_record(merge_shards(parts, to=to), json=json)
