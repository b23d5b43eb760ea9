"""A user's optimizer that works on the gradients of all ranks: the same class, with one method more in front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hpcnn.comm.tensors.call_matching import ReduceOp
from hpcnn.errors import CommunicatorError
from hpcnn.keras.bridge import let_variables_be_called
from hpcnn.keras.compression import Compression, Compressor
from hpcnn.keras.gradients import GradientReducer, Reduction
from hpcnn.keras.host import backend
from hpcnn.keras.process_sets import ProcessSet, global_process_set


class Distributed:
    """What comes in front of a Keras optimizer's own methods."""

    if TYPE_CHECKING:
        built: bool
        _trainable_variables: list[Any]

        def build(self, variables: Any) -> None:
            """Make the state for some variables."""

    hpcnn_reducer: GradientReducer
    hpcnn_local: LocalVariables

    def apply(self, grads: Sequence[Any], trainable_variables: Any = None) -> None:
        """Update the variables by the gradients of all ranks."""
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
        """Leave the gradient by a variable on its rank."""
        check_local(self.hpcnn_reducer.reduction)
        self.hpcnn_local.add(variable)

    def _apply_when_complete(self, gradients: Sequence[Any], variables: Sequence[Any]) -> None:
        """Update the variables once as many backward passes as asked for are added up."""
        import keras

        done, reduced = self.hpcnn_reducer.accumulate(gradients)
        apply = super().apply  # type: ignore[misc]

        def update() -> Any:
            apply(reduced, variables)
            return keras.ops.convert_to_tensor(True)

        keras.ops.cond(done, update, lambda: keras.ops.convert_to_tensor(False))


class LocalVariables:
    """Variables whose gradients stay on their rank.

    Args:
        scale: what those gradients are multiplied by.
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
        """Return the gradients, None in place of theirs."""
        return [None if self.has(v) else g for g, v in zip(gradients, variables, strict=True)]

    def merge(self, own: Sequence[Any], reduced: Sequence[Any], variables: Sequence[Any]) -> list[Any]:
        """Return the reduced gradients, and theirs as they are, scaled."""
        import keras

        return [
            (g if g is None else keras.ops.multiply(g, self._scale)) if self.has(v) else r
            for g, r, v in zip(own, reduced, variables, strict=True)
        ]


def _distributed(optimizer: Any, reduction: Reduction, local_scale: float) -> Any:
    """Return an optimizer of the same class, settings and state, that works on the gradients of all ranks.

    It keeps the name of its class, so that a saved model can be loaded without hpcnn.

    Raises:
        CommunicatorError: it is no Keras optimizer, or distributed already.
    """
    import keras

    framework = backend()
    if framework == "tensorflow":
        let_variables_be_called()
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
    if callable(rate := optimizer._learning_rate):  # a schedule, which Keras makes anew only of classes it knows
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
    """Give an optimizer what another has beyond its configuration: a class need not put all of it there."""
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
    """Return a Keras optimizer that averages the gradients of all ranks, by one message a step, before it uses them.

    Args:
        optimizer: of Keras; it is left as it is.
        name: of no effect.
        device_dense: of no effect.
        device_sparse: of no effect.
        compression: the type in which gradients travel and are added.
        sparse_as_dense: gradients of embeddings travel whole, not the rows in use.
        gradient_predivide_factor: gradients are divided by it before they are added, and multiplied after.
        op: Average or Sum.
        backward_passes_per_step: how many batches a rank adds up before gradients travel and the weights change.
        average_aggregated_gradients: those are averaged, not added.
        num_groups: of no effect: there is one message a type of number.
        groups: of no effect.
        process_set: the ranks that train together.
        scale_local_gradients: see `PartialDistributedOptimizer`.

    Raises:
        CommunicatorError: the settings contradict each other, or it is no optimizer.
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
    """Return a `DistributedOptimizer` that leaves the gradients of some layers on their rank.

    With `scale_local_gradients` those are divided by the number of ranks, as the others are by averaging.

    Args:
        optimizer: of Keras; it is left as it is.
        *settings: of `DistributedOptimizer`.
        local_layers: a layer or several, whose weights then differ from rank to rank.
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
    """Make sure that gradients may stay on their rank.

    Raises:
        CommunicatorError: several passes are added up, of all variables alike.
    """
    if reduction.passes > 1:
        raise CommunicatorError("local_layers go with backward_passes_per_step=1: leave that out")


def as_list(layers: Any) -> list[Any]:
    """Return one layer, several or None as a list."""
    return [] if layers is None else list(layers) if isinstance(layers, list | tuple | set) else [layers]
