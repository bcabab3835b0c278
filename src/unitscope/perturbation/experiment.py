"""The experiment: what the network loses when the responses of some units are altered.

Problem: a protocol has dozens of conditions with many seeds each, and a change may be smaller than the difference
between any two samples of images.

Idea: every image is shown once to the whole network. For each condition and seed only what lies behind the site is run
again, with altered responses (recording/replay.py). Differences are paired, image by image:

    image                 1       2       3
    loss, intact        0.21    1.70    0.03
    loss, with noise    0.25    1.69    0.11
    change              0.04   -0.01    0.08        mean 0.037, with its error over images
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unitscope.anatomy.sites import sites as sites_of
from unitscope.durable import lock_folder, write_table
from unitscope.errors import BadInput, Failure
from unitscope.networks import logits_of
from unitscope.option_groups import RepeatOptions
from unitscope.perturbation.conditions import (
    Condition,
    conditions_of,
    make_alteration,
    matching_dose,
    protocol,
    rectified_noise,
)
from unitscope.perturbation.estimates import ClassChange, change, class_changes
from unitscope.perturbation.results import Predictions, Result
from unitscope.perturbation.units import Chosen, choose_units
from unitscope.record import Record, open_record
from unitscope.recording.batches import Batch, batches, convert_to_gray, default_workers, first_pictures
from unitscope.recording.electrode import Alter, inject, show
from unitscope.recording.replay import Replay, no_skip, record_replay
from unitscope.recording.steadiness import check_steadiness
from unitscope.stimuli.classes import logits_of_labels
from unitscope.stimuli.images import Images, Source, open_images, reordered
from unitscope.stimuli.presentation import Presentation
from unitscope.vocabulary import Size

if TYPE_CHECKING:
    import pandas

    from unitscope.networks import Network
    from unitscope.vocabulary import Site

BATCH = 256
"""Images for which "one per batch" keeps its channel (kobayashi2020)."""

AT_ONCE = 64
"""At most this many images go through the network at a time."""

Progress = Callable[[int, int], None]
"""Called with how many images are done, and of how many."""


def perturb(
    network: Network,
    images: Source,
    *,
    units: str | Sequence[str] | None = None,
    record: Record | str | PathLike[str] | None = None,
    site: str | None = None,
    what: str | Sequence[str] = "noise",
    which: str | Sequence[str] = "all",
    path: str | Sequence[str] = "both",
    dose: float | Sequence[float] = 1.0,
    target: str | Sequence[str] = "chosen",
    conditions: str | Sequence[Condition] | None = None,
    seeds: int = RepeatOptions.seeds,
    count: int | None = RepeatOptions.count,
    classes: str | PathLike[str] | Mapping[str, int] | None = None,
    batch: int = RepeatOptions.batch,
    resize: int | Size | None = RepeatOptions.resize,
    seed: int = RepeatOptions.seed,
    workers: int | None = RepeatOptions.workers,
    to: str | PathLike[str] | None = None,
    progress: Progress | None = None,
) -> pandas.DataFrame:
    """What the network loses when some units are disturbed: a row per condition.

    Conditions are all combinations of `what`, `which`, `path`, `dose` and `target` (see `Condition`). Images are shown
    in an order drawn from `seed`, and the same seed gives the same noise in all conditions.

    Args:
        network: it is left as it was.
        images: labeled images.
        units: `maxpool:18`, `maxpool:3-7`, `maxpool:*`; by default those that the record found inactive.
        record: of the network; tells which units are inactive.
        site: where inactive units are looked for; by default the record's first max-pooling.
        what: "noise", "zero", "mean" or "resample".
        which: "all", "one per batch", "each channel" or "channel N".
        path: who reads the disturbed responses: "both", "branch" or "skip".
        dose: factors of the noise, 0 or more.
        target: "chosen" units, or as many "active" ones to compare with.
        conditions: conditions in place of these, or "protocol": everything that tells whether a change means anything.
        seeds: how often random conditions are repeated.
        count: at most so many images, drawn at random.
        classes: the number of the logit of each label, where the labels do not tell.
        batch: images for which "one per batch" keeps its channel.
        resize: the shorter side to which photographs are resized.
        seed: from which all chance is drawn.
        workers: processes that read images.
        to: a folder for the table and that of the classes: `perturbation.parquet` and `perturbation_classes.parquet`.
        progress: called as progress(done, all).

    Returns:
        Columns: `delta_loss` is the mean over images of the paired change of cross-entropy, in float64 and averaged
        over seeds; `se`, `ci_low`, `ci_high` are over what `ci_over` says: images (photographs, where several images
        are of one; batches for "one per batch"), and for "active" units, which are drawn anew for each seed, over
        draws, too; NaN for fewer than three of these. `seed_sd` is the standard deviation over seeds. Further
        `delta_top1` and `delta_top5`, `flips` (share of images whose prediction changes), `kl` (of the disturbed
        prediction from the intact one), `classes_changed` (how many of the classes change otherwise than the median
        class, at a false discovery rate of 0.05), `worst_class` with `worst_delta_loss`, `units_answering` (how many of
        the units ever answered above 0 here), `loss` and `top1` undisturbed, and `inactive_at`, the record's site whose
        inactive units were chosen.

    Raises:
        BadInput: units, sites, labels or conditions do not fit.
        Failure: the record is of other weights, or the tables cannot be written.

    Source: kobayashi2020, section 3.5 and table 1. Unlike the paper, differences are paired and in float64; its values
    for the plain network are 14 and 7 units of 2^-23, the rounding of a loss in float32.

    Example:
        >>> table = unitscope.perturb(network, images, units=["maxpool:1"], what="zero", resize=32)
        >>> table[["site", "units", "what", "images"]]
              site  units  what  images
        0  maxpool      1  zero      12
    """
    record = open_record(Path(record)) if isinstance(record, str | PathLike) else record
    sites = sites_of(network)
    chosen = choose_units(network, sites, units=units, record=record, site=site)
    images = labeled_images(open_images(images), count=count, seed=seed)
    experiment = Experiment.begin(network, images, chosen, classes=classes, batch=batch, resize=resize, seed=seed)
    if seeds < 1:
        raise BadInput(f"seeds was {seeds}; expected 1 or more, and 20 or more to report.")
    wanted = conditions
    workers = workers or default_workers()
    if isinstance(wanted, str):
        if wanted != "protocol":
            raise BadInput(f"conditions was {wanted!r}; expected 'protocol', or a sequence of Condition.")
        matched = matching_dose(experiment.moments(workers)[1][list(chosen.active)].tolist())
        wanted = protocol(chosen.channels, skip=experiment.skip, active=bool(chosen.active), matched=matched)
    if wanted is None:
        wanted = conditions_of(what=what, which=which, path=path, dose=dose, target=target, channels=chosen.channels)
    experiment.refuse_conditions(wanted)
    results = experiment.run(list(wanted), seeds=seeds, workers=workers, progress=progress)
    table, by_class = experiment.tables(results)
    if to is not None:
        write(Path(to), table, by_class)
    return table


def labeled_images(images: Images, *, count: int | None, seed: int) -> Images:
    """Those images that have a label, in an order drawn from `seed`; at most `count`. Raises BadInput for none."""
    if count is not None and count < 1:
        raise BadInput(f"count was {count}; expected 1 or more images.")
    places = [number for number, item in enumerate(images.items) if item.label is not None]
    if not places:
        raise BadInput(
            "none of the images has a label, so that no loss can be computed: put the images of each class into a "
            "folder, or give a list (CSV) with the columns uri and label."
        )
    order = np.random.default_rng(seed).permutation(places)[:count]
    return reordered(images, order.tolist())


@dataclass
class Experiment:
    """One network, one site, some of its units, and the images that are shown."""

    network: Network
    images: Images
    chosen: Chosen
    codes: dict[str, int]
    presentation: Presentation
    batch: int
    seed: int
    skip: bool
    """Whether the site has the paths "branch" and "skip"."""
    slow: bool
    """Whether each condition needs a full forward pass, since the replay does not give the same."""
    channels_last: bool
    """Whether the network may be shown pictures whose channels lie side by side in memory."""
    known: tuple[Tensor, Tensor] | None = None
    """The units' moments, once they were needed."""

    @classmethod
    def begin(
        cls,
        network: Network,
        images: Images,
        chosen: Chosen,
        *,
        classes: Any,
        batch: int,
        resize: int | Size | None,
        seed: int,
    ) -> Experiment:
        if batch < 1:
            raise BadInput(f"batch was {batch}; expected 1 or more images.")
        logits = logits_count(network)
        codes = logits_of_labels(list(images.labels), logits=logits, names=network.classes, classes=classes)
        replay = record_replay(network, gray_pictures(network), chosen.site)
        if not replay.reaches_logits and not replay.obstacle:
            raise BadInput(f"the logits of {network.name} do not depend on {chosen.site.name}.")
        # A replay is trusted only where it gives the very bits of a full pass; else each condition takes full passes.
        slow = not gives_same_bits(replay, network)
        presentation = Presentation(network.size, resize)
        last = takes_channels_last(network, images, presentation)
        return cls(network, images, chosen, codes, presentation, batch, seed, replay.has_skip and not slow, slow, last)

    @property
    def at_once(self) -> int:
        """The largest divisor of the batch that is not too much for one forward pass."""
        # A divisor, so that no part of a pass lies in two batches with two drawn channels.
        return next(n for n in range(min(self.batch, AT_ONCE), 0, -1) if self.batch % n == 0)

    def refuse_conditions(self, conditions: Sequence[Condition]) -> None:
        """Raises BadInput where a condition does not fit the site or the units."""
        if not conditions:
            raise BadInput("no condition came; there must be one at least.")
        paths = sorted({one.path for one in conditions} - {"both"})
        if paths and not self.skip:
            raise no_skip(self.chosen.site, paths[0])
        if any(one.target == "active" for one in conditions) and not self.chosen.active:
            raise BadInput(f"{self.chosen.site.name} has no other active units to compare with.")

    def run(self, conditions: list[Condition], *, seeds: int, workers: int, progress: Progress | None) -> list[Result]:
        """All conditions over all images."""
        means = self.moments(workers)[0] if any(one.what == "mean" for one in conditions) else None
        results = [Result(one, seeds if one.random else 1) for one in conditions]
        for part in self.batches(workers):
            self.show_part(part, results, means)
            if progress is not None:
                progress(int(part.images[-1]) + 1, len(self.images))
        return results

    def batches(self, workers: int) -> Iterator[Batch]:
        last = len(self.images)
        for part in batches(self.images, self.presentation, first=0, last=last, batch=self.at_once, workers=workers):
            yield convert_to_gray(part) if self.network.inputs == 1 else part

    def moments(self, workers: int) -> tuple[Float[Tensor, " unit"], Float[Tensor, " unit"]]:
        """The mean response and the standard deviation of each unit over all images and positions."""
        if self.known is not None:
            return self.known
        sums, count, site = torch.zeros(2, self.chosen.site.channels, dtype=torch.float64), 0, self.chosen.site

        def keep(_: Site, responses: Tensor) -> None:
            exact = responses.double()
            sums.add_(torch.stack([exact.mean((2, 3)).sum(0), exact.square().mean((2, 3)).sum(0)]).cpu())

        for part in self.batches(workers):
            with torch.no_grad():
                show(self.network, self.prepared(part), {site.name: site}, keep)
            count += int(part.readable.sum())
        mean, square = sums / max(count, 1)
        # Rounding can make a variance of 0 a little negative.
        self.known = mean, (square - mean.square()).clamp(min=0).sqrt()
        return self.known

    def prepared(self, part: Batch) -> Tensor:
        """The readable pictures of a batch, as the module takes them."""
        pictures = part.pictures[part.readable].to(self.network.device).float().div_(255)
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        return self.network.prepare(pictures).contiguous(memory_format=layout)

    def show_part(self, part: Batch, results: list[Result], means: Tensor | None) -> None:
        """Show one part of a batch under all conditions."""
        places = part.images[part.readable].numpy()
        if not len(places):
            return
        labels = [self.images.items[place].label or "" for place in places.tolist()]
        codes = torch.tensor([self.codes[label] for label in labels])
        x = self.prepared(part)
        # One full pass; all conditions are replayed from it.
        replay = record_replay(self.network, x, self.chosen.site)
        with torch.no_grad():
            intact = Predictions.of(replay.logits, codes)
            answering = (replay.responses.amax((0, 2, 3)) > 0).cpu().numpy()
            for result in results:
                for number in range(result.seeds):
                    channels, alter = self.plan_alteration(result.condition, number, int(places[0]), means)
                    logits = self.altered_logits(replay, x, alter, result.condition)
                    result.add_predictions(
                        number, intact, Predictions.of(logits, codes), [c for c in channels if answering[c]]
                    )
                result.finish_part(intact, places // self.batch, self.images.photographs[places], labels)

    def altered_logits(self, replay: Replay, x: Tensor, alter: Alter, condition: Condition) -> Tensor:
        """The logits under a condition: replayed, unless a replay does not give the same bits."""
        # A full pass has one way to alter a site: for all who read it. Conditions on a path were refused before.
        if self.slow:
            with inject(self.network, self.chosen.site, alter):
                return logits_for(self.network, x)
        return replay.run(alter, path=condition.path)

    def plan_alteration(
        self, condition: Condition, number: int, first: int, means: Tensor | None
    ) -> tuple[list[int], Alter]:
        """Which channels are altered under a condition with seed `number` in the images from `first` on, and how."""
        channels = self.channels_of(condition, number, first // self.batch)
        # The condition is not in the seed: all conditions get the same noise, so that their difference is theirs alone.
        generator = torch.Generator().manual_seed(seed_of(self.seed, number, first))
        return channels, make_alteration(condition, channels, generator=generator, means=means)

    def channels_of(self, condition: Condition, number: int, batch: int) -> list[int]:
        """The channels of a condition. A drawn channel stays for a batch, drawn active ones for the whole pass."""
        channels = list(self.chosen.channels)
        if condition.target == "active":
            # From seed and number alone: the units of a draw stay the same for all images.
            draw = np.random.default_rng([self.seed, number])
            size = min(len(channels), len(self.chosen.active))
            channels = sorted(draw.choice(self.chosen.active, size=size, replace=False).tolist())
        if condition.which == "one per batch":
            return [channels[int(np.random.default_rng([self.seed, number, batch]).integers(len(channels)))]]
        if condition.which.startswith("channel"):
            return [int(condition.which.partition(" ")[2])]
        return channels

    def tables(self, results: list[Result]) -> tuple[pandas.DataFrame, pandas.DataFrame]:
        """A row per condition, and a row per condition and class."""
        import pandas

        classes = [
            class_changes(
                result["loss"], result["top1"], np.array(result.labels), photographs=result.photographs,
                seed=self.seed,
            )
            for result in results
        ]  # fmt: skip
        rows = [self.row(result, of) for result, of in zip(results, classes, strict=True)]
        by_class = [
            self.describe(result) | asdict(one) for result, of in zip(results, classes, strict=True) for one in of
        ]
        return pandas.DataFrame(rows), pandas.DataFrame(by_class)

    def describe(self, result: Result) -> dict[str, Any]:
        one, chosen = result.condition, self.chosen
        count = len(chosen.channels) if one.target == "chosen" else min(len(chosen.channels), len(chosen.active))
        return {
            "site": chosen.site.name,
            "units": count if one.which == "all" else 1,
            "what": one.what,
            "which": one.which,
            "path": one.path,
            "dose": one.dose,
            "target": one.target,
        }

    def row(self, result: Result, by_class: Sequence[ClassChange]) -> dict[str, Any]:
        clusters, over = result.clusters()
        draws, generator = result.draws(), np.random.default_rng(self.seed)
        found = change(result["loss"], clusters=clusters, draws=draws, generator=generator)
        worst = max(by_class, key=lambda one: one.delta_loss)
        return self.describe(result) | {
            "images": len(result["loss"]),
            "seeds": result.seeds,
            "delta_loss": found.mean,
            "se": found.se,
            "ci_low": found.low,
            "ci_high": found.high,
            "ci_over": over if draws is None else f"{over} and draws of units",
            "seed_sd": result.seed_sd(),
            "delta_top1": float(result["top1"].mean()),
            "delta_top5": float(result["top5"].mean()),
            "flips": float(result["flips"].mean()),
            "kl": float(result["kl"].mean()),
            "classes_changed": sum(one.q < 0.05 for one in by_class),
            "worst_class": worst.label,
            "worst_delta_loss": worst.delta_loss,
            "units_answering": len(result.answering),
            "loss": float(result["intact_loss"].mean()),
            "top1": float(result["intact_top1"].mean()),
            "chosen": self.chosen.how,
            "inactive_at": self.chosen.inactive_at,
            "channels": list(self.chosen.channels) if result.condition.target == "chosen" else [],
        }


def takes_channels_last(network: Network, images: Images, presentation: Presentation) -> bool:
    """Whether the network may be shown pictures channels last, tried on the first of the images.

    Raises BadInput where responses depend on the other pictures, on chance, or on what was shown before.
    """
    pictures = first_pictures(images, presentation, inputs=network.inputs)
    if not len(pictures):
        return False
    x = network.prepare(pictures.to(network.device).float().div_(255))
    return check_steadiness(network, sites_of(network), x).channels_last


def gives_same_bits(replay: Replay, network: Network) -> bool:
    """Whether a replay of gray pictures with noise gives the bits of a full forward pass with that noise."""
    if replay.obstacle:
        return False

    def alter(responses: Tensor) -> None:
        responses += rectified_noise(responses.shape, generator=torch.Generator().manual_seed(0)).to(responses)

    with torch.no_grad(), inject(network, replay.site, alter):
        full = logits_for(network, gray_pictures(network))
    return torch.equal(replay.run(alter), full)


def gray_pictures(network: Network) -> Tensor:
    """Two gray pictures, as the module takes them. (One alone may lose its axis, where a network calls `squeeze`.)"""
    return network.prepare(torch.full((2, network.inputs, *network.size), 0.5))


def logits_count(network: Network) -> int:
    """How many logits the network has. Raises BadInput where its output is no row of them per picture."""
    with torch.no_grad():
        logits = logits_for(network, gray_pictures(network))
    if logits.ndim != 2:
        raise BadInput(f"{network.name} gives {list(logits.shape)} for one picture; a loss needs a row of logits.")
    return logits.shape[1]


def logits_for(network: Network, x: Tensor) -> Tensor:
    return logits_of(network.module(x), network.name)


def seed_of(*numbers: int) -> int:
    """One seed made of several numbers, always the same."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def write(folder: Path, table: pandas.DataFrame, by_class: pandas.DataFrame) -> None:
    """Write both tables. Raises Failure where the folder cannot be written."""
    import pyarrow

    try:
        with lock_folder(folder):
            for name, rows in (("perturbation", table), ("perturbation_classes", by_class)):
                made = pyarrow.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata(None)
                write_table(folder / f"{name}.parquet", made)
    except OSError as error:
        raise Failure(f"the tables cannot be written to {folder}: {error.strerror or error}.") from error
