"""Batch normalisation in training: the statistics of the whole batch, whatever ranks and shards it lies on."""

import numpy as np
import pytest

from hpcnn.comm.serial import SerialCommunicator
from hpcnn.nn import BatchNormalization, Dense, Network, Residual
from hpcnn.runs.build import build_replica, build_spec
from tests.small_jobs import cut, make_job, train

ARITHMETICS = ["native", "numpy"]


def network(input_shape, statistics="batch"):
    def norm():
        return BatchNormalization(momentum=0.75, statistics=statistics)

    inner = [norm(), Dense(6, activation="relu"), norm()]
    return Network([Dense(6, activation="tanh"), norm(), Residual(inner), Dense(3)], input_shape, "softmax")


def job(statistics="batch", **changes):
    model = {"layers": None, "entry": f"{__name__}:network", "options": {"statistics": statistics}}
    return make_job(model=model, **changes)


@pytest.mark.parametrize("statistics", ["batch", "shard"])
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_any_number_of_ranks_trains_to_the_same_bits(arithmetic, statistics):
    settings = job(statistics, train={"arithmetic": arithmetic})
    one = train(settings)
    for ranks in (2, 3, 5, 8):
        assert train(settings, ranks).bits() == one.bits()


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_stopped_and_resumed_on_another_number_of_ranks(arithmetic):
    settings = job(train={"arithmetic": arithmetic})
    half = train(settings, 2, stop_at=2)
    assert not half.done
    assert train(settings, 3, start=half.state).bits() == train(settings).bits()


def after_two_steps(settings):
    replica = build_replica(settings, build_spec(settings, (5,)), SerialCommunicator())
    rng = np.random.default_rng(3)
    x, y = rng.normal(2, 3, size=(23, 5)), rng.integers(0, 3, 23)
    sums = [replica.train_step(step, cut(x, y, settings.train.shards), factor=1.0).copy() for step in range(2)]
    return np.concatenate([*(array.reshape(-1) for array in replica.weights().values()), *sums])


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_the_statistics_of_the_batch_do_not_depend_on_the_number_of_shards(arithmetic):
    """But for rounding; those of the shard do."""
    results = [
        [
            after_two_steps(job(statistics, train={"arithmetic": arithmetic, "dtype": "float64", "shards": shards}))
            for shards in (1, 4, 7)
        ]
        for statistics in ("batch", "shard")
    ]
    for other in results[0][1:]:
        np.testing.assert_allclose(other, results[0][0], rtol=1e-9, atol=1e-12)
    assert np.abs(results[1][1] - results[1][0]).max() > 1e-3
    np.testing.assert_allclose(results[1][0], results[0][0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_moving_averages_follow_mean_and_variance_of_the_batch(arithmetic):
    settings = job(train={"arithmetic": arithmetic, "dtype": "float64", "shards": 4})
    replica = build_replica(settings, build_spec(settings, (5,)), SerialCommunicator())
    rng = np.random.default_rng(3)
    x, y = rng.normal(2, 3, size=(23, 5)), rng.integers(0, 3, 23)
    start = replica.weights()
    hidden = np.tanh(x @ start["dense_1/kernel"] + start["dense_1/bias"])
    replica.train_step(0, cut(x, y, 4), factor=1.0)
    after = replica.weights()
    np.testing.assert_allclose(after["batch_normalization_1/moving_mean"], 0.25 * hidden.mean(axis=0), rtol=1e-12)
    variance = 0.75 + 0.25 * hidden.var(axis=0)
    np.testing.assert_allclose(after["batch_normalization_1/moving_variance"], variance, rtol=1e-12)
