"""Callbacks for `model.fit` on several ranks: `hpcnn.keras.callbacks`.

The classes here do not need Keras, which is imported, and made their base class, when a script first names one.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from hpcnn.comm.tensors.call_matching import ReduceOp
from hpcnn.comm.tensors.process_sets import ProcessSet, global_process_set
from hpcnn.comm.tensors.world import rank
from hpcnn.errors import CommunicatorError
from hpcnn.keras.building import build_for, is_complete
from hpcnn.keras.learning_rates import LearningRateSchedule, LearningRateWarmup
from hpcnn.keras.numpy_calls import backend
from hpcnn.keras.optimizer import Distributed
from hpcnn.keras.variables import broadcast_variables, check_replicas
from hpcnn.system.output import ERROR, write_line

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence


class _Broadcast:
    """Broadcasts the weights and the optimizer state of one rank before the first step.

    A model without weights is built from the shape of its first batch; where that is impossible, weights and optimizer
    state are broadcast after the first step, as in Horovod. On jax, whose training function takes the weights as
    arguments, the model must be built before. After each epoch the trainable weights of the ranks are compared, and
    the training ends if they have drifted apart.

    Args:
        root_rank: that rank.
        device: has no effect.
        local_variables: has no effect.
        process_set: the ranks that train together.
    """

    model: Any

    def __init__(
        self,
        root_rank: int,
        device: str = "",
        local_variables: bool = False,
        process_set: ProcessSet = global_process_set,
    ) -> None:
        super().__init__()
        self.root_rank, self.process_set = root_rank, process_set
        self._local: list[Any] = []

    def register_local_var(self, variable: Any) -> None:
        """Exclude a variable from the broadcast."""
        self._local.append(variable)

    def _shared(self, variables: Sequence[Any]) -> list[Any]:
        return [variable for variable in variables if not any(variable is own for own in self._local)]

    def set_model(self, model: Any) -> None:
        """Set the model, before Keras creates its training function."""
        super().set_model(model)  # type: ignore[misc]
        check_compiled(model)

    def on_train_begin(self, logs: Any = None) -> None:
        """Broadcast now, or in the first step.

        Raises:
            CommunicatorError: the model has no weights yet, and its training function can't create them.
        """
        on_jax = backend() == "jax"  # a step there takes weights as arguments, and returns new ones
        if is_complete(self.model) or (on_jax and self.model.built):
            self._broadcast()
        elif on_jax:
            raise CommunicatorError("the model has no weights yet: begin it with keras.Input, or call it on a batch")
        else:
            self._broadcast_at_first_step()

    def _broadcast_at_first_step(self) -> None:
        """Build and broadcast in the training function's first call, which knows the data."""
        model, step = self.model, self.model.train_function

        def first(*arguments: Any) -> Any:
            model.train_function = step
            build_for(model, *arguments)
            self._broadcast()
            if is_complete(model):
                return step(*arguments)
            result = step(*arguments)
            self._broadcast()
            return result

        model.train_function = first

    def _broadcast(self) -> None:
        """Broadcast the existing variables."""
        model, optimizer = self.model, getattr(self.model, "optimizer", None)
        if optimizer is not None and not optimizer.built and is_complete(model):
            optimizer.build(model.trainable_variables)
        state = optimizer.variables if optimizer is not None and optimizer.built else []
        broadcast_variables(self._shared([*model.weights, *state]), self.root_rank, self.process_set)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Compare the weights of the ranks."""
        optimizer = getattr(self.model, "optimizer", None)
        shared = self._shared(self.model.trainable_variables)
        if isinstance(optimizer, Distributed):
            shared = [variable for variable in shared if not optimizer.hpcnn_local.has(variable)]
        found = check_replicas(shared, self.process_set.group, f"after epoch {epoch + 1}")
        if found and rank() == 0:
            warn(found)


def check_compiled(model: Any) -> None:
    """Check that the optimizer can reduce gradients within the compiled training step.

    Raises:
        CommunicatorError: each rank would decide on its own which steps to skip.
    """
    optimizer = getattr(model, "optimizer", None)
    inner = getattr(optimizer, "inner_optimizer", None)
    if isinstance(inner, Distributed) and not isinstance(optimizer, Distributed):
        raise CommunicatorError(
            "with mixed_float16 each rank would skip different steps. Scale the loss inside: "
            "hvd.DistributedOptimizer(keras.optimizers.LossScaleOptimizer(optimizer))."
        )
    if not isinstance(optimizer, Distributed) or not optimizer.hpcnn_reducer.exchanges:
        return
    if backend() == "tensorflow" and model.jit_compile:
        model.jit_compile = False
        if rank() == 0:
            warn("XLA can't compile a step that exchanges gradients: jit_compile is set to False")


def warn(text: str) -> None:
    """Print a warning."""
    write_line(f"hpcnn: warning: {text}", ERROR)


class _MetricAverage:
    """Replaces the epoch's metrics on each rank by those over the samples of all ranks.

    Each rank's value is weighted by its number of samples, so the mean is that over all samples. Put it before
    callbacks that use metrics.

    Args:
        device: has no effect.
        process_set: the ranks that train together.
    """

    model: Any

    def __init__(self, device: str = "", process_set: ProcessSet = global_process_set) -> None:
        super().__init__()
        self.process_set = process_set
        self._trained: float | None = None
        self._validates = False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Reset the count."""
        self._trained, self._validates = None, False

    def on_test_begin(self, logs: Any = None) -> None:
        """Keep the count of training samples, which the validation of an epoch resets."""
        if self._trained is None:
            self._trained = self._samples()
        self._validates = True

    def on_epoch_end(self, epoch: int, logs: MutableMapping[str, Any] | None = None) -> None:
        """Average the metrics of the epoch."""
        self._average(logs, self._samples() if self._trained is None else self._trained, self._samples())

    def _average(self, logs: MutableMapping[str, Any] | None, trained: float, validated: float) -> None:
        names = sorted(name for name, value in (logs or {}).items() if np.ndim(value) == 0)
        if not logs or not names:
            return
        weights = np.array([validated if name.startswith("val_") else trained for name in names])
        values = np.array([float(logs[name]) for name in names])
        group = self.process_set.group
        group.agree_on("averaging of the metrics", *names)
        # a rank without samples has the value nan, which would spoil the sum
        products = np.where(weights > 0, weights * values, 0.0)
        sums, counts = group.allreduce([products, weights], ReduceOp.SUM)
        with np.errstate(invalid="ignore"):
            logs.update(zip(names, (sums / counts).tolist(), strict=True))

    def _samples(self) -> float:
        """Return the number of samples in the metrics; 1 on all ranks if the model does not count them."""
        import keras

        for metric in self.model.metrics:
            if metric.name == "loss" and hasattr(metric, "count"):
                return float(keras.ops.convert_to_numpy(metric.count))
        return 1.0


