"""Training throughput on one rank against PyTorch, in turn, in one process.

Same network, batch, optimizer and data; both shuffle by index and gather each batch. PyTorch runs eagerly with its
default Adam, as its tutorials do; ``--fused`` gives it its fused Adam in place of that.

    python -m benchmarks.single_rank
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.hpcnn_side import hpcnn_steps
from benchmarks.problem import BATCH, NETWORKS
from benchmarks.report import Report, make_parser
from benchmarks.torch_networks import TORCH_NETWORKS
from benchmarks.torch_side import load_torch, torch_steps
from benchmarks.turns import Runner, rates, ratios, take_turns
from hpcnn.cli.parallel import run_parallel
from hpcnn.comm.protocol import Communicator
from hpcnn.errors import CommunicatorError


def measure(comm: Communicator, arguments: argparse.Namespace) -> int:
    if comm.size > 1:
        raise CommunicatorError(f"{comm.size} ranks, but this measures one: leave mpirun out, or run benchmarks.ddp")
    load_torch()
    adam = "fused" if arguments.fused else "default"
    report = Report(comm, {"batch": BATCH, "adam of torch": adam}, arguments.json)
    for name, widths in NETWORKS.items():
        theirs = TORCH_NETWORKS[name]
        runners = [
            Runner("hpcnn", hpcnn_steps(widths, comm)),
            Runner("torch", torch_steps(theirs.make(), *theirs.data(), tuned=arguments.fused)),
        ]
        figures = take_turns(comm, runners, arguments.rounds, arguments.seconds)
        measured = rates(figures, {runner.name: BATCH for runner in runners})
        report.add(name, measured, "samples/s", {"ratio": ratios(measured["hpcnn"], measured["torch"])})
    report.write()
    return 0


def main() -> int:
    parser = make_parser("single_rank", "Compares training throughput with PyTorch.", ranks=1, rounds=15)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each measurement; 0.5")
    parser.add_argument("--fused", action="store_true", help="give PyTorch its fused Adam")
    arguments = parser.parse_args()
    return run_parallel(lambda comm: measure(comm, arguments))


if __name__ == "__main__":
    sys.exit(main())
