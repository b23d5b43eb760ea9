"""What a timeline costs: training steps with every phase and layer recorded, and without.

mpirun -n 2 python -m benchmarks.recording
"""

from __future__ import annotations

import argparse
import sys
import time

from benchmarks.hpcnn_side import hpcnn_steps
from benchmarks.problem import BATCH, NETWORKS
from benchmarks.report import Report, make_parser
from benchmarks.turns import Runner, ratios, time_steps
from hpcnn.cli.parallel import run_parallel
from hpcnn.comm.protocol import Communicator
from hpcnn.core.activity import Activity
from hpcnn.nn.network import Network
from hpcnn.runs.records.time_log import GAP_S
from hpcnn.runs.timeline.marks import Recorder

RECORDED, PLAIN = "recorded", "not recorded"
GATHERS = 200


class Recorded:
    """Steps that can be recorded, or not."""

    def __init__(self, comm: Communicator, widths: tuple[int, ...], shards: int) -> None:
        comm.activity = self._activity = Activity()
        self._network: list[Network] = []
        self._steps = hpcnn_steps(widths, comm, shards=shards * comm.size, built=self._network.append)
        next(self._steps)
        self._recorder: Recorder | None = None

    def record(self, on: bool) -> None:
        """Begin to record, or end it and forget what was recorded."""
        (network,) = self._network
        if self._recorder is not None:
            self._recorder.leave()
        self._recorder = Recorder(self._activity, network.layer_names) if on else None
        network.observe(self._recorder)
        if self._recorder is not None:
            self._recorder.follow()

    def __iter__(self) -> Recorded:
        return self

    def __next__(self) -> None:
        self._activity.step += 1  # as the trainer does
        next(self._steps)
        if self._recorder is not None:
            self._recorder.end_step()


def measure(comm: Communicator, arguments: argparse.Namespace) -> int:
    report = Report(comm, {"batch a rank": BATCH, "shards a rank": arguments.shards}, arguments.json)
    for name, widths in NETWORKS.items():
        steps = Recorded(comm, widths, arguments.shards)
        runner = Runner(PLAIN, steps)
        count = comm.broadcast(max(2, round(arguments.seconds / (time_steps(comm, runner, 20) / 20))))
        figures: dict[str, list[float]] = {RECORDED: [], PLAIN: []}
        for _ in range(arguments.rounds):
            for side in (RECORDED, PLAIN):
                steps.record(side == RECORDED)
                figures[side].append(1000 * time_steps(comm, runner, count) / count)
        report.add(name, figures, "ms per step", {"time recorded / not": ratios(figures[RECORDED], figures[PLAIN])})
    report.add("account of time", {"a line": [1e6 * each for each in gathers(comm)]}, "us, once a second at most", {})
    report.write()
    return 0


def gathers(comm: Communicator) -> list[float]:
    """Return the seconds that it takes to bring together what all ranks did, for each of some times."""
    own, seconds = [0.123456] * 11, []
    for _ in range(GATHERS):
        comm.barrier()
        begin = time.perf_counter()
        comm.allgather((GAP_S, GAP_S, own))
        seconds.append(time.perf_counter() - begin)
    return seconds


def main() -> int:
    parser = make_parser("recording", "Measures what a timeline costs a training step.", ranks=2, rounds=25)
    parser.add_argument("--seconds", type=float, default=0.25, help="of each measurement; 0.25")
    parser.add_argument("--shards", type=int, default=1, help="gradient shards a rank; 1")
    arguments = parser.parse_args()
    return run_parallel(lambda comm: measure(comm, arguments))


if __name__ == "__main__":
    sys.exit(main())
