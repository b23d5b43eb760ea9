"""How much of the exchange between hosts hides behind the backward pass.

mpirun -hosts node1,node2 -n 2 python -m benchmarks.overlap

What is sent last, the gradients of the first layer, is ready when the backward pass ends: no more hides than the rest.
With `--network-core`, the threads that exchange have a core of their own, as on hosts with a core to spare. Where they
have none, the processor time that they take is no time in which to compute.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Iterator
from itertools import pairwise

from benchmarks.hpcnn_side import hpcnn_steps
from benchmarks.report import Report, make_parser, positive
from benchmarks.turns import Runner, milliseconds, take_turns
from benchmarks.wire import exchanges
from hpcnn.cli.parallel import run_parallel
from hpcnn.comm.protocol import Communicator
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.errors import CommunicatorError

SUM, BESIDE, AFTER, NONE = "sum alone", "exchange beside backward", "exchange after backward", "no exchange"
WIDTHS = (1024, 1024, 1024, 1024, 1024)
SIZE = 4 * sum(i * o + o for i, o in pairwise(WIDTHS))
LAST = 4 * (WIDTHS[0] + 1) * WIDTHS[1]
"""Bytes of the gradients in all, and of those of the first layer."""
STEPS = 5


def measure(comm: Communicator, arguments: argparse.Namespace) -> int:
    nodes = len(set(comm.allgather(comm.host)))
    if nodes == 1:
        raise CommunicatorError("all ranks are on one node: there is no wire between them. Start them on two or more.")
    core = arguments.network_core
    settings = {"nodes": nodes, "batch a rank": arguments.batch, "bucket MB": arguments.bucket_mb, "network core": core}
    report = Report(comm, settings, arguments.json)
    steps = hpcnn_steps(WIDTHS, comm, batch=arguments.batch, bucket_mb=arguments.bucket_mb)
    next(steps)  # starts the threads
    sums = take_turns(comm, [Runner(SUM, exchanges(comm, SIZE))], arguments.rounds, arguments.seconds)
    if core is not None:
        _keep_apart(core)
    runners = [
        Runner(BESIDE, steps),
        Runner(NONE, hpcnn_steps(WIDTHS, SerialCommunicator(), batch=arguments.batch)),
    ]
    if core is None:  # else its busy wait would be on the cores that compute
        runners.append(Runner(AFTER, hpcnn_steps(WIDTHS, comm, batch=arguments.batch, bucket_mb=0)))
    seconds = sums | take_turns(comm, runners, arguments.rounds, arguments.seconds)
    figures = milliseconds(seconds) | {"processor time of the exchange": [1000 * _processor_s(steps)]}
    hidden = [
        1 - (beside - none) / alone
        for beside, none, alone in zip(seconds[BESIDE], seconds[NONE], seconds[SUM], strict=True)
    ]
    shares = {"share of the exchange that hides": hidden, "share that could": [1 - LAST / SIZE]}
    report.add(f"{'-'.join(map(str, WIDTHS))}, Adam", figures, "ms", shares)
    report.write()
    return 0


def _keep_apart(core: int) -> None:
    """Give a core to the threads that exchange, and all others to those that compute."""
    others = os.sched_getaffinity(0) - {core}
    for thread in threading.enumerate():
        assert thread.native_id is not None
        os.sched_setaffinity(thread.native_id, {core} if thread.name == "exchange" else others)


def _processor_s(steps: Iterator[None]) -> float:
    """Return the processor time that the thread of the exchange, which also updates, takes a step."""
    (ident,) = [thread.ident for thread in threading.enumerate() if thread.name == "exchange"]
    assert ident is not None
    clock = time.pthread_getcpuclockid(ident)
    begin = time.clock_gettime(clock)
    for _ in range(STEPS):
        next(steps)
    return (time.clock_gettime(clock) - begin) / STEPS


def main() -> int:
    parser = make_parser("overlap", "Measures how much of the exchange between nodes hides.", ranks=2, rounds=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement; 1")
    parser.add_argument("--batch", type=positive, default=1024, help="samples a step and rank; 1024")
    parser.add_argument("--bucket-mb", type=float, default=2.0, help="train.bucket_mb; 2")
    parser.add_argument("--network-core", type=int, metavar="CORE", help="a core for the exchange alone")
    arguments = parser.parse_args()
    return run_parallel(lambda comm: measure(comm, arguments))


if __name__ == "__main__":
    sys.exit(main())
