"""What ranks keep of a training when others die, to go on with it in smaller company."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hpcnn.comm.protocol import Array, Communicator
from hpcnn.errors import JobError
from hpcnn.job.schema import Job
from hpcnn.storage.lazy import LazyArray
from hpcnn.training.loop import Progress
from hpcnn.training.training import Training


def check_survivable(job: Job, comm: Communicator) -> None:
    """Check that what ``run.on_rank_loss = "continue"`` asks for can be done.

    Raises:
        JobError: the MPI ends the job when a rank dies, or a lost rank would take state with it that no other has.
    """
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


@dataclass
class Carried:
    """The state of a training in the memory of one rank."""

    progress: dict[str, Any]
    weights: dict[str, Array]
    optimizer: dict[str, Array]
    callbacks: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Array]]]

    @property
    def age(self) -> tuple[int, int]:
        """How far the training is."""
        return self.progress["epoch"], self.progress["step_in_epoch"]


def carry(training: Training, progress: Progress) -> Carried:
    """Return a copy of the state of `training` after the last step that this rank completed."""
    replica = training.replica
    optimizer = {name: _copy(lazy) for name, lazy in replica.updater.optimizer_state().items()}
    callbacks = {name: (callback.state(), callback.arrays()) for name, callback in training.callbacks.items()}
    return Carried(asdict(progress), replica.weights(), optimizer, callbacks)


def _copy(lazy: LazyArray) -> Array:
    array = lazy.whole()
    assert array is not None, "not whole on each rank"
    return array


def share(comm: Communicator, own: Carried) -> Carried:
    """Return the state of rank 0, which is the farthest; only ranks that are behind take it. Collective."""
    ages = comm.allgather(own.age)
    if all(age == ages[0] for age in ages):
        return own
    progress, callbacks = comm.broadcast((own.progress, own.callbacks))
    for arrays in (own.weights, own.optimizer):
        for array in arrays.values():
            comm.broadcast_array(array)
    return Carried(progress, own.weights, own.optimizer, callbacks)


def load(carried: Carried, training: Training) -> Progress:
    """Bring `training`, whose replica is new, to the carried state."""
    replica = training.replica
    replica.load_weights(carried.weights)
    replica.updater.load_optimizer_state(carried.optimizer)
    for name, callback in training.callbacks.items():
        callback.load(*carried.callbacks[name])
    return Progress(**carried.progress)
