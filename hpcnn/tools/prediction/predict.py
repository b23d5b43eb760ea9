"""From a job and the arguments of `hpcnn predict-scaling` to its prediction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from hpcnn.comm.collectives import agree
from hpcnn.comm.network import read_machine
from hpcnn.comm.protocol import Communicator
from hpcnn.core.critical_batch import NOISE_SCALE
from hpcnn.errors import HpcnnError
from hpcnn.job.load import load_job
from hpcnn.runs.memory import memory_need, shards_by_itself
from hpcnn.runs.prediction.compute import Compute
from hpcnn.runs.prediction.model import Sums, model_of
from hpcnn.runs.prediction.steps import Cluster, Model, Scaling, predict_step
from hpcnn.slurm.run_files import read_lines, require_run
from hpcnn.tools.bench.network import memory_byte_s
from hpcnn.tools.prediction.compute import measure_compute, slowest, threads_of_rank
from hpcnn.tools.prediction.report import Prediction
from hpcnn.tools.show.open_job import ShownJob, open_job

_MEMORY_S = 0.05
"""For which memory is measured."""


@dataclass(frozen=True)
class Request:
    """What was asked for."""

    job: Path | None
    overrides: Sequence[str]
    nodes: Sequence[int]
    tasks: int
    network: str
    run: Path | None = None
    batch_per_rank: int | None = None
    step_s: float | None = None
    """Of a rank's step, without exchange; None: it is measured."""
    steps: int = 20
    hidden: float = 0.0
    memory_gb_per_s: float | None = None
    """Of a node; None: that of the network's file, or it is measured."""


def predict(comm: Communicator, request: Request) -> Prediction | None:
    """Return the prediction on rank 0, and None elsewhere. Collective."""
    path, noise_scale = agree(comm, lambda: _run_of(request))
    shown = agree(comm, lambda: open_job(path, request.overrides, 1))
    first = request.nodes[0] * request.tasks
    batch = request.batch_per_rank or max(1, shown.batch // first)
    machine = agree(comm, lambda: read_machine(request.network, "--network"))
    notes = []
    if machine.between is None and request.nodes[-1] > 1:
        raise HpcnnError(
            f"--network {request.network!r} was measured on one node, which says nothing of {request.nodes[-1]:,}. "
            "Measure on two, or give a latency and a bandwidth, such as 2us,100Gb/s."
        )
    if request.memory_gb_per_s is not None:
        machine = replace(machine, memory_byte_s=1e-9 / request.memory_gb_per_s)
    elif machine.memory_byte_s is None:
        machine = replace(machine, memory_byte_s=memory_byte_s(comm, _MEMORY_S))
        assert machine.memory_byte_s is not None
        measured = f"{1e-9 / machine.memory_byte_s:.3g} GB/s"
        notes.append(
            f"memory is as fast as the ranks of this command find it: {measured}. --memory names that of a node"
        )
    if request.step_s is not None:
        compute = Compute.of_step(request.step_s, batch)
    else:
        base = agree(comm, lambda: load_job(path, request.overrides)).base
        threads = threads_of_rank(comm, request.tasks)
        sizes = {"batch": batch, "samples": shown.samples, "threads": threads, "steps": request.steps}
        compute = slowest(comm, agree(comm, lambda: measure_compute(shown.job, base, **sizes)))
    if comm.rank:
        return None
    cluster = Cluster(machine, request.tasks, request.hidden)
    model = _model(shown, compute)
    weak = [predict_step(model, cluster, nodes, nodes * request.tasks * batch) for nodes in request.nodes]
    whole = first * batch
    shared = [nodes for nodes in request.nodes if nodes * request.tasks <= whole]
    strong = [predict_step(model, cluster, nodes, whole) for nodes in shared]
    if len(shared) < len(request.nodes):
        notes.append(f"strong scaling ends where ranks outnumber the {whole:,} samples of a step")
    if weak[-1].ranks > model.shards:
        notes.append(f"train.shards is {model.shards:,}: more ranks than that need more, which is another job")
    return Prediction(shown.job.name, cluster, compute, Scaling(weak), Scaling(strong), noise_scale, notes)


def _run_of(request: Request) -> tuple[Path | None, float | None]:
    """Return the job file, and the noise scale of a run."""
    if request.run is None:
        return request.job, None
    files = require_run(request.run)
    known = [line.get(NOISE_SCALE) for line in read_lines(files.metrics)]
    scales = [float(each) for each in known if isinstance(each, int | float) and 0 < each < math.inf]
    if not scales:
        raise HpcnnError(
            f"the run {str(request.run)!r} has no noise scale: its metrics.jsonl names none, or none that is known. "
            "Train with run.noise_scale_every = 10 for a while, or give the job in place of --run."
        )
    return files.job, scales[-1]


def _model(shown: ShownJob, compute: Compute) -> Model:
    job, sums = shown.job, Sums.of(shown.spec)
    train = job.train
    assert isinstance(train.shards, int)
    shards = train.shards

    def memory(ranks: int, batch: int) -> int:
        larger = msgspec.structs.replace(train, shards=max(shards, ranks), batch_size=batch)
        asked = msgspec.structs.replace(job, train=larger)
        samples, sharded = max(shown.samples, batch), shards_by_itself(job, sums.length, ranks)
        need = memory_need(asked, shown.spec, samples=samples, held_out=shown.held_out, ranks=ranks, sharded=sharded)
        return need.total

    return model_of(job, sums, compute, memory)
