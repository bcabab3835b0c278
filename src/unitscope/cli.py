"""The command line: one verb per chapter. The verbs, in the files of `verbs`, are the only place that prints.

What is heavy is imported inside the verbs, so that help comes at once. Errors are one short paragraph on stderr, and
the exit code is 2 for what was typed wrong, 1 for what failed, 130 for Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from cyclopts import App, CycloptsError, Parameter

from unitscope import __version__
from unitscope.errors import BadInput, UnitscopeError
from unitscope.text_tables import paragraph
from unitscope.verbs import (
    comparing,
    filtering,
    maximizing,
    measuring,
    perturbing,
    positioning,
    publishing,
    recording,
    reproducing,
    training,
    tuning,
)
from unitscope.verbs.manners import Stopped, columns

app = App(
    name="unitscope",
    help="An electrophysiology rig for convolutional networks: every unit of every layer, recorded and browsable.",
    help_epilogue="`unitscope VERB --help` explains a verb. --debug or UNITSCOPE_DEBUG=1 adds a traceback to an error.",
    help_format="plaintext",
    version=__version__,
    default_parameter=Parameter(negative=()),
    suppress_keyboard_interrupt=False,
)

VERBS = (
    recording.sites,
    recording.survey,
    recording.merge,
    measuring.measure,
    filtering.filters,
    maximizing.maximize,
    positioning.positions,
    comparing.sharing,
    comparing.compare,
    perturbing.perturb,
    tuning.tuning,
    training.train,
    reproducing.reproduce,
    publishing.atlas,
    publishing.view,
    publishing.demo,
)
for verb in VERBS:
    app.command(verb)


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
