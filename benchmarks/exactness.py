"""What exactness costs: whole training steps with the exact exchange, and in turn with a plain MPI_Allreduce.

With two ranks and a gradient shard each, every sum has two terms, so that no order of adding could be any cheaper: what
the two ways differ in is how the gradients get from rank to rank. More shards cost more, which ``--shards`` shows. Each
rank updates all parameters in both.

    mpirun -n 2 python -m benchmarks.exactness
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.hpcnn_side import hpcnn_steps
from benchmarks.problem import BATCH, NETWORKS
from benchmarks.report import Report, make_parser, positive
from benchmarks.turns import Runner, ratios, take_turns
from hpcnn.cli.parallel import run_parallel
from hpcnn.comm.protocol import Communicator
from hpcnn.errors import CommunicatorError

EXACT, ORDER_FREE = "exact", "MPI_Allreduce"


def measure(comm: Communicator, arguments: argparse.Namespace) -> int:
    if comm.size == 1:
        raise CommunicatorError("one rank has nothing to exchange. Start two or more: mpirun -n 2 ...")
    shards = arguments.shards or comm.size
    report = Report(comm, {"batch a rank": BATCH, "shards": shards}, arguments.json)
    for name, widths in NETWORKS.items():
        runners = [
            Runner(EXACT, hpcnn_steps(widths, comm, shards=shards, sharding=False)),
            Runner(ORDER_FREE, hpcnn_steps(widths, comm, order_free=True)),
        ]
        figures = take_turns(comm, runners, arguments.rounds, arguments.seconds)
        milliseconds = {way: [1000 * each for each in seconds] for way, seconds in figures.items()}
        ratio = ratios(figures[EXACT], figures[ORDER_FREE])
        report.add(name, milliseconds, "ms per step", {"time exact / MPI_Allreduce": ratio})
    report.write()
    return 0


def main() -> int:
    parser = make_parser("exactness", "Measures what exact sums cost a training step.", ranks=2, rounds=25)
    parser.add_argument("--seconds", type=float, default=0.25, help="of each measurement; 0.25")
    parser.add_argument("--shards", type=positive, metavar="V", help="gradient shards; one per rank if left out")
    arguments = parser.parse_args()
    return run_parallel(lambda comm: measure(comm, arguments))


if __name__ == "__main__":
    sys.exit(main())
