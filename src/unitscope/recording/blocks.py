"""Showing the blocks of a plan, and saving the session between two of them every so often."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unitscope.errors import Failure
from unitscope.recording.batches import Batch, ImageStatus, Progress, batches, convert_to_gray
from unitscope.recording.field_windows import FieldWindow
from unitscope.recording.forward_pass import Reader
from unitscope.recording.session import Session, save
from unitscope.recording.site_state import BLOCK

if TYPE_CHECKING:
    from unitscope.networks import Network
    from unitscope.recording.plan import Plan
    from unitscope.stimuli.images import Images


def show_blocks(
    network: Network,
    images: Images,
    plan: Plan,
    session: Session,
    *,
    workers: int,
    strict: bool = False,
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
) -> None:
    """Show what has not been shown of the plan's blocks, and let the session take it in, block by block."""
    first, last = session.blocks * BLOCK, min(plan.last * BLOCK, len(images))
    code: dict[str | None, int] = {label: number for number, label in enumerate(plan.settings.labels)}
    labels = np.array([code.get(item.label, -1) for item in images.items[first:last]], dtype=np.int64)
    accumulators, statuses, cuts = (
        session.begin_block(network.device),
        list[ImageStatus](),
        list[dict[FieldWindow, np.ndarray]](),
    )
    reader = Reader.of(network, plan.sites, plan.mode, precision=plan.precision)
    for part in batches(images, plan.presentation, first=first, last=last, batch=plan.batch, workers=workers):
        if strict:
            refuse_unreadable(part, images)
        part = part if network.inputs == 3 else convert_to_gray(part)
        reader.read(part, accumulators)
        cuts.append(session.cut(part.pictures))
        statuses += part.statuses
        done = int(part.images[-1]) + 1
        # The size of a batch divides BLOCK (`Plan.of`), so each block ends where a batch ends.
        if done % BLOCK == 0 or done == last:
            readable = np.array([not status.error for status in statuses])
            here = labels[done - first - len(statuses) : done - first]
            session.take(accumulators, cuts, readable, here, statuses)
            accumulators, statuses, cuts = session.begin_block(network.device, accumulators), [], []
            if checkpoint is not None:
                checkpoint.save_if_due()
        if progress is not None:
            progress(done - plan.first * BLOCK, last - plan.first * BLOCK)


def refuse_unreadable(batch: Batch, images: Images) -> None:
    for image, status in zip(batch.images.tolist(), batch.statuses, strict=True):
        if status.error:
            raise Failure(
                f"{images.items[image].uri} cannot be read: {status.error}. Without --strict it is noted and skipped."
            )


@dataclass
class Checkpoint:
    """Saves the session when `every` seconds have passed since it was last saved."""

    session: Session
    path: Path
    every: float
    last: float = field(default_factory=time.monotonic)

    def save_if_due(self) -> None:
        if time.monotonic() - self.last > self.every:
            save(self.session, self.path)
            self.last = time.monotonic()
