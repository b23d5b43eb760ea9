"""`hpcnn.Trainer`: loops of one's own."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hpcnn
from hpcnn.api import loop
from hpcnn.api.loop import Trainer
from hpcnn.comm.threads import run_threads
from hpcnn.errors import CheckpointError, CommunicatorError, DataError, DivergedError, JobError, ModelError
from hpcnn.nn import Dense, Network
from tests.api.fitting import JOB, X, Y, fit

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


def test_ranks_share_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = trainer(dtype="float64")
    for _ in range(2):
        alone.step(X, Y, factor=0.5)
    local = threading.local()
    monkeypatch.setattr(loop, "connect", lambda: local.comm)

    def body(comm: Any) -> tuple[str, Any]:
        local.comm = comm
        mine = trainer(dtype="float64")
        for _ in range(2):
            mine.step(X, Y, factor=0.5)
        return mine.weights_sha256, mine.evaluate(X, Y)

    assert run_threads(3, body) == [(alone.weights_sha256, alone.evaluate(X, Y))] * 3

    def parts(comm: Any) -> None:
        local.comm = comm
        trainer().step(X[comm.rank :: 2], Y[comm.rank :: 2])

    with pytest.raises(DataError, match=r"rank 1 gives another batch than rank 0. Give every rank the whole batch"):
        run_threads(2, parts)
    with pytest.raises(CommunicatorError, match="5 ranks for 4 gradient shards"):
        run_threads(5, body)


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
    with pytest.raises(CheckpointError, match="could not be saved"):
        first.save(tmp_path / "none" / "state.safetensors")
    other = hpcnn.Trainer(Network(LAYERS, (4,), head="softmax"), LOSS, "sgd", shards=1)
    with pytest.raises(CheckpointError, match="the optimizer state does not match this optimizer"):
        other.restore(tmp_path / "state.safetensors")


def test_a_trainer_takes_all_of_a_file_or_nothing(tmp_path: Path) -> None:
    run = fit(tmp_path, overrides={"data.scale": "none", "train.epochs": 1}).folder
    first = trainer()
    first.step(X, Y)
    before = first.weights_sha256
    with pytest.raises(CheckpointError, match=r"is none of a trainer: no number of steps .* Trainer.save wrote"):
        first.restore(run / "checkpoints" / "last.safetensors")
    sgd = hpcnn.Trainer(Network(LAYERS, (4,), head="softmax"), LOSS, "sgd", shards=1, seed=7)
    sgd.save(tmp_path / "sgd.safetensors")
    with pytest.raises(CheckpointError, match="the optimizer state does not match this optimizer"):
        first.restore(tmp_path / "sgd.safetensors")
    assert (first.weights_sha256, first.steps) == (before, 1)


def test_a_trainer_predicts_no_nothing() -> None:
    with pytest.raises(DataError, match=r"inputs of shape \(0, 4\) hold nothing"):
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
        ({"seed": -1}, "train.seed = -1: expected an integer >= 0"),
        ({"shards": 1.5}, "train.shards = 1.5: expected an integer >= 1"),
        ({"shards": "auto"}, 'train.shards = "auto": expected an integer. A trainer'),
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
    with pytest.raises(JobError, match=r"factor = .*: expected a number >= 0 that is finite. It multiplies the learni"):
        made.step(X, Y, factor=factor)
    before = made.weights_sha256
    made.step(X, Y, factor=np.float32(0))
    assert (made.steps, made.weights_sha256) == (1, before)


def test_a_trainer_is_made_of_a_network() -> None:
    with pytest.raises(ModelError, match=r"the network is tuple; expected an hpcnn.nn.Network"):
        hpcnn.Trainer(LAYERS, LOSS, shards=np.int64(2))  # type: ignore[arg-type]
