"""How much of the exchange between hosts hides behind the backward pass, in NumPy mode, PyTorch mode or a script.

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
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise

import hpcnn.torch as hvd
from benchmarks.hpcnn_side import entry_steps, hpcnn_steps
from benchmarks.problem import SAMPLES
from benchmarks.report import Report, make_parser, positive
from benchmarks.torch_networks import TorchNetwork
from benchmarks.torch_side import torch_steps
from benchmarks.turns import Runner, milliseconds, take_turns
from benchmarks.wire import exchanges
from hpcnn.backends.choice import choose_backend
from hpcnn.cli.parallel import run_parallel
from hpcnn.comm.protocol import Communicator
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.errors import CommunicatorError
from hpcnn.job.load import load_job

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
    settings = {"mode": arguments.mode, "nodes": nodes, "batch a rank": arguments.batch}
    report = Report(comm, settings | {"bucket MB": arguments.bucket_mb, "network core": core}, arguments.json)
    steps_of = MODES[arguments.mode](arguments.batch)
    steps = steps_of(comm, arguments.bucket_mb)
    next(steps)  # starts the threads
    sums = take_turns(comm, [Runner(SUM, exchanges(comm, SIZE))], arguments.rounds, arguments.seconds)
    if core is not None:
        _keep_apart(core)
    runners = [Runner(BESIDE, steps), Runner(NONE, steps_of(SerialCommunicator(), 0))]
    if core is None:  # else its busy wait would be on the cores that compute
        runners.append(Runner(AFTER, steps_of(comm, 0)))
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


Steps = Callable[[Communicator, float], Iterator[None]]
"""``ranks, MB of a bucket or 0 -> steps``."""


def _numpy_mode(batch: int) -> Steps:
    return lambda comm, bucket_mb: hpcnn_steps(WIDTHS, comm, batch=batch, bucket_mb=bucket_mb)


def _torch_mode(batch: int) -> Steps:
    backend = choose_backend(SerialCommunicator())(load_job(overrides=["backend=torch"]).job)
    return lambda comm, bucket_mb: entry_steps(_network(batch), comm, backend, bucket_mb)


def _script(batch: int) -> Steps:
    hvd.init()

    def steps(comm: Communicator, bucket_mb: float) -> Iterator[None]:
        wrap = partial(hvd.DistributedDataParallel, bucket_cap_mb=bucket_mb) if comm.size > 1 else None
        network = _network(batch)
        return torch_steps(network.make(), *network.data(), (comm.rank, comm.size), wrap=wrap, tuned=True, batch=batch)

    return steps


def _network(batch: int) -> TorchNetwork:
    return TorchNetwork("dense", {"widths": list(WIDTHS)}, WIDTHS[:1], batch, SAMPLES)


MODES: dict[str, Callable[[int], Steps]] = {"numpy": _numpy_mode, "torch": _torch_mode, "hpcnn.torch": _script}


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
    parser.add_argument("--mode", choices=list(MODES), default="numpy", help="numpy, torch, or a script; numpy")
    parser.add_argument("--batch", type=positive, default=1024, help="samples a step and rank; 1024")
    parser.add_argument("--bucket-mb", type=float, default=2.0, help="train.bucket_mb; 2")
    parser.add_argument("--network-core", type=int, metavar="CORE", help="a core for the exchange alone")
    arguments = parser.parse_args()
    return run_parallel(lambda comm: measure(comm, arguments))


if __name__ == "__main__":
    sys.exit(main())
