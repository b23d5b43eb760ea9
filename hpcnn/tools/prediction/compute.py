"""What one rank computes in a step: measured at two sizes of its part of the batch, without other ranks."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from hpcnn.backends.choice import choose_backend
from hpcnn.comm.protocol import Communicator
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.core.activity import OPTIMIZER
from hpcnn.job.schema import Job
from hpcnn.runs.build import build_training
from hpcnn.runs.prediction.compute import Compute
from hpcnn.system.blas import AUTO, THREADS
from hpcnn.tools.bench.step import measure_steps
from hpcnn.training.tuning import cores_of_ranks, own_threads

_SMALLER = 4
"""The smaller size is this part of the larger one."""


def measure_compute(job: Job, base: Path, *, batch: int, samples: int, threads: int, steps: int) -> Compute:
    """Return what this rank computes, alone. All ranks of a node should do the same at the same time.

    Args:
        job: with inputs and shards known.
        base: the folder of its relative paths.
        batch: samples of a rank's step.
        samples: those of the training data.
        threads: on which it computes.
        steps: how many are measured.
    """
    many = min(batch, samples)
    few = max(1, many // _SMALLER)
    fewer_s, _ = _measured(job, base, few, steps, threads)
    more_s, update_s = _measured(job, base, many, steps, threads)
    return Compute.through((few, fewer_s), (many, more_s), update_s)


def slowest(comm: Communicator, own: Compute) -> Compute:
    """Return the figures of the slowest rank. Collective."""
    everyone: list[Compute] = comm.allgather(own)
    return max(everyone, key=lambda each: each.fixed_s + each.sample_s + each.update_s)


def _measured(job: Job, base: Path, batch: int, steps: int, threads: int) -> tuple[float, float]:
    """Return the seconds of a step without the update, and of the update."""
    alone = SerialCommunicator()
    train = msgspec.structs.replace(
        job.train, batch_size=batch, shards=1, compression="none", compression_groups="auto"
    )
    job = msgspec.structs.replace(job, train=train)
    training = build_training(job, base, alone, choose_backend(alone)(job))
    training.replica.model.use_threads(threads)
    times = measure_steps(training, alone, steps)
    update_s = times.ranks[0].seconds[OPTIMIZER] / steps
    return max(times.total / steps - update_s, 1e-9), update_s


def threads_of_rank(comm: Communicator, tasks: int) -> int:
    """Return the threads that a rank would have, were there so many on this host. Collective."""
    ranks = cores_of_ranks(comm)
    threads = own_threads(comm, ranks)
    if os.environ.get(THREADS) != AUTO:
        return threads
    return max(1, threads * sum(host == comm.host for host, _ in ranks) // tasks)
