"""Weights and groups of samples in Python: fit, evaluate, a loop of one's own, scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import hpcnn
from hpcnn.errors import CheckpointError, DataError
from hpcnn.nn import Dense, Network
from tests.require import require

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(60, 4)), RNG.integers(0, 3, 60)
WEIGHTS = RNG.integers(0, 3, 60).astype(float)
TWICE = np.repeat(np.arange(60), WEIGHTS.astype(int))
LAST = Dense(3, activation="softmax")
JOB = {
    "loss": "sparse_categorical_crossentropy",
    "optimizer": {"name": "sgd", "learning_rate": 0.5},
    "train": {"epochs": 3, "batch_size": "full", "dtype": "float64", "metrics": ["accuracy", "auc"]},
    "run": {"display": "none"},
}


def fitted(out: Path, job: object = JOB, data: object = (X, Y), **more: object) -> hpcnn.Fitted:
    return hpcnn.fit(job, data, network=Network([LAST], (4,)), out=out, **more)  # type: ignore[arg-type]


def test_a_weight_is_how_often_a_sample_counts(tmp_path: Path) -> None:
    weighted = fitted(tmp_path / "a", sample_weight=WEIGHTS, validation=(X, Y, WEIGHTS))
    repeated = fitted(tmp_path / "b", data=(X[TWICE], Y[TWICE]), validation=(X[TWICE], Y[TWICE]))
    for name, value in repeated.values.items():
        assert weighted.values[name] == pytest.approx(value, rel=1e-10)
    values = weighted.evaluate(X, Y, sample_weight=WEIGHTS)
    for name, value in values.items():
        assert value == weighted.values[f"val_{name}"]
    assert values["loss"] != weighted.evaluate(X, Y)["loss"]


def test_a_run_goes_on_with_the_same_weights_alone(tmp_path: Path) -> None:
    short = {**JOB, "train": {**JOB["train"], "epochs": 1}}  # type: ignore[dict-item]
    fitted(tmp_path / "a", short, sample_weight=WEIGHTS)
    with pytest.raises(CheckpointError, match=r"the weights or the groups of the samples differ"):
        fitted(tmp_path / "a", sample_weight=WEIGHTS + 1, resume="auto")


def test_words_can_be_groups(tmp_path: Path) -> None:
    job = {**JOB, "data": {"validation_fraction": 0.5, "validation_split": "group"}}
    groups = ["left" if row % 3 else "right" for row in range(60)]
    run = fitted(tmp_path / "a", job, groups=groups)
    held = np.array(groups) == "right"
    assert run.values["val_loss"] in (run.evaluate(X[side], Y[side])["loss"] for side in (held, ~held))
    with pytest.raises(DataError, match=r"groups= is given, but data=\(x, y\) is not"):
        hpcnn.fit(JOB, groups=groups)


def test_a_loop_of_ones_own_may_give_weights_or_not() -> None:
    def trainer() -> hpcnn.Trainer:
        loss, optimizer = {"name": "sparse_categorical_crossentropy"}, {"name": "sgd", "learning_rate": 0.1}
        return hpcnn.Trainer(Network([LAST], (4,)), loss, optimizer, dtype="float64", metrics=["accuracy"])

    weighted, repeated, plain = trainer(), trainer(), trainer()
    for weights in (WEIGHTS, None, WEIGHTS * 2, WEIGHTS):
        ours = weighted.step(X, Y, sample_weight=weights)
        theirs = repeated.step(X[TWICE], Y[TWICE]) if weights is not None else repeated.step(X, Y)
        assert ours == pytest.approx(theirs, rel=1e-12)
        plain.step(X, Y)
    assert weighted.weights_sha256 != plain.weights_sha256
    assert weighted.evaluate(X, Y, sample_weight=WEIGHTS) == pytest.approx(repeated.evaluate(X[TWICE], Y[TWICE]))
    with pytest.raises(DataError, match="all weights of the batch are 0"):
        weighted.step(X, Y, sample_weight=np.zeros(60))


def test_estimators_take_them() -> None:
    require("sklearn")
    from hpcnn.sklearn import Regressor

    keys = {"hidden_layer_sizes": (), "max_iter": 5, "n_iter_no_change": None, "random_state": 0}
    weighted = Regressor(**keys).fit(X, Y, sample_weight=WEIGHTS)
    repeated = Regressor(**keys).fit(X[TWICE], Y[TWICE])
    np.testing.assert_allclose(weighted.predict(X), repeated.predict(X), rtol=1e-10)
