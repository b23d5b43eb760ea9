"""What the training loop needs of a model, in either mode: nothing about how it computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from hpcnn.storage.lazy import LazyArray
from hpcnn.training.step_stats import Sums, SumsLayout

Array = NDArray[Any]
LoadShard = Callable[[int], tuple[Array, Array]]
"""``shard -> (x, y)``: the samples of one gradient shard of the batch, in memory that the next call may overwrite."""


class NotFiniteError(Exception):
    """The loss, or else a gradient, is no longer finite; raised on all ranks at the same step."""

    def __init__(self, what: str, where: str | None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        """What this rank found, for the message; None if it found nothing on its own shards."""


class EvaluableModel(Protocol):
    """A model as it stands."""

    layout: SumsLayout

    def eval_piece(self, x: Array, y: Array) -> Sums:
        """Return the sums over one piece of samples, without a reduction."""
        ...

    def penalty(self) -> float:
        """Return the penalties of the weights as they are, which the loss includes."""
        ...

    def predict_piece(self, x: Array) -> Array:
        """Return the outputs, shape (n, *output_shape), valid until the next call."""
        ...

    def weights(self) -> dict[str, Array]:
        """Return a copy of each parameter by name."""
        ...

    def load_weights(self, weights: Mapping[str, Array]) -> None:
        """Overwrite the parameters by arrays of the same names and shapes. Collective in training."""
        ...

    def fingerprint(self) -> str:
        """Return the SHA-256 of the weights."""
        ...


class Replica(EvaluableModel, Protocol):
    """One rank's copy of a model in training."""

    def train_step(self, step: int, load: LoadShard, *, factor: float, stop: bool = False, save: bool = False) -> Sums:
        """Do forward, backward, reduce and update for the owned shards; return the sums over the whole batch.

        Args:
            step: updates done before this one.
            load: gives a shard's samples.
            factor: what schedules make of the learning rate.
            stop: whether this rank was asked to stop.
            save: whether this rank finds it time for a checkpoint.

        Raises:
            NotFiniteError: on all ranks alike.
        """
        ...

    def learning_rate(self, step: int, factor: float) -> float:
        """Return the learning rate of `step`."""
        ...

    def synchronize(self) -> None:
        """Give all ranks the parameters of rank 0."""
        ...

    def lazy_weights(self) -> dict[str, LazyArray]:
        """Return the parameters by name, as they are when they are fetched."""
        ...

    def optimizer_state(self) -> dict[str, LazyArray]:
        """Return the optimizer's vectors by name."""
        ...

    def load_optimizer_state(self, state: Mapping[str, Array]) -> None:
        """Overwrite the optimizer's vectors by whole ones of the same names."""
        ...
