"""The range test itself: steps of the real job, each at a higher learning rate than the one before."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hpcnn.comm.collectives import first_or_raise
from hpcnn.comm.protocol import Communicator
from hpcnn.errors import DivergedError
from hpcnn.training.replica import NotFiniteError
from hpcnn.training.training import Training

DIVERGED = 4.0
"""The test ends when the running mean of the loss exceeds its minimum by this factor."""
MEMORY = 20
"""The running mean of the loss averages over 1/MEMORY of all steps."""
FEWEST = 10
"""Least number of steps, unless the loss is no longer finite."""


@dataclass(frozen=True)
class RangeTest:
    """What was measured."""

    rates: NDArray[np.float64]
    """Learning rate of each step."""
    losses: NDArray[np.float64]
    """Mean loss of each step's batch, before the update."""
    steps: int
    """Requested number of steps."""
    ended: str
    """Why it ended early, or empty."""


def rates_between(low: float, high: float, steps: int) -> NDArray[np.float64]:
    """Return `steps` rates from `low` to `high`, each the same multiple of the one before.

    >>> rates_between(0.001, 10, 5).round(6).tolist()
    [0.001, 0.01, 0.1, 1.0, 10.0]
    """
    return np.geomspace(low, high, steps)


def measure(training: Training, comm: Communicator, *, low: float, high: float, steps: int) -> RangeTest:
    """Train for up to `steps` steps, at rates from `low` to `high` (Smith, 2015, arXiv:1506.01186). Collective.

    The job's data, batches, shards and optimizer are used, its schedule is not. Losses are the same bits on any number
    of ranks, so all end at the same step.

    Raises:
        DivergedError: the loss or a gradient of the first step is not finite, so no rate can help.
    """
    try:
        return _measure(training, comm, low, high, steps)
    finally:
        training.shards.close()


def _measure(training: Training, comm: Communicator, low: float, high: float, steps: int) -> RangeTest:
    replica, loader = training.replica, training.shards
    rates, losses = rates_between(low, high, steps), list[float]()
    running = _Running(steps)
    replica.synchronize()
    for step, rate in enumerate(rates):
        epoch, in_epoch = divmod(step, loader.steps_per_epoch)
        if in_epoch == 0:
            loader.start_epoch(epoch, 0, replica.owned)
        factor = rate / replica.learning_rate(step, 1.0)
        try:
            sums = replica.train_step(step, partial(loader.shards, in_epoch), factor=factor)
        except NotFiniteError as error:
            if step == 0:
                _refuse(comm, error)
            return RangeTest(rates[:step], np.array(losses), steps, f"{error.what} was no longer finite")
        loss = replica.model.layout.values(sums)["loss"]
        assert isinstance(loss, float)
        losses.append(loss)
        if running.diverges(loss):
            return RangeTest(rates[: step + 1], np.array(losses), steps, f"the loss rose to {DIVERGED:g} times its low")
    return RangeTest(rates, np.array(losses), steps, "")


class _Running:
    """An exponentially weighted mean of the losses, and its minimum."""

    def __init__(self, steps: int) -> None:
        self._keep = 1 - 1 / max(1, steps / MEMORY)
        self._sum = self._weight = 0.0
        self._seen, self._lowest = 0, float("inf")

    def diverges(self, loss: float) -> bool:
        """Add a loss, and return whether the mean is far above its minimum."""
        self._sum = self._keep * self._sum + loss
        self._weight = self._keep * self._weight + 1
        mean = self._sum / self._weight
        self._seen, self._lowest = self._seen + 1, min(self._lowest, mean)
        return self._seen >= FEWEST and mean > DIVERGED * self._lowest


def _refuse(comm: Communicator, error: NotFiniteError) -> None:
    """Raise DivergedError on all ranks with the finding of the first rank that has one."""
    where = first_or_raise(comm, error.where or None)
    detail = f" ({where})" if where else ""
    raise DivergedError(
        f"{error.what} is not finite in the first step, before any update{detail}: no learning rate can fix that. "
        "Look at the data and its range; data.scale brings inputs to one scale."
    )
