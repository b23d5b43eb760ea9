"""Training in Keras mode against NumPy mode, and against itself on other numbers of ranks, to the last bit."""

from __future__ import annotations

import re
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from hpcnn.backends.keras import backend as keras_backend_module
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.threads import run_threads
from hpcnn.runs.build import build_training
from hpcnn.training.callbacks import StepReport
from hpcnn.training.noise_scale import NoiseScaleMeter
from hpcnn.training.replica import NotFiniteError
from hpcnn.training.step_stats import STOP
from tests.keras.modes import both_replicas, keras_backend
from tests.nn.two_modes import STEPS, same
from tests.optim.cases import PLAIN, VALUE
from tests.small_jobs import cut, make_job

SAMPLES, FEATURES, CLASSES = 40, 5, 3
LAYERS = [
    {"type": "layer_norm"},
    {"type": "dense", "units": 9, "activation": "tanh", "kernel_l1": 0.001, "kernel_l2": 0.01, "bias_l2": 0.02},
    {"type": "residual", "layers": [{"type": "dense", "units": 9, "activation": "swish"}]},
    {"type": "dense", "units": 7, "trainable": False},
    {"type": "dense", "units": CLASSES, "activation": "softmax"},
]
USERS = "tests.keras.models_of_users"


@pytest.fixture(scope="module", autouse=True)
def backend():
    with keras_backend() as started:
        yield started


def data(dtype):
    rng = np.random.default_rng(3)
    return rng.normal(size=(SAMPLES, FEATURES)).astype(dtype), rng.integers(0, CLASSES, SAMPLES)


@pytest.mark.parametrize("case", [*PLAIN, PLAIN[1].with_clips(clip_norm=0.5, clip_value=VALUE)], ids=lambda c: c.id)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_after_1_and_50_steps_are_those_of_numpy_mode(backend, case, dtype: str) -> None:
    train = {"dtype": dtype, "shards": 3, "metrics": ["accuracy"]}
    job = make_job(model={"layers": LAYERS}, train=train)
    job = type(job)(**{name: getattr(job, name) for name in job.__struct_fields__} | {"optimizer": case.section})
    ours, theirs = both_replicas(job, (FEATURES,), backend)
    load = cut(*data(dtype), 3)
    for step in range(STEPS):
        sums = [replica.train_step(step, load, factor=1.0, stop=step == 1) for replica in (ours, theirs)]
        same(*sums, dtype)
        assert sums[1][STOP] == (step == 1)
        if step in (0, STEPS - 1):
            same(ours.model.vector, theirs.model.vector, dtype)
    assert ours.learning_rate(3, 0.5) == theirs.learning_rate(3, 0.5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["sparse_categorical_crossentropy", "categorical_crossentropy"])
def test_labels_of_positions(backend, name: str, dtype: str) -> None:
    job = make_job(
        data={"one_hot": name.startswith("cat")}, model={"layers": LAYERS}, loss={"name": name},
        train={"dtype": dtype, "shards": 3, "metrics": ["accuracy", "f1"]},
    )  # fmt: skip
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(SAMPLES, 2, 3, FEATURES)).astype(dtype), rng.integers(0, CLASSES, (SAMPLES, 2, 3))
    y = y if name.startswith("sparse") else np.eye(CLASSES, dtype=dtype)[y]
    ours, theirs = both_replicas(job, x.shape[1:], backend)
    for step in range(5):
        same(*(replica.train_step(step, cut(x, y, 3), factor=1.0) for replica in (ours, theirs)), dtype)
    same(ours.model.vector, theirs.model.vector, dtype)


@pytest.mark.parametrize("name", ["sparse_categorical_crossentropy", "categorical_crossentropy", "binary_crossentropy"])
def test_class_weights(backend, name: str) -> None:
    units = 1 if name.startswith("binary") else CLASSES
    last = {"type": "dense", "units": units, "activation": "sigmoid" if units == 1 else "softmax"}
    job = make_job(
        data={"one_hot": name.startswith("cat")}, model={"layers": [last]}, loss={"name": name},
        train={"shards": 4, "metrics": []},
    )  # fmt: skip
    weights = np.array([0.5, 2.0, 1.0][: max(2, units)])
    ours, theirs = both_replicas(job, (FEATURES,), backend, weights)
    x, labels = data("float32")
    y = labels if name.startswith("sparse") else np.eye(CLASSES, dtype=np.float32)[labels]
    y = (labels > 0).astype(np.float32)[:, None] if units == 1 else y
    for step, of_samples in enumerate([None, np.linspace(0, 3, SAMPLES, dtype=np.float32)]):
        load = cut(x, y, 4, of_samples)
        same(*(replica.train_step(step, load, factor=1.0) for replica in (ours, theirs)), "float32")
        same(ours.model.vector, theirs.model.vector, "float32")
        same(*(replica.model.eval_piece(x, y, of_samples) for replica in (ours, theirs)), "float32")


