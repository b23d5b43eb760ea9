"""What the watchdog costs: training steps with a watchdog and its record of phases, and without both.

mpirun -n 2 python -m benchmarks.watching
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from benchmarks.hpcnn_side import hpcnn_steps
from benchmarks.problem import BATCH, NETWORKS
from benchmarks.report import Report, make_parser
from benchmarks.turns import Runner, ratios, time_steps
from hpcnn.cli.parallel import run_parallel
from hpcnn.comm.protocol import Communicator
from hpcnn.core.activity import Activity
from hpcnn.runs.watchdog import Watchdog

WATCHED, ALONE = "watched", "not watched"
STALL_WARN_S = 60.0


class Unheard(Activity):
    """Ignores phases."""

    def enter(self, phase: str) -> None:
        """Do nothing."""


def measure(comm: Communicator, arguments: argparse.Namespace) -> int:
    report = Report(comm, {"batch a rank": BATCH}, arguments.json)
    for name, widths in NETWORKS.items():
        watched = Runner(WATCHED, built(comm, widths, Activity()))
        alone = Runner(ALONE, built(comm, widths, Unheard()))
        count = comm.broadcast(max(2, round(arguments.seconds / (time_steps(comm, alone, 20) / 20))))
        figures: dict[str, list[float]] = {WATCHED: [], ALONE: []}
        for _ in range(arguments.rounds):
            with Watchdog(comm, warn_s=STALL_WARN_S, abort_s=10 * STALL_WARN_S):
                figures[WATCHED].append(1000 * time_steps(comm, watched, count) / count)
            figures[ALONE].append(1000 * time_steps(comm, alone, count) / count)
        report.add(name, figures, "ms per step", {"time watched / not": ratios(figures[WATCHED], figures[ALONE])})
    report.write()
    return 0


def built(comm: Communicator, widths: tuple[int, ...], activity: Activity) -> Iterator[None]:
    """Return the steps of a replica that reports to `activity`."""
    comm.activity = activity
    steps = hpcnn_steps(widths, comm)
    next(steps)
    return steps


def main() -> int:
    parser = make_parser("watching", "Measures what the watchdog costs a training step.", ranks=2, rounds=25)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each measurement; 0.5")
    arguments = parser.parse_args()
    return run_parallel(lambda comm: measure(comm, arguments))


if __name__ == "__main__":
    sys.exit(main())
