"""The optimizer and the tape with every option, each against one process that takes the batches of all ranks."""

from __future__ import annotations

import os
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import hpcnn.keras as hvd
from hpcnn.errors import CommunicatorError
from tests.keras.scripts import dropped, first_batch, reported
from tests.mpi.checks import run_checks

BATCH, STEPS = 8, 6
"""Samples of one rank, and steps of training."""


def samples() -> tuple[np.ndarray, np.ndarray]:
    """Return what all ranks train on: batch by batch, in each the samples of rank 0 first."""
    rng = np.random.default_rng(7)
    count = BATCH * STEPS * hvd.size()
    return rng.standard_normal((count, 5)).astype("float32"), rng.standard_normal((count, 2)).astype("float32")


def own_samples() -> tuple[np.ndarray, np.ndarray]:
    return tuple(
        each.reshape(STEPS, hvd.size(), BATCH, -1)[:, hvd.rank()].reshape(STEPS * BATCH, -1) for each in samples()
    )


def make_model() -> keras.Model:
    keras.utils.set_random_seed(3)
    return keras.Sequential([keras.Input((5,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(2)])


def trained(optimizer, data, batch: int, **settings) -> keras.Model:
    """Return a model after the steps."""
    model = make_model()
    model.compile(optimizer, "mse", **settings)
    model.fit(*data, batch_size=batch, epochs=1, shuffle=False, verbose=0)
    return model


EXPECTED: dict[str, list[np.ndarray]] = {}


def weights_of_one_process(optimizer) -> list[np.ndarray]:
    """Return the weights after training in this process alone, once for each kind of optimizer."""
    key = f"{type(optimizer).__name__} {optimizer.get_config()}"
    if key not in EXPECTED:
        EXPECTED[key] = trained(optimizer, samples(), BATCH * hvd.size()).get_weights()
    return EXPECTED[key]


def assert_as_one_process(distributed, single, tolerance: float = 1e-6, **settings) -> None:
    """Train on all ranks, and in each process alone on all batches; compare."""
    got = trained(distributed, own_samples(), BATCH, **settings)
    for one, other in zip(got.get_weights(), weights_of_one_process(single), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)
    assert_same_everywhere(got)


def assert_same_everywhere(model: keras.Model) -> None:
    everyone = hvd.allgather_object([weight.tobytes() for weight in model.get_weights()])
    assert all(each == everyone[0] for each in everyone)


def check_optimizers() -> None:
    for make in (
        lambda: keras.optimizers.SGD(0.1, momentum=0.9),
        lambda: keras.optimizers.Adam(0.01, clipnorm=0.5),
        lambda: keras.optimizers.AdamW(0.01, global_clipnorm=0.1, use_ema=True),
    ):
        plain = make()
        assert_as_one_process(hvd.DistributedOptimizer(plain), make())
        assert not plain.built  # the user's own is left as it is
        assert type(hvd.DistributedOptimizer(plain)).__name__ == type(plain).__name__


def check_options() -> None:
    def sgd(rate: float = 0.1):
        return keras.optimizers.SGD(rate)

    assert_as_one_process(hvd.DistributedOptimizer(sgd(0.1 / hvd.size()), op=hvd.Sum), sgd())
    assert_as_one_process(hvd.DistributedOptimizer(sgd(), gradient_predivide_factor=2.0), sgd())
    assert_as_one_process(hvd.DistributedOptimizer(sgd(), compression=hvd.Compression.fp16), sgd(), 1e-3)
    assert_as_one_process(hvd.DistributedOptimizer(sgd(), compression=hvd.Compression.bf16), sgd(), 1e-2)
    assert_as_one_process(hvd.DistributedOptimizer(sgd()), sgd(), run_eagerly=True)
    assert_as_one_process(hvd.DistributedOptimizer(sgd()), sgd(), steps_per_execution=3)


def check_backward_passes_per_step() -> None:
    for average in (False, True):
        got = trained(
            hvd.DistributedOptimizer(
                keras.optimizers.SGD(0.1), backward_passes_per_step=2, average_aggregated_gradients=average
            ),
            own_samples(),
            BATCH,
        )
        rate = 0.1 if average else 0.2
        expected = trained(keras.optimizers.SGD(rate), samples(), 2 * BATCH * hvd.size())
        for one, other in zip(got.get_weights(), expected.get_weights(), strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
        assert int(got.optimizer.iterations) == STEPS // 2
        assert_same_everywhere(got)


def check_embeddings() -> None:
    """Rows that are used twice in a sample, by several ranks, by none."""
    if hvd.size() != 2:
        return
    words = np.array([[0, 1, 1], [1, 2, 5]])
    for make in (lambda: keras.optimizers.SGD(0.5), lambda: keras.optimizers.Adam(0.05)):
        expected = embedded(make(), words, dense=True)  # Keras's Adam takes repeated rows of a sparse gradient wrongly
        for sparse_as_dense in (False, True):
            optimizer = hvd.DistributedOptimizer(make(), sparse_as_dense=sparse_as_dense)
            got = embedded(optimizer, words[hvd.rank() :][:1], dense=False)
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)


def embedded(optimizer, words: np.ndarray, *, dense: bool) -> np.ndarray:
    """Return the vectors of words after some steps, which pull them to ones."""
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((3,), dtype="int32"), keras.layers.Embedding(7, 2)])
    for _ in range(3):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(words) - 1) ** 2)
        gradients = tape.gradient(loss, model.trainable_variables)
        assert isinstance(gradients[0], tf.IndexedSlices)
        optimizer.apply([tf.convert_to_tensor(gradients[0])] if dense else gradients, model.trainable_variables)
    return model.get_weights()[0]


