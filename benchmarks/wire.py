"""How near the exchange comes to the wire between hosts, and how much of it hides behind the backward pass.

mpirun -hosts node1,node2 -n 2 python -m benchmarks.wire
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

import numpy as np

from benchmarks.hpcnn_side import hpcnn_steps
from benchmarks.report import Report, make_parser, positive
from benchmarks.turns import Runner, ratios, take_turns
from hpcnn.cli.parallel import run_parallel
from hpcnn.comm.exchange.allreduce_exchange import plain_links
from hpcnn.comm.exchange.plan import Topology
from hpcnn.comm.protocol import Communicator
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.errors import CommunicatorError
from hpcnn.tools.bench.limits import WireLimit, crossing_bytes

MB = 2**20
EXACT, ORDER_FREE, WIRE, NOMINAL = "exact sum", "MPI_Allreduce", "wire, measured", "wire, nominal"
BESIDE, AFTER, NONE = "exchange beside backward", "exchange after backward", "no exchange"
WIDTHS = (1024, 1024, 1024, 1024, 1024)


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
    settings = {"nodes": nodes, "MB": arguments.mb, "batch a rank": arguments.batch}
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
    report.add(f"sum of {arguments.mb} MB", _milliseconds(seconds), "ms", shares)

    batch = arguments.batch
    runners = [
        Runner(BESIDE, hpcnn_steps(WIDTHS, comm, batch=batch, bucket_mb=arguments.bucket_mb)),
        Runner(AFTER, hpcnn_steps(WIDTHS, comm, batch=batch, bucket_mb=0)),
        Runner(NONE, hpcnn_steps(WIDTHS, SerialCommunicator(), batch=batch)),
    ]
    seconds = take_turns(comm, runners, arguments.rounds, arguments.seconds)
    hidden = [
        (after - beside) / (after - none)
        for beside, after, none in zip(seconds[BESIDE], seconds[AFTER], seconds[NONE], strict=True)
    ]
    name = "-".join(map(str, WIDTHS))
    report.add(f"{name}, Adam", _milliseconds(seconds), "ms per step", {"share of the exchange that hides": hidden})
    report.write()
    return 0


def _milliseconds(figures: dict[str, list[float]]) -> dict[str, list[float]]:
    return {name: [1000 * each for each in seconds] for name, seconds in figures.items()}


def main() -> int:
    parser = make_parser("wire", "Measures the exchange between nodes.", ranks=2, rounds=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement; 1")
    parser.add_argument("--mb", type=positive, default=16, help="MB of gradients to sum; 16")
    parser.add_argument(
        "--rate-mbit", type=float, default=0.0, metavar="R", help="what the wire is said to carry, Mbit/s"
    )
    parser.add_argument("--batch", type=positive, default=1024, help="samples a step and rank; 1024")
    parser.add_argument("--bucket-mb", type=float, default=2.0, help="train.bucket_mb of the overlapped exchange; 2")
    arguments = parser.parse_args()
    return run_parallel(lambda comm: measure(comm, arguments))


if __name__ == "__main__":
    sys.exit(main())
