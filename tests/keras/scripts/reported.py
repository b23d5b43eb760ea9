"""What users of Horovod and Keras have reported as lost or refused in silence."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

import hpcnn.keras as hvd
from tests.mpi.checks import run_checks


class OwnSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule of a class that Keras has not been told of."""

    def __init__(self, start: float) -> None:
        self.start = start

    def __call__(self, step):
        return self.start / (1.0 + keras.ops.cast(step, "float32"))

    def get_config(self):
        return {"start": self.start}


class OwnOptimizer(keras.optimizers.SGD):
    """An optimizer whose configuration lacks what is its own."""

    def __init__(self, learning_rate: float = 0.1, strength: float = 1.0, **settings) -> None:
        super().__init__(learning_rate, **settings)
        self.strength = strength
        self.milestones = [strength, 2 * strength]


def check_settings_beyond_the_configuration_are_kept() -> None:
    scheduled = hvd.DistributedOptimizer(keras.optimizers.Adam(OwnSchedule(0.5)))
    assert float(scheduled.learning_rate) == 0.5
    assert float(hvd.DistributedOptimizer(keras.optimizers.SGD(lambda: 0.25)).learning_rate) == 0.25
    own = hvd.DistributedOptimizer(OwnOptimizer(strength=7.0))
    assert (own.strength, list(own.milestones)) == (7.0, [7.0, 14.0])
    decaying = keras.optimizers.AdamW(0.0, weight_decay=0.1)
    decaying.exclude_from_weight_decay(var_names=["bias"])
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, bias_initializer="ones")])
    model.compile(hvd.DistributedOptimizer(decaying), "mse")
    assert not model.optimizer._use_weight_decay(model.layers[0].bias)
    assert model.optimizer._use_weight_decay(model.layers[0].kernel)


def check_local_variables_of_the_optimizer_and_the_callback() -> None:
    keras.utils.set_random_seed(3 + hvd.rank())
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    kernel, _ = model.trainable_variables
    optimizer, broadcast = (
        hvd.DistributedOptimizer(keras.optimizers.SGD(0.1)),
        hvd.callbacks.BroadcastGlobalVariablesCallback(0),
    )
    optimizer.register_local_var(kernel)
    broadcast.register_local_var(kernel)
    model.compile(optimizer, "mse")
    model.fit(np.ones((4, 3)), np.full((4, 2), hvd.rank()), verbose=0, callbacks=[broadcast])
    kernels, biases = zip(*hvd.allgather_object([each.tobytes() for each in model.get_weights()]), strict=True)
    assert len(set(kernels)) == hvd.size()
    assert len(set(biases)) == 1


def gradient_of(call, own: np.ndarray) -> np.ndarray:
    """Return the gradient, by this rank's part, of the sum of squares of what a call makes of the parts of all."""
    variable = tf.Variable(own)

    def compute():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(call(variable * 1.0) ** 2)
        return tape.gradient(loss, variable)

    eager, compiled = compute(), tf.function(compute)()
    assert eager is not None
    np.testing.assert_array_equal(eager, compiled)
    return eager.numpy()


def check_gradients_of_collectives() -> None:
    """A rank's part of a result on which every rank computes a loss: the mean over ranks, as in Horovod."""
    size, rank = hvd.size(), hvd.rank()
    rows = np.arange(2.0 * (1 + rank)).reshape(1 + rank, 2) + rank
    np.testing.assert_allclose(gradient_of(hvd.allgather, rows), 2 * rows)
    np.testing.assert_allclose(gradient_of(hvd.allgather, np.array(3.0 + rank)), 2 * (3.0 + rank))
    even = np.arange(2.0 * size) + rank
    np.testing.assert_allclose(gradient_of(lambda x: hvd.broadcast(x, 0), even), 2 * even * (rank == 0))
    np.testing.assert_allclose(gradient_of(hvd.alltoall, even), 2 * even)
    splits = [size * 2 - (size - 1), *[1] * (size - 1)]
    np.testing.assert_allclose(gradient_of(lambda x: hvd.alltoall(x, splits)[0], even), 2 * even)
    mean = np.arange(2.0 * size) + (size - 1) / 2
    np.testing.assert_allclose(gradient_of(hvd.reducescatter, even), 2 * mean)
    np.testing.assert_allclose(gradient_of(lambda x: hvd.reducescatter(x, op=hvd.Sum), even), 2 * mean * size * size)


def main() -> None:
    hvd.init()
    run_checks(globals(), hvd)


if __name__ == "__main__":
    main()