def check_local_layers() -> None:
    model = make_model()
    local = model.layers[1]
    optimizer = hvd.PartialDistributedOptimizer(keras.optimizers.SGD(0.1), local_layers=local)
    model.compile(optimizer, "mse")
    model.fit(
        *own_samples(), batch_size=BATCH, verbose=0, callbacks=[hvd.callbacks.BroadcastGlobalVariablesCallback(0)]
    )
    kernels = hvd.allgather_object([layer.kernel.numpy().tobytes() for layer in model.layers])
    assert len({first for first, _ in kernels}) == 1
    assert len({second for _, second in kernels}) == hvd.size()


def check_loss_scaling() -> None:
    inner = keras.optimizers.SGD(0.1)
    scaled = hvd.DistributedOptimizer(keras.optimizers.LossScaleOptimizer(inner, initial_scale=8.0))
    assert_as_one_process(scaled, keras.optimizers.SGD(0.1))
    if hvd.size() > 1:
        model = make_model()
        model.compile(keras.optimizers.LossScaleOptimizer(hvd.DistributedOptimizer(inner)), "mse")
        with pytest.raises(CommunicatorError, match="each rank would skip different steps"):
            model.fit(*own_samples(), verbose=0, callbacks=[hvd.callbacks.BroadcastGlobalVariablesCallback(0)])


def check_saved_models() -> None:
    """A saved model loads without hpcnn, and with its optimizer wrapped and its state kept."""
    model = trained(hvd.DistributedOptimizer(keras.optimizers.Adam(0.01)), own_samples(), BATCH)
    path = Path(os.environ["OUT"]) / f"saved-{hvd.size()}.keras"
    if hvd.rank() == 0:
        model.save(path)
    hvd.barrier()
    for loaded in (keras.models.load_model(path), hvd.load_model(path)):
        assert type(loaded.optimizer).__name__ == "Adam"
        for one, other in zip(loaded.optimizer.variables, model.optimizer.variables, strict=True):
            np.testing.assert_array_equal(one, other)
    loaded.fit(*own_samples(), batch_size=BATCH, shuffle=False, verbose=0)
    model.fit(*own_samples(), batch_size=BATCH, shuffle=False, verbose=0)
    assert [w.tobytes() for w in loaded.get_weights()] == [w.tobytes() for w in model.get_weights()]
    assert_same_everywhere(loaded)


def check_tapes() -> None:
    model = make_model()
    x, y = (tf.constant(each) for each in own_samples())
    variables = {"all": model.trainable_variables, "none": tf.Variable(1.0)}
    with hvd.DistributedGradientTape(tf.GradientTape(persistent=True)) as tape:
        loss = tf.reduce_mean((model(x) - y) ** 2)
    gradients = tape.gradient(loss, variables)
    assert gradients["none"] is None
    with tf.GradientTape() as plain:
        x, y = samples()
        loss_of_all = tf.reduce_mean((model(x) - y) ** 2)
    for got, expected in zip(gradients["all"], plain.gradient(loss_of_all, model.trainable_variables), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)
    kernel = model.layers[0].kernel
    own = tape._tape.gradient(loss, kernel)
    tape.register_local_source(kernel)
    np.testing.assert_allclose(tape.gradient(loss, kernel), own / hvd.size(), rtol=1e-6)


def check_metrics_count_samples() -> None:
    """Ranks with other numbers of samples: the mean is over samples, where a mean of means would be another."""
    rows = 3 + 5 * hvd.rank()
    x = np.full((rows, 5), 1.0 + hvd.rank(), "float32")
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(1, kernel_initializer="ones")])
    model.compile(hvd.DistributedOptimizer(keras.optimizers.SGD(0.0)), "mse", metrics=["mae"])
    average = hvd.callbacks.MetricAverageCallback()
    history = model.fit(
        x,
        np.zeros((rows, 1)),
        batch_size=rows,
        epochs=2,
        callbacks=[average],
        verbose=0,
        validation_data=(x[:1], np.zeros((1, 1))),
    ).history
    counts = np.array([3 + 5 * rank for rank in range(hvd.size())])
    errors = 5.0 * (1 + np.arange(hvd.size()))
    for name, value, weights in (("mae", errors, counts), ("loss", errors**2, counts), ("val_mae", errors, None)):
        np.testing.assert_allclose(history[name], [np.average(value, weights=weights)] * 2, rtol=1e-6)


def check_errors() -> None:
    sgd = keras.optimizers.SGD
    for make, message in (
        (lambda: hvd.DistributedOptimizer("sgd"), "takes an optimizer of Keras"),
        (lambda: hvd.DistributedOptimizer(hvd.DistributedOptimizer(sgd())), "distributed already"),
        (lambda: hvd.DistributedOptimizer(sgd(), op=hvd.Max), "gradients are reduced by Average or Sum"),
        (lambda: hvd.DistributedOptimizer(sgd(), op=hvd.Sum, gradient_predivide_factor=2.0), "op must be Average"),
        (lambda: hvd.DistributedOptimizer(sgd(), backward_passes_per_step=0), "must be 1 or more"),
        (
            lambda: hvd.PartialDistributedOptimizer(sgd(), backward_passes_per_step=2, local_layers=[make_model()]),
            "local_layers need backward_passes_per_step=1",
        ),
        (lambda: hvd.DistributedOptimizer(sgd(), compression=None), "compression=None is not one of hpcnn's"),
        (lambda: hvd.callbacks.LearningRateWarmupCallback(initial_lr=None), "initial_lr=None must be a positive"),
    ):
        with pytest.raises(CommunicatorError, match=message):
            make()


def main() -> None:
    hvd.init()
    run_checks(vars(dropped) | vars(first_batch) | vars(reported) | globals(), hvd)


if __name__ == "__main__":
    main()
