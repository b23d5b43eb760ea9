"""The Keras model of one rank in training: outputs, loss and gradients of one shard in one call of TensorFlow."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from hpcnn.backends.keras.graphs import trace
from hpcnn.backends.keras.losses import sample_losses, sum_of
from hpcnn.backends.keras.model import KerasModel
from hpcnn.backends.keras.network import KerasNetwork
from hpcnn.backends.keras.tensors import to_array, to_tensor
from hpcnn.comm.protocol import Array
from hpcnn.nn.network import Written
from hpcnn.training.step_stats import COUNT, LOSS
from hpcnn.training.vector_replica import ReplicaParts, ShardBackward, Slot, VectorReplica


class KerasReplica(VectorReplica, KerasModel):
    """A `KerasModel` in training, on the gradient shards of one rank.

    What training changes beside the parameters (the averages of batch normalisation) is part of the vector as well:
    each shard starts from the same values, and the new ones are the mean over all samples.

    Args:
        network: the Keras model.
        parts: what it trains with.
    """

    def __init__(self, network: KerasNetwork, parts: ReplicaParts) -> None:
        vector = parts.updater.store.array
        super().__init__(network, parts.loss, parts.layout, vector=vector)
        self._begin_training(parts)

    def _forward(self, key: tuple[int, ...], x: Array, y: Array, stats: Array) -> ShardBackward:
        gradient, loss, outputs, state = self._call(key, x, y)
        stats[COUNT], stats[LOSS] = len(x), float(loss)
        self.layout.add_metrics(stats, to_array(outputs), y)
        if self.network.state:
            np.multiply(to_array(state), len(x), out=stats[self.layout.size :])

        def backward(slot: Slot, written: Written | None) -> None:
            np.copyto(slot.vector, to_array(gradient))

        return backward

    def _call(self, key: tuple[int, ...], x: Array, y: Array) -> Any:
        arguments = [self._vector(), self._seeds(key), self._inputs(x), self._targets(y)]
        weights = self._weights_of(y)
        if weights is not None:
            arguments.append(to_tensor(weights))
        return self._step(*arguments)

    def _seeds(self, key: tuple[int, ...]) -> Any:
        """Return the states that the model's random generators begin the shard with, shape (generators, 2)."""
        if not self.network.seeds:
            return self._no_seeds
        words = np.random.SeedSequence(key).generate_state(2 * self.network.seeds)
        return to_tensor(words.reshape(-1, 2))

    @cached_property
    def _no_seeds(self) -> Any:
        return to_tensor(np.empty((0, 2), np.uint32))

    @cached_property
    def _step(self) -> Any:
        """``(vector, seeds, x, y[, weights]) -> (gradient, loss, outputs, state)``, all sums over the samples."""
        import tensorflow as tf

        def step(vector: Any, seeds: Any, x: Any, y: Any) -> Any:
            return self._gradients(vector, seeds, x, y, None)

        vector, x, y = self._specs()
        signature = [vector, tf.TensorSpec([self.network.seeds, 2], tf.uint32), x, y]
        if self._class_weights is None:
            return trace(step, signature)  # an argument with a default would make each call slow
        return trace(self._gradients, [*signature, tf.TensorSpec([None], self.network.dtype)])

    def _gradients(self, vector: Any, seeds: Any, x: Any, y: Any, weights: Any) -> Any:
        """Compute one shard, within a trace."""
        import tensorflow as tf

        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(vector)
            called = self.network.call(vector, x, training=True, seeds=seeds)
            losses = sample_losses(self._loss.loss, called.outputs, y)
        unconnected = tf.UnconnectedGradients.ZERO
        gradients = tape.gradient(losses, called.parts, weights, unconnected_gradients=unconnected)  # of their sum
        flat = tf.concat([tf.reshape(gradient, [-1]) for gradient in gradients], 0)
        return flat, sum_of(losses, weights), called.outputs, called.state

    def _step_done(self, stats: Array) -> None:
        """Give the state its mean over all samples."""
        store, position = self._updater.store, self.layout.size
        if not self.network.state:
            return
        for spec in self.network.state:
            if store.writes:
                mean = stats[position : position + spec.size] / float(stats[COUNT])
                self._params[spec.name][...] = mean.reshape(spec.shape)
            position += spec.size
        store.barrier()

    def _not_finite(self, key: tuple[int, ...], x: Array, y: Array) -> str | None:
        _, loss, outputs, _ = self._call(key, x, y)
        if not np.isfinite(to_array(outputs)).all():
            return "the outputs of the model are not finite"
        return None if np.isfinite(float(loss)) else "all outputs are finite, the loss itself is not"
