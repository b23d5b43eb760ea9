"""Arguments that commands share: the parser, the types of values, a job, a trained model."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from hpcnn import __version__
from hpcnn.backends.choice import BACKENDS
from hpcnn.comm.failure import report_unconnected
from hpcnn.comm.launcher import detect_launch
from hpcnn.errors import EXIT_BAD_INPUT
from hpcnn.system.output import begin_command, end_command, replace_streams

MOST = 1_000_000
"""The most that can be asked for of what takes time."""


class Subparser(argparse.ArgumentParser):
    """Parses before MPI is up, on all ranks: only rank 0 speaks, and one line says what is wrong."""

    def error(self, message: str) -> NoReturn:
        """Print one line and leave with the code of bad input."""
        report_unconnected(self.prog, f"{message}. See: {self.prog} --help", EXIT_BAD_INPUT)
        self.exit(EXIT_BAD_INPUT)

    def _print_message(self, message: str, file: object = None) -> None:
        if detect_launch().rank == 0:
            super()._print_message(message, file)  # type: ignore[arg-type]


class Parser(Subparser):
    """Parses the arguments of a command."""

    def __init__(self, program: str, description: str, *, example: str) -> None:
        super().__init__(
            prog=program,
            description=textwrap.fill(description, 78),
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.add_argument("--version", action="version", version=f"hpcnn {__version__}")

    def parse_args(self, *arguments: Any, **options: Any) -> Any:
        """Parse them, in a process whose output can't fail from here on."""
        replace_streams()
        begin_command()
        return super().parse_args(*arguments, **options)

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Leave, as after ``--help``."""
        super().exit(end_command(status), message)


def path_argument(text: str) -> Path:
    """Return the path that an argument gives; nothing has to be there.

    Raises:
        argparse.ArgumentTypeError: it is empty, or can't be looked at, as in a folder of somebody else.
    """
    if not text:  # else it would be the working folder
        raise argparse.ArgumentTypeError("the path is empty, as a variable that is not set. Give a path; . is here")
    try:
        Path(text, "..").stat()  # of a folder, this asks for the right to look into it
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise argparse.ArgumentTypeError(
            f"can't look at {text!r} ({error.strerror}). Ask its owner, or give another path"
        ) from None
    return Path(text)


def path_or_name(text: str) -> str:
    """Return an argument that is a path, or something else such as the number of a job, once it was looked at."""
    path_argument(text)
    return text


def whole_number(least: int) -> Callable[[str], int]:
    """Return what reads an option that counts something: `least` or more, and no more than anybody waits for."""

    def read(text: str) -> int:
        if not text.isdecimal() or len(text) > len(str(MOST)) or not least <= int(text) <= MOST:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number of {least} or more, and {MOST:,} at most")
        return int(text)

    return read


def positive_seconds(text: str) -> float:
    """Return what an option gives in seconds."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return seconds


def add_job_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what says what to train: JOB and ``--set``."""
    parser.add_argument(
        "job", nargs="?", type=path_argument, metavar="JOB", help="job file (TOML); the digits job if left out"
    )
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="change one setting of the job, as train.epochs=5; may be given again",
    )


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what names a trained model: RUN and ``--checkpoint``."""
    parser.add_argument("run", type=path_argument, metavar="RUN", help="run folder, or a checkpoint")
    parser.add_argument(
        "--checkpoint",
        choices=("model", "best", "last"),
        default="",
        help="which of the run's files; the finished model if there is one, else the best, else the last",
    )
    parser.add_argument(
        "--entry",
        default="",
        metavar="MODULE:FUNCTION",
        help="the Python function that builds the model, where the job has one (model.entry): run only if named here",
    )
    parser.add_argument(
        "--backend", choices=BACKENDS, default="", help="what computes; the backend that trained it, if left out"
    )
