"""Training throughput against PyTorch's DistributedDataParallel over gloo, in turn, in one job.

On the side of hpcnn the network is of its own layers; in PyTorch mode, and in a script with `hpcnn.torch`, it is the
very module that DDP trains. Each rank holds a replica of each side. In the turns of one rank alone, the others sleep.

    mpirun -n 2 python -m benchmarks.ddp
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import hpcnn.torch as hvd
from benchmarks.hpcnn_side import entry_steps, hpcnn_steps
from benchmarks.problem import NETWORKS
from benchmarks.report import Report, make_parser
from benchmarks.torch_networks import TORCH_NETWORKS
from benchmarks.torch_side import gloo_group, torch_ddp, torch_steps
from benchmarks.turns import Runner, rates, ratios, take_turns
from hpcnn.backends.choice import choose_backend
from hpcnn.cli.parallel import run_parallel
from hpcnn.comm.protocol import Communicator
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.job.load import load_job
from hpcnn.training.backend import Backend

OURS, WHOLE, DDP = "hpcnn", "hpcnn, optimizer not sharded", "DDP"
TORCH_MODE, SCRIPT = "hpcnn, PyTorch mode", "hpcnn.torch"
OURS_ALONE, TORCH_ALONE = "hpcnn, 1 rank", "PyTorch, 1 rank"


def sides(name: str, comm: Communicator, backend: Backend, *, tuned: bool) -> Iterator[Runner]:
    """Yield the sides for a network."""
    network = TORCH_NETWORKS[name]

    def script(wrap: Callable[[Any], Any] | None, ranks: tuple[int, int]) -> Iterator[None]:
        return torch_steps(network.make(), *network.data(), ranks, wrap=wrap, tuned=tuned, batch=network.batch)

    everyone = comm.rank, comm.size
    yield Runner(DDP, script(torch_ddp(tuned=tuned), everyone))
    yield Runner(TORCH_MODE, entry_steps(network, comm, backend))
    yield Runner(SCRIPT, script(hvd.DistributedDataParallel, everyone))
    if comm.size > 1:
        yield Runner(TORCH_ALONE, script(None, (0, 1)), alone=True)
    if name not in NETWORKS:
        return
    yield Runner(OURS, hpcnn_steps(NETWORKS[name], comm))
    if comm.size > 1:
        yield Runner(WHOLE, hpcnn_steps(NETWORKS[name], comm, sharding=False))
        yield Runner(OURS_ALONE, hpcnn_steps(NETWORKS[name], SerialCommunicator()), alone=True)


def measure(comm: Communicator, arguments: argparse.Namespace) -> int:
    settings = {"PyTorch": "tuned" if arguments.tuned else "default"}
    hvd.init()
    with gloo_group(comm):
        backend = choose_backend(comm)(load_job(overrides=["backend=torch"]).job)
        report = Report(comm, settings, arguments.json)
        for name in arguments.networks:
            runners = list(sides(name, comm, backend, tuned=arguments.tuned))
            figures = take_turns(comm, runners, arguments.rounds, arguments.seconds)
            batch = TORCH_NETWORKS[name].batch
            measured = rates(figures, {side.name: batch * (1 if side.alone else comm.size) for side in runners})
            report.add(name, measured, "samples/s", compare(measured, comm.size))
        report.write()
    return 0


def compare(measured: Mapping[str, list[float]], ranks: int) -> dict[str, list[float]]:
    """Return the ratios of the measured rates; weak-scaling efficiency is the rate over `ranks` times that of one."""
    found = {
        f"ratio {label} / DDP": ratios(measured[side], measured[DDP])
        for label, side in (("hpcnn", OURS), ("not sharded", WHOLE), ("PyTorch mode", TORCH_MODE), (SCRIPT, SCRIPT))
        if side in measured
    }
    for name, together, alone in (("hpcnn", OURS, OURS_ALONE), ("DDP", DDP, TORCH_ALONE)):
        if alone in measured:
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
    parser.add_argument(
        "--networks", nargs="+", choices=tuple(TORCH_NETWORKS), default=list(TORCH_NETWORKS), help="which; all"
    )
    arguments = parser.parse_args()
    return run_parallel(lambda comm: measure(comm, arguments))


if __name__ == "__main__":
    sys.exit(main())
