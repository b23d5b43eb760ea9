"""Contradictions between settings: each is found, named with what to do, and its neighbours are let through."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from hpcnn.errors import JobError
from hpcnn.job import load_job
from hpcnn.job.checks import DIGITS_SAMPLES, check_job, produced_values
from hpcnn.job.data_checks import has_validation
from tests.small_jobs import make_job

JOB = """
[data]
source = "digits"
[model]
layers = [{ type = "flatten" }, { type = "dense", units = 10, activation = "softmax" }]
[loss]
name = "sparse_categorical_crossentropy"
[train]
epochs = 10
batch_size = 32
metrics = ["accuracy", "confusion_matrix"]
"""
NPZ = 'data={ source = "npz", path = "a.npz" }'
NPY = 'data={ source = "npy", x_path = "x.npy", y_path = "y.npy" }'
IDX = 'data={ source = "idx", folder = "mnist" }'
LINE = 'data={ source = "synthetic", kind = "linear", samples = 100 }'
CLOUDS = 'data={ source = "synthetic", kind = "classification", samples = 100 }'
CIFAR = 'data={ source = "cifar", folder = "cifar" }'
SHAPES = 'data={ source = "shapes", samples = 100 }'
TEXT = 'data={ source = "text", path = "t.txt" }'
CSV = 'data={ source = "csv", path = "a.csv", targets = ["y"] }'
HEAT = 'data={ source = "heat", samples = 100 }'
SERIES = 'data={ source = "series", samples = 100 }'
LINEAR = "model.layers.1.activation=linear"
STOP = "train.early_stopping={}"
SGD = "optimizer.name=sgd"

REFUSED: list[tuple[list[str], str]] = [
    # model
    (["model.entry=a:b"], "[model] has both layers and entry: keep one of them"),
    (["model.layers="], "[model] has neither layers nor name nor entry. Add, for example: layers = [{"),
    (["model.layers=[]"], "[model] has neither layers nor name nor entry"),
    (["model.options={ width = 3 }"], "model.options are arguments for model.entry or sizes for model.name, which"),
    (["model.layers=", "model.entry=a.b"], 'model.entry = "a.b": expected "package.module:function"'),
    (["model.layers=", "model.entry=a/b.py:f"], 'model.entry = "a/b.py:f": expected "package.module:function"'),
    (["model.layers=", "model.entry=a.b:"], 'model.entry = "a.b:": expected "package.module:function"'),
    (['model.layers.0={ type = "reshape", shape = [-1, -1] }'], "model.layers.0.shape = [-1, -1]: only one size may"),
    (['model.layers.0={ type = "reshape", shape = [64, 0] }'], "model.layers.0.shape = [64, 0]: expected sizes >= 1"),
    (['model.layers.0={ type = "reshape", shape = [-2] }'], "model.layers.0.shape = [-2]: expected sizes >= 1"),
    (['model.layers.0={ type = "residual", layers = [{ type = "reshape", shape = [-1, -1] }] }'],
        "model.layers.0.layers.0.shape = [-1, -1]: only one size may be -1"),
    # data
    ([IDX, "data.validation_fraction=0.1"], "data.validation_fraction = 0.1 and data.validation_images both give "
        'validation data: set the fraction to 0, or data.validation_images = "", data.validation_labels = ""'),
    ([NPZ, "data.validation_path=b.npz", "data.validation_fraction=0.1"], "and data.validation_path both give"),
    ([NPY, "data.validation_x_path=v.npy"], "data.validation_x_path needs data.validation_y_path: give both, or nei"),
    ([NPY, "data.validation_y_path=v.npy"], "data.validation_y_path needs data.validation_x_path: give both, or nei"),
    ([IDX, 'data.validation_images=""'], "data.validation_labels needs data.validation_images: give both, or nei"),
    ([CIFAR, "data.validation_fraction=0.1"], 'and the test batch of data.part = "both" both give validation data: set '
        'the fraction to 0, or part to "train"'),
    ([CIFAR, "data.labels=coarse"], 'data.labels = "coarse" is for CIFAR-100, whose classes form groups, but data'),
    ([TEXT, "data.scale=minmax"], 'data.scale = "minmax" would change the numbers of characters, which only name them'),
    ([TEXT, "data.vocabulary=abca"], "data.vocabulary has 'a' twice: give each character once"),
    ([TEXT, "data.vocabulary=abc", "data.units=byte"], 'data.vocabulary lists characters, but data.units = "byte", wh'),
    ([CSV, "data.delimiter=ab"], "data.delimiter = 'ab' can't separate columns: give one character of ASCII, as"),
    ([CSV, "data.delimiter=§"], "data.delimiter = '§' can't separate columns"),
    ([CSV, "data.encoding=hex"], "data.encoding = 'hex' is no encoding of text that Python knows: use 'utf-8', 'l"),
    ([CSV, "data.encoding=utf-99"], "data.encoding = 'utf-99' is no encoding of text"),
    ([HEAT, "data.modes=33"], "data.modes = 33 of data.points = 64: a wave needs two points a period. Use at most 32"),
    ([HEAT, "data.points=1048577"], "data.points = 1048577: expected an integer >= 2 and <= 1048576"),
    ([SERIES, "data.length=1000000000"], "data.length = 1000000000: expected an integer >= 1 and <= 1048576"),
    ([SERIES, "data.components=1000000000"], "data.components = 1000000000: expected an integer >= 1 and <= 1000"),
    ([SHAPES, "data.shapes=1000000"], "data.shapes = 1000000: expected an integer >= 1"),
    # targets
    (["data.one_hot=true"], 'data.one_hot = true does not fit loss.name = "sparse_categorical_crossentropy"'),
    (["loss.name=categorical_crossentropy"], "takes one-hot targets, but the targets of source 'digits' are integer"),
    ([CLOUDS, "loss.name=categorical_crossentropy"], "the targets of source 'synthetic' are integer labels"),
    ([IDX, "loss.name=categorical_crossentropy"], "the targets of source 'idx' are integer labels"),
    ([LINE], "needs classes, but the targets of source 'synthetic' are numbers: use"),
    (['data={ source = "sklearn", name = "diabetes" }'], "the targets of source 'sklearn' are numbers"),
    (['data={ source = "sklearn", name = "iris" }', "loss.name=categorical_crossentropy"], "'sklearn' are integer"),
    ([LINE, "loss.name=mse", "data.one_hot=true"], "data.one_hot = true needs integer labels"),
    # loss and metrics
    (["loss.class_weights=balanced", "loss.ignore_class=0"], "loss.ignore_class = 0 and loss.class_weights = 'balanced'"
        " can't go together: remove one of them."),
    (["loss.name=categorical_focal_crossentropy"], '"categorical_focal_crossentropy" takes one-hot targets, but the'),
    (["loss.name=ctc", "data.one_hot=true"], 'data.one_hot = true does not fit loss.name = "ctc", which takes integer'),
    ([LINE, "loss.name=dice"], 'loss.name = "dice" needs classes, but the targets of source'),
    (["loss.name=dice", LINEAR], '"dice" needs probabilities, but the network ends in activation = "linear", whose '
        'outputs are not probabilities. End it in activation = "sigmoid". For numbers use'),
    (["loss.name=kl_divergence", LINEAR], 'not probabilities. End it in activation = "softmax". For numbers use'),
    ([LINE, "loss.name=poisson", LINEAR], 'loss.name = "poisson" needs outputs of at least 0, but the network ends in '
        'activation = "linear", whose outputs may be below. End it in activation = "softplus", or'),
    (["loss.name=ctc", "model.layers.1.activation=relu"], 'loss.name = "ctc" works on logits, but the network ends in '
        'activation = "relu". End it in activation = "softmax", or in "linear": the loss is the same'),
    (["loss.class_weights=[1, -1]"], "loss.class_weights = [1.0, -1.0]: expected numbers >= 0, not all of them 0"),
    (["loss.class_weights=[0, 0]"], "loss.class_weights = [0.0, 0.0]: expected numbers"),
    (["loss.class_weights=[]"], "loss.class_weights = []: expected numbers"),
    (["loss.name=mse", LINEAR], 'train.metrics has "accuracy", which needs classes, but loss.name = "mse"'),
    (["loss.name=huber", LINEAR, "train.metrics.0=mae"], 'train.metrics has "confusion_matrix", which needs classes'),
    (["loss.name=mae", 'model.layers.1={ type = "layer_norm" }'], 'train.metrics has "accuracy", which needs classes'),
    (["loss.name=mae", 'model.layers=[{ type = "flatten" }]'], 'train.metrics has "accuracy", which needs classes'),
    ([LINEAR], 'needs probabilities, but the network ends in activation = "linear", whose outputs are not '
        'probabilities. End it in activation = "softmax", also where another library would take from_'),
    (["model.layers.1.activation=relu"], 'ends in activation = "relu", whose outputs are not'),
    (["model.layers.1.activation=tanh", "loss.name=categorical_crossentropy", "data.one_hot=true"], '"tanh", whose'),
    (["model.layers.1.activation=softplus", "loss.name=binary_crossentropy"], 'End it in activation = "sigmoid"'),
    ([LINEAR, 'model.layers.0={ type = "dense", units = 10, activation = "softmax" }'], '"linear", whose'),
    (['model.layers.1={ type = "layer_norm" }'], '"linear", whose outputs are not'),
    (['model.layers=[{ type = "dense", units = 10 }, { type = "reshape", shape = [5, 2] }, { type = "flatten" }]'],
        '"linear", whose outputs are not'),
    # optimizer and schedule
    ([SGD, "optimizer.nesterov=true"], "optimizer.nesterov = true needs momentum: set optimizer.momentum"),
    ([SGD, "optimizer.decay=0.1", "schedule.name=cosine"], "optimizer.decay = 0.1 and schedule.name = 'cosine' both"),
    (["schedule.warmup=10.5"], "schedule.warmup = 10.5 epochs is longer than the training, at most 10 epochs"),
    (["schedule.warmup=571", "schedule.unit=step"], "schedule.warmup = 571 steps is longer than the training, at most"),
    (["schedule.warmup=11", "schedule.unit=step", "train.batch_size=full"], "at most 10 steps"),
    ([CLOUDS, "schedule.warmup=41", "schedule.unit=step"], "at most 40 steps"),
    # values watched
    ([STOP], 'train.early_stopping.monitor = "val_loss": this job has no validation data: set data.validation_fract'),
    ([STOP, "train.early_stopping.monitor=acuracy"], 'monitor = "acuracy": this job computes no such value: see train'
        ".metrics. Did you mean 'accuracy'? Known: loss, accuracy."),
    ([STOP, "train.early_stopping.monitor=f1"], 'monitor = "f1": this job computes no such value'),
    ([STOP, "train.early_stopping.monitor=confusion_matrix"], "confusion_matrix is a table, not a number, and can't"),
    (["run.monitor=val_confusion_matrix"], "confusion_matrix is a table, not a number, and can't be monitored"),
    (["run.monitor=val_accuracy"], 'run.monitor = "val_accuracy": this job has no validation data'),
    (["train.reduce_on_plateau={}"], 'train.reduce_on_plateau.monitor = "val_loss": this job has no validation data'),
    (["run.monitor=val_f1", "data.validation_fraction=0.1"], "Known: loss, accuracy, val_loss, val_accuracy."),
]  # fmt: skip

ALLOWED: list[list[str]] = [
    [],
    ["model.layers=", "model.entry=a.b:c", "model.options={ width = 3 }"],
    ["model.layers=", "model.entry=a.b:c", "loss.name=mse"],
    ['model.layers.0={ type = "reshape", shape = [8, -1] }'],
    [IDX],
    [IDX, 'data.validation_images=""', 'data.validation_labels=""', "data.validation_fraction=0.1"],
    [NPZ, "data.validation_path=b.npz"],
    [NPY, "data.validation_x_path=x.npy", "data.validation_y_path=y.npy"],
    [NPZ, "loss.name=categorical_crossentropy"],
    ["loss.name=categorical_crossentropy", "data.one_hot=true"],
    ["loss.name=mse", "data.one_hot=true", LINEAR],
    ["loss.ignore_class=-1"],
    ["loss.name=ctc", LINEAR, "train.metrics=[]"],
    ["loss.name=ctc", "train.metrics=[]"],
    ["loss.name=categorical_focal_crossentropy", "data.one_hot=true", "loss.gamma=0"],
    ["loss.name=dice", "data.one_hot=true", "model.layers.1.activation=sigmoid"],
    [LINE, "loss.name=poisson", "model.layers.1.activation=softplus", "train.metrics=[]"],
    [LINE, "loss.name=log_cosh", LINEAR, "train.metrics=[]"],
    ["loss.name=mse", "model.layers.1.activation=sigmoid"],
    ["loss.name=mse", 'model.layers.1={ type = "activation", activation = "softmax" }'],
    [LINE, "loss.name=mse", LINEAR, 'train.metrics=["mae", "r2"]'],
    ["loss.name=binary_crossentropy"],
    ["loss.name=binary_crossentropy", "model.layers.1.activation=sigmoid"],
    ["model.layers.1.activation=sigmoid"],
    ["model.layers.1.activation=softplus"],
    ['model.layers.1={ type = "activation", activation = "softmax" }'],
    ['model.layers=[{ type = "dense", units = 10, activation = "softmax" }, { type = "dropout", rate = 0.1 }]'],
    ['model.layers=[{ type = "dense", units = 10, activation = "softmax" }, { type = "reshape", shape = [10] }]'],
    ["loss.class_weights=[0, 1]"],
    ["loss.class_weights=balanced"],
    [SGD, "optimizer.nesterov=true", "optimizer.momentum=0.9"],
    [SGD, "optimizer.decay=0.1", "schedule.name=constant"],
    [SGD, "schedule.name=cosine"],
    ["schedule.warmup=10"],
    ["schedule.warmup=570", "schedule.unit=step"],
    [IDX, "schedule.warmup=1e9", "schedule.unit=step"],
    [STOP, "data.validation_fraction=0.1"],
    [STOP, "train.early_stopping.monitor=accuracy"],
    ["run.monitor=loss"],
    ["train.reduce_on_plateau={}", IDX],
    [STOP, CIFAR],
    [CIFAR, "data.part=train", "data.validation_fraction=0.1"],
    [CIFAR, "data.name=cifar100", "data.labels=coarse"],
    [TEXT, "data.vocabulary=abc"],
    [TEXT, "data.units=byte", "data.validation_fraction=0.1", STOP],
    [SHAPES, "schedule.warmup=40", "schedule.unit=step"],
]


def load(folder: Path, overrides: Sequence[str]) -> None:
    (folder / "x.toml").write_text(JOB, encoding="utf-8")
    load_job(folder / "x.toml", overrides)


@pytest.mark.parametrize(("overrides", "message"), REFUSED)
def test_contradiction_is_refused(tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(JobError, match=re.escape(message)):
        load(tmp_path, overrides)


@pytest.mark.parametrize("overrides", ALLOWED)
def test_neighbour_is_allowed(tmp_path: Path, overrides: list[str]) -> None:
    load(tmp_path, overrides)


def test_values_an_epoch_produces() -> None:
    job = load_job(overrides=['train.metrics=["f1", "confusion_matrix", "f1"]']).job
    assert produced_values(job) == ["loss", "f1", "val_loss", "val_f1"]
    job = load_job(overrides=["data.validation_fraction=0"]).job
    assert produced_values(job) == ["loss", "accuracy"]
    assert not has_validation(job.data)


def test_number_of_digits_is_that_of_the_file() -> None:
    import numpy as np

    import hpcnn.data

    with np.load(Path(hpcnn.data.__file__).with_name("digits.npz")) as archive:
        assert len(archive["y"]) == DIGITS_SAMPLES


def test_batch_statistics_in_keras_mode_need_one_shard():
    layers = [{"type": "residual", "layers": [{"type": "batch_normalization"}]}, {"type": "dense", "units": 3}]
    job = make_job(model={"layers": layers}, loss={"name": "mse"}, train={"metrics": [], "shards": None})
    keras = msgspec.structs.replace(job, backend="keras")
    place = r"model\.layers\.0\.layers\.0\.statistics"
    with pytest.raises(JobError, match=place + ' = "batch" is for NumPy mode: .*"shard"'):
        check_job(keras)
    check_job(msgspec.structs.replace(keras, train=msgspec.structs.replace(job.train, shards=1)))
