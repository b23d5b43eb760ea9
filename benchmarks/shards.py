"""What gradient shards cost on one rank, for both arithmetics, in turn, in one process.

python -m benchmarks.shards
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.hpcnn_side import hpcnn_steps
from benchmarks.problem import NETWORKS
from benchmarks.report import Report, make_parser
from benchmarks.turns import Runner, ratios, take_turns
from hpcnn.cli.parallel import run_parallel
from hpcnn.comm.protocol import Communicator
from hpcnn.errors import CommunicatorError
from hpcnn.job.shards import SAMPLES_PER_SHARD

CASES = [("784-32-10", 32), ("784-32-10", 128), ("784-512-512-10", 128), ("784-512-512-10", 512),
         ("784-2048-2048-10", 128), ("784-2048-2048-10", 512)]  # fmt: skip
"""Networks, with samples per step."""
SHARDS = (1, 8, 64)


def measure(comm: Communicator, arguments: argparse.Namespace) -> int:
    if comm.size > 1:
        raise CommunicatorError(f"{comm.size} ranks, but this measures one: leave mpirun out")
    report = Report(comm, {}, arguments.json)
    for name, batch in CASES:
        automatic = batch // SAMPLES_PER_SHARD
        runners = [
            Runner(f"{arithmetic}, {shards}", hpcnn_steps(NETWORKS[name], comm, batch=batch, samples=8 * batch,
                                                          shards=shards, arithmetic=arithmetic))
            for arithmetic in ("native", "numpy")
            for shards in dict.fromkeys((*SHARDS, automatic) if arithmetic == "native" else SHARDS)
            if shards <= batch
        ]  # fmt: skip
        figures = take_turns(comm, runners, arguments.rounds, arguments.seconds)
        one = figures["native, 1"]
        compared = {f"{side} / native, 1": ratios(each, one) for side, each in figures.items() if each is not one}
        milliseconds = {side: [1000 * seconds for seconds in each] for side, each in figures.items()}
        report.add(f"{name}, batch {batch}, automatic {automatic}", milliseconds, "ms", compared)
    report.write()
    return 0


def main() -> int:
    parser = make_parser("shards", "Compares steps with one gradient shard and with many.", ranks=1, rounds=9)
    parser.add_argument("--seconds", type=float, default=0.25, help="of each measurement; 0.25")
    arguments = parser.parse_args()
    return run_parallel(lambda comm: measure(comm, arguments))


if __name__ == "__main__":
    sys.exit(main())
