"""Diagnoses this machine, its MPI and the Slurm job: ``hpcnn doctor``."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hpcnn.cli.arguments import Parser, path_argument, positive_seconds
from hpcnn.cli.serial import run_serial
from hpcnn.core.run_paths import RUNS
from hpcnn.errors import EXIT_DONE, EXIT_FAILURE
from hpcnn.system.output import ERROR, write_line

if TYPE_CHECKING:
    from hpcnn.tools.doctor.evidence import Evidence

_RANK_0_FIRST_S = 5.0
"""How long a rank that could not connect waits, so that rank 0 prints and ends first."""


def _parser() -> Parser:
    parser = Parser(
        "hpcnn doctor",
        "Find common problems: MPI and its launcher, cores and threads, memory, network, file systems, installed "
        "packages, containers, the Slurm job. Each finding comes with its evidence and a fix. Works alone, under "
        "mpirun or srun, and in a Slurm job. The exit code is 1 if there is a problem, else 0.",
        example="mpirun -n 4 python -m hpcnn.doctor --quick",
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON instead of the table")
    parser.add_argument("--out", type=Path, default=RUNS, metavar="DIR", help="folder for runs; default: runs/")
    parser.add_argument(
        "--job", type=path_argument, metavar="JOB", help="also look for the data of this job, on each node"
    )
    parser.add_argument("--quick", action="store_true", help="do not measure the speed of messages and sums")
    parser.add_argument(
        "--limit",
        type=positive_seconds,
        default=60.0,
        metavar="S",
        help="time limit of each MPI step in seconds; default: 60",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = _parser().parse_args(argv)
    return run_serial(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    from hpcnn.keras.horovod_environment import rank_environment
    from hpcnn.tools.doctor.examine import examine

    evidence = examine(arguments.out, rank_environment(), arguments.limit, arguments.job, measure=not arguments.quick)
    if evidence.launch.rank:
        return _end_other_rank(evidence)
    from hpcnn.tools.doctor.checks import judge
    from hpcnn.tools.doctor.finding import PROBLEM
    from hpcnn.tools.doctor.outputs import as_json, show

    findings = judge(evidence)
    if arguments.json:
        write_line(json.dumps(as_json(evidence, findings)))
    else:
        show(evidence, findings)
    return EXIT_FAILURE if any(finding.level == PROBLEM for finding in findings) else EXIT_DONE


def _end_other_rank(evidence: Evidence) -> int:
    """End silently, unless there was an error that rank 0 may not know of."""
    from hpcnn.tools.doctor.local import local_rank

    if evidence.probe.error and local_rank() == 0:
        time.sleep(_RANK_0_FIRST_S)
        own = evidence.ranks[0]
        what = f"rank {own.rank} on {own.host} failed while {evidence.probe.stage}: {evidence.probe.error}"
        write_line(f"hpcnn doctor: {what}", ERROR)
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
