"""The command line: one verb per chapter, and the only place that prints.

What is heavy is imported inside the verbs, so that help comes at once. Errors are one short paragraph on stderr, and
the exit code is 2 for what was typed wrong, 1 for what failed, 130 for Ctrl-C.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

from cyclopts import App, CycloptsError, Parameter, validators
from cyclopts.types import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from unitscope import __version__
from unitscope.errors import BadInput, Failure, UnitscopeError
from unitscope.options import ModelOptions, choose_device, one_or_many, open_network
from unitscope.terminal import epoch_line, measure_table, paragraph, site_table, survey_facts, survey_table

if TYPE_CHECKING:
    from unitscope.record import Record

Share = Annotated[float, Parameter(validator=validators.Number(gte=0, lte=1))]

app = App(
    name="unitscope",
    help="An electrophysiology rig for convolutional networks: every unit of every layer, recorded and browsable.",
    help_epilogue="`unitscope VERB --help` explains a verb. --debug or UNITSCOPE_DEBUG=1 adds a traceback to an error.",
    help_format="plaintext",
    version=__version__,
    default_parameter=Parameter(negative=()),
    suppress_keyboard_interrupt=False,
)


DEFAULT_MODEL = ModelOptions()


@app.command
def sites(model: str, /, *, options: ModelOptions = DEFAULT_MODEL) -> None:
    """List the sites of a network: where an electrode can sit, and what its neurons see there.

    Args:
        model: resnet34, plainnet34, shipped:resnet34, torchvision:NAME, timm:NAME or package.module:factory.
    """
    from unitscope.anatomy.sites import sites as sites_of
    from unitscope.recording.electrode import choose

    network = open_network(model, options)
    found = sites_of(network)
    print(site_table(network, found, choose(found, None), width=columns()))


@app.command
def survey(
    model: str,
    images: list[str],
    /,
    *,
    to: Path,
    sites: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    top: PositiveInt = 16,
    per_image: PositiveInt = 1,
    means: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    shard: str | None = None,
    engine: Literal["local", "ray"] = "local",
    resize: PositiveInt | None = None,
    batch: PositiveInt = 32,
    device: str = "auto",
    workers: NonNegativeInt | None = None,
    strict: bool = False,
    options: ModelOptions = DEFAULT_MODEL,
) -> None:
    """Show every image once and record what each unit prefers, what it shuns, and what it never answers to.

    The same command resumes a survey that was interrupted.

    Args:
        model: What `unitscope sites` takes.
        images: A folder, a list (CSV with the columns uri, label), tar or Parquet files, or builtin.
        to: The folder that the record goes to.
        sites: Names or globs, such as maxpool 'layer1.*'; '*' is all.
        top: How many highest and lowest responses are kept of each unit.
        per_image: How many of these may come from one image.
        means: Further mean stimuli to keep, beside that of the center neuron: best, all, full, halves.
        shard: Show one part of the images only, such as 2/8. `unitscope merge` makes a record of all parts.
        engine: Show them here, or on the Ray cluster that is there.
        resize: Shorter side in pixels before the center crop. By default 256/224 of the network's size.
        batch: Images shown at once.
        device: auto, cpu, cuda or cuda:1.
        workers: How many decode images. By default as many as suit the machine.
        strict: Stop at an image that cannot be read; else it is noted and skipped.
    """
    from unitscope.recording.survey import survey as survey_images

    network = open_network(model, options).to(choose_device(device))
    kept = f"What was shown so far is kept in {to}; the same command resumes."
    with resumable(kept), bars() as tell:
        record = survey_images(
            network, one_or_many(images), to=to, sites=sites, top=top, per_image=per_image, means=means or (),
            shard=shard, engine=engine, resize=resize, batch=batch, workers=workers, strict=strict,
            progress=lambda done, total: tell(network.name, done, total),
        )  # fmt: skip
    if shard:
        print(f"Part {shard} of the survey is {to}. When all parts are there: unitscope merge PART... --to RECORD")
    else:
        print_record(record)


@app.command
def merge(parts: list[Path], /, *, to: Path) -> None:
    """Make one record of all parts of a survey that was shown in shards.

    Args:
        parts: The folders that `unitscope survey --shard 1/8` and so on left.
        to: The folder that the record goes to.
    """
    from unitscope.recording.merging import merge as merge_shards

    print_record(merge_shards(parts, to=to))


@app.command
def measure(record: Path, /) -> None:
    """Make all measures that a record's summaries allow, and keep them in it as tables.

    Neither the network nor the images are needed.

    Args:
        record: A folder that a survey left.
    """
    from unitscope.analysis.measures import measure as measure_record

    for name, table in measure_record(record).items():
        print(measure_table(name, table, width=columns()))
        print(f"\nThe table is {record / 'measures' / f'{name}.parquet'}.")


def print_record(record: Record) -> None:
    """The last words of who makes a record."""
    print(survey_table(record, width=columns()))
    print(f"\nThe record is {record.path}. Next: unitscope atlas {record.path} --to atlas")


@app.command
def train(
    network: str,
    data: list[str],
    /,
    *,
    to: Path,
    validation: str | None = None,
    width: PositiveInt | None = None,
    epochs: PositiveInt = 90,
    batch: PositiveInt = 256,
    learning_rate: PositiveFloat = 0.01,
    momentum: Share = 0.9,
    weight_decay: NonNegativeFloat = 1e-4,
    schedule: Literal["steps", "cosine"] = "steps",
    warmup: NonNegativeFloat = 0.0,
    size: PositiveInt = 224,
    first_size: PositiveInt | None = None,
    smallest_area: Share = 0.08,
    flip: Share = 0.5,
    seed: NonNegativeInt = 0,
    bf16: bool = False,
    device: str = "auto",
    workers: NonNegativeInt = 1,
    checkpoint_every: PositiveInt = 500,
) -> None:
    """Train a network from random weights. The same command resumes a training that was interrupted, exactly.

    Args:
        network: resnet34, plainnet34, or another of 18, 34, 50, 101 and 152.
        data: Labeled images: a folder with a sub-folder per class, a list, or tar shards.
        to: The folder for weights, log and checkpoint.
        validation: Labeled images to measure accuracy on after every epoch.
        width: Channels of the first stage; 64, as in the papers, unless given.
        epochs: How often every image is shown.
        batch: Images per step.
        learning_rate: To begin with.
        momentum: Of the stochastic gradient descent.
        weight_decay: Of all parameters.
        schedule: Divide the learning rate by 10 at one and two thirds, or let it fall as a cosine.
        warmup: Epochs in which the learning rate rises.
        size: Height and width of the crops, in pixels.
        first_size: Begin with crops of so many pixels, and let them grow.
        smallest_area: The smallest crop, as a share of the photograph.
        flip: How often a crop is mirrored, 0 to 1.
        seed: Of the first weights, of order, crops and flips.
        bf16: Compute in bfloat16 where that is safe.
        device: auto, cpu, cuda or cuda:1.
        workers: How many processes decode and crop.
        checkpoint_every: Steps between checkpoints; there is one after every epoch, too.
    """
    from unitscope.networks import load
    from unitscope.stimuli.images import open_images
    from unitscope.training import Recipe
    from unitscope.training import train as train_network

    recipe = Recipe(
        epochs=epochs, batch=batch, learning_rate=learning_rate, momentum=momentum, weight_decay=weight_decay,
        schedule=schedule, warmup=warmup, size=size, first_size=first_size, smallest_area=smallest_area, flip=flip,
        seed=seed, bf16=bf16,
    )  # fmt: skip
    images = open_images(one_or_many(data))
    labels = sorted({item.label for item in images.items if item.label is not None})
    if not labels:
        raise BadInput(
            f"training needs labels, and {' '.join(data)} has none: put the images of each class into a folder."
        )
    made = load(network, classes=labels, width=width, size=size, seed=seed)
    with (
        resumable(f"The last checkpoint is kept in {to}; the same command resumes from it."),
        epochs_shown() as progress,
    ):
        weights = train_network(
            made, images, to=to, recipe=recipe, validation=open_images(validation) if validation else None,
            workers=workers, device=choose_device(device), checkpoint_every=checkpoint_every, progress=progress,
        )  # fmt: skip
    print(f"The weights are {weights}; load them with unitscope.load({network!r}, weights={str(weights)!r}).")


@app.command
def atlas(records: list[Path], /, *, to: Path) -> None:
    """Make a static site of one or several records, to be browsed offline.

    Args:
        records: Folders that `unitscope survey` made; several are shown side by side.
        to: The folder of the atlas. An atlas that is there already is made anew.
    """
    from unitscope.atlas.site import build_atlas

    with resumable("Records are untouched; the atlas is made anew by the same command."), bars() as tell:
        page = build_atlas(records, to=to, progress=lambda done, total, what: tell(what, done, total))
    print(how_to_open(page))


@app.command
def demo(*, to: Path = Path("unitscope-demo")) -> None:
    """All of it, on the shipped pair of networks and the built-in photographs: two records, one atlas.

    Args:
        to: The folder for records and atlas.
    """
    from unitscope.demo import demo as demonstrate
    from unitscope.record import open_record

    with resumable(f"What was done so far is kept in {to}; the same command resumes."), bars() as tell:
        page = demonstrate(to, progress=tell)
    for record in sorted((to / "records").iterdir()):
        print(f"{survey_facts(open_record(record), width=columns())}\n")
    print(how_to_open(page))


def how_to_open(page: Path) -> str:
    """The last words of who makes an atlas."""
    return f"The atlas is {page.resolve()}\nOpen it by double-click, or: unitscope view {page.parent}"


@app.command
def view(folder: Path, /) -> None:
    """Open an atlas in the browser.

    Args:
        folder: What `unitscope atlas` or `unitscope demo` made.
    """
    import webbrowser

    page = next((page for page in (folder / "index.html", folder / "atlas" / "index.html") if page.is_file()), None)
    if page is None:
        there = "there is no such folder" if not folder.exists() else "it holds no index.html"
        raise BadInput(f"{folder} is not an atlas: {there}. `unitscope atlas RECORD --to {folder}` makes one.")
    address = page.resolve().as_uri()
    if not webbrowser.open(address):
        raise Failure(f"no browser could be started here. Open {page.resolve()} in one, by double-click.")
    print(address)


# Progress, interruption and errors.


@contextmanager
def bars() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar on stderr, where that is a terminal, for each thing that is done: told what, how many, of all."""
    from tqdm import tqdm

    shown: dict[str, Any] = {}

    def progress(what: str, done: int, total: int) -> None:
        if what not in shown:
            close()
            quiet = not sys.stderr.isatty()
            shown[what] = tqdm(desc=what, total=total, initial=done, disable=quiet, dynamic_ncols=True)
        else:
            shown[what].update(done - shown[what].n)

    def close() -> None:
        while shown:
            shown.popitem()[1].close()

    try:
        yield progress
    finally:
        close()


