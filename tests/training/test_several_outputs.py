"""Networks with several inputs and outputs: both arithmetics, all shards at once and in turn, any number of ranks."""

import numpy as np
import pytest

from hpcnn.comm.serial import SerialCommunicator
from hpcnn.runs.build import build_replica, build_spec
from hpcnn.training.shard_by_shard import ShardByShard
from tests.small_jobs import cut
from tests.training.several import LOSSES, WIDTH, job_of_several, samples

N = 29


def replica_of(job, weights=None):
    replica = build_replica(job, build_spec(job, (WIDTH,)), SerialCommunicator())
    if weights is not None:
        replica.load_weights(weights)
    return replica


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_both_arithmetics_compute_the_same_steps(dtype):
    x, y = samples(N, dtype=dtype)
    ours, theirs = (
        replica_of(job_of_several(train={"shards": 4, "arithmetic": arithmetic, "dtype": dtype}))
        for arithmetic in ("native", "numpy")
    )
    theirs.load_weights(ours.weights())
    tolerance = 1e-10 if dtype == "float64" else 2e-4
    for step in range(3):
        sums = [each.train_step(step, cut(x, y, 4), factor=1.0) for each in (ours, theirs)]
        np.testing.assert_allclose(sums[0], sums[1], rtol=tolerance, atol=tolerance)
    weights = theirs.weights()
    for name, array in ours.weights().items():
        np.testing.assert_allclose(array, weights[name], rtol=tolerance, atol=tolerance)
    predicted = [each.model.predict_piece(x) for each in (ours, theirs)]
    np.testing.assert_allclose(predicted[0], predicted[1], rtol=10 * tolerance, atol=tolerance)
    evaluated = [each.model.eval_piece(x, y) for each in (ours, theirs)]
    np.testing.assert_allclose(evaluated[0], evaluated[1], rtol=10 * tolerance, atol=tolerance)


@pytest.mark.parametrize(("n", "shards"), [(N, 1), (N, 4), (3, 7)])
def test_all_shards_at_once_give_the_bits_of_one_after_the_other(n, shards):
    x, y = samples(n, dtype=np.float32)
    job = job_of_several(train={"shards": shards, "arithmetic": "native"})
    at_once, in_turn = replica_of(job), replica_of(job)
    contributions = in_turn.updater.exchange.contributions
    in_turn._pass = ShardByShard(
        in_turn.model, contributions, seed=job.train.seed, weights_of=lambda samples: samples.weights
    )
    for step in range(3):
        first, second = (each.train_step(step, cut(x, y, shards), factor=1.0).copy() for each in (at_once, in_turn))
        np.testing.assert_array_equal(first, second)
    assert at_once.model.fingerprint() == in_turn.model.fingerprint()


@pytest.mark.parametrize("arithmetic", ["native", "numpy"])
def test_the_loss_is_the_weighted_sum_and_metrics_are_those_of_outputs(arithmetic):
    x, y = samples(N)
    replica = replica_of(job_of_several(train={"arithmetic": arithmetic, "dtype": "float64"}))
    outputs = replica.model.predict_piece(x).copy()
    digit, place, odd = outputs[:, :3], outputs[:, 3:5], outputs[:, 5]
    values = replica.model.layout.values(replica.model.eval_piece(x, y), "val_")
    labels = y[:, 0].astype(int)
    error = np.abs(place - y[:, 1:3])
    huber = np.where(error <= 0.5, error**2 / 2, 0.5 * error - 0.125).mean()
    expected = {
        "val_digit_loss": -np.log(digit[np.arange(N), labels]).mean(),
        "val_place_loss": huber,
        "val_odd_loss": -np.where(y[:, 3] == 1, np.log(odd), np.log(1 - odd)).mean(),
        "val_digit_accuracy": (digit.argmax(1) == labels).mean(),
        "val_place_mae": error.mean(),
        "val_odd_binary_accuracy": ((odd > 0.5) == y[:, 3]).mean(),
    }
    expected["val_loss"] = sum(expected[f"val_{name}_loss"] * each.get("weight", 1) for name, each in LOSSES.items())
    for name, value in expected.items():
        assert values[name] == pytest.approx(value, rel=1e-12), name
    assert list(values) == [
        "val_loss", "val_digit_loss", "val_place_loss", "val_odd_loss", "val_digit_accuracy", "val_digit_f1",
        "val_place_mae", "val_place_r2", "val_odd_binary_accuracy",
    ]  # fmt: skip
