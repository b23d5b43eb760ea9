"""What one rank computes in a step: measured at two sizes of its part of the batch, without other ranks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from hpcnn.backends.choice import choose_backend
from hpcnn.comm.protocol import Communicator
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.core.activity import OPTIMIZER
from hpcnn.job.schema import Job
from hpcnn.runs.build import build_training
from hpcnn.system.blas import AUTO, THREADS
from hpcnn.tools.bench.step import measure_steps
from hpcnn.training.tuning import cores_of_ranks, own_threads

_SMALLER = 4
"""The smaller size is this part of the larger one."""


@dataclass(frozen=True)
class Compute:
    """Seconds of one rank, by what they depend on."""

    fixed_s: float
    """Of a step, however few samples it has."""
    sample_s: float
    """Of each sample, forward and backward."""
    update_s: float = 0.0
    """To update all parameters."""

    @classmethod
    def of_step(cls, seconds: float, samples: int) -> Compute:
        """Return that of a step of so many seconds, all in proportion to its samples."""
        return cls(0.0, seconds / samples)

    @classmethod
    def through(cls, few: tuple[int, float], many: tuple[int, float], update_s: float) -> Compute:
        """Return the line through two measurements: samples, and seconds.

        >>> Compute.through((10, 3.0), (20, 4.0), 0.0)
        Compute(fixed_s=2.0, sample_s=0.1, update_s=0.0)
        """
        if not few[0] < many[0] or not few[1] < many[1]:
            return cls(0.0, many[1] / many[0], update_s)
        sample_s = min((many[1] - few[1]) / (many[0] - few[0]), many[1] / many[0])
        return cls(many[1] - sample_s * many[0], sample_s, update_s)

    def seconds(self, samples: int) -> float:
        """Return what forward and backward take for so many samples."""
        return self.fixed_s + self.sample_s * samples


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
