"""Prints the log of a run on a Slurm cluster: ``hpcnn logs RUN|JOBID``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from hpcnn.cli.arguments import Parser, path_or_name
from hpcnn.cli.serial import run_serial
from hpcnn.errors import EXIT_DONE, CheckpointError
from hpcnn.system.output import is_lost, output


def _parser() -> Parser:
    parser = Parser(
        "hpcnn logs",
        "Print the end of the log of a run. Each attempt, from one start of the Slurm job to the next, has its own "
        "log.",
        example="hpcnn logs runs/digits_mlp --follow",
    )
    parser.add_argument("run", type=path_or_name, metavar="RUN|JOBID", help="run folder or Slurm job id")
    parser.add_argument(
        "--attempt", type=int, metavar="N", help="log of one attempt, counted from 0; default: that of the whole job"
    )
    parser.add_argument("--follow", action="store_true", help="keep printing until the run has ended")
    parser.add_argument(
        "-n", "--lines", type=int, default=40, metavar="N", help="most lines to print; default: 40; 0: all"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.lines < 0:
        parser.error(f"-n {arguments.lines}: expected 0 or more")
    return run_serial(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    from hpcnn.slurm.logs import follow, last_lines, log_of
    from hpcnn.slurm.polling import retry
    from hpcnn.slurm.selection import select_run
    from hpcnn.slurm.status import statuses

    def unfinished() -> bool:
        return any(one.unfinished for one in statuses(retry(lambda: select_run(arguments.run))))

    run = select_run(arguments.run).run
    if run is None:
        raise CheckpointError(
            f"job {arguments.run} has no known run folder: hpcnn did not submit it, or it has not started yet"
        )
    path = log_of(run, arguments.attempt)
    lines, position = last_lines(path, arguments.lines)
    _write(lines)
    if arguments.follow:
        for text in follow(run, path, position, unfinished):
            _write(text)
            if is_lost():
                break
    return EXIT_DONE


def _write(text: str) -> None:
    output().write(text)
    output().flush()


if __name__ == "__main__":
    sys.exit(main())
