"""`hpcnn.Trainer`: loops of one's own."""

from __future__ import annotations

import subprocess
import sys
import threading
import tracemalloc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hpcnn
from hpcnn.api import loop
from hpcnn.api.loop import Trainer
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.threads import run_threads
from hpcnn.core.conversion import convert
from hpcnn.errors import CheckpointError, CommunicatorError, DataError, DivergedError, JobError, ModelError
from hpcnn.job.optimizer import Optimizer
from hpcnn.nn import Dense, Layer, Network
from hpcnn.optim.build import build_optimizer
from hpcnn.runs.inference import evaluate_trained
from hpcnn.storage.checkpoint import load_checkpoint, save_checkpoint
from tests.api.fitting import JOB, X, Y, fit
from tests.timing import WAIT_S

LAYERS = Dense(8, activation="relu", name="dense_1"), Dense(3, name="dense_2")
LOSS = "sparse_categorical_crossentropy"
RATE = {"name": "adam", "learning_rate": 0.01}


def trainer(**options: Any) -> Trainer:
    return hpcnn.Trainer(
        Network(LAYERS, (4,), head="softmax"), LOSS, RATE, **{"shards": 4, "metrics": ["accuracy"], **options}
    )


def test_a_loop_by_hand_gives_the_bits_of_a_job(tmp_path: Path) -> None:
    table = {**JOB, "data": {}, "optimizer": RATE, "train": {**JOB["train"], "batch_size": "full", "shuffle": False}}
    by_job = fit(tmp_path, job=table, validation=None)
    by_hand = trainer()
    values = [by_hand.step(X, Y) for _ in range(3)]
    assert by_hand.weights_sha256 == by_job.weights_sha256
    assert [v["accuracy"] for v in values] == [line["accuracy"] for line in by_job.history]
    np.testing.assert_array_equal(by_hand.predict(X), by_job.predict(X))
    assert by_hand.evaluate(X, Y) == by_job.evaluate(X, Y)


@pytest.mark.parametrize("sizes", [range(1, 121), range(120, 0, -1)], ids=["ascending", "descending"])
def test_batches_of_many_sizes_take_the_memory_of_the_largest(sizes: range) -> None:
    network = Network([Dense(64, activation="relu", name="dense_1"), Dense(3, name="dense_2")], (4,), head="softmax")
    made = hpcnn.Trainer(network, LOSS, RATE, shards=64)
    x, y = np.resize(X, (120, 4)), np.resize(Y, 120)
    made.step(x[:1], y[:1])
    tracemalloc.start()
    try:
        for size in sizes:
            made.step(x[:size], y[:size])
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 600_000  # more than twice that, if something of each size were kept


@pytest.mark.parametrize("arithmetic", ["native", "numpy"])
def test_classes_are_weighed_as_in_a_job(tmp_path: Path, arithmetic: str) -> None:
    weighed = {"name": LOSS, "class_weights": [1.0, 4.0, 0.5]}
    train = JOB["train"] | {"batch_size": "full", "shuffle": False, "arithmetic": arithmetic}
    table = {**JOB, "data": {}, "optimizer": RATE, "loss": weighed, "train": train}
    by_job = fit(tmp_path, job=table, validation=None)
    by_hand = hpcnn.Trainer(Network(LAYERS, (4,), head="softmax"), weighed, RATE, shards=4, arithmetic=arithmetic)
    for _ in range(3):
        by_hand.step(X, Y)
    assert by_hand.weights_sha256 == by_job.weights_sha256


@pytest.mark.parametrize(
    ("weights", "message"),
    [("balanced", r"can't count the samples of each class. Give the weights of the 3 classes as a list"),
     ([1.0, 2.0], "has 2 entries, but there are 3 classes")],
)  # fmt: skip
def test_weights_of_classes_that_a_trainer_can_not_use_are_refused(weights: Any, message: str) -> None:
    network = Network(LAYERS, (4,), head="softmax")
    with pytest.raises(JobError, match=message):
        hpcnn.Trainer(network, {"name": LOSS, "class_weights": weights}, RATE)


