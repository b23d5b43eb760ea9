"""Learning rates that change during training: the mixins of the callbacks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from hpcnn.comm.tensors.world import rank, size
from hpcnn.errors import CommunicatorError
from hpcnn.keras.numpy_calls import backend


class LearningRateSchedule:
    """Sets the learning rate to ``initial_lr * multiplier(epoch)`` in a range of epochs.

    Args:
        initial_lr: the base rate.
        multiplier: a number, or a function of the epoch, from 0; fractional if not `staircase`.
        start_epoch: the first epoch of the range.
        end_epoch: the first epoch after the range; None: to the end.
        staircase: change the rate per epoch, not per batch.
        momentum_correction: scale the momentum from the old rate to the new one, after Goyal et al., "Accurate, Large
            Minibatch SGD" (2017).
        steps_per_epoch: batches in an epoch, if Keras can't know and it is not `staircase`.
    """

    model: Any
    params: Any

    def __init__(
        self,
        initial_lr: float,
        multiplier: Callable[[float], float] | float,
        start_epoch: int = 0,
        end_epoch: int | None = None,
        staircase: bool = True,
        momentum_correction: bool = True,
        steps_per_epoch: int | None = None,
    ) -> None:
        super().__init__()
        if initial_lr is None or not initial_lr > 0:
            raise CommunicatorError(f"initial_lr={initial_lr} must be a positive number")
        self.initial_lr, self.start_epoch, self.end_epoch = initial_lr, start_epoch, end_epoch
        self.multiplier: Callable[[float], float] = multiplier if callable(multiplier) else lambda _: multiplier
        self.staircase = staircase if callable(multiplier) else True
        self.momentum_correction, self.steps_per_epoch = momentum_correction, steps_per_epoch
        self.current_epoch = 0

    def on_train_begin(self, logs: Any = None) -> None:
        """Check that the rate can be set."""
        import keras

        if isinstance(self.model.optimizer._learning_rate, keras.optimizers.schedules.LearningRateSchedule):
            raise CommunicatorError(
                "the optimizer has a learning-rate schedule of its own: give it a number, or leave this callback out"
            )
        if self.staircase:
            return
        if backend() == "jax":
            raise CommunicatorError(
                "on Keras's jax backend callbacks can't set the rate within an epoch: give the optimizer a "
                "keras.optimizers.schedules schedule, or set staircase=True"
            )
        self.steps_per_epoch = self.steps_per_epoch or self.params.get("steps")
        if not self.steps_per_epoch:
            raise CommunicatorError("Keras does not know how many batches an epoch has: give steps_per_epoch")

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Set the rate of the epoch."""
        self.current_epoch = epoch
        if self.staircase and self._acts():
            self._set(self.multiplier(epoch))

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Set the rate of the batch."""
        if not self.staircase and self._acts():
            assert self.steps_per_epoch is not None
            self._set(self.multiplier(self.current_epoch + batch / self.steps_per_epoch))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Report the rate."""
        if logs is not None:
            logs["lr"] = self._rate()

    def _acts(self) -> bool:
        return self.start_epoch <= self.current_epoch and (
            self.end_epoch is None or self.current_epoch < self.end_epoch
        )

    def _rate(self) -> float:
        import keras

        return float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))

    def _set(self, factor: float) -> None:
        old, new = self._rate(), self.initial_lr * factor
        optimizer = self.model.optimizer
        optimizer.learning_rate = new
        if not (self.momentum_correction and getattr(optimizer, "momentum", None) and old > 0):
            return
        for velocity in getattr(optimizer, "momentums", None) or []:  # the old rate is a factor in them
            velocity.assign(velocity * (new / old))


class LearningRateWarmup(LearningRateSchedule):
    """Increases the learning rate from ``initial_lr / size()`` to `initial_lr` over the first epochs.

    Args:
        initial_lr: the final rate: usually that of one rank times `size()`.
        warmup_epochs: the length of the warm-up.
        momentum_correction: as for `LearningRateScheduleCallback`.
        steps_per_epoch: likewise.
        verbose: whether rank 0 prints when it is finished.
    """

    def __init__(
        self,
        initial_lr: float,
        warmup_epochs: float = 5,
        momentum_correction: bool = True,
        steps_per_epoch: int | None = None,
        verbose: int = 0,
    ) -> None:
        def multiplier(epoch: float) -> float:
            assert self.steps_per_epoch is not None
            done = min(1.0, (epoch + 1 / self.steps_per_epoch) / warmup_epochs)
            return (done * (size() - 1) + 1) / size()

        super().__init__(
            initial_lr,
            multiplier,
            end_epoch=math.ceil(warmup_epochs),
            staircase=False,
            momentum_correction=momentum_correction,
            steps_per_epoch=steps_per_epoch,
        )
        self.verbose = verbose

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Report the rate, and the end of the warm-up."""
        super().on_epoch_end(epoch, logs)
        if self.verbose and self.end_epoch is not None and epoch == self.end_epoch - 1 and rank() == 0:
            print(f"\nEpoch {epoch + 1}: finished gradual learning rate warmup to {self._rate():g}.")
