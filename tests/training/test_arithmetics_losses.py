"""Each loss in training: both arithmetics compute the same, and the core's bits do not depend on the ranks."""

import numpy as np
import pytest

from hpcnn.comm.serial import SerialCommunicator
from hpcnn.errors import JobError
from hpcnn.runs.build import build_replica, build_spec
from hpcnn.training.shard_by_shard import ShardByShard
from hpcnn.training.step_stats import LOSS
from tests.small_jobs import cut, make_job

N, FEATURES = 23, 6
METRICS = ["accuracy", "mean_iou", "perplexity", "top_k_accuracy"]
CASES = {
    "mape": ({"name": "mape"}, "linear", []),
    "msle": ({"name": "msle"}, "softplus", []),
    "log_cosh": ({"name": "log_cosh"}, "linear", ["mse"]),
    "poisson": ({"name": "poisson"}, "softplus", []),
    "hinge": ({"name": "hinge"}, "tanh", []),
    "cosine": ({"name": "cosine_similarity"}, "linear", []),
    "kl": ({"name": "kl_divergence"}, "softmax", ["mean_iou", "perplexity"]),
    "dice": ({"name": "dice"}, "sigmoid", ["mean_iou", "f1"]),
    "iou": ({"name": "iou"}, "softmax", ["mean_iou"]),
    "binary focal": ({"name": "binary_focal_crossentropy", "apply_class_balancing": True}, "sigmoid", ["mean_iou"]),
    "categorical focal": ({"name": "categorical_focal_crossentropy", "label_smoothing": 0.1}, "softmax", METRICS),
    "ignoring": ({"name": "sparse_categorical_crossentropy", "ignore_class": -1}, "softmax", METRICS),
    "ignoring one of all": ({"name": "sparse_categorical_crossentropy", "ignore_class": 2}, "softmax", METRICS),
    "ctc": ({"name": "ctc"}, "softmax", []),
    "ctc of logits": ({"name": "ctc"}, "linear", []),
}
"""Loss, head and metrics; outputs are (steps, classes)."""
STEPS, CLASSES = 5, 3


def job_of(name, arithmetic, dtype="float32", **changes):
    loss, head, metrics = CASES[name]
    layers = [
        {"type": "reshape", "shape": [STEPS, FEATURES]},
        {"type": "dense", "units": 7, "activation": "tanh"},
        {"type": "dense", "units": CLASSES, "activation": head},
    ]
    return make_job(
        data={"source": "memory"},
        model={"layers": layers},
        loss=loss,
        train={"shards": 4, "metrics": metrics, "top_k": 2, "arithmetic": arithmetic, "dtype": dtype, **changes},
    )


def samples_of(name, dtype):
    rng = np.random.default_rng(3)
    x, shape = rng.normal(size=(N, STEPS * FEATURES)).astype(dtype), (N, STEPS, CLASSES)
    if name.startswith("ctc"):
        labels = rng.integers(1, CLASSES, (N, 3))
        labels[np.arange(3) >= rng.integers(0, 3, (N, 1))] = 0
        return x, labels
    if name.startswith("ignoring"):
        labels = rng.integers(0, CLASSES, shape[:-1])
        labels[rng.random(labels.shape) < 0.3] = CASES[name][0]["ignore_class"]
        labels[7] = CASES[name][0]["ignore_class"]
        return x, labels
    if name in ("mape", "log_cosh", "cosine"):
        return x, (5 + rng.normal(size=shape)).astype(dtype)
    if name in ("msle", "poisson"):
        return x, rng.exponential(size=shape).astype(dtype)
    return x, np.eye(CLASSES, dtype=dtype)[rng.integers(0, CLASSES, shape[:-1])]


def replica_of(job, weights=None):
    replica = build_replica(job, build_spec(job, (STEPS * FEATURES,)), SerialCommunicator())
    if weights is not None:
        replica.load_weights(weights)
    return replica


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_both_compute_the_same_steps(name, dtype):
    x, y = samples_of(name, dtype)
    ours = replica_of(job_of(name, "native", dtype))
    theirs = replica_of(job_of(name, "numpy", dtype), ours.weights())
    tolerance = 1e-9 if dtype == "float64" else 2e-4
    for step in range(3):
        sums = [each.train_step(step, cut(x, y, 4), factor=0.3) for each in (ours, theirs)]
        np.testing.assert_allclose(sums[0], sums[1], rtol=tolerance)
    weights = theirs.weights()
    for key, array in ours.weights().items():
        np.testing.assert_allclose(array, weights[key], rtol=tolerance, atol=tolerance)
    evaluated = [each.model.eval_piece(x, y) for each in (ours, theirs)]
    np.testing.assert_allclose(evaluated[0], evaluated[1], rtol=10 * tolerance)


@pytest.mark.parametrize("shards", [1, 4, 32])
@pytest.mark.parametrize("name", CASES)
def test_all_shards_at_once_give_the_bits_of_one_after_the_other(name, shards):
    """Of 32 shards some are empty."""
    job = job_of(name, "native", shards=shards)
    x, y = samples_of(name, "float32")
    at_once, in_turn = replica_of(job), replica_of(job)
    contributions = in_turn.updater.exchange.contributions
    in_turn._pass = ShardByShard(
        in_turn.model, contributions, seed=job.train.seed, weights_of=lambda samples: samples.weights
    )
    for step in range(3):
        first, second = (each.train_step(step, cut(x, y, shards), factor=0.3).copy() for each in (at_once, in_turn))
        np.testing.assert_array_equal(first, second)
    assert np.isfinite(first[LOSS])
    assert at_once.model.fingerprint() == in_turn.model.fingerprint()


def test_metrics_of_sequences_are_refused():
    job = job_of("ctc", "native", metrics=["accuracy"])
    with pytest.raises(JobError, match=r"train.metrics: 'accuracy' compares outputs .* sequences of the loss 'ctc' do"):
        build_spec(job, (STEPS * FEATURES,))
