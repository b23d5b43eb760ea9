"""How near the exchange comes to the wire between hosts.

mpirun -hosts node1,node2 -n 2 python -m benchmarks.wire
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

import numpy as np

from benchmarks.report import Report, make_parser, positive
from benchmarks.turns import Runner, milliseconds, ratios, take_turns
from hpcnn.cli.parallel import run_parallel
from hpcnn.comm.exchange.allreduce_exchange import plain_links
from hpcnn.comm.exchange.plan import Topology
from hpcnn.comm.protocol import Communicator
from hpcnn.errors import CommunicatorError
from hpcnn.tools.bench.limits import WireLimit, crossing_bytes

MB = 2**20
EXACT, ORDER_FREE, WIRE, NOMINAL = "exact sum", "MPI_Allreduce", "wire, measured", "wire, nominal"


def exchanges(comm: Communicator, size: int, *, order_free: bool = False) -> Iterator[None]:
    """Sum vectors of `size` bytes for ever."""
    from hpcnn.comm.exchange.allreduce_exchange import AllreduceExchange

    length = size // 4
    exchange = (
        AllreduceExchange(comm.size, length, np.float32, 5)
        if order_free
        else comm.exchange(comm.size, length, np.float32, 5)
    )
    while True:
        exchange.allreduce()
        yield


def wire(comm: Communicator, size: int) -> Iterator[None]:
    """Send for ever what a sum of vectors of `size` bytes must send at least."""
    limit = WireLimit(size, Topology.of(comm.allgather(comm.host)), comm.rank, plain_links())
    while True:
        limit()
        yield


def measure(comm: Communicator, arguments: argparse.Namespace) -> int:
    nodes = len(set(comm.allgather(comm.host)))
    if nodes == 1:
        raise CommunicatorError("all ranks are on one node: there is no wire between them. Start them on two or more.")
    settings = {"nodes": nodes, "MB": arguments.mb}
    report = Report(comm, settings, arguments.json)
    size = arguments.mb * MB
    runners = [
        Runner(EXACT, exchanges(comm, size)),
        Runner(WIRE, wire(comm, size)),
        Runner(ORDER_FREE, exchanges(comm, size, order_free=True)),
    ]
    seconds = take_turns(comm, runners, arguments.rounds, arguments.seconds)
    shares = {
        "share of the measured wire": ratios(seconds[WIRE], seconds[EXACT]),
        "time MPI_Allreduce / exact": ratios(seconds[ORDER_FREE], seconds[EXACT]),
    }
    if arguments.rate_mbit:
        nominal = crossing_bytes(size, nodes) * 8 / (arguments.rate_mbit * 1e6)
        shares["share of the nominal wire"] = [nominal / each for each in seconds[EXACT]]
    report.add(f"sum of {arguments.mb} MB", milliseconds(seconds), "ms", shares)

    report.write()
    return 0


def main() -> int:
    parser = make_parser("wire", "Measures the exchange between nodes.", ranks=2, rounds=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement; 1")
    parser.add_argument("--mb", type=positive, default=16, help="MB of gradients to sum; 16")
    parser.add_argument(
        "--rate-mbit", type=float, default=0.0, metavar="R", help="what the wire is said to carry, Mbit/s"
    )
    arguments = parser.parse_args()
    return run_parallel(lambda comm: measure(comm, arguments))


if __name__ == "__main__":
    sys.exit(main())
