"""The steps that hpcnn predict-scaling predicts, against measured ones, on the nodes there are.

mpirun -hosts node1,node2 -n 2 python -m benchmarks.predicted
python -m benchmarks.on_testbed --rate-mbit 1000 --ranks 1 1 -- benchmarks.predicted

Network and memory are measured first, as by hpcnn bench network. Then, in turn: all ranks train at the same time, each
by itself, which gives the computation; and all together, which is what is predicted from it, round by round.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from benchmarks.hpcnn_side import hpcnn_steps
from benchmarks.problem import BATCH, NETWORKS
from benchmarks.report import Report, make_parser, positive
from benchmarks.turns import Runner, ratios, take_turns
from hpcnn.cli.parallel import run_parallel
from hpcnn.comm.protocol import Communicator
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.core.activity import OPTIMIZER
from hpcnn.errors import CommunicatorError
from hpcnn.runs.prediction.compute import Compute
from hpcnn.runs.prediction.steps import NETWORK, SUMS, Cluster, Model, predict_step
from hpcnn.tools.bench.network import NetworkBench
from hpcnn.training.tuning import SHARDING_PAYS

ALONE, MEASURED, PREDICTED = "a rank alone", "measured", "predicted"
STATS = 8


def parameters(widths: Sequence[int]) -> int:
    """Return the parameters of dense layers.

    >>> parameters((784, 32, 10))
    25450
    """
    return sum((before + 1) * after for before, after in pairwise(widths))


def model_of(widths: Sequence[int], batch: int, update: float) -> Model:
    """Return the model of a network, with a step of one second alone of which `update` is the optimizer's share."""
    length = parameters(widths)
    return Model(
        compute=Compute((1 - update), 0.0, update),
        length=length,
        item_bytes=4,
        stats_length=STATS,
        shards=1,
        gathers=False,
        shares_update=lambda ranks, nodes: ranks > 1 and length >= SHARDING_PAYS * ranks,
        memory=lambda ranks, samples: 0,
    )


def scaled(model: Model, seconds: float) -> Model:
    """Return the model with a step of so many seconds."""
    compute = model.compute
    return replace(model, compute=Compute(compute.fixed_s * seconds, 0.0, compute.update_s * seconds))


def measure(comm: Communicator, arguments: argparse.Namespace) -> int:
    figures = NetworkBench(comm, seconds=arguments.seconds).run()
    nodes, tasks = len(figures.ranks_by_node), figures.ranks_by_node[0]
    if figures.ranks_by_node != [tasks] * nodes:
        raise CommunicatorError("the prediction is for nodes that have as many ranks each. Start them so.")
    cluster = Cluster(figures.machine, tasks)
    settings = {"nodes": nodes, "tasks": tasks, "batch a rank": arguments.batch, "machine": repr(figures.machine)}
    report = Report(comm, settings, arguments.json)
    for name in arguments.networks:
        widths, alone = NETWORKS[name], SerialCommunicator()
        runners = [
            Runner(ALONE, hpcnn_steps(widths, alone, batch=arguments.batch)),
            Runner(MEASURED, hpcnn_steps(widths, comm, batch=arguments.batch, bucket_mb=0)),
        ]
        seconds = take_turns(comm, runners, arguments.rounds, arguments.seconds)
        spent = alone.activity.seconds
        update = comm.broadcast(spent[OPTIMIZER] / sum(spent.values()))
        model = model_of(widths, arguments.batch, update)
        steps = [
            predict_step(scaled(model, each), cluster, nodes, nodes * tasks * arguments.batch)
            for each in seconds[ALONE]
        ]
        seconds[PREDICTED] = [step.seconds for step in steps]
        for part in (SUMS, NETWORK):
            seconds[f"predicted, {part}"] = [step.parts[part] for step in steps]
        shown = {label: [1000 * each for each in found] for label, found in seconds.items()}
        share = {"time predicted / measured": ratios(seconds[PREDICTED], seconds[MEASURED])}
        report.add(f"{name}, {steps[0].algorithm}", shown, "ms", share)
    report.write()
    return 0


def main() -> int:
    parser = make_parser("predicted", "Compares predicted steps with measured ones.", ranks=2, rounds=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each measurement; 0.5")
    parser.add_argument("--batch", type=positive, default=BATCH, help=f"samples a step and rank; {BATCH}")
    parser.add_argument(
        "--networks", nargs="+", choices=tuple(NETWORKS), default=list(NETWORKS), metavar="NAME", help="default: all"
    )
    arguments = parser.parse_args()
    return run_parallel(lambda comm: measure(comm, arguments))


if __name__ == "__main__":
    sys.exit(main())
