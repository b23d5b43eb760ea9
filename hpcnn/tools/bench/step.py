"""Measures the phases of a training step on each rank, and finds the straggler."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from statistics import median

from hpcnn.comm.protocol import Communicator
from hpcnn.core.activity import BACKWARD, DATA, FORWARD, OPTIMIZER, OTHER, REDUCE, WAIT, Activity
from hpcnn.errors import DivergedError
from hpcnn.training.replica import NotFiniteError
from hpcnn.training.step_stats import COUNT
from hpcnn.training.training import Training

PHASES = (DATA, FORWARD, BACKWARD, WAIT, REDUCE, OPTIMIZER, OTHER)
WARM_UP = 10
"""Steps before the measurement: the first ones also allocate memory and tune."""


@dataclass(frozen=True)
class RankTimes:
    """Seconds of one rank over all steps, by phase."""

    rank: int
    host: str
    seconds: dict[str, float]

    @property
    def total(self) -> float:
        """Seconds in all."""
        return sum(self.seconds.values())

    @property
    def busy(self) -> float:
        """Seconds without waiting for other ranks."""
        return self.total - self.seconds[WAIT]


@dataclass(frozen=True)
class StepTimes:
    """Times of all ranks."""

    steps: int
    samples: int
    """Over all steps and ranks."""
    ranks: list[RankTimes]

    @property
    def total(self) -> float:
        """Seconds of all steps."""
        return max(rank.total for rank in self.ranks)

    @property
    def slowest(self) -> RankTimes:
        """The rank that the others wait for: it waits least."""
        return max(self.ranks, key=lambda rank: rank.busy)

    @property
    def typical(self) -> dict[str, float]:
        """Return the median over ranks by phase, in seconds over all steps."""
        return {phase: median(rank.seconds[phase] for rank in self.ranks) for phase in PHASES}

    @property
    def slowness(self) -> float:
        """Busy time of the slowest rank as a multiple of the median."""
        return self.slowest.busy / median(rank.busy for rank in self.ranks)


def measure_steps(training: Training, comm: Communicator, steps: int) -> StepTimes:
    """Train for `steps` steps after a warm-up. Nothing is saved or evaluated. Collective."""
    training.replica.synchronize()
    activity = comm.activity
    _train(training, 0, WARM_UP, activity)
    comm.barrier()
    activity.enter(OTHER)
    activity.seconds.clear()
    samples = _train(training, WARM_UP, steps, activity)
    training.shards.close()
    activity.enter(OTHER)  # ends the last phase
    own = {phase: activity.seconds[phase] for phase in PHASES}
    everyone = comm.allgather((comm.host, own))
    return StepTimes(steps, samples, [RankTimes(rank, *each) for rank, each in enumerate(everyone)])


def _train(training: Training, first: int, steps: int, activity: Activity) -> int:
    """Do the steps from number `first` on and return how many samples they had; `activity` learns of new epochs."""
    loader, samples = training.shards, 0
    for step in range(first, first + steps):
        epoch, in_epoch = divmod(step, loader.steps_per_epoch)
        if in_epoch == 0 or step == first:
            activity.enter(DATA)
            loader.start_epoch(epoch, in_epoch, training.replica.owned)
            activity.enter(OTHER)
        try:
            sums = training.replica.train_step(step, partial(loader.shards, in_epoch), factor=training.schedule(step))
        except NotFiniteError as error:
            raise DivergedError(
                f"step {step + 1}: {error.what} is not finite, so its time says nothing. "
                "Try a lower optimizer.learning_rate, or fewer --steps."
            ) from None
        samples += int(sums[COUNT])
    return samples
