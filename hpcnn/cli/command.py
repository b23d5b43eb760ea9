"""What all commands share: arguments, connecting, one message for one fault, and the exit code."""

from __future__ import annotations

import argparse
import os
import textwrap
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hpcnn import __version__
from hpcnn.backends.choice import BACKENDS, choose_backend
from hpcnn.comm.abort import end_alike
from hpcnn.comm.failure import FailureGuard, limit_exit, report_unconnected
from hpcnn.comm.launcher import detect_launch
from hpcnn.core.stop_request import StopRequest
from hpcnn.errors import EXIT_BAD_INPUT
from hpcnn.system.blas import use_one_thread
from hpcnn.system.output import ERROR, begin_command, end_command, replace_streams, write_line

if TYPE_CHECKING:
    from hpcnn.comm.protocol import Communicator  # imports NumPy, which BLAS threads must be set before
    from hpcnn.runs.inference import TrainedModel

MOST = 1_000_000
"""The most that can be asked for of what takes time."""


class ActionParser(argparse.ArgumentParser):
    """Parses before MPI is up, on all ranks: only rank 0 speaks, and one line says what is wrong."""

    def error(self, message: str) -> NoReturn:
        """Print one line and leave with the code of bad input."""
        report_unconnected(self.prog, f"{message}. See: {self.prog} --help", EXIT_BAD_INPUT)
        self.exit(EXIT_BAD_INPUT)

    def _print_message(self, message: str, file: object = None) -> None:
        if detect_launch().rank == 0:
            super()._print_message(message, file)  # type: ignore[arg-type]


class Parser(ActionParser):
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


def place(text: str) -> Path:
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


def place_or_word(text: str) -> str:
    """Return an argument that is a path, or something else such as the number of a job, once it was looked at."""
    place(text)
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
    parser.add_argument("job", nargs="?", type=place, metavar="JOB", help="job file (TOML); the digits job if left out")
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
    parser.add_argument("run", type=place, metavar="RUN", help="run folder, or a checkpoint")
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
        "--backend", choices=BACKENDS, default="", help="what is to compute it; that which trained it, if left out"
    )


def open_run(comm: Communicator, arguments: argparse.Namespace) -> TrainedModel:
    """Return the model that the arguments of `add_run_arguments` name. Collective.

    Raises:
        HpcnnError: on all ranks, if any can't open it.
    """
    from hpcnn.runs.inference import open_on_ranks

    names = arguments.run, arguments.checkpoint, arguments.entry
    return open_on_ranks(comm, *names, backend=arguments.backend, backend_of=choose_backend(comm))


def warn_of_order(comm: Communicator, trained: TrainedModel, path: str | None) -> None:
    """Warn, on rank 0, that columns of a file are not matched by name, if both it and the training data have names."""
    from hpcnn.data.files import order_note

    if comm.rank == 0 and path is not None and trained.content is None:
        for note in order_note(path, trained.job.data, Path()):
            write_line(f"warning: {note}", ERROR)


def run_command(
    body: Callable[[Communicator], int],
    stop: StopRequest | None = None,
    *,
    is_training: bool = False,
    stall_abort_s: Callable[[], float] = float,
) -> int:
    """Connect, run `body`, and return the exit code. A fault on any rank ends the whole job, with one message.

    `is_training`: the work goes on, and is done, where what it prints can't be written. `stall_abort_s` returns after
    how many seconds a rank that is stopped, or does not come, ends the job; 0 is never.

    From here on signals go to `stop`, to the very end: they must not spoil the exit code of work that is done.
    """
    begin_command(goes_on=is_training)
    guard = FailureGuard(in_words=True)
    guard.install()
    try:
        stop = stop or StopRequest()
        stop.listen(guard.leave)
        use_one_thread()
        from hpcnn.comm.connect import connect
        from hpcnn.comm.supervision.watched_rank import supervision
        from hpcnn.core import faults

        supervision.limit(stall_abort_s())
        guard.comm = comm = connect()
        stop.take_back()
        faults.start(comm.broadcast(os.environ.get(faults.VARIABLE, "")), comm.rank, comm.size, comm.activity)
        exit_code = end_command(body(comm))
        with suppress(Exception):  # a rank that is lost now takes nothing with it
            comm.barrier()  # the time to exit counts from when rank 0, too, has written everything
    except BaseException as error:
        return guard.fail(error)
    if exit_code:
        end_alike(exit_code)
    limit_exit()
    return exit_code