def test_ranks_share_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = trainer(dtype="float64")
    for _ in range(2):
        alone.step(X, Y, lr_scale=0.5)
    local = threading.local()
    monkeypatch.setattr(loop, "connect", lambda: local.comm)

    def body(comm: Any) -> tuple[str, Any]:
        local.comm = comm
        mine = trainer(dtype="float64")
        for _ in range(2):
            mine.step(X, Y, lr_scale=0.5)
        return mine.weights_sha256, mine.evaluate(X, Y)

    assert run_threads(3, body) == [(alone.weights_sha256, alone.evaluate(X, Y))] * 3

    def parts(comm: Any) -> None:
        local.comm = comm
        trainer().step(X[comm.rank :: 2], Y[comm.rank :: 2])

    with pytest.raises(DataError, match=r"rank 1 gives another batch than rank 0. Give every rank the whole batch"):
        run_threads(2, parts)
    with pytest.raises(CommunicatorError, match="5 ranks for 4 gradient shards"):
        run_threads(5, body)


def test_a_loop_does_not_go_on_with_another_arithmetic(tmp_path: Path) -> None:
    path, made = tmp_path / "state.safetensors", trainer(arithmetic="numpy")
    made.save(path)
    other = trainer(arithmetic="native")
    with pytest.raises(CheckpointError, match=r'state.safetensors\S* it was trained with arithmetic="numpy", and this'):
        other.restore(path)
    kept = load_checkpoint(path)
    del kept.facts["job"]["train"]["arithmetic"]  # as versions without the setting wrote
    save_checkpoint(path, kept)
    with pytest.raises(CheckpointError, match=r'Make the trainer with arithmetic="numpy"'):
        other.restore(path)
    made.restore(path)


def test_automatic_shards_of_a_loop_are_eight() -> None:
    hashes = set()
    for options in ({"shards": "auto"}, {"shards": 8}):
        made = trainer(**options)
        made.step(X, Y)
        hashes.add(made.weights_sha256)
    assert len(hashes) == 1


def test_a_loop_goes_on_from_a_file(tmp_path: Path) -> None:
    first, second = trainer(), trainer(seed=1)
    first.step(X, Y)
    first.save(tmp_path / "state.safetensors")
    second.restore(tmp_path / "state.safetensors")
    assert second.steps == 1
    for one in (first, second):
        one.step(X, Y)
    assert first.weights_sha256 == second.weights_sha256
    second.load_weights(trainer().weights())
    assert second.weights_sha256 == trainer().weights_sha256 != first.weights_sha256
    with pytest.raises(CheckpointError, match="there is no folder"):
        first.save(tmp_path / "none" / "state.safetensors")
    other = hpcnn.Trainer(Network(LAYERS, (4,), head="softmax"), LOSS, "sgd", shards=1)
    with pytest.raises(CheckpointError, match="the optimizer state does not match this optimizer"):
        other.restore(tmp_path / "state.safetensors")


def test_a_trainer_takes_all_of_a_file_or_nothing(tmp_path: Path) -> None:
    run = fit(tmp_path, overrides={"train.epochs": 1}).folder
    first = trainer()
    first.step(X, Y)
    before = first.weights_sha256
    with pytest.raises(CheckpointError, match=r"last.safetensors': its inputs were scaled by data.scale"):
        first.restore(run / "checkpoints" / "last.safetensors")
    sgd = hpcnn.Trainer(Network(LAYERS, (4,), head="softmax"), LOSS, "sgd", shards=1, seed=7)
    sgd.save(tmp_path / "sgd.safetensors")
    with pytest.raises(CheckpointError, match="the optimizer state does not match this optimizer"):
        first.restore(tmp_path / "sgd.safetensors")
    assert (first.weights_sha256, first.steps) == (before, 1)


