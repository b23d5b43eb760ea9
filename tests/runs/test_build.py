"""From a job to a training: how the parts are put together, and what is refused."""

import re
from pathlib import Path

import msgspec
import numpy as np
import pytest

from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.threads import run_threads
from hpcnn.data.readers.memory import array_source
from hpcnn.errors import CheckpointError, CommunicatorError, DataError, JobError, ModelError
from hpcnn.runs.build import build_training, settled
from hpcnn.storage.checkpoint import Checkpoint, prefixed, save_checkpoint
from hpcnn.training.callbacks import EarlyStopping, ReduceOnPlateau
from tests.small_jobs import LAYERS, build, make_job

DENSE = [{"type": "dense", "units": 3, "activation": "softmax"}]
CLASSES = {"name": "sparse_categorical_crossentropy"}


@pytest.mark.parametrize(("changes", "error", "text"), [
    ({"model": {"layers": [{"type": "dense", "units": 3, "activation": "softmax", "trainable": False}]}},
     ModelError, r"no trainable parameters: every layer is frozen, or has none"),
    ({"model": {"layers": [{"type": "activation", "activation": "softmax"}]}, "data": {"features": 3}},
     ModelError, r"no trainable parameters"),
    ({"loss": {**CLASSES, "class_weights": [1.0, 2.0]}}, JobError, r"class_weights has 2 entries, but there are 3"),
    ({"train": {"batch_size": 31}}, DataError, r"batch_size = 31 is larger than the training data: 30 samples"),
    ({"train": {"metrics": ["mae"]}}, JobError, r"'mae' compares rows of outputs, but the targets are integer labels"),
    ({"model": {"layers": [{"type": "dense", "units": 2, "activation": "softmax"}]}}, DataError, r"labels"),
])  # fmt: skip
def test_a_job_that_does_not_fit_is_refused(changes, error, text):
    with pytest.raises(error, match=text):
        build(make_job(**changes))


ENTRY = """
from hpcnn.nn import Dense, Network

def build(input_shape, units, head="linear", **last):
    return Network([Dense(units, name="last", **last)], input_shape, head)
"""


@pytest.mark.parametrize(("options", "changes", "text"), [
    ({}, {}, r'ends in activation = "linear", whose outputs are not probabilities'),
    ({"activation": "relu"}, {}, r'ends in activation = "relu", whose outputs are not'),
    ({}, {"loss": {"name": "mse"}, "data": {"one_hot": True}, "train": {"metrics": ["accuracy"]}}, None),
    ({"head": "softmax"}, {}, None),
    ({"activation": "softmax"}, {}, None),
    ({"units": 1}, {"loss": {"name": "mse"}}, r'"accuracy", which needs classes, but loss.name = "mse"'),
])  # fmt: skip
def test_the_network_of_an_entry_must_end_in_what_the_loss_needs(options, changes, text, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "endings_of_a_user.py").write_text(ENTRY)
    job = make_job(
        model={"layers": None, "entry": "endings_of_a_user:build", "options": {"units": 3, **options}}, **changes
    )
    if text is None:
        assert build(job).spec.loss.head == (options.get("head") or options.get("activation", "linear"))
        return
    with pytest.raises(JobError, match=text):
        build(job)


def test_balanced_weights_need_a_sample_of_each_class():
    layers = [{"type": "dense", "units": 5, "activation": "softmax"}]
    job = make_job(model={"layers": layers}, loss={**CLASSES, "class_weights": "balanced"})
    with pytest.raises(JobError, match=r"balanced\", but the training data has no sample of class 3, 4\. Give the wei"):
        build(job)


def test_class_weights_need_one_class_a_sample(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.zeros((8, 4, 2), np.float32), y=np.zeros((8, 4), np.int64))
    job = make_job(
        data={"source": "npz", "path": str(tmp_path / "d.npz")},
        model={"layers": [{"type": "dense", "units": 3, "activation": "softmax"}]},
        loss={**CLASSES, "class_weights": [1.0, 2.0, 3.0]},
        train={"batch_size": 8},
    )
    with pytest.raises(JobError, match=r"need one class a sample, but the model's outputs have shape \(4, 3\)"):
        build(job)


