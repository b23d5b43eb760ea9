"""Models that get their weights at the first batch: all ranks go on from those of rank 0."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

import hpcnn.keras as hvd
from tests.mpi.checks import run_checks

BATCH, STEPS = 8, 4
"""Samples of one rank, and steps of training."""


def samples(count: int = BATCH * STEPS) -> tuple[np.ndarray, np.ndarray]:
    """Return what all ranks train on: batch by batch, in each the samples of rank 0 first."""
    rng = np.random.default_rng(7)
    shape = count * hvd.size()
    return rng.standard_normal((shape, 5)).astype("float32"), rng.standard_normal((shape, 2)).astype("float32")


def own_samples() -> tuple[np.ndarray, np.ndarray]:
    return tuple(
        each.reshape(STEPS, hvd.size(), BATCH, -1)[:, hvd.rank()].reshape(STEPS * BATCH, -1) for each in samples()
    )


def sequential() -> keras.Model:
    return keras.Sequential([keras.layers.Dense(4, "tanh"), keras.layers.Dense(2)])


class Subclassed(keras.Model):
    """A model in which a part is nested, one is only there in training, and one is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.unused = sequential(), keras.layers.Dense(3)
        self.scale = keras.layers.Dense(2, use_bias=False)

    def call(self, inputs, training=False):
        outputs = self.inner(inputs)
        return self.scale(outputs) if training else outputs


class Dictionaries(keras.Model):
    """A model with a step of its own, on batches that only this step understands."""

    def __init__(self) -> None:
        super().__init__()
        self.part = sequential()

    def train_step(self, data):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self.part(data["given"], training=True) - data["wanted"]) ** 2)
        self.optimizer.apply_gradients(
            zip(tape.gradient(loss, self.part.trainable_variables), self.part.trainable_variables, strict=True)
        )
        return {"loss": loss}


def trained(make, optimizer, data, batch: int, *, seed: int, **settings) -> keras.Model:
    """Return a model after the steps, begun from weights of that seed."""
    keras.utils.set_random_seed(seed)
    model = make()
    model.compile(optimizer, "mse", **settings)
    callbacks = [hvd.callbacks.BroadcastGlobalVariablesCallback(0)] if batch == BATCH else []
    model.fit(*data, batch_size=batch, shuffle=False, verbose=0, callbacks=callbacks)
    return model


def state_of(model: keras.Model) -> list[np.ndarray]:
    return [np.asarray(variable) for variable in (*model.weights, *model.optimizer.variables)]


def assert_same_everywhere(model: keras.Model) -> None:
    everyone = hvd.allgather_object([array.tobytes() for array in state_of(model)])
    assert everyone[0], "no variables"
    assert all(each == everyone[0] for each in everyone)


def check_models_are_built_before_the_first_step() -> None:
    """Each rank begins with a seed of its own, and ends as one process does that begins with the seed of rank 0."""
    for make in (sequential, Subclassed):
        expected = trained(make, keras.optimizers.Adam(0.01), samples(), BATCH * hvd.size(), seed=3)
        for settings in ({}, {"run_eagerly": True}, {"steps_per_execution": 2}):
            optimizer = hvd.DistributedOptimizer(keras.optimizers.Adam(0.01))
            got = trained(make, optimizer, own_samples(), BATCH, seed=3 + hvd.rank(), **settings)
            assert_same_everywhere(got)
            for one, other in zip(state_of(got), state_of(expected), strict=True):
                np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


def check_models_that_cannot_be_built_before() -> None:
    given, wanted = own_samples()
    data = tf.data.Dataset.from_tensor_slices({"given": given, "wanted": wanted}).batch(BATCH)
    keras.utils.set_random_seed(3 + hvd.rank())
    model = Dictionaries()
    model.compile(hvd.DistributedOptimizer(keras.optimizers.Adam(0.01)))
    model.fit(data, epochs=2, verbose=0, callbacks=[hvd.callbacks.BroadcastGlobalVariablesCallback(0)])
    assert_same_everywhere(model)
    assert int(model.optimizer.iterations) == 2 * STEPS


def check_loops_that_broadcast_after_the_first_step() -> None:
    """The loop of Horovod's guide to TensorFlow 2, in which the variables of an optimizer are still called."""
    keras.utils.set_random_seed(3 + hvd.rank())
    model, optimizer = sequential(), keras.optimizers.Adam(0.01)
    model.optimizer = optimizer

    @tf.function
    def training_step(inputs, targets, first_batch: bool):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(inputs, training=True) - targets) ** 2)
        tape = hvd.DistributedGradientTape(tape)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        if first_batch:
            hvd.broadcast_variables(model.variables, root_rank=0)
            hvd.broadcast_variables(optimizer.variables(), root_rank=0)
        return loss

    data = tf.data.Dataset.from_tensor_slices(own_samples()).batch(BATCH)
    for number, (inputs, targets) in enumerate(data):
        training_step(inputs, targets, number == 0)
        assert_same_everywhere(model)
    assert optimizer.variables() == optimizer.variables
    assert hvd.DistributedOptimizer(keras.optimizers.SGD()).variables()


def main() -> None:
    hvd.init()
    run_checks(globals(), hvd)


if __name__ == "__main__":
    main()
