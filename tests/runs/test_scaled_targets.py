"""Targets that are scaled for the training: metrics, predictions and exports are in the units of the data."""

import numpy as np
import pytest

import hpcnn
from hpcnn.api.loop import _facts_of
from hpcnn.data.load import load
from hpcnn.data.reduction import SERIAL
from hpcnn.data.rows import ArrayRows
from hpcnn.data.samples import measure_scaling
from hpcnn.errors import CheckpointError, JobError
from hpcnn.job import data as schema
from hpcnn.job.load import load_job
from hpcnn.storage.checkpoint import load_checkpoint
from hpcnn.tools.export.npz_file import write_npz
from hpcnn.tools.export.onnx_file import write_onnx
from tests.data.helpers import on_ranks, take
from tests.require import require

X = np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32)
Y = np.stack([280 + 3 * X[:, 0], 1e5 + 200 * X[:, 1] * X[:, 2]], axis=1)
JOB = """
data = { source = "npz", path = "d.npz", validation_fraction = 0.25, scale_targets = "standardize" }
model = { layers = [{ type = "dense", units = 8, activation = "tanh" }, { type = "dense", units = 2 }] }
loss = { name = "mse" }
train = { epochs = 2, batch_size = 16, metrics = ["mae", "mse", "r2"] }
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scaled")
    np.savez(folder / "d.npz", x=X, y=Y)
    (folder / "job.toml").write_text(JOB)
    return hpcnn.fit(folder / "job.toml", out=folder / "run")


def test_metrics_and_predictions_are_in_the_units_of_the_data(run):
    predicted = run.predict(X)
    errors = predicted - Y
    found = run.evaluate(X, Y)
    assert found["mae"] == pytest.approx(np.abs(errors).mean(), rel=1e-5)
    assert found["mse"] == pytest.approx(np.square(errors).mean(), rel=1e-5)
    explained = 1 - np.square(errors).sum(0) / np.square(Y - Y.mean(0)).sum(0)
    assert found["r2"] == pytest.approx(explained.mean(), abs=1e-4)
    scaled = errors * run.trained.target_scaling.scale
    assert found["loss"] == pytest.approx(np.square(scaled).mean(), rel=1e-3)
    assert predicted.mean(axis=0) == pytest.approx(Y.mean(axis=0), rel=0.01)


@pytest.mark.parametrize(("over", "axes"), [("feature", (0,)), ("channel", (0, 1)), ("all", (0, 1, 2))])
@pytest.mark.parametrize("kind", ["standardize", "minmax"])
def test_statistics_over_features_channels_or_all(kind, over, axes):
    values = np.random.default_rng(1).normal(size=(500, 4, 3))
    rows = ArrayRows(values)
    scaled = take(measure_scaling(rows, kind, over, SERIAL).apply(rows))
    standard = kind == "standardize"
    shift, width = (values.mean(axes), values.std(axes)) if standard else (values.min(axes), np.ptp(values, axes))
    np.testing.assert_allclose(scaled, (values - shift) / width, atol=1e-9)
    one, *others = on_ranks(3, lambda reduction: measure_scaling(rows, kind, over, reduction))
    for other in others:
        np.testing.assert_array_equal(other.shift, one.shift)
        np.testing.assert_array_equal(other.scale, one.scale)


def test_undone_is_what_was_before():
    values = np.random.default_rng(1).normal(size=(50, 4, 3)) * 1000
    for over in ("feature", "channel", "all"):
        scaling = measure_scaling(ArrayRows(values), "standardize", over, SERIAL)
        np.testing.assert_allclose(scaling.undone(take(scaling.apply(ArrayRows(values)))), values, rtol=1e-12)


def test_only_the_targets_to_train_on_count(tmp_path):
    np.savez(tmp_path / "d.npz", x=X, y=Y)
    data = schema.Npz(path="d.npz", validation_fraction=0.25, scale_targets="standardize")
    splits = load(data, seed=1, dtype="float64", base=tmp_path)
    train = take(splits.train.y)
    np.testing.assert_allclose(train.mean(axis=0), 0, atol=1e-9)
    assert abs(take(splits.validation.y).mean(axis=0)).min() > 1e-3


def test_exports(run, tmp_path):
    write_npz(run.trained, tmp_path / "m.npz")
    with np.load(tmp_path / "m.npz") as archive:
        np.testing.assert_array_equal(archive["target_scaling/shift"], run.trained.target_scaling.shift)
    require("onnx")
    write_onnx(run.trained, tmp_path / "m.onnx")
    session = require("onnxruntime").InferenceSession(tmp_path / "m.onnx")
    np.testing.assert_allclose(session.run(None, {"input": X})[0], run.predict(X), rtol=1e-5)


def test_a_trainer_does_not_go_on_from_it(run):
    with pytest.raises(CheckpointError, match=r"its targets were scaled by data\.scale_targets"):
        _facts_of(load_checkpoint(run.folder / "model.safetensors"), run.folder, "native")


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (["loss.name=poisson"], r"is for one \[loss\] of numbers, .* but the loss is 'poisson'"),
        (["loss.name=binary_crossentropy"], "but the loss is 'binary_crossentropy'"),
        (["data.one_hot=true"], "data.one_hot makes rows of labels"),
    ],
)
def test_bad_settings(settings, text, tmp_path):
    (tmp_path / "job.toml").write_text(JOB)
    with pytest.raises(JobError, match=text):
        load_job(tmp_path / "job.toml", settings)


@pytest.mark.parametrize(("scaled", "expected"), [("none", 1), ("minmax", 0)])
def test_targets_far_from_0_are_warned_of(scaled, expected, tmp_path, capfd):
    np.savez(tmp_path / "d.npz", x=X, y=Y)
    (tmp_path / "job.toml").write_text(JOB.replace("standardize", scaled).replace("epochs = 2", "epochs = 1"))
    hpcnn.fit(tmp_path / "job.toml", out=tmp_path / "run")
    text = "".join(capfd.readouterr())
    assert text.count("targets of the training data are around 280") == expected
