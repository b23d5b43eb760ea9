"""The optimizer and the callbacks on whichever backend KERAS_BACKEND names, against one process on all batches."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import hpcnn.keras as hvd
from hpcnn.errors import CommunicatorError
from tests.mpi.checks import run_checks

BATCH, STEPS = 8, 6


def samples() -> list[np.ndarray]:
    rng = np.random.default_rng(7)
    return [rng.standard_normal((BATCH * STEPS * hvd.size(), n)).astype("float32") for n in (5, 2)]


def trained(optimizer, data, batch: int, callbacks=()) -> keras.Model:
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(2)])
    model.compile(optimizer, "mse")
    history = model.fit(*data, batch_size=batch, epochs=2, shuffle=False, verbose=0, callbacks=list(callbacks))
    model.losses_seen = history.history["loss"]
    return model


def check_optimizer_and_callbacks() -> None:
    own = [each.reshape(STEPS, hvd.size(), BATCH, -1)[:, hvd.rank()].reshape(STEPS * BATCH, -1) for each in samples()]
    callbacks = [hvd.callbacks.BroadcastGlobalVariablesCallback(0), hvd.callbacks.MetricAverageCallback()]
    got = trained(hvd.DistributedOptimizer(keras.optimizers.Adam(0.01)), own, BATCH, callbacks)
    expected = trained(keras.optimizers.Adam(0.01), samples(), BATCH * hvd.size())
    for one, other in zip(got.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-6)
    np.testing.assert_allclose(got.losses_seen, expected.losses_seen, rtol=1e-5)
    everyone = hvd.allgather_object([weight.tobytes() for weight in got.get_weights()])
    assert all(each == everyone[0] for each in everyone)


def check_collectives() -> None:
    own = keras.ops.convert_to_tensor(np.full((2,), hvd.rank() + 1.0, "float32"))
    total = hvd.allreduce(own, op=hvd.Sum)
    assert type(total) is type(own)
    assert keras.ops.convert_to_numpy(total).tolist() == [sum(range(hvd.size() + 1))] * 2
    gathered = hvd.allgather(keras.ops.cast(own, "bfloat16"))
    assert keras.backend.standardize_dtype(gathered.dtype) == "bfloat16"
    assert gathered.shape[0] == 2 * hvd.size()
    variable = keras.Variable(np.full((3,), float(hvd.rank())))
    hvd.broadcast_variables([variable], root_rank=hvd.size() - 1)
    assert keras.ops.convert_to_numpy(variable).tolist() == [hvd.size() - 1] * 3


def check_backward_passes_per_step() -> None:
    if keras.backend.backend() == "jax":
        with pytest.raises(CommunicatorError, match=r"backward_passes_per_step=2 is not supported on .* jax"):
            hvd.DistributedOptimizer(keras.optimizers.SGD(0.1), backward_passes_per_step=2)
        return
    own = [each[hvd.rank() * BATCH * STEPS :][: BATCH * STEPS] for each in samples()]
    got = trained(hvd.DistributedOptimizer(keras.optimizers.SGD(0.1), backward_passes_per_step=2), own, BATCH)
    assert int(got.optimizer.iterations) == STEPS


def check_rates_within_an_epoch() -> None:
    if keras.backend.backend() == "jax":
        own = [each[: BATCH * STEPS] for each in samples()]
        warmup = hvd.callbacks.LearningRateWarmupCallback(initial_lr=0.1)
        with pytest.raises(CommunicatorError, match="callbacks can't set the rate within an epoch"):
            trained(keras.optimizers.SGD(0.1), own, BATCH, [warmup])


def main() -> None:
    hvd.init()
    run_checks(globals(), hvd, keras.backend.backend())


if __name__ == "__main__":
    main()
