"""What optimizer sharding saves: memory of all ranks together, and time, on a network of 100 million parameters.

Sharded and not in turn: each is built, trains, is measured and is freed. The memory of a rank is its proportional set
size (PSS), in which a page that n processes share counts as one n-th: the ranks' PSS add up to what they really occupy.

    mpirun -n 4 python -m benchmarks.sharding
"""

from __future__ import annotations

import argparse
import gc
import re
import sys
from pathlib import Path

from benchmarks.hpcnn_side import hpcnn_steps
from benchmarks.report import Report, make_parser, positive
from benchmarks.turns import Runner, ratios, time_steps
from hpcnn.cli.parallel import run_parallel
from hpcnn.comm.protocol import Communicator
from hpcnn.errors import CommunicatorError

SHARDED, WHOLE = "sharded", "not sharded"
INPUTS, OUTPUTS = 784, 10


def measure(comm: Communicator, arguments: argparse.Namespace) -> int:
    if comm.size == 1:
        raise CommunicatorError("one rank has nobody to share with. Start some: mpirun -n 4 ...")
    widths = (INPUTS, arguments.width, arguments.width, OUTPUTS)
    settings = {"network": "-".join(map(str, widths)), "batch a rank": arguments.batch}
    report = Report(comm, settings, arguments.json)
    memory: dict[str, list[float]] = {SHARDED: [], WHOLE: []}
    seconds: dict[str, list[float]] = {SHARDED: [], WHOLE: []}
    for _ in range(arguments.rounds):
        for name in (SHARDED, WHOLE):
            bytes_of_all, step_s = train(comm, widths, arguments.batch, arguments.steps, sharding=name == SHARDED)
            memory[name].append(bytes_of_all / 2**30)
            seconds[name].append(step_s)
    for name, figures, unit in (("memory", memory, "GiB"), ("time", seconds, "s a step")):
        report.add(name, figures, unit, {"sharded / not sharded": ratios(figures[SHARDED], figures[WHOLE])})
    report.write()
    return 0


def train(comm: Communicator, widths: tuple[int, ...], batch: int, steps: int, *, sharding: bool) -> tuple[int, float]:
    """Return the bytes that all ranks occupy together, and the seconds per step."""
    runner = Runner("", hpcnn_steps(widths, comm, batch=batch, samples=64 * batch * comm.size, sharding=sharding))
    time_steps(comm, runner, 2)  # the first builds, and touches all memory
    seconds = time_steps(comm, runner, steps) / steps
    occupied = sum(comm.allgather(proportional_set_size()))
    del runner
    gc.collect()  # a replica refers to itself
    comm.barrier()
    return occupied, seconds


def proportional_set_size() -> int:
    """Return the PSS of this process in bytes."""
    found = re.search(r"^Pss:\s+(\d+) kB", Path("/proc/self/smaps_rollup").read_text(), re.MULTILINE)
    assert found, "a kernel older than 4.14"
    return 1024 * int(found[1])


def main() -> int:
    parser = make_parser("sharding", "Measures memory and time with optimizer sharding.", ranks=4, rounds=3)
    parser.add_argument("--steps", type=positive, default=3, metavar="N", help="timed steps of each measurement; 3")
    parser.add_argument("--width", type=positive, default=9600, metavar="N", help="of both hidden layers; 9600")
    parser.add_argument("--batch", type=positive, default=1, metavar="N", help="samples a rank; 1")
    arguments = parser.parse_args()
    return run_parallel(lambda comm: measure(comm, arguments))


if __name__ == "__main__":
    sys.exit(main())
