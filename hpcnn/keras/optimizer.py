"""Keras optimizers that reduce gradients over all ranks: a subclass of the user's optimizer class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hpcnn.comm.tensors.call_matching import ReduceOp
from hpcnn.comm.tensors.compression import Compressor
from hpcnn.comm.tensors.process_sets import ProcessSet, global_process_set
from hpcnn.comm.tensors.reductions import Reduction
from hpcnn.errors import CommunicatorError
from hpcnn.keras.bridge import make_variables_callable
from hpcnn.keras.compression import Compression
from hpcnn.keras.gradients import GradientReducer
from hpcnn.keras.numpy_calls import backend


class Distributed:
    """The mixin for a Keras optimizer class."""

    if TYPE_CHECKING:
        built: bool
        _trainable_variables: list[Any]

        def build(self, variables: Any) -> None:
            """Create the state for some variables."""

    hpcnn_reducer: GradientReducer
    hpcnn_local: LocalVariables

    def apply(self, grads: Sequence[Any], trainable_variables: Any = None) -> None:
        """Update the variables with the gradients of all ranks."""
        variables = list(self._trainable_variables if trainable_variables is None else trainable_variables)
        if not grads:
            return
        if not self.built:
            self.build(variables)
        own, everyone = grads, self.hpcnn_local.without(grads, variables)
        if self.hpcnn_reducer.reduction.passes == 1:
            reduced = self.hpcnn_reducer.reduce(everyone)
            super().apply(self.hpcnn_local.merge(own, reduced, variables), variables)  # type: ignore[misc]
        else:
            self._apply_when_complete(everyone, variables)

    def register_local_var(self, variable: Any) -> None:
        """Keep the gradient of a variable local to its rank."""
        check_local(self.hpcnn_reducer.reduction)
        self.hpcnn_local.add(variable)

    def _apply_when_complete(self, gradients: Sequence[Any], variables: Sequence[Any]) -> None:
        """Update the variables once all backward passes of a step are accumulated."""
        import keras

        done, reduced = self.hpcnn_reducer.accumulate(gradients)
        apply = super().apply  # type: ignore[misc]

        def update() -> Any:
            apply(reduced, variables)
            return keras.ops.convert_to_tensor(True)

        keras.ops.cond(done, update, lambda: keras.ops.convert_to_tensor(False))


class LocalVariables:
    """Variables whose gradients stay local to their rank.

    Args:
        scale: multiplies those gradients.
    """

    def __init__(self, scale: float) -> None:
        self._scale = scale
        self._layers: list[Any] = []
        self._variables: list[Any] = []

    def add(self, variable: Any) -> None:
        """Add a variable."""
        self._variables.append(variable)

    def add_layer(self, layer: Any) -> None:
        """Add the variables of a layer, which may not be built yet."""
        self._layers.append(layer)

    def has(self, variable: Any) -> bool:
        """Return whether the variable is one of them."""
        of_layers = (own for layer in self._layers for own in layer.trainable_variables)
        return any(variable is own for own in (*self._variables, *of_layers))

    def without(self, gradients: Sequence[Any], variables: Sequence[Any]) -> list[Any]:
        """Return the gradients, with None for local variables."""
        return [None if self.has(v) else g for g, v in zip(gradients, variables, strict=True)]

    def merge(self, own: Sequence[Any], reduced: Sequence[Any], variables: Sequence[Any]) -> list[Any]:
        """Return the reduced gradients, and the scaled own ones for local variables."""
        import keras

        return [
            (g if g is None else keras.ops.multiply(g, self._scale)) if self.has(v) else r
            for g, r, v in zip(own, reduced, variables, strict=True)
        ]


def _distributed(optimizer: Any, reduction: Reduction, local_scale: float) -> Any:
    """Return an optimizer with the same settings and state that reduces gradients over all ranks.

    Its class keeps its name, so that a saved model can be loaded without hpcnn.

    Raises:
        CommunicatorError: it is not a Keras optimizer, or is distributed already.
    """
    import keras

    framework = backend()
    if framework == "tensorflow":
        make_variables_callable()
    if isinstance(optimizer, Distributed):
        raise CommunicatorError("this optimizer is distributed already: wrap it once")
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise CommunicatorError(
            f"DistributedOptimizer() takes an optimizer of Keras, as keras.optimizers.Adam(), not {optimizer!r}"
        )
    if framework == "jax" and reduction.passes > 1:
        raise CommunicatorError(
            f"backward_passes_per_step={reduction.passes} is not supported on Keras's jax backend. Leave it at 1, or "
            "set gradient_accumulation_steps of the Keras optimizer."
        )
    kind = type(optimizer)
    own: Any = type(kind.__name__, (Distributed, kind), {"__module__": kind.__module__})
    config = optimizer.get_config()
    if callable(rate := optimizer._learning_rate):  # a schedule: Keras recreates only classes it knows
        config["learning_rate"] = rate
    result = own.from_config(config)
    _take_settings(result, optimizer)
    result.hpcnn_reducer, result.hpcnn_local = GradientReducer(reduction), LocalVariables(local_scale)
    if optimizer.built:
        result.build(optimizer._trainable_variables)
        for variable, before in zip(result.variables, optimizer.variables, strict=True):
            variable.assign(before)
    return result


def _take_settings(result: Any, optimizer: Any) -> None:
    """Copy attributes that are not in the configuration of an optimizer."""
    import keras

    stateful = keras.Variable, keras.optimizers.Optimizer
    of_keras = vars(keras.optimizers.Optimizer(learning_rate=0.0, name="optimizer"))
    for name, value in vars(optimizer).items():
        if name not in of_keras and not any(isinstance(each, stateful) for each in keras.tree.flatten(value)):
            setattr(result, name, value)


def DistributedOptimizer(  # noqa: N802  # a class to those who call it
    optimizer: Any,
    name: str | None = None,
    device_dense: str = "",
    device_sparse: str = "",
    compression: Compressor = Compression.none,
    sparse_as_dense: bool = False,
    gradient_predivide_factor: float = 1.0,
    op: ReduceOp = ReduceOp.AVERAGE,
    backward_passes_per_step: int = 1,
    average_aggregated_gradients: bool = False,
    num_groups: int = 0,
    groups: Any = None,
    process_set: ProcessSet = global_process_set,
    scale_local_gradients: bool = True,
) -> Any:
    """Return a Keras optimizer that averages gradients over all ranks, in one message per step, before it uses them.

    Args:
        optimizer: a Keras optimizer; it is not changed.
        name: has no effect.
        device_dense: has no effect.
        device_sparse: has no effect.
        compression: the type in which gradients are sent and added.
        sparse_as_dense: gradients of embeddings are sent as dense arrays, not as the rows in use.
        gradient_predivide_factor: divides gradients before the sum, and multiplies them after it.
        op: Average or Sum.
        backward_passes_per_step: the number of batches that a rank accumulates per exchange and update.
        average_aggregated_gradients: average those batches, instead of adding them.
        num_groups: has no effect: there is one message per type.
        groups: has no effect.
        process_set: the ranks that train together.
        scale_local_gradients: see `PartialDistributedOptimizer`.

    Raises:
        CommunicatorError: the settings contradict each other, or it is not an optimizer.
    """
    reduction = Reduction(
        op,
        compression,
        process_set,
        gradient_predivide_factor,
        backward_passes_per_step,
        average_aggregated_gradients,
        sparse_as_dense,
    )
    return _distributed(optimizer, reduction, 1 / process_set.size() if scale_local_gradients else 1.0)


def PartialDistributedOptimizer(  # noqa: N802
    optimizer: Any, *settings: Any, local_layers: Any = None, **options: Any
) -> Any:
    """Return a `DistributedOptimizer` that keeps the gradients of some layers local to their rank.

    With `scale_local_gradients` these are divided by the number of ranks, as averaging divides the others.

    Args:
        optimizer: a Keras optimizer; it is not changed.
        *settings: of `DistributedOptimizer`.
        local_layers: one or more layers, whose weights then differ between ranks.
        **options: settings of `DistributedOptimizer`.

    Raises:
        CommunicatorError: as for `DistributedOptimizer`.
    """
    result = DistributedOptimizer(optimizer, *settings, **options)
    if local_layers:
        check_local(result.hpcnn_reducer.reduction)
    for layer in as_list(local_layers):
        result.hpcnn_local.add_layer(layer)
    return result


def check_local(reduction: Reduction) -> None:
    """Check that gradients may stay local to their rank.

    Raises:
        CommunicatorError: several backward passes are accumulated, for all variables together.
    """
    if reduction.passes > 1:
        raise CommunicatorError("local_layers need backward_passes_per_step=1: leave that out")


def as_list(layers: Any) -> list[Any]:
    """Return one layer, several or None as a list."""
    return [] if layers is None else list(layers) if isinstance(layers, list | tuple | set) else [layers]
