"""Checkpoints in memory, from which the surviving ranks resume when others are lost."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from hpcnn.comm.protocol import Communicator
from hpcnn.errors import JobError
from hpcnn.job.schema import Job
from hpcnn.runs.state import facts_of, pack
from hpcnn.storage.checkpoint import Checkpoint, prefixed
from hpcnn.training.loop import Progress
from hpcnn.training.training import Training


def check_survivable(job: Job, comm: Communicator) -> None:
    """Check that what ``run.on_rank_loss = "continue"`` asks for can be done."""
    if job.run.on_rank_loss != "continue":
        return
    asked = 'run.on_rank_loss = "continue"'
    if obstacle := comm.fault_tolerance.recovery_obstacle:
        raise JobError(
            f"{asked}, but {obstacle}. Start the job by Open MPI 5 as: mpirun --with-ft ulfm ..., or set "
            'it to "end" and resume by --resume auto.'
        )
    if job.train.optimizer_sharding is True:
        raise JobError(
            f"{asked} and train.optimizer_sharding = true: a rank would take its share of the optimizer's state with "
            'it. Set one of them to another value; "auto" keeps the whole state on each rank.'
        )
    if job.train.compression != "none":
        raise JobError(
            f"{asked} and train.compression = {job.train.compression!r}: a rank would take with it what compression "
            "owes to the next steps. Set one of them to another value."
        )
    if job.run.min_ranks > comm.size:
        raise JobError(
            f"run.min_ranks = {job.run.min_ranks}, but there are only {comm.size} ranks. Start more, or lower it."
        )


def take_snapshot(training: Training, progress: Progress) -> Checkpoint:
    """Return a checkpoint in memory of the last step that this rank completed. Its replica has the state whole."""
    pending = pack(training, Path(), progress)
    facts = dict(pending.facts) | {"weights_sha256": training.replica.model.fingerprint()}
    return replace(pending.collect(), facts=json.loads(json.dumps(facts)))  # as a file has them, and a copy


def age(snapshot: Checkpoint) -> tuple[int, int]:
    """Return how far the training is."""
    progress = facts_of(snapshot.facts).progress
    return progress.epoch, progress.step_in_epoch


def share(comm: Communicator, own: Checkpoint) -> Checkpoint:
    """Return the snapshot of rank 0, which is the farthest; only ranks that are behind take it. Collective."""
    ages = comm.allgather(age(own))
    if all(each == ages[0] for each in ages):
        return own
    extra = own.part("callbacks")  # of which rank 0 may have more
    facts, extra = comm.broadcast((own.facts, extra))
    common = {name: array for name, array in own.tensors.items() if not name.startswith("callbacks/")}
    for array in common.values():
        comm.broadcast_array(array)
    return Checkpoint(common | prefixed("callbacks", extra), facts)
