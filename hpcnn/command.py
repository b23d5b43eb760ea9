"""What all commands share: arguments, connecting, one message for one fault, and the exit code."""

from __future__ import annotations

import argparse
import sys
import textwrap
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from hpcnn import __version__
from hpcnn.blas import use_one_thread
from hpcnn.comm.launcher import detect_launch
from hpcnn.errors import EXIT_BAD_INPUT, EXIT_FAILURE, HpcnnError

if TYPE_CHECKING:
    from hpcnn.comm.protocol import Communicator  # imports NumPy, which BLAS threads must be set before

EXIT_INTERRUPTED = 130
_HEAD_START_S = 1.5
_OTHERS_S = 3.0
"""How long a failing rank waits to see whether the others fail as well, and one message is enough."""


class Parser(argparse.ArgumentParser):
    """Parses before MPI is up, on all ranks: only rank 0 speaks."""

    def __init__(self, program: str, description: str, *, example: str) -> None:
        super().__init__(
            prog=program,
            description=textwrap.fill(description, 78),
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.add_argument("--version", action="version", version=f"hpcnn {__version__}")

    def error(self, message: str) -> NoReturn:
        """Print one line and leave with the code of bad input."""
        self._print_message(f"{self.prog}: error: {message}. See: {self.prog} --help\n", sys.stderr)
        _let_rank_0_speak()
        self.exit(EXIT_BAD_INPUT)

    def _print_message(self, message: str, file: object = None) -> None:
        if detect_launch().rank == 0:
            super()._print_message(message, file)  # type: ignore[arg-type]


def add_job_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what says what to train: JOB and ``--set``."""
    parser.add_argument("job", nargs="?", type=Path, metavar="JOB", help="job file (TOML); the digits job if left out")
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
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder, or a checkpoint")
    parser.add_argument(
        "--checkpoint",
        choices=("model", "best", "last"),
        default="",
        help="which of the run's files; the finished model if there is one, else the best, else the last",
    )


def run_command(body: Callable[[Communicator], int]) -> int:
    """Connect, run `body`, and return the exit code. A fault on any rank ends the whole job, with one message."""
    use_one_thread()
    from hpcnn.comm.connect import connect

    try:
        comm = connect()
    except HpcnnError as error:
        if detect_launch().rank == 0:
            _complain(str(error))
        _let_rank_0_speak()
        return error.exit_code
    try:
        return body(comm)
    except HpcnnError as error:
        return _fail(comm, str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail(comm, "interrupted twice: left at once, without saving", EXIT_INTERRUPTED)
    except Exception:
        return _fail(comm, f"unexpected failure\n{traceback.format_exc()}", EXIT_FAILURE)


def _fail(comm: Communicator, message: str, exit_code: int) -> int:
    if comm.all_failing(_OTHERS_S):
        if comm.rank == 0:
            _complain(message)
        comm.barrier()  # some launchers end the whole job as soon as one rank leaves with a code that is not 0
        return exit_code
    _complain(f"rank {comm.rank} on {comm.host}: {message}")
    return comm.abort(exit_code)


def _let_rank_0_speak() -> None:
    """Wait a moment on all other ranks, where there is no barrier yet.

    Open MPI's mpirun ends the whole job as soon as one rank leaves with a code that is not 0.
    """
    if detect_launch().rank != 0:
        time.sleep(_HEAD_START_S)


def _complain(message: str) -> None:
    sys.stderr.write(f"hpcnn: error: {message.rstrip()}\n")
    sys.stderr.flush()
