"""Cancels runs on a Slurm cluster after they have saved: ``hpcnn cancel RUN|JOBID ...``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from hpcnn.cli.arguments import Parser, path_or_name
from hpcnn.cli.serial import run_serial
from hpcnn.errors import EXIT_DONE
from hpcnn.system.output import write_line


def _parser() -> Parser:
    parser = Parser(
        "hpcnn cancel",
        "Ask running jobs to save a checkpoint and stop without requeueing; remove waiting jobs from the queue. To "
        "resume a run later: hpcnn submit JOB --out RUN --resume.",
        example="hpcnn cancel runs/digits_mlp",
    )
    parser.add_argument("runs", nargs="+", type=path_or_name, metavar="RUN|JOBID", help="run folder or Slurm job id")
    parser.add_argument("--now", action="store_true", help="end them at once; work since the last checkpoint is lost")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = _parser().parse_args(argv)
    return run_serial(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    from hpcnn.slurm.cancel import cancel
    from hpcnn.slurm.selection import select

    for name in arguments.runs:
        write_line(cancel(select(name), name, now=arguments.now))
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
