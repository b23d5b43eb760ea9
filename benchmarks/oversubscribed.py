"""Training steps of more ranks than cores: where ranks sleep while they wait for messages, and where they keep looking.

    python -m benchmarks.oversubscribed

Starts the ranks itself, by the mpirun of the environment, which is to be MPICH's: only MPICH reads the variable that is
compared. Time is that of a step, and processor time that of all ranks together.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.hpcnn_side import hpcnn_steps
from benchmarks.problem import NETWORKS
from benchmarks.report import Report, make_parser, positive
from benchmarks.turns import Runner, ratios, time_steps
from hpcnn.cli.parallel import run_parallel
from hpcnn.comm.protocol import Communicator
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.waiting import SLEEPS
from hpcnn.errors import CommunicatorError

ROOT = Path(__file__).parents[1]
SIDES = {"asleep": "1", "busy": "0"}
WARM_UP = 5


def train(comm: Communicator, network: str, steps: int) -> int:
    """Train, and print milliseconds and those of all processors, each a step."""
    runner = Runner(network, hpcnn_steps(NETWORKS[network], comm))
    time_steps(comm, runner, WARM_UP)
    begin = time.process_time()
    seconds = time_steps(comm, runner, steps)
    busy = sum(comm.allgather(time.process_time() - begin))
    if comm.rank == 0:
        print(json.dumps([1000 * seconds / steps, 1000 * busy / steps]))
    return 0


def start(ranks: int, network: str, steps: int, side: str) -> list[float]:
    """Return what `train` prints, of ranks that wait as one side does."""
    options = ["--train", "--networks", network, "--steps", str(steps)]
    command = ["mpirun", "-n", str(ranks), sys.executable, "-m", "benchmarks.oversubscribed", *options]
    environment = os.environ | {SLEEPS: SIDES[side]}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise CommunicatorError(f"the ranks ended with exit code {done.returncode}: {done.stderr.strip()}")
    return list(json.loads(done.stdout.splitlines()[-1]))


def measure(arguments: argparse.Namespace) -> int:
    settings = {"ranks": arguments.ranks, "CPUs": os.cpu_count()}
    report = Report(SerialCommunicator(), settings, arguments.json)
    for name in arguments.networks:
        for ranks in arguments.ranks:
            times: dict[str, list[float]] = {side: [] for side in SIDES}
            busy: dict[str, list[float]] = {f"{side}, processor": [] for side in SIDES}
            for _ in range(arguments.rounds):
                for side in SIDES:
                    step_ms, processor_ms = start(ranks, name, arguments.steps, side)
                    times[side].append(step_ms)
                    busy[f"{side}, processor"].append(processor_ms)
            quotients = {
                "time asleep / busy": ratios(*times.values()),
                "processor time asleep / busy": ratios(*busy.values()),
            }
            report.add(f"{ranks} ranks, {name}", times | busy, "ms per step", quotients)
    report.write()
    return 0


def main() -> int:
    parser = make_parser(
        "oversubscribed", "Compares ranks that sleep while they wait with busy ones.", ranks=1, rounds=5
    )
    parser.add_argument("--ranks", type=positive, nargs="+", default=[4, 8], metavar="N", help="4 8")
    parser.add_argument("--steps", type=positive, default=100, metavar="N", help="of each measurement; 100")
    parser.add_argument("--networks", nargs="+", choices=tuple(NETWORKS), default=["784-32-10", "784-512-512-10"])
    parser.add_argument("--train", action="store_true", help=argparse.SUPPRESS)  # one measurement, under mpirun
    arguments = parser.parse_args()
    if arguments.train:
        return run_parallel(lambda comm: train(comm, arguments.networks[0], arguments.steps))
    return measure(arguments)


if __name__ == "__main__":
    sys.exit(main())
