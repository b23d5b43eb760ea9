"""The steps that hpcnn predict-scaling predicts, against measured ones, on the nodes there are.

mpirun -hosts node1,node2 -n 2 python -m benchmarks.predicted
python -m benchmarks.on_testbed --rate-mbit 1000 --ranks 2 2 -- benchmarks.predicted

Network and memory are measured first, as by hpcnn bench network. Then, in turn: all ranks train at the same time, each
by itself, which gives the computation; and all together, which is what is predicted from it, round by round.
"""

from __future__ import annotations

import argparse
import sys

from msgspec.structs import replace

from benchmarks.deep_networks import DEEP, STEPS
from benchmarks.hpcnn_side import NOT_READ, dense_job, job_steps
from benchmarks.problem import BATCH, NETWORKS, make_data
from benchmarks.report import Report, make_parser, positive
from benchmarks.turns import Runner, milliseconds, ratios, take_turns
from hpcnn.backends.numpy.backend import NUMPY
from hpcnn.cli.parallel import run_parallel
from hpcnn.comm.protocol import Array, Communicator
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.core.activity import OPTIMIZER
from hpcnn.errors import CommunicatorError
from hpcnn.job.layers import BatchNormalization
from hpcnn.job.layers.kinds import Layer
from hpcnn.job.model import Model
from hpcnn.job.schema import Job, Train
from hpcnn.runs.prediction.compute import Compute
from hpcnn.runs.prediction.model import Sums, model_of
from hpcnn.runs.prediction.steps import COMPUTE, NETWORK, SUMS, UPDATE, Cluster, predict_step
from hpcnn.runs.spec import build_spec
from hpcnn.tools.bench.network import NetworkBench

ALONE, MEASURED, PREDICTED = "a rank alone", "measured", "predicted"
RESNET, RESNET_BATCH = "ResNet-20 32x32", 32
"""A step of a batch of so many takes a tenth of a second."""
NO_STOPS = f"{RESNET} by shard"
"""The same with the statistics of each shard: no rank stops for others within its step."""
ALL = (*NETWORKS, RESNET, NO_STOPS)


def job_of(name: str, ranks: int, batch: int) -> tuple[Job, Array, Array]:
    """Return a job with `batch` samples and a shard for each of so many ranks, and its data."""
    train = Train(batch_size=batch * ranks, shards=ranks, bucket_mb=0)
    if name in NETWORKS:
        return dense_job(NETWORKS[name], train), *make_data(NETWORKS[name])
    deep = DEEP[RESNET]
    x, y = deep.data(STEPS * batch * ranks)
    layers = deep.layers() if name == RESNET else [_by_shard(layer) for layer in deep.layers()]
    return Job(data=NOT_READ, model=Model(layers=layers), loss=deep.loss, train=train), x, y


def _by_shard(layer: Layer) -> Layer:
    return replace(layer, statistics="shard") if isinstance(layer, BatchNormalization) else layer


def compare(
    comm: Communicator, cluster: Cluster, nodes: int, name: str, batch: int, arguments: argparse.Namespace
) -> tuple[str, dict[str, list[float]]]:
    """Return the algorithm of the exchange, and what was measured and predicted of a network, in seconds."""
    alone, ranks = SerialCommunicator(), comm.size
    job, x, y = job_of(name, ranks, batch)
    runners = [
        Runner(ALONE, job_steps(*job_of(name, 1, batch), alone)),
        Runner(MEASURED, job_steps(job, x, y, comm)),
    ]
    seconds = take_turns(comm, runners, arguments.rounds, arguments.seconds)
    spent = alone.activity.seconds
    share = comm.broadcast(spent[OPTIMIZER] / sum(spent.values()))
    sums = Sums.of(build_spec(job, x.shape[1:], NUMPY))
    steps = [
        predict_step(model_of(job, sums, Compute((1 - share) * each, 0.0, share * each)), cluster, nodes, batch * ranks)
        for each in seconds[ALONE]
    ]
    seconds[PREDICTED] = [step.seconds for step in steps]
    for part in (COMPUTE, UPDATE, SUMS, NETWORK):
        seconds[f"predicted, {part}"] = [step.parts[part] for step in steps]
    return steps[0].algorithm, seconds


def measure(comm: Communicator, arguments: argparse.Namespace) -> int:
    figures = NetworkBench(comm, seconds=arguments.seconds).run()
    nodes, tasks = len(figures.ranks_by_node), figures.ranks_by_node[0]
    if figures.ranks_by_node != [tasks] * nodes:
        raise CommunicatorError("the prediction is for nodes that have as many ranks each. Start them so.")
    cluster = Cluster(figures.machine, tasks)
    report = Report(comm, {"nodes": nodes, "tasks": tasks, "machine": repr(figures.machine)}, arguments.json)
    for name in arguments.networks:
        batch = arguments.batch or (BATCH if name in NETWORKS else RESNET_BATCH)
        algorithm, seconds = compare(comm, cluster, nodes, name, batch, arguments)
        share = {"time predicted / measured": ratios(seconds[PREDICTED], seconds[MEASURED])}
        report.add(f"{name}, {batch} a rank, {algorithm}", milliseconds(seconds), "ms", share)
    report.write()
    return 0


def main() -> int:
    parser = make_parser("predicted", "Compares predicted steps with measured ones.", ranks=2, rounds=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each measurement; 0.5")
    parser.add_argument(
        "--batch", type=positive, help=f"samples a step and rank; {BATCH}, and {RESNET_BATCH} of ResNet-20"
    )
    parser.add_argument("--networks", nargs="+", choices=ALL, default=list(ALL), metavar="NAME", help="default: all")
    arguments = parser.parse_args()
    return run_parallel(lambda comm: measure(comm, arguments))


if __name__ == "__main__":
    sys.exit(main())