def test_what_a_trainer_saves_is_a_checkpoint_like_any_other(tmp_path: Path) -> None:
    made, path = trainer(), tmp_path / "state.safetensors"
    for _ in range(3):
        made.step(X, Y)
    made.save(path)
    loaded = hpcnn.load(path)
    assert loaded.weights_sha256 == made.weights_sha256
    np.testing.assert_array_equal(loaded.predict(X), made.predict(X))
    assert loaded.evaluate(X, Y) == made.evaluate(X, Y)
    loaded.save(tmp_path / "copy.safetensors")
    np.savez(tmp_path / "data.npz", x=X, y=Y)
    command("evaluate", path, "--data", tmp_path / "data.npz")
    command("predict", path, tmp_path / "data.npz", "-o", tmp_path / "out.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), made.predict(X))
    with pytest.raises(DataError, match="arrays of a Python program"):
        evaluate_trained(loaded.trained, SerialCommunicator(), None)
    resumed = {**JOB, "train": {**JOB["train"], "early_stopping": None}}
    with pytest.raises(CheckpointError, match="the run was started with other settings"):
        fit(tmp_path, job=resumed, resume=path)


def command(name: str, *arguments: Any) -> None:
    line = [sys.executable, "-m", f"hpcnn.{name}", *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert done.returncode == 0, done.stderr


def test_a_loop_goes_on_from_a_run(tmp_path: Path) -> None:
    table = {**JOB, "data": {}, "optimizer": RATE, "train": {**JOB["train"], "batch_size": "full", "shuffle": False}}
    run = fit(tmp_path / "a", job=table, validation=None, overrides={"train.epochs": 2}).folder
    made = trainer()
    made.restore(run / "checkpoints" / "last.safetensors")
    assert made.steps == 2
    made.step(X, Y)
    assert made.weights_sha256 == fit(tmp_path / "b", job=table, validation=None).weights_sha256


@dataclass(frozen=True)
class Halved(Layer):
    """Half of what it is given."""

    def forward(self, params: Any, x: Any, ctx: Any) -> Any:
        return x / 2, lambda dy, grads, need_dx=True: dy / 2


def halved(input_shape: Any) -> Network:
    return Network([Halved(), Dense(3, activation="softmax")], input_shape)


def test_a_saved_model_with_layers_of_ones_own(tmp_path: Path) -> None:
    made, again = (hpcnn.Trainer(halved((4,)), LOSS, RATE, shards=2) for _ in range(2))
    made.step(X, Y)
    made.save(tmp_path / "own.safetensors")
    again.restore(tmp_path / "own.safetensors")
    assert again.weights_sha256 == made.weights_sha256
    with pytest.raises(CheckpointError, match=r"has layers of its user's own, .* --entry package.module:function"):
        hpcnn.load(tmp_path / "own.safetensors")
    loaded = hpcnn.load(tmp_path / "own.safetensors", entry=f"{__name__}:halved")
    np.testing.assert_array_equal(loaded.predict(X), made.predict(X))


def test_an_optimizer_of_ones_own(tmp_path: Path) -> None:
    own = build_optimizer(convert(RATE, Optimizer))
    made, other = (hpcnn.Trainer(Network(LAYERS, (4,), "softmax"), LOSS, each, shards=1) for each in (own, RATE))
    for one in (made, other):
        one.step(X, Y)
    assert made.weights_sha256 == other.weights_sha256
    made.save(tmp_path / "own.safetensors")
    assert hpcnn.load(tmp_path / "own.safetensors").weights_sha256 == made.weights_sha256


def test_batches_of_all_sizes_and_kinds_share_memory_without_a_trace() -> None:
    one, other = trainer(), trainer()
    for rows in (60, 7, 33):
        values = one.step(X[:rows], Y[:rows])
        other._loader = None
        assert other.step(X[:rows], Y[:rows]) == values
        made = one._loader
    one.step(X.astype(np.float32)[:9], Y[:9])
    assert one._loader is made
    other.step(X.astype(np.float32)[:9], Y[:9])
    assert one.weights_sha256 == other.weights_sha256


def test_a_trainer_predicts_no_nothing() -> None:
    with pytest.raises(DataError, match=r"inputs of shape \(0, 4\) are empty"):
        trainer().predict(X[:0])


@pytest.mark.parametrize(
    ("x", "y", "error", "message"),
    [
        (X, Y[:-1], DataError, "the batch: 60 inputs"),
        (X, Y + 5, DataError, "the batch"),
        (X[:, :2], Y, DataError, "the model takes"),
        (np.full((2, 4), 3e38), [0, 1], DivergedError, "step 1: the loss is not finite"),
    ],
)
def test_a_batch_that_does_not_fit(x: Any, y: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        trainer().step(x, y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "mses"}, "unknown loss 'mses'"),
        ({"optimizer": {"name": "adam", "rate": 1.0}}, "unknown key 'rate' in .optimizer. of name 'adam'"),
        ({"metrics": ["mae"]}, "'mae' compares rows of outputs"),
        ({"metrics": "accuracy"}, 'train.metrics = "accuracy": expected a list of'),
        ({"dtype": "float16"}, "train.dtype: unknown dtype 'float16'. Did you mean 'float64'"),
        ({"arithmetic": "mkl"}, "train.arithmetic: unknown arithmetic 'mkl'. Known: native, numpy"),
        ({"seed": -1}, "train.seed = -1: expected an integer >= 0"),
        ({"shards": 1.5}, "train.shards = 1.5: expected an integer >= 1"),
        ({"network": Network(LAYERS, (4,))}, 'needs probabilities, but the network ends in activation = "linear"'),
        (
            {"network": Network(LAYERS, (4,)), "loss": "mse", "metrics": ["accuracy"]},
            'train.metrics has "accuracy", which needs classes',
        ),
        (
            {
                "network": Network(LAYERS, (4,), "sigmoid"),
                "loss": "binary_crossentropy",
                "metrics": ["confusion_matrix"],
            },
            "'confusion_matrix' is about classes of which one is true",
        ),
    ],
)
def test_settings_of_a_trainer_are_checked_as_in_a_job(options: dict[str, Any], message: str) -> None:
    network = Network(LAYERS, (4,), head="softmax")
    settings = {"network": network, "loss": LOSS, "optimizer": "adam", "shards": 2, **options}
    with pytest.raises(JobError, match=message):
        hpcnn.Trainer(**settings)