def trained(job, backend, ranks: int) -> tuple[str, dict]:
    """Return SHA-256 and noise scale, and the weights, after two epochs on so many ranks, which are threads."""

    def body(comm):
        training = build_training(job, Path(), comm, backend)
        training.replica.synchronize()
        meter = NoiseScaleMeter(comm, 1)
        meter.on_train_begin(0, training.replica)
        for step in range(2 * training.shards.steps_per_epoch):
            epoch, within = divmod(step, training.shards.steps_per_epoch)
            if not within:
                training.shards.start_epoch(epoch)
            stats = training.replica.train_step(step, partial(training.shards.shards, within), factor=1.0)
            meter.on_step(StepReport(epoch + 1, within + 1, step + 1, training.replica, 1.0, stats))
        assert meter.noise.variance != 0
        return f"{training.replica.model.fingerprint()} {meter.state()}", training.replica.weights()

    outcomes = [body(SerialCommunicator())] if ranks == 1 else run_threads(ranks, body)
    assert len({sha256 for sha256, _ in outcomes}) == 1
    return outcomes[0]


@pytest.mark.parametrize("sharding", [False, True])
@pytest.mark.parametrize("model", ["layers", "entry"])
def test_the_same_bits_on_any_number_of_ranks(
    backend, monkeypatch: pytest.MonkeyPatch, model: str, sharding: bool
) -> None:
    """Dropout, random layers and batch normalisation included; the last batch leaves half of the shards empty."""
    lock, build = threading.Lock(), keras_backend_module.build_keras_network

    def one_at_a_time(job, input_shape):  # Keras numbers the layers of all threads together
        with lock:
            return build(job, input_shape)

    monkeypatch.setattr(keras_backend_module, "build_keras_network", one_at_a_time)
    table = {} if model == "layers" else {"layers": None, "entry": f"{USERS}:normalized"}
    job = make_job(model=table, train={"optimizer_sharding": sharding})
    first, weights = trained(job, backend, 1)
    assert [trained(job, backend, ranks)[0] for ranks in (2, 3, 4)] == [first] * 3
    if model == "entry":
        assert not np.allclose(weights["sequential/batch_normalization/moving_mean"], 0)


def test_averages_of_batch_normalisation_are_means_over_samples(backend) -> None:
    job = make_job(model={"layers": None, "entry": f"{USERS}:normalized"}, train={"shards": 3})
    replica = both_replicas_of_keras(job, backend)
    x, y = data("float32")
    name = "sequential/batch_normalization/moving_"
    before = replica.weights()
    replica.train_step(0, cut(x, y, 3), factor=1.0)
    hidden = x @ before["sequential/dense/kernel"] + before["sequential/dense/bias"]
    shards = [hidden[SAMPLES * i // 3 : SAMPLES * (i + 1) // 3] for i in range(3)]
    for moment, of in (("mean", np.mean), ("variance", np.var)):
        mean = sum(len(shard) * of(shard, axis=0) for shard in shards) / SAMPLES
        expected = 0.8 * before[name + moment] + 0.2 * mean
        np.testing.assert_allclose(replica.weights()[name + moment], expected, rtol=1e-5, atol=1e-6)


def both_replicas_of_keras(job, backend):
    return build_training(job, Path(), SerialCommunicator(), backend).replica


@pytest.mark.parametrize(
    ("change", "what", "where"),
    [
        (
            lambda x, y: x.__setitem__((30, 0), np.inf),
            "the loss",
            r"the outputs of the model are not finite \(shard 2\)",
        ),
        (lambda x, y: y.__setitem__((5, 0), np.inf), "the loss", r"all outputs are finite, the loss itself is not"),
    ],
)
def test_what_is_not_finite_is_found(backend, change, what: str, where: str) -> None:
    job = make_job(
        model={"layers": [{"type": "dense", "units": 1}]}, loss={"name": "mse"}, train={"shards": 3, "metrics": []}
    )
    _, replica = both_replicas(job, (FEATURES,), backend)
    x, _ = data("float32")
    y = np.zeros((SAMPLES, 1), np.float32)
    before = replica.weights()
    change(x, y)
    with pytest.raises(NotFiniteError, match=what) as caught:
        replica.train_step(0, cut(x, y, 3), factor=1.0)
    assert re.search(where, caught.value.where)
    for name, array in replica.weights().items():
        np.testing.assert_array_equal(array, before[name])
