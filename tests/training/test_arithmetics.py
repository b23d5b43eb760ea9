"""Both arithmetics compute the same mathematics; the compiled core's bits depend on the job alone."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hpcnn.comm.serial import SerialCommunicator
from hpcnn.nn.activations import ACTIVATIONS
from hpcnn.runs.build import build_replica, build_spec
from hpcnn.system.denormals import FlushDenormals, flushing
from hpcnn.training.shard_by_shard import ShardByShard
from hpcnn.training.step_stats import PENALTY
from tests.small_jobs import cut, make_job, train

FEATURES, CLASSES, N = 6, 3, 29
BLOCK = [
    {"type": "layer_norm"},
    {"type": "dense", "units": 7, "activation": "tanh"},
    {"type": "residual", "layers": [{"type": "dense", "units": 7, "activation": "gelu"}]},
    {"type": "layer_norm", "center": False, "scale": False},
]
LOSSES = {
    "mse": {"name": "mse"},
    "mae": {"name": "mae"},
    "huber": {"name": "huber", "delta": 0.3},
    "binary": {"name": "binary_crossentropy", "label_smoothing": 0.1},
    "categorical": {"name": "categorical_crossentropy", "label_smoothing": 0.2},
    "sparse": {"name": "sparse_categorical_crossentropy"},
    "weighted": {"name": "sparse_categorical_crossentropy", "class_weights": [1.0, 3.0, 0.5]},
}


def job_of(loss, head, activation, arithmetic, dtype):
    layers = [
        *BLOCK,
        {"type": "dense", "units": 5, "activation": activation, "kernel_l2": 0.01, "bias_l1": 0.02},
        {"type": "dense", "units": CLASSES, "activation": head},
    ]
    return make_job(
        data={"one_hot": loss["name"] == "categorical_crossentropy"},
        model={"layers": layers},
        loss=loss,
        optimizer={"name": "sgd", "learning_rate": 0.1, "momentum": 0.9},
        train={"shards": 4, "metrics": [], "arithmetic": arithmetic, "dtype": dtype},
    )


def targets_of(loss, rng):
    labels = rng.integers(0, CLASSES, N)
    return labels if "sparse" in loss["name"] else np.eye(CLASSES)[labels]


def replica_of(job, weights=None):
    classes = getattr(job.loss, "class_weights", "none")
    chosen = np.array(classes) if isinstance(classes, list) else None
    replica = build_replica(job, build_spec(job, (FEATURES,)), SerialCommunicator(), chosen)
    if weights is not None:
        replica.load_weights(weights)
    return replica


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    ("loss", "head"),
    [
        (name, head)
        for name, loss in LOSSES.items()
        for head in ("linear", "sigmoid", "softmax")
        if head != "linear" or "crossentropy" not in loss["name"]  # a cross-entropy needs probabilities
    ],
)
def test_both_compute_the_same_steps(loss, head, activation, dtype):
    settings = LOSSES[loss]
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(N, FEATURES)).astype(dtype), targets_of(settings, rng)
    y = y if y.dtype == np.int64 else y.astype(dtype)
    ours = replica_of(job_of(settings, head, activation, "native", dtype))
    theirs = replica_of(job_of(settings, head, activation, "numpy", dtype), ours.weights())
    tolerance = 1e-10 if dtype == "float64" else 2e-4
    for step in range(3):
        sums = [each.train_step(step, cut(x, y, 4), factor=1.0) for each in (ours, theirs)]
        np.testing.assert_allclose(sums[0], sums[1], rtol=tolerance)
        assert sums[0][PENALTY] > 0
    weights = theirs.weights()
    for name, array in ours.weights().items():
        np.testing.assert_allclose(array, weights[name], rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(
        ours.model.predict_piece(x), theirs.model.predict_piece(x), rtol=10 * tolerance, atol=tolerance
    )
    evaluated = [each.model.eval_piece(x, y) for each in (ours, theirs)]
    np.testing.assert_allclose(evaluated[0], evaluated[1], rtol=10 * tolerance)


@pytest.mark.parametrize("shards", [1, 4, 7])
def test_all_shards_at_once_give_the_bits_of_one_after_the_other(shards):
    """Rows of a product do not depend on their neighbours, and gradients are added along the same tree."""
    job = job_of(LOSSES["sparse"], "softmax", "relu", "native", "float32")
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(N, FEATURES)).astype(np.float32), rng.integers(0, CLASSES, N)
    at_once = replica_of(job)
    in_turn = replica_of(job)
    contributions = in_turn.updater.exchange.contributions
    in_turn._pass = ShardByShard(
        in_turn.model, contributions, seed=job.train.seed, weights_of=lambda samples: samples.weights
    )
    for step in range(3):
        first, second = (each.train_step(step, cut(x, y, 4), factor=1.0).copy() for each in (at_once, in_turn))
        np.testing.assert_array_equal(first, second)
    assert at_once.model.fingerprint() == in_turn.model.fingerprint()


def test_dropout_depends_on_the_sample_not_on_its_shard():
    layers = [{"type": "dropout", "rate": 0.5}, {"type": "dense", "units": 1, "use_bias": False}]
    x, y = np.ones((16, 40), np.float32), np.zeros((16, 1), np.float32)

    def losses(shards, step):
        job = make_job(model={"layers": layers}, loss={"name": "mse"},
                       train={"shards": shards, "metrics": [], "arithmetic": "native"})  # fmt: skip
        replica = build_replica(job, build_spec(job, (40,)), SerialCommunicator())
        replica.train_step(step, cut(x, y, shards), factor=0.0)
        return replica._pass._recordings.popitem()[1].outputs.copy()

    one = losses(1, 0)
    np.testing.assert_array_equal(losses(8, 0), one)
    assert len(np.unique(one)) > 8
    assert not np.array_equal(losses(1, 1), one)


PROGRAM = """
from tests.small_jobs import make_job, train
job = make_job(train={"arithmetic": "native", "epochs": 1, "metrics": ["accuracy"]}, optimizer={"name": "adam"})
print(train(job, 2).fingerprint)
from hpcnn.kernels import core
print(core.isa())
"""


def digest_with(**environment):
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | environment,
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.split()


def test_one_result_on_every_instruction_set_and_blas():
    widest, isa = digest_with()
    assert digest_with(HPCNN_ISA="scalar") == [widest, "scalar"]
    if isa == "avx512":
        assert digest_with(HPCNN_ISA="avx2") == [widest, "avx2"]
    for kernel in ("Haswell", "SkylakeX", "Nehalem"):
        assert digest_with(OPENBLAS_CORETYPE=kernel)[0] == widest


def test_one_result_on_any_number_of_threads():
    from hpcnn.kernels import core

    hidden = {"type": "dense", "units": 192, "activation": "tanh"}
    layers = [hidden, hidden, {"type": "dense", "units": 3, "activation": "softmax"}]
    job = make_job(model={"layers": layers}, train={"arithmetic": "native", "batch_size": "full"})
    results = set()
    for threads in (1, 2, 3):
        results.add(train(job, prepare=lambda training, n=threads: training.replica.model.use_threads(n)).fingerprint)
    core.use_threads(1)
    assert len(results) == 1


def test_a_step_watched_layer_by_layer_has_the_same_bits():
    class Nobody:
        def passes(self, layer):
            return (lambda: None), (lambda: None)

    job = job_of(LOSSES["sparse"], "softmax", "relu", "native", "float32")
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(N, FEATURES)).astype(np.float32), rng.integers(0, CLASSES, N)
    plain, watched = replica_of(job), replica_of(job)
    watched.model.network.observe(Nobody())
    for step in range(2):
        for each in (plain, watched):
            each.train_step(step, cut(x, y, 4), factor=1.0)
    assert plain.model.fingerprint() == watched.model.fingerprint()


def test_the_arithmetics_differ():
    """What the tests above compare can differ: another arithmetic has other bits."""
    fingerprints = {train(make_job(train={"arithmetic": each})).fingerprint for each in ("native", "numpy")}
    assert len(fingerprints) == 2


@pytest.mark.parametrize("arithmetic", ["native", "numpy"])
def test_between_ranks_numpy_adds_tiny_numbers_as_the_arithmetic_does_within_one(arithmetic, monkeypatch):
    """The core adds with gradual underflow whatever the mode of the thread; NumPy follows the mode."""
    job = job_of(LOSSES["mse"], "linear", "relu", arithmetic, "float32")
    replica = replica_of(job)
    modes = []
    finish = replica.updater.finish
    monkeypatch.setattr(replica.updater, "finish", lambda: modes.append(flushing()) or finish())
    rng = np.random.default_rng(0)
    load = cut(rng.normal(size=(N, FEATURES)), np.eye(CLASSES)[rng.integers(0, CLASSES, N)], 4)
    replica.train_step(0, load, factor=1.0)
    assert modes == [arithmetic == "numpy" and FlushDenormals().active]
