"""The program `unitscope`: sixteen verbs, how errors look, and what the exit code says.

    unitscope survey resnet34 photographs --to record
              |
              survey.py   turns text into objects, calls the function of the Python interface, prints what came of it

Each verb is a function in the file of its name: its signature is the list of options, its docstring their help.
Heavy modules (torch, numpy, pandas) are imported inside these functions, so that `--help` answers at once.
Only the verbs print. An error is one short paragraph on stderr.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from cyclopts import App, CycloptsError, Parameter

from unitscope import __version__
from unitscope.cli.atlas import atlas
from unitscope.cli.common import Stopped, terminal_width
from unitscope.cli.compare import compare
from unitscope.cli.demo import demo
from unitscope.cli.filters import filters
from unitscope.cli.maximize import maximize
from unitscope.cli.measure import measure
from unitscope.cli.merge import merge
from unitscope.cli.perturb import perturb
from unitscope.cli.positions import positions
from unitscope.cli.reproduce import reproduce
from unitscope.cli.sharing import sharing
from unitscope.cli.sites import sites
from unitscope.cli.survey import survey
from unitscope.cli.text_tables import paragraph
from unitscope.cli.train import train
from unitscope.cli.tuning import tuning
from unitscope.cli.view import view
from unitscope.errors import BadInput, UnitscopeError

app = App(
    name="unitscope",
    help="An electrophysiology rig for convolutional networks: every unit of every layer, recorded and browsable.",
    help_epilogue="`unitscope VERB --help` explains a verb. --debug or UNITSCOPE_DEBUG=1 adds a traceback to an error.",
    help_format="plaintext",
    version=__version__,
    default_parameter=Parameter(negative=()),  # a flag has no twin --no-flag, unless it asks for one
    suppress_keyboard_interrupt=False,  # main says after Ctrl-C what is kept
)

VERBS = (
    sites, survey, merge, measure, filters, maximize, positions, sharing, compare, perturb, tuning, train, reproduce,
    atlas, view, demo,
)  # fmt: skip
for verb in VERBS:
    app.command(verb)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command, and exit.

    Args:
        arguments: The words behind `unitscope`; by default those of this process.

    Raises:
        SystemExit: With 0 for success, 1 for what failed, 2 for what was typed wrong, 130 for Ctrl-C, and 141 where
            the reader of the output closed it.
    """
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
        print(paragraph(f"unitscope{verb}: {describe_error(error)}{hint}", width=terminal_width()), file=sys.stderr)
        sys.exit(exit_code(error))
    sys.exit(0)


def exit_code(error: BaseException) -> int:
    """2 for what was typed wrong, 130 for Ctrl-C, 1 for all else."""
    if isinstance(error, KeyboardInterrupt):
        return 130
    return 2 if isinstance(error, BadInput | CycloptsError) else 1


def describe_error(error: BaseException) -> str:
    """What happened, in a sentence or two for the person who typed the command."""
    if isinstance(error, KeyboardInterrupt):
        return f"stopped. {error}" if isinstance(error, Stopped) else "stopped."
    if isinstance(error, UnitscopeError | CycloptsError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}." if error.filename else f"{error.strerror}."
    kind = type(error).__name__
    return f"this was not foreseen ({kind}: {error}). The same command with --debug shows where it happened."
