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
"""Largest accepted count of steps, repetitions and the like."""


class Subparser(argparse.ArgumentParser):
    """Parses on all ranks before MPI is initialized. Only rank 0 prints; an error is one line."""

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with the code of bad input."""
        if message.endswith(": expected one argument"):
            option = message.removeprefix("argument ").partition(":")[0].rpartition("/")[2]
            message += f"; one that begins with - follows =, as in {option}=-1"
        end = "" if message.endswith(("?", ".")) else "."
        report_unconnected(self.prog, f"{message}{end} See: {self.prog} --help", EXIT_BAD_INPUT)
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
        """Parse arguments; from here on, output that can't be written does not raise."""
        replace_streams()
        begin_command()
        return super().parse_args(*arguments, **options)

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Exit, as after ``--help``."""
        super().exit(end_command(status), message)


def path_argument(text: str) -> Path:
    """Return the path that an argument gives. It need not exist.

    Raises:
        argparse.ArgumentTypeError: it is empty or not accessible.
    """
    if not text:  # else it would be the working folder
        raise argparse.ArgumentTypeError(
            "the path is empty, perhaps a variable that is not set. Give a path; . is the current folder"
        )
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
    """Return an argument that is an accessible path, or another name such as a job id."""
    path_argument(text)
    return text


def whole_number(least: int) -> Callable[[str], int]:
    """Return a parser of integers from `least` to `MOST`."""

    def read(text: str) -> int:
        if not text.isdecimal() or len(text) > len(str(MOST)) or not least <= int(text) <= MOST:
            raise argparse.ArgumentTypeError(f"{text!r} must be an integer from {least} to {MOST:,}")
        return int(text)

    return read


def positive_seconds(text: str) -> float:
    """Return an option in seconds."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} must be a positive number of seconds")
    return seconds


def add_job_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name a job: JOB and ``--set``."""
    parser.add_argument(
        "job", nargs="?", type=path_argument, metavar="JOB", help="job file (TOML); default: the digits job"
    )
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="change a setting of the job, for example train.epochs=5; may be repeated",
    )


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name a trained model: RUN, ``--checkpoint``, ``--entry`` and ``--backend``."""
    parser.add_argument("run", type=path_argument, metavar="RUN", help="run folder or checkpoint")
    parser.add_argument(
        "--checkpoint",
        choices=("model", "best", "last"),
        default="",
        help="which file of the run; default: the finished model, else the best checkpoint, else the last",
    )
    parser.add_argument(
        "--entry",
        default="",
        metavar="MODULE:FUNCTION",
        help="Python function that builds the model, if the job has one (model.entry); it runs only if named here",
    )
    parser.add_argument(
        "--backend", choices=BACKENDS, default="", help="backend that computes it; default: the one that trained it"
    )