@pytest.mark.parametrize("weights", ["balanced", [1.0, 2.0, 3.0]])
def test_class_weights_are_refused_for_several_labels_a_sample(weights, tmp_path):
    rows = np.eye(3)[np.arange(9) % 3]
    rows[:2] = [[1, 1, 0], [0, 0, 0]]  # one a sample on the mean
    np.savez(tmp_path / "d.npz", x=np.zeros((9, 4), np.float32), y=rows)
    job = make_job(
        data={"source": "npz", "path": str(tmp_path / "d.npz")},
        model={"layers": [{"type": "dense", "units": 3, "activation": "sigmoid"}]},
        loss={"name": "binary_crossentropy", "class_weights": weights},
        train={"batch_size": 9},
    )
    with pytest.raises(
        JobError, match=r"class_weights need one class a sample, but with a sigmoid on each of 3 outputs"
    ):
        build(job)


def test_too_many_ranks_are_told_before_any_data_is_read():
    job = make_job(train={"shards": 2}, data={"source": "npz", "path": "no such file"})
    with pytest.raises(CommunicatorError, match=r"3 ranks for 2 gradient shards"):
        run_threads(3, lambda comm: build_training(job, None, comm))


@pytest.mark.parametrize("one_hot", [False, True])
def test_balanced_weights_are_the_inverse_of_the_counts(one_hot):
    name = "categorical_crossentropy" if one_hot else "sparse_categorical_crossentropy"
    training = build(make_job(loss={"name": name, "class_weights": "balanced"}, data={"one_hot": one_hot}))
    training.shards.start_epoch(0)
    labels = [training.shards.shards(step, shard, shard + 1)[1].copy() for step in range(3) for shard in range(8)]
    labels = np.concatenate([part.argmax(axis=1) if one_hot else part for part in labels])
    expected = 30 / (3 * np.bincount(labels, minlength=3))
    np.testing.assert_allclose(training.replica._class_weights, expected, rtol=1e-6)


def test_parts_follow_the_job():
    job = make_job(
        train={"early_stopping": {}, "reduce_on_plateau": {}},
        schedule={"name": "step", "every": 1},
    )
    training = build(job)
    assert {name: type(callback) for name, callback in training.callbacks.items()} == {
        "early_stopping": EarlyStopping, "reduce_on_plateau": ReduceOnPlateau,
    }  # fmt: skip
    assert training.monitor == "val_loss"
    assert [training.schedule(step) for step in (0, 3)] == [1.0, pytest.approx(0.1)]
    assert training.shards.steps_per_epoch == 3
    assert (training.validation.samples, training.validation.pieces) == (7, 3)
    assert build(make_job()).callbacks == {}


@pytest.mark.parametrize(("changes", "monitor"), [
    ({}, "val_loss"), ({"data": {"validation_fraction": 0.0}}, "loss"), ({"run": {"monitor": "accuracy"}}, "accuracy"),
])  # fmt: skip
def test_what_decides_the_best_epoch(changes, monitor):
    assert build(make_job(**changes)).monitor == monitor


def test_shards_are_resolved_only_where_they_are_open():
    job = make_job(train={"shards": "auto", "batch_size": "full", "arithmetic": "numpy"})
    assert settled(job, 5, 1).train.shards == 5
    assert settled(make_job(train={"shards": 3}), 5, 1).train.shards == 3
    assert msgspec.structs.replace(settled(job, 5, 1), train=job.train) == job
    assert build(job).job.train.shards == 8


def initial(tmp_path, arrays):
    path = tmp_path / "start.safetensors"
    save_checkpoint(path, Checkpoint(prefixed("model", arrays), {}))
    return {"layers": DENSE, "initial_weights": str(path)}


def test_initial_weights_of_the_same_name_and_shape_are_copied(tmp_path):
    kernel = np.arange(15.0).reshape(5, 3)
    model = initial(tmp_path, {"dense_1/kernel": kernel, "dense_1/bias": np.ones(4), "other": np.ones(3)})
    weights = build(make_job(model=model)).replica.weights()
    np.testing.assert_array_equal(weights["dense_1/kernel"], kernel)
    np.testing.assert_array_equal(weights["dense_1/bias"], 0)


