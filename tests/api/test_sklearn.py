"""The estimators for scikit-learn: its own checks, its tools, and the bits of a job."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

import hpcnn
from hpcnn.errors import DataError, JobError
from hpcnn.job.layers.base import Activation
from hpcnn.sklearn import Classifier, Regressor
from tests.api.fitting import X, Y
from tests.timing import WAIT_S

SMALL: dict[str, Any] = {"hidden_layer_sizes": (16,), "max_iter": 12, "learning_rate_init": 0.05, "random_state": 0}
NAMES = np.array(["low", "middle", "high"])[Y]
CHECKS = [
    pytest.param(check, estimator, id=f"{type(estimator).__name__}-{getattr(check, 'func', check).__name__}-{number}")
    for made in (Classifier, Regressor)
    for number, (estimator, check) in enumerate(estimator_checks_generator(made(**SMALL)))
    if getattr(check, "func", check).__name__ != "check_array_api_input"  # skips itself without SCIPY_ARRAY_API=1
]
"""All of scikit-learn's `check_estimator`, for both estimators: 5 s of one core."""


@pytest.mark.parametrize(("check", "estimator"), CHECKS)
def test_scikit_learns_own_checks(check: Any, estimator: Any) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier(**SMALL).fit(X, NAMES)


def test_nothing_is_synced_of_a_training_that_keeps_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search trains hundreds of networks, and syncs take longer than small ones."""
    synced, fsync = [], os.fsync

    def noted(descriptor: int) -> None:
        synced.append(descriptor)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    estimator = Classifier(**SMALL).fit(X, NAMES)
    assert not synced
    estimator.save(tmp_path / "kept.safetensors")
    assert len(synced) == 2, "the file, and the name in its folder"


def test_an_estimator_has_the_bits_of_a_job(classifier: Classifier, tmp_path: Path) -> None:
    job = {
        "model": {
            "layers": [
                {"type": "dense", "units": 16, "activation": "relu"},
                {"type": "dense", "units": 3, "activation": "softmax"},
            ]
        },
        "loss": {"name": "sparse_categorical_crossentropy"},
        "optimizer": {"name": "adam", "learning_rate": 0.05},
        "train": {"epochs": 12, "batch_size": 60, "seed": 0, "dtype": "float64", "metrics": ["accuracy"]},
        "run": {"display": "none"},
    }
    labels = np.searchsorted(classifier.classes_, NAMES)
    fitted = hpcnn.fit(job, (X, labels), out=tmp_path / "run")
    assert classifier.fitted_.weights_sha256 == fitted.weights_sha256
    assert classifier.classes_.tolist() == ["high", "low", "middle"]
    np.testing.assert_array_equal(classifier.predict_proba(X), fitted.predict(X))
    assert classifier.loss_curve_ == [line["loss"] for line in fitted.history]


def test_nothing_is_shown_and_no_files_are_left(
    classifier: Classifier, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    clone(classifier).fit(X, NAMES)
    assert (capfd.readouterr().out, list(tmp_path.iterdir())) == ("", [])
    clone(classifier).set_params(verbose=True).fit(X, NAMES)
    assert "weights sha256" in capfd.readouterr().out


def test_a_copy_and_a_saved_model_predict_alike(classifier: Classifier, tmp_path: Path) -> None:
    copy = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(copy.predict(X), classifier.predict(X))
    copy.save(tmp_path / "model.safetensors")
    loaded = hpcnn.load(tmp_path / "model.safetensors")
    assert loaded.weights_sha256 == copy.fitted_.weights_sha256 == classifier.fitted_.weights_sha256
    np.testing.assert_array_equal(loaded.predict(X), classifier.predict_proba(X))


def test_a_search_over_the_parameters_of_a_pipeline() -> None:
    pipeline = make_pipeline(StandardScaler(), Classifier(**SMALL))
    grid = {"classifier__hidden_layer_sizes": [(), (8, 8)], "classifier__overrides": [{"train.epochs": 2}, {}]}
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(X, NAMES)
    assert search.best_params_["classifier__overrides"] == {}
    assert search.score(X, NAMES) > 0.8
    assert cross_val_score(make_pipeline(StandardScaler(), Regressor(**SMALL, batch_size=10)), X, Y, cv=2).mean() > 0


def test_early_stopping() -> None:
    made = Classifier(**{**SMALL, "max_iter": 400}, early_stopping=True, n_iter_no_change=3).fit(X, Y)
    best = min(made.history_, key=lambda line: float(line["val_loss"]))
    assert made.n_iter_ == best["epoch"] + 3 < 400
    by_loss = Classifier(**SMALL, tol=100.0, n_iter_no_change=2).fit(X, Y)
    assert (by_loss.n_iter_, "val_loss" in by_loss.history_[0]) == (3, False)
    assert Classifier(**SMALL, tol=100.0, n_iter_no_change=None).fit(X, Y).n_iter_ == SMALL["max_iter"]


def test_a_job_says_all_else() -> None:
    job = {
        "model": {"layers": [{"type": "layer_norm"}, {"type": "dense", "units": 1, "activation": "sigmoid"}]},
        "loss": {"name": "binary_crossentropy"},
        "data": {"scale": "standardize"},
        "train": {"metrics": ["f1"]},
    }
    made = Classifier(**SMALL, job=job, overrides={"train.epochs": 3}).fit(X, Y > 1)
    assert (made.n_iter_, "f1" in made.history_[0]) == (3, True)
    probabilities = made.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_array_equal(made.predict(X), probabilities[:, 1] > 0.5)
    three = {"layers": [{"type": "dense", "units": 4, "activation": "softmax"}]}
    with pytest.raises(JobError, match=r"ends in outputs of shape \(4,\), but there are 3 classes"):
        Classifier(**SMALL, job={"model": three}).fit(X, Y).predict(X)


def test_a_batch_may_exceed_what_a_split_of_the_job_leaves() -> None:
    made = Classifier(**SMALL | {"batch_size": len(X) // 2}, job={"data": {"validation_fraction": 0.9}}).fit(X, Y)
    assert "val_loss" in made.history_[0]


def test_single_precision_and_several_targets() -> None:
    made = Regressor(**SMALL).fit(X.astype(np.float32), X[:, :2])
    assert made.predict(X).shape == (60, 2)
    assert made.predict(X).dtype == np.float32


@pytest.mark.parametrize("name", [*Activation.__args__, "identity", "logistic"])  # type: ignore[attr-defined]
def test_activations(name: str) -> None:
    Regressor(**{**SMALL, "max_iter": 1}, activation=name).fit(X, Y)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"activation": "rleu"}, "unknown activation 'rleu'. Did you mean 'relu'"),
        ({"solver": "lbfgs"}, "unknown optimizer 'lbfgs' in"),
        ({"max_iter": 0}, "train.epochs = 0: expected an integer >= 1"),
        ({"job": 3}, "the job is int; expected the path of a job file, or a dict"),
    ],
)
def test_wrong_parameters(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(JobError, match=message):
        Classifier(**{**SMALL, **parameters}).fit(X, Y)


def test_one_class_is_refused() -> None:
    with pytest.raises(DataError, match=r"y holds one class alone, 'a'. Give samples of two classes or more"):
        Classifier(**SMALL).fit(X, ["a"] * 60)


def test_a_stop_ends_a_search_too() -> None:
    stopped = Classifier(**SMALL, overrides={"run.stop_at_step": 2})
    with pytest.raises(KeyboardInterrupt, match="the training was stopped, and is not kept"):
        cross_val_score(stopped, X, Y, cv=2)


def test_without_scikit_learn_one_message_says_what_to_install() -> None:
    code = "import sys; sys.modules['sklearn'] = None; import hpcnn.sklearn"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert done.stderr.splitlines()[-1] == (
        "hpcnn.errors.MissingExtraError: hpcnn.sklearn needs the package 'scikit-learn>=1.6', which is not "
        "installed. Install it with: pip install 'hpcnn[sklearn]'"
    )