def test_several_labels_a_sample() -> None:
    """Precision and the like are those of each label, as scikit-learn has them."""
    labels = np.stack([X[:, 0] > 3, X[:, 1] > 5, X[:, 2] > 9], axis=1)
    network, names = Network(LAYERS, (4,), "sigmoid"), ["precision", "recall", "f1", "accuracy"]
    made = hpcnn.Trainer(network, "binary_crossentropy", RATE, shards=4, metrics=names)
    for _ in range(20):
        made.step(X, labels)
    true, found = labels, made.predict(X) > 0.5
    right, predicted = (true & found).sum(0), found.sum(0)
    values = made.evaluate(X, labels)
    assert values["accuracy"] == pytest.approx((true == found).mean())
    assert values["precision"] == pytest.approx(np.mean(right / np.maximum(predicted, 1)))
    assert values["recall"] == pytest.approx(np.mean(right / np.maximum(true.sum(0), 1)))
    assert values["f1"] == pytest.approx(np.mean(2 * right / np.maximum(predicted + true.sum(0), 1)))


@pytest.mark.parametrize("factor", [np.nan, np.inf, -1.0, "2", None])
def test_a_factor_that_is_no_rate_s_is_refused(factor: Any) -> None:
    made = trainer()
    with pytest.raises(JobError, match=r"lr_scale = .*: expected a number >= 0 that is finite. It multiplies"):
        made.step(X, Y, lr_scale=factor)
    before = made.weights_sha256
    made.step(X, Y, lr_scale=np.float32(0))
    assert (made.steps, made.weights_sha256) == (1, before)


def test_a_trainer_is_made_of_a_network() -> None:
    with pytest.raises(ModelError, match=r"the network is tuple; expected an hpcnn.nn.Network"):
        hpcnn.Trainer(LAYERS, LOSS, shards=np.int64(2))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "words"), [("no/such/t", "there is no folder 'no/such' to write"), ("folder.d/", "is a folder")]
)
def test_a_state_is_saved_to_a_file_in_a_folder(tmp_path, monkeypatch, path, words):
    monkeypatch.chdir(tmp_path)
    trainer = Trainer(Network([Dense(1)], (1,)), "mse", shards=1)
    with pytest.raises(CheckpointError, match=words):
        trainer.save(path)
    assert not list(tmp_path.iterdir())