@pytest.mark.parametrize("arrays", [{"dense_1/kernel": np.ones((5, 4))}, {"other": np.ones(3)}])
def test_initial_weights_of_which_none_fits(tmp_path, arrays):
    with pytest.raises(
        ModelError, match=r"initial_weights: no parameter of .* The model has: dense_1/kernel, dense_1/b"
    ):
        build(make_job(model=initial(tmp_path, arrays)))


def test_initial_weights_that_are_missing(tmp_path):
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        build(make_job(model={"layers": LAYERS, "initial_weights": str(tmp_path / "missing")}))


@pytest.mark.parametrize(("changes", "notes"), [
    ({}, []),
    ({"model": {"layers": [{"type": "dense", "units": 5, "activation": "softmax"}]}},
     [r"no sample of the training data is of class 3, 4 \(2 of 5\): the model can't learn what it never sees"]),
    ({"model": {"layers": [{"type": "dense", "units": 30, "activation": "softmax"}]}},
     [r"3, 4.* 12, \.\.\. \(27 of 30\)"]),
    ({"model": {"layers": DENSE}, "loss": {"name": "mse"}, "data": {"one_hot": True}}, []),
    ({"train": {"metrics": ["top_k_accuracy"], "top_k": 3}},
     [r"train.top_k = 3 of 3 classes: top_k_accuracy is 1 for any model"]),
    ({"train": {"metrics": ["top_k_accuracy"], "top_k": 2}}, []),
    ({"model": {"layers": [{"type": "batch_normalization"}, *DENSE]}},
     [r"after 6 steps with momentum = 0.99, the moving averages of layer 'batch_normalization_1', .* began with to 94 %"
      r"\. Train longer, or lower its momentum, to 0\.9 for example\."]),
    ({"model": {"layers": [{"type": "batch_normalization", "momentum": 0.68}, *DENSE]}}, []),
    ({"model": {"layers": [{"type": "batch_normalization", "trainable": False}, *DENSE]}}, []),
])  # fmt: skip
def test_what_will_mislead_is_noted(changes, notes):
    found = build(make_job(**changes)).splits.notes
    assert len(found) == len(notes)
    for note, pattern in zip(found, notes, strict=True):
        assert re.search(pattern, note)


SIGMOIDS = [{"type": "dense", "units": 3, "activation": "sigmoid"}]


def build_on_rows(y, loss, **train):
    x = np.random.default_rng(1).normal(size=(len(y), 5)).astype(np.float32)
    data = {"source": "npz", "path": "rows.npz"}
    job = make_job(data=data, model={"layers": SIGMOIDS}, loss=loss, train={"batch_size": 8, **train})
    return build_training(job, Path(), SerialCommunicator(), source=array_source((x, y.astype(np.float32))))


@pytest.mark.parametrize(
    ("y", "loss", "noted"),
    [
        (np.eye(3), "categorical_crossentropy", False),
        (np.eye(3), "binary_crossentropy", False),
        (np.eye(3), "mse", True),
        (np.eye(3) + np.eye(3)[::-1] > 0, "mse", False),
        (0.5 + np.zeros((3, 3)), "huber", False),
    ],
)
def test_rows_of_one_class_behind_sigmoids_are_noted_where_they_count_as_labels(y, loss, noted):
    notes = build_on_rows(np.tile(y, (10, 1)), {"name": loss}, metrics=["accuracy"]).splits.notes
    assert [bool(re.search(r"accuracy count each of 3 outputs for itself", note)) for note in notes] == [True] * noted


def test_rows_of_one_class_behind_sigmoids_are_classes_for_a_categorical_loss():
    loss = {"name": "categorical_crossentropy", "class_weights": "balanced"}
    training = build_on_rows(np.tile(np.eye(3), (10, 1)), loss, metrics=["accuracy", "confusion_matrix"])
    assert not any(metric.multilabel for metric in training.spec.layout.metrics)
    assert training.class_weights is not None