class _BestModel:
    """Saves the best model, only on rank 0; otherwise Keras's `ModelCheckpoint` with `save_best_only`.

    Put it after `MetricAverageCallback`.
    """

    def __init__(
        self,
        filepath: Any,
        monitor: str = "val_loss",
        verbose: int = 0,
        mode: str = "auto",
        save_freq: Any = "epoch",
        **options: Any,
    ) -> None:
        super().__init__(  # type: ignore[call-arg]
            filepath, monitor=monitor, verbose=verbose, save_best_only=True, mode=mode, save_freq=save_freq, **options
        )

    def _save_model(self, *arguments: Any, **options: Any) -> None:
        if rank() == 0:
            super()._save_model(*arguments, **options)  # type: ignore[misc]


_PARTS: dict[str, tuple[type[Any], str]] = {
    "BestModelCheckpoint": (_BestModel, "ModelCheckpoint"),
    "BroadcastGlobalVariablesCallback": (_Broadcast, "Callback"),
    "LearningRateScheduleCallback": (LearningRateSchedule, "Callback"),
    "LearningRateWarmupCallback": (LearningRateWarmup, "Callback"),
    "MetricAverageCallback": (_MetricAverage, "Callback"),
}
__all__ = sorted(_PARTS)


@cache
def __getattr__(name: str) -> Any:
    if name not in _PARTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    import keras

    own, base = _PARTS[name]
    return type(name, (own, getattr(keras.callbacks, base)), {"__module__": __name__, "__doc__": own.__doc__})
