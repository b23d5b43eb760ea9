"""The model in Keras: outputs, loss and gradients of one shard in one call of TensorFlow."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from hpcnn.backends.keras.graphs import trace
from hpcnn.backends.keras.losses import sample_losses, sum_of
from hpcnn.backends.keras.network import Called, KerasNetwork
from hpcnn.backends.keras.tensors import can_share, to_array, to_tensor
from hpcnn.comm.protocol import Array
from hpcnn.nn.passes import Ready
from hpcnn.nn.several_losses import BoundLosses
from hpcnn.training.model import Accumulator, AnyLoss, LossSums, Model, ShardBackward
from hpcnn.training.step_stats import StatsLayout


class KerasModel(Model):
    """A `KerasNetwork` with its parameters in one flat vector, its loss and its metrics; see `Model`.

    What training changes beside the parameters (the averages of batch normalisation) is part of the vector as well:
    each shard starts from the same values, and the new ones are the mean over all samples.
    """

    network: KerasNetwork

    def __init__(
        self, network: KerasNetwork, loss: AnyLoss, layout: StatsLayout, vector: Array, arithmetic: str = "numpy"
    ) -> None:
        super().__init__(network, loss, layout, vector, arithmetic)
        self._tensor = to_tensor(vector) if can_share(vector) else None
        """The parameters as TensorFlow sees them: the same memory, so that an update needs no copy."""

    def use_threads(self, threads: int) -> None:
        """Do nothing: TensorFlow's bits depend on its threads, so each rank has one."""

    def forward(
        self, key: tuple[int, ...], x: Array, y: Array, weights: Array | None, new_state: Array | None
    ) -> tuple[LossSums, Array, ShardBackward]:
        """Compute a shard with its gradient, which the backward pass then copies."""
        gradient, loss, outputs, state = self._call(key, x, y, weights)
        if new_state is not None:
            np.copyto(new_state, to_array(state))

        def backward(into: Accumulator, ready: Ready | None) -> None:
            np.copyto(into.vector, to_array(gradient))

        return self._sums(loss), to_array(outputs), backward

    def evaluate(self, x: Array, y: Array, weights: Array | None) -> tuple[LossSums, Array]:
        """Return the loss summed over the samples, and the outputs."""
        arguments = self._vector(), self._inputs(x), self._targets(y)
        if weights is None:
            loss, outputs = self._evaluate(*arguments)
        else:
            loss, outputs = self._weighted_evaluate(*arguments, to_tensor(weights))
        return self._sums(loss), to_array(outputs)

    def predict(self, x: Array) -> Array:
        """Return the outputs."""
        return to_array(self._predict(self._vector(), self._inputs(x)))

    def first_not_finite(self, key: tuple[int, ...], x: Array, y: Array, weights: Array | None) -> str | None:
        """Return whether the outputs are not finite, or the loss alone."""
        _, loss, outputs, _ = self._call(key, x, y, weights)
        if not np.isfinite(to_array(outputs)).all():
            return "the outputs of the model are not finite"
        return None if np.isfinite(to_array(loss)).all() else "all outputs are finite, the loss itself is not"

    def _call(self, key: tuple[int, ...], x: Array, y: Array, weights: Array | None) -> Any:
        arguments = self._vector(), self._seeds(key), self._inputs(x), self._targets(y)
        return self._step(*arguments) if weights is None else self._weighted_step(*arguments, to_tensor(weights))

    # ----------------------------------------------------------------------------------------------- in and out of TF

    def _vector(self) -> Any:
        return to_tensor(self.vector) if self._tensor is None else self._tensor

    def _inputs(self, x: Array) -> Any:
        return to_tensor(np.ascontiguousarray(x.reshape(len(x), *self.network.input_shape), self.network.dtype))

    def _targets(self, y: Array) -> Any:
        labels = self.loss.target_kind != "values" and not isinstance(self.loss, BoundLosses)
        dtype = np.int64 if labels else self.network.dtype
        return to_tensor(np.ascontiguousarray(y, dtype))

    def _seeds(self, key: tuple[int, ...]) -> Any:
        """Return the states that the model's random generators begin the shard with, shape (generators, 2)."""
        if not self.network.seeds:
            return self._no_seeds
        words = np.random.SeedSequence(key).generate_state(2 * self.network.seeds)
        return to_tensor(words.reshape(-1, 2))

    @cached_property
    def _no_seeds(self) -> Any:
        return to_tensor(np.empty((0, 2), np.uint32))

    # -------------------------------------------------------------------------------------------------------- graphs

    @cached_property
    def _step(self) -> Any:
        """``(vector, seeds, x, y) -> (gradient, loss, outputs, state)``, all sums over the samples."""

        def step(vector: Any, seeds: Any, x: Any, y: Any) -> Any:
            return self._gradients(vector, seeds, x, y, None)

        return trace(step, self._step_specs())  # an argument with a default would make each call slow

    @cached_property
    def _weighted_step(self) -> Any:
        """The same of ``(vector, seeds, x, y, weights)``."""
        import tensorflow as tf

        return trace(self._gradients, [*self._step_specs(), tf.TensorSpec([None], self.network.dtype)])

    def _step_specs(self) -> list[Any]:
        import tensorflow as tf

        vector, x, y = self._specs()
        return [vector, tf.TensorSpec([self.network.seeds, 2], tf.uint32), x, y]

    def _gradients(self, vector: Any, seeds: Any, x: Any, y: Any, weights: Any) -> Any:
        """Compute one shard, within a trace."""
        import tensorflow as tf

        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(vector)
            called = self.network.call(vector, x, training=True, seeds=seeds)
            losses = self._losses(called, y)
        unconnected = tf.UnconnectedGradients.ZERO
        gradients = tape.gradient(losses[0], called.parts, weights, unconnected_gradients=unconnected)  # of their sum
        flat = tf.concat([tf.reshape(gradient, [-1]) for gradient in gradients], 0)
        return flat, _sums_of(losses, weights), called.outputs, called.state

    def _losses(self, called: Called, y: Any) -> list[Any]:
        """Return the loss of each sample; of several outputs: their sum, then that of each, times its weight."""
        import tensorflow as tf

        if not isinstance(self.loss, BoundLosses):
            return [sample_losses(self.loss.loss, called.outputs, y)]
        each = []
        for part, outputs in zip(self.loss.parts, called.each, strict=True):
            targets = tf.reshape(y[:, part.start : part.stop], [-1, *part.target_shape])
            targets = tf.cast(targets, tf.int64 if part.labels else outputs.dtype)
            each.append(sample_losses(part.bound.loss, outputs, targets) * tf.constant(part.weight, outputs.dtype))
        return [tf.add_n(each), *each]

    def _sums(self, loss: Any) -> LossSums:
        return to_array(loss).copy() if isinstance(self.loss, BoundLosses) else float(loss)

    @cached_property
    def _predict(self) -> Any:
        def predict(vector: Any, x: Any) -> Any:
            return self.network.call(vector, x, training=False).outputs

        return trace(predict, self._specs()[:2])

    @cached_property
    def _evaluate(self) -> Any:
        def evaluate(vector: Any, x: Any, y: Any) -> Any:
            return self._evaluated(vector, x, y, None)

        return trace(evaluate, self._specs())

    @cached_property
    def _weighted_evaluate(self) -> Any:
        import tensorflow as tf

        return trace(self._evaluated, [*self._specs(), tf.TensorSpec([None], self.network.dtype)])

    def _evaluated(self, vector: Any, x: Any, y: Any, weights: Any) -> Any:
        called = self.network.call(vector, x, training=False)
        return _sums_of(self._losses(called, y), weights), called.outputs

    def _specs(self) -> list[Any]:
        """Return the types and shapes of the parameters, inputs and targets."""
        import tensorflow as tf

        network = self.network
        targets = {
            "rows": tf.TensorSpec([None, getattr(self.loss, "width", 0)], network.dtype),
            "values": tf.TensorSpec([None, *network.output_shape], network.dtype),
            "labels": tf.TensorSpec([None, *network.output_shape[:-1]], tf.int64),
            "sequences": tf.TensorSpec([None, None], tf.int64),
        }
        return [
            tf.TensorSpec([network.layout.size], network.dtype),
            tf.TensorSpec([None, *network.input_shape], network.dtype),
            targets["rows" if isinstance(self.loss, BoundLosses) else self.loss.target_kind],
        ]


def _sums_of(losses: list[Any], weights: Any) -> Any:
    """Return the sum over the samples of a loss, or of each of several, as one tensor."""
    import tensorflow as tf

    return sum_of(losses[0], weights) if len(losses) == 1 else tf.stack([sum_of(each, weights) for each in losses])
