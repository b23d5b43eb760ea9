"""A Keras model whose variables are pieces of one flat vector: a pure function of that vector and the samples.

Training never changes the model's own variables. Keras's `StatelessScope` puts pieces of the vector in their place
while TensorFlow traces the function, so that no step has to copy weights into variables and gradients out of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpcnn.backends.keras.entry import build_entry, is_seed, specs_of
from hpcnn.backends.keras.layers import to_keras
from hpcnn.backends.keras.losses import ending_of, head_of
from hpcnn.comm.protocol import Array
from hpcnn.errors import ModelError, shortened
from hpcnn.job.schema import Job
from hpcnn.models.build import build_network
from hpcnn.nn.layer import Shape
from hpcnn.nn.network import Network
from hpcnn.nn.params import ParamLayout, ParamSpec


@dataclass(frozen=True)
class Called:
    """What a call of the model gives, as symbolic tensors."""

    outputs: Any
    parts: Sequence[Any]
    """The trainable parameters, in the order of the vector."""
    state: Any
    """The new values of what training changes beside the parameters, one after the other."""


class KerasNetwork:
    """A Keras model with the place of each of its variables in the flat vector.

    Args:
        model: a built `keras.Model`.
        names: the name of our parameter for the id of each variable that is one.
        layout: of the parameters.
        input_shape: of one sample.
        dtype: of parameters and arithmetic.
        source: what built the model, for messages.
        ending: the last activation; left out, it is looked for among TensorFlow's operations.
    """

    def __init__(
        self,
        model: Any,
        names: dict[int, str],
        layout: ParamLayout,
        input_shape: Shape,
        dtype: str,
        source: str,
        ending: str | None = None,
    ) -> None:
        self.model, self.layout, self.input_shape, self.dtype = model, layout, input_shape, dtype
        self._source = source
        self._in_order = sorted(layout.specs, key=lambda spec: layout.offsets[spec.name])
        self._parameters = [(variable, names[id(variable)]) for variable in model.variables if id(variable) in names]
        self._constants = [v for v in model.variables if id(v) not in names and not is_seed(v)]
        self._seeds = [variable for variable in model.variables if is_seed(variable)]
        self.seeds = len(self._seeds)
        """How many random generators the model has."""
        self.state: list[ParamSpec] = []
        """The parameters that training changes without a gradient, as the averages of batch normalisation."""
        outputs = self._probe()
        self.head, self.output_shape = head_of(outputs), tuple(outputs.shape[1:])
        self.ending = ending or ending_of(outputs)

    def assign(self, weights: Mapping[str, Array]) -> None:
        """Give the model's own variables, which are otherwise left alone, the values of our parameters."""
        for variable, name in self._parameters:
            variable.assign(weights[name])

    # ------------------------------------------------------------------------------------------------------ the call

    def call(self, vector: Any, x: Any, *, training: bool, seeds: Any = None) -> Called:
        """Call the model on `x` with the parameters in `vector`, within a trace.

        `seeds`, of shape (generators, 2), are the states that the random generators begin with.
        """
        import keras
        import tensorflow as tf

        pieces = tf.split(vector, [spec.size for spec in self._in_order])
        tensors = {spec.name: tf.reshape(piece, spec.shape) for spec, piece in zip(self._in_order, pieces, strict=True)}
        mapping = [(variable, tensors[name]) for variable, name in self._parameters]
        mapping += [(variable, tf.constant(variable.numpy())) for variable in self._constants]
        mapping += [(v, tf.zeros(2, v.dtype) if seeds is None else seeds[i]) for i, v in enumerate(self._seeds)]
        parts = [tensors[spec.name] for spec in self._in_order if spec.trainable]
        before = keras.config.floatx()
        keras.config.set_floatx(self.dtype)  # of numbers in the layers' own code
        try:
            with keras.StatelessScope(state_mapping=mapping, collect_losses=True) as scope:
                outputs = self.model(x, training=training)
                losses = len(self.model.losses)
        finally:
            keras.config.set_floatx(before)
        self._check_losses(losses)
        changed = [(v, scope.get_current_value(v)) for v, _ in mapping]
        changed = [(v, new) for (v, old), (_, new) in zip(mapping, changed, strict=True) if new is not old]
        return Called(outputs, parts, self._new_state(dict(self._named(changed))) if training else None)

    def _named(self, changed: list[tuple[Any, Any]]) -> list[tuple[str, Any]]:
        names = {id(variable): name for variable, name in self._parameters}
        for variable, _ in changed:
            if id(variable) not in names and not is_seed(variable):
                raise ModelError(
                    f"{self._source}: training changes {variable.path!r}, a variable of type {variable.dtype}, which "
                    "can't be averaged over the ranks. Keep only floating-point state."
                )
        return [(names[id(variable)], new) for variable, new in changed if id(variable) in names]

    def _new_state(self, changed: dict[str, Any]) -> Any:
        """Return the new values of the state as one tensor; the first call of all finds out what the state is."""
        import tensorflow as tf

        if not self.state:
            self.state = [spec for spec in self.layout.specs if spec.name in changed]
        values = [tf.reshape(tf.cast(changed[spec.name], tf.float64), [-1]) for spec in self.state]
        return tf.concat(values, 0) if values else tf.zeros(0, tf.float64)

    def _check_losses(self, count: int) -> None:
        if count > len(self.layout.penalized) + sum(bool(s.l1 or s.l2) for s in self.layout.specs if not s.trainable):
            raise ModelError(
                f"{self._source}: the model adds losses of its own (an activity regularizer, or add_loss), which "
                "hpcnn can't sum over ranks. Use L1 or L2 regularizers of weights."
            )

    # ------------------------------------------------------------------------------------------------------ the probe

    def _probe(self) -> Any:
        """Trace the model once in training, check what it does, and return its outputs, a symbolic tensor."""
        import tensorflow as tf

        found: list[Called] = []

        def step(vector: Any, seeds: Any, x: Any) -> Any:
            found.append(self.call(vector, x, training=True, seeds=seeds))
            return found[0].outputs

        signature = [
            tf.TensorSpec([self.layout.size], self.dtype),
            tf.TensorSpec([self.seeds, 2], tf.uint32),
            tf.TensorSpec([None, *self.input_shape], self.dtype),
        ]
        try:
            graph = tf.function(step, input_signature=signature, autograph=False).get_concrete_function().graph
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(
                f"{self._source}: the model can't be called on samples of shape {self.input_shape}: "
                f"{type(error).__name__}: {shortened(error)}"
            ) from error
        outputs = found[0].outputs
        self._check_graph(graph)
        self._check_outputs(outputs)
        return outputs

    def _check_graph(self, graph: Any) -> None:
        stray = [op.type for op in graph.get_operations() if op.op_def.is_stateful and "Random" in op.type]
        stray += ["Keras's global generator" for variable in graph.variables if is_seed_name(variable.name)]
        if stray:
            raise ModelError(
                f"{self._source}: the model draws random numbers from {stray[0]}, whose state does not follow from the "
                "job's seed. Draw by keras.random with seed=keras.random.SeedGenerator(...), made in the layer's "
                "__init__."
            )

    def _check_outputs(self, outputs: Any) -> None:
        import tensorflow as tf

        if not isinstance(outputs, tf.Tensor):
            raise ModelError(f"{self._source}: the model must return one tensor, but returns {type(outputs).__name__}")
        if outputs.dtype != self.dtype:
            raise ModelError(
                f"{self._source}: the model returns {outputs.dtype.name}, but train.dtype is {self.dtype}. Give the "
                f'last layer dtype="{self.dtype}", or leave the dtype policy to the job.'
            )
        if outputs.shape.rank is None or None in outputs.shape[1:]:
            raise ModelError(f"{self._source}: the shape of the model's outputs, {outputs.shape}, is not fixed")


def is_seed_name(name: str) -> bool:
    """Return whether a TensorFlow variable of that name is the state of a random generator of Keras."""
    return "seed_generator_state" in name


def build_keras_network(job: Job, input_shape: Shape) -> KerasNetwork:
    """Return the network of the job's ``[model]``: its layers, or what its function returns.

    Raises:
        JobError: the section names no layers, or a function that doesn't exist.
        ModelError: the model does not fit the data, or can't be trained.
    """
    source = f"model.entry {job.model.entry!r}" if job.model.entry else "[model]"
    dtype = job.train.dtype
    network = build_entry(job, input_shape) if job.model.entry else build_network(job.model, input_shape)
    if isinstance(network, Network):
        model, names = to_keras(network, dtype)
        return KerasNetwork(model, names, network.layout, network.input_shape, dtype, source, network.ending)
    specs = specs_of(source, network)
    names = {id(variable): spec.name for variable, spec in specs}
    layout = ParamLayout([spec for _, spec in specs])
    shape = tuple(network.inputs[0].shape[1:]) if getattr(network, "inputs", None) else input_shape
    return KerasNetwork(network, names, layout, shape, dtype, source)