@contextmanager
def epochs_shown() -> Iterator[Callable[[dict[str, Any]], None]]:
    """A bar for the steps of each epoch, and a line for each epoch that is finished."""
    from tqdm import tqdm

    with tqdm(unit="step", disable=not sys.stderr.isatty(), dynamic_ncols=True, leave=False) as shown:

        def progress(facts: dict[str, Any]) -> None:
            if "step" in facts:
                shown.total, shown.n = facts["steps"], facts["step"]
                shown.set_description(f"epoch {facts['epoch']}", refresh=False)
                shown.set_postfix(loss=f"{facts['loss']:.3f}", refresh=False)
                shown.update(0)
            else:
                shown.clear()
                print(epoch_line(facts), flush=True)

        yield progress


class Stopped(KeyboardInterrupt):
    """Ctrl-C, with what is kept."""


@contextmanager
def resumable(kept: str) -> Iterator[None]:
    """Say after Ctrl-C what is kept and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped(kept) from None


def columns() -> int:
    """Width of the terminal, as far as lines read well; 80 where there is none."""
    return min(max(shutil.get_terminal_size().columns, 40), 100)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The command line. Exits with 0; 1 for what failed; 2 for what was typed wrong; 130 for Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given or os.environ.get("UNITSCOPE_DEBUG", "") not in ("", "0")
    given = [argument for argument in given if argument != "--debug"]
    try:
        app(given, exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except (Exception, KeyboardInterrupt) as error:
        if debug and not isinstance(error, KeyboardInterrupt):
            raise
        verb = f" {given[0]}" if given and given[0] in app else ""
        hint = f" `unitscope{verb} --help` explains." if isinstance(error, CycloptsError) else ""
        print(paragraph(f"unitscope{verb}: {story(error)}{hint}", width=columns()), file=sys.stderr)
        sys.exit(exit_code(error))
    sys.exit(0)


def exit_code(error: BaseException) -> int:
    """2 for what was typed wrong, 130 for Ctrl-C, 1 for all else."""
    if isinstance(error, KeyboardInterrupt):
        return 130
    return 2 if isinstance(error, BadInput | CycloptsError) else 1


def story(error: BaseException) -> str:
    """What happened, in a sentence or two for the person who typed the command."""
    if isinstance(error, KeyboardInterrupt):
        return f"stopped. {error}" if isinstance(error, Stopped) else "stopped."
    if isinstance(error, UnitscopeError | CycloptsError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}." if error.filename else f"{error.strerror}."
    kind = type(error).__name__
    return f"this was not foreseen ({kind}: {error}). The same command with --debug shows where it happened."
