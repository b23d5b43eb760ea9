"""Measures one run of a scaling study on its ranks: all sides in turn, for the same number of steps in every run."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from hpcnn.backends.choice import choose_backend
from hpcnn.comm.collectives import agree
from hpcnn.comm.exchange.plan import Topology
from hpcnn.comm.exchange.transport import Place
from hpcnn.comm.protocol import Communicator
from hpcnn.comm.shared_memory import PrivateMemory
from hpcnn.core.formatting import counted
from hpcnn.errors import CommunicatorError, DriftError
from hpcnn.kernels.loading import find_core
from hpcnn.runs.build import build_training
from hpcnn.system.control_groups import read_text
from hpcnn.tools.bench.outputs import measured_on, warnings
from hpcnn.tools.scaling.names import ALLREDUCE, DDP, HOROVOD
from hpcnn.tools.scaling.plan import Plan, StudyRun
from hpcnn.tools.scaling.sides import Side, allreduce_side, attempt, ddp_side, horovod_side, own_side
from hpcnn.training.training import Training
from hpcnn.training.tuning import cores_of_ranks, own_threads

WARM_UP = 20
"""Steps of each side before the measurement: the first ones also allocate memory and tune."""
ROUNDS = 7
"""Measurements of each side."""
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_PACKAGES = ("mpi4py", "torch", "horovod", "tensorflow", "tensorflow-cpu")


def measure_run(plan: Plan, run: StudyRun, comm: Communicator) -> dict[str, Any]:
    """Return the raw figures of a run. Collective.

    Raises:
        HpcnnError: the job can't be trained on these ranks.
    """
    if comm.size != plan.ranks(run):
        raise CommunicatorError(
            f"the run {run.name} of this study takes {counted(plan.ranks(run), 'rank')}, but the launcher "
            f"started {comm.size}"
        )
    loaded = agree(comm, lambda: plan.load(run))
    backend = agree(comm, lambda: choose_backend(comm)(loaded.job))
    training = agree(comm, lambda: build_training(loaded.job, loaded.base, comm, backend))
    left_out: dict[str, str] = {}
    sides = _measure_sides(plan, training, comm, left_out)
    job = training.job
    return {
        "run": run.name,
        "kind": run.kind,
        "nodes": run.nodes,
        "tasks_per_node": plan.tasks_per_node,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "job": job.name,
        "parameters": training.spec.network.layout.size,
        "steps": plan.steps,
        "batch_size": training.shards.batch_size,
        "shards": job.train.shards,
        "arithmetic": job.train.arithmetic,
        "sides": sides,
        "left_out": left_out,
        "network": _network(comm),
        "environment": measured_on(comm, with_hosts=False) | _software(training, comm),
        "slurm_job": _slurm_job(),
        "notes": [*warnings(comm), *_shared_machine(comm)],
    }


def _measure_sides(
    plan: Plan, training: Training, comm: Communicator, left_out: dict[str, str]
) -> dict[str, dict[str, Any]]:
    """Measure hpcnn, MPI_Allreduce and DDP in turn, and Horovod after them: its thread never rests once it runs."""
    with ExitStack() as stack:
        sides = [own_side(training, comm)]
        if ALLREDUCE in plan.rivals:
            sides += attempt(partial(allreduce_side, training, comm), left_out, ALLREDUCE)
        if DDP in plan.rivals:
            sides += attempt(partial(ddp_side, training, comm, stack), left_out, DDP)
        found = take_turns(comm, sides, plan.steps)
    if HOROVOD in plan.rivals:
        sides = attempt(partial(horovod_side, training, comm), left_out, HOROVOD)
        found |= take_turns(comm, sides, plan.steps)
    return found


def take_turns(comm: Communicator, sides: Sequence[Side], steps: int) -> dict[str, dict[str, Any]]:
    """Return, by side, the seconds and samples of each measurement of `steps` steps, and the hash at the end.

    They take turns, A B C A B C ..., so that whatever slows the machine for a while slows all of them. Collective.
    """
    seconds: dict[str, list[float]] = {side.name: [] for side in sides}
    samples: dict[str, list[int]] = {side.name: [] for side in sides}
    for side in sides:
        side.train(WARM_UP)
    for _ in range(ROUNDS):
        for side in sides:
            comm.barrier()
            begin = time.perf_counter()
            trained = side.train(steps)
            comm.barrier()
            seconds[side.name].append(time.perf_counter() - begin)
            samples[side.name].append(trained)
    found = {}
    for side in sides:
        side.close()
        hashes = set(comm.allgather(side.sha256()))
        if len(hashes) > 1:
            raise DriftError(f"{side.name}: the ranks ended with different weights. A processor or memory is faulty.")
        found[side.name] = {
            "seconds": seconds[side.name],
            "samples": samples[side.name],
            "steps": side.steps,
            "weights_sha256": hashes.pop(),
        }
    return found


def _network(comm: Communicator) -> dict[str, float] | None:
    """Return what messages between nodes cost, as hpcnn itself measures it to choose an exchange; None on one node."""
    topology = Topology.of(comm.allgather(comm.host))
    if len(topology.hosts) == 1:
        return None
    from hpcnn.comm.exchange.allreduce_exchange import plain_links
    from hpcnn.comm.exchange.probe import measure

    return asdict(measure(Place(comm.rank, topology, PrivateMemory(), plain_links()), comm.allreduce))


def _slurm_job() -> str:
    """Return the id of the Slurm job and how often it was requeued before; empty outside Slurm."""
    number = os.environ.get("SLURM_JOB_ID", "")
    return number and f"{number}.{os.environ.get('SLURM_RESTART_COUNT', '0')}"


def _shared_machine(comm: Communicator) -> list[str]:
    """Return a note if nodes are containers or namespaces of one machine, which has booted once. Collective."""
    boots = comm.allgather((comm.host, read_text(_BOOT)))
    nodes, machines = len({host for host, _ in boots}), len({boot for _, boot in boots})
    if nodes == machines or not all(boot for _, boot in boots):
        return []
    return [
        f"{counted(nodes, 'node')} here are simulated on {counted(machines, 'machine')}, whose cores and memory they "
        "share: their times do not say how separate nodes scale"
    ]


def _software(training: Training, comm: Communicator) -> dict[str, Any]:
    """Return what the figures depend on beside the machine. Collective."""
    threads = comm.allgather(own_threads(comm, cores_of_ranks(comm)))
    core = find_core()
    versions = {name: _version(name) for name in _PACKAGES}
    return {
        "threads_a_rank": [min(threads), max(threads)],
        "cpus_a_node": os.cpu_count(),
        "kernels": core.isa() if core is not None and training.job.train.arithmetic == "native" else "",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: version for name, version in versions.items() if version},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
