"""The two algorithms between hosts, side by side: the exchange of each size directly, and by halving and doubling.

mpirun -hosts node1,node2,node3,node4 -n 4 python -m benchmarks.algorithms
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import astuple

import numpy as np

from benchmarks.report import Report, make_parser, positive
from benchmarks.turns import Runner, milliseconds, ratios, take_turns
from hpcnn.cli.parallel import run_parallel
from hpcnn.comm.exchange.choice import ALGORITHMS, CHOICE, DIRECT, HALVING, Workload, fastest
from hpcnn.comm.exchange.probe import longest_message, measure
from hpcnn.comm.mpi import MpiCommunicator
from hpcnn.comm.protocol import Communicator
from hpcnn.errors import CommunicatorError

LENGTHS = (100, 2_500, 25_450, 250_000)
STATS = 6
NETWORK, RATIO = ("latency", "overhead of a message", "byte"), "time halving / direct"


def exchanges(algorithm: str, length: int) -> Iterator[None]:
    """Sum vectors for ever by one algorithm."""
    os.environ[CHOICE] = algorithm
    comm = MpiCommunicator()
    target = comm.host_array(length, np.float32, shared=True)
    exchange = comm.sharded_exchange(comm.size, target, length, STATS)

    def step() -> bool:
        for bucket in exchange.buckets():
            for part in bucket.parts:
                exchange.sum_into(part, target.array[exchange.parts[part]])
            bucket.send()
        return exchange.complete(True)

    while True:
        exchange.start(step)
        exchange.finish()
        yield


def run(comm: Communicator, arguments: argparse.Namespace) -> int:
    found = MpiCommunicator()
    place = found._shared or found._private
    if comm.hosts == 1:
        raise CommunicatorError("all ranks are on one node: both algorithms are the same there. Start them on several.")
    report = Report(comm, {"nodes": comm.hosts}, arguments.json)
    for length in arguments.lengths:
        work = Workload(place.topology, comm.size, length, 4, STATS)
        networks = [measure(place, comm.allreduce, longest_message(work)) for _ in range(arguments.rounds)]
        runners = [Runner(algorithm, exchanges(algorithm, length)) for algorithm in ALGORITHMS]
        seconds = take_turns(comm, runners, arguments.rounds, arguments.seconds)
        for name, found in zip(NETWORK, zip(*map(astuple, networks), strict=True), strict=True):
            seconds[name] = list(found)
        choices = Counter(fastest(work, network, gather=False) for network in networks)
        name = f"{length} entries, choice: {' '.join(choices)}"
        report.add(name, milliseconds(seconds), "ms", {RATIO: ratios(seconds[HALVING], seconds[DIRECT])})
    report.write()
    return 0


def main() -> int:
    parser = make_parser("algorithms", "Compares the algorithms of the exchange between nodes.", ranks=4, rounds=7)
    parser.add_argument("--seconds", type=float, default=0.25, help="of each measurement; 0.25")
    parser.add_argument("--lengths", type=positive, nargs="+", default=LENGTHS, help="entries, float32")
    arguments = parser.parse_args()
    return run_parallel(lambda comm: run(comm, arguments))


if __name__ == "__main__":
    sys.exit(main())
