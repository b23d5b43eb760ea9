"""Trains a network: ``mpirun -n 4 python -m hpcnn.train [JOB]``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from hpcnn.cli.arguments import Parser, add_job_arguments, path_argument, path_or_name
from hpcnn.cli.parallel import run_parallel
from hpcnn.comm.launcher import detect_launch
from hpcnn.core.stop_request import StopRequest
from hpcnn.errors import HpcnnError

if TYPE_CHECKING:
    from hpcnn.comm.protocol import Communicator  # imports NumPy, which BLAS threads must be set before
    from hpcnn.job.load import LoadedJob

_EXIT_CODES = """exit codes:
  0    done
  1    failed
  2    bad input
  70   ended by the watchdog: a rank made no progress
  75   stopped early by a signal, a time limit or a setting: resumable, and
       saved if training had begun
  130  interrupted twice: left at once, without saving"""


def _parser(*, with_settings: bool) -> Parser:
    parser = Parser(
        "hpcnn train",
        "Train the network that a job file describes, on as many ranks as the launcher starts. "
        "The job file decides the result, bit for bit; the ranks decide how long it takes.",
        example="mpirun -n 4 python -m hpcnn.train jobs/digits_mlp.toml --set train.epochs=5",
    )
    add_job_arguments(parser)
    parser.add_argument(
        "--out",
        type=path_argument,
        metavar="DIR",
        help="run folder to write; default: runs/<name of the job>, numbered if it exists",
    )
    parser.add_argument(
        "--resume",
        type=path_or_name,
        default="never",
        metavar="auto|PATH|never",
        help="auto: resume the newest run of this name (or the one in DIR), or start one. PATH: resume this run "
        "folder or checkpoint. never (default): start a new run, overwriting nothing. A resumed run needs no JOB",
    )
    parser.add_argument(
        "--accept-changed-data",
        action="store_true",
        help="resume although the data changed since the run was started: warn, and record what changed",
    )
    parser.add_argument(
        "--quiet", action="store_true", help="print only the last line; short for --set run.display=quiet"
    )
    if with_settings:
        from hpcnn.job.reference import as_text

        parser.epilog = f"{parser.epilog}\n\n{_EXIT_CODES}\n\n{as_text()}"
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; ``--help`` says what each means."""
    argv = sys.argv[1:] if argv is None else list(argv)
    arguments = _parser(with_settings=not {"-h", "--help"}.isdisjoint(argv)).parse_args(argv)
    stop = StopRequest()
    overrides = [*arguments.overrides, *(["run.display=quiet"] if arguments.quiet else [])]

    @cache
    def load() -> LoadedJob:
        from hpcnn.runs.resumed_job import load_start_job

        return load_start_job(arguments.job, overrides, arguments.out, arguments.resume)

    def body(comm: Communicator) -> int:
        from hpcnn.backends.choice import choose_backend
        from hpcnn.comm.collectives import agree
        from hpcnn.runs.session import train

        loaded = agree(comm, load)
        backend = agree(comm, lambda: choose_backend(comm)(loaded.job))
        outcome = train(
            loaded,
            comm,
            out=arguments.out,
            resume=arguments.resume,
            stop=stop,
            backend=backend,
            accept_changed_data=arguments.accept_changed_data,
        )
        return outcome.exit_code

    def stall_abort_s() -> float:
        try:
            return load().job.run.stall_abort_s
        except (HpcnnError, OSError):  # reported by `body`, once
            return 0.0

    return run_parallel(
        body, stop, is_training=True, stall_abort_s=stall_abort_s if detect_launch().size > 1 else float
    )


if __name__ == "__main__":
    sys.exit(main())
