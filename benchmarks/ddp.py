"""Training throughput against PyTorch's DistributedDataParallel over gloo, in turn, in one job.

On the side of hpcnn the network is of its own layers, and in PyTorch mode the very module that DDP trains. Each rank
holds a replica of each side. In the turns of one rank alone, the others sleep.

    mpirun -n 2 python -m benchmarks.ddp
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.hpcnn_side import hpcnn_steps
from benchmarks.problem import BATCH, NETWORKS
from benchmarks.report import Report, make_parser
from benchmarks.torch_side import gloo_group, torch_steps
from benchmarks.turns import Runner, rates, ratios, take_turns
from hpcnn.backends.choice import choose_backend
from hpcnn.cli.parallel import run_parallel
from hpcnn.comm.protocol import Communicator
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.job.load import load_job

OURS, WHOLE, DDP = "hpcnn", "hpcnn, optimizer not sharded", "DDP"
TORCH_MODE = "hpcnn, PyTorch mode"
OURS_ALONE, TORCH_ALONE = "hpcnn, 1 rank", "PyTorch, 1 rank"


def measure(comm: Communicator, arguments: argparse.Namespace) -> int:
    tuned = arguments.tuned
    settings = {"batch a rank": BATCH, "PyTorch": "tuned" if tuned else "default"}
    with gloo_group(comm):
        backend = choose_backend(comm)(load_job(overrides=["backend=torch"]).job)
        report = Report(comm, settings, arguments.json)
        for name in arguments.networks:
            widths = NETWORKS[name]
            runners = [
                Runner(OURS, hpcnn_steps(widths, comm)),
                Runner(DDP, torch_steps(widths, parallel=True, tuned=tuned)),
                Runner(TORCH_MODE, hpcnn_steps(widths, comm, backend=backend, entry="benchmarks.torch_side:network")),
            ]
            if comm.size > 1:
                runners += [
                    Runner(WHOLE, hpcnn_steps(widths, comm, sharding=False)),
                    Runner(OURS_ALONE, hpcnn_steps(widths, SerialCommunicator()), alone=True),
                    Runner(TORCH_ALONE, torch_steps(widths, tuned=tuned), alone=True),
                ]
            figures = take_turns(comm, runners, arguments.rounds, arguments.seconds)
            samples = {runner.name: BATCH * (1 if runner.alone else comm.size) for runner in runners}
            measured = rates(figures, samples)
            report.add(name, measured, "samples/s", compare(measured, comm.size))
        report.write()
    return 0


def compare(measured: dict[str, list[float]], ranks: int) -> dict[str, list[float]]:
    """Return the ratios of the measured rates; weak-scaling efficiency is the rate over `ranks` times that of one."""
    found = {f"ratio {side} / DDP": ratios(measured[side], measured[DDP]) for side in (OURS, TORCH_MODE)}
    if ranks > 1:
        found["ratio not sharded / DDP"] = ratios(measured[WHOLE], measured[DDP])
        for name, together, alone in (("hpcnn", OURS, OURS_ALONE), ("DDP", DDP, TORCH_ALONE)):
            one = [ranks * rate for rate in measured[alone]]
            found[f"weak-scaling efficiency, {name}"] = ratios(measured[together], one)
    return found


def main() -> int:
    parser = make_parser("ddp", "Compares training throughput with PyTorch DDP over gloo.", ranks=2, rounds=15)
    parser.add_argument("--seconds", type=float, default=0.25, help="of each measurement; 0.25")
    parser.add_argument(
        "--tuned",
        action="store_true",
        help="give PyTorch its fused Adam, and DDP gradient_as_bucket_view and static_graph",
    )
    parser.add_argument("--networks", nargs="+", choices=tuple(NETWORKS), default=list(NETWORKS), help="which; all")
    arguments = parser.parse_args()
    return run_parallel(lambda comm: measure(comm, arguments))


if __name__ == "__main__":
    sys.exit(main())
