"""Several inputs and outputs from arrays and files: rows side by side, ranks, resuming, predictions by name."""

import json
import re

import numpy as np
import pytest

import hpcnn
from hpcnn.errors import DataError, HpcnnError, JobError, ModelError
from hpcnn.nn import Dense, Network
from tests.require import require
from tests.small_jobs import train
from tests.training.several import INPUTS, LAYERS, LOSSES, job_of_several, samples

N = 37
RUN = {"display": "none"}


def arrays(n=N, seed=1):
    """Return inputs and targets by name."""
    x, y = samples(n, seed)
    inputs = {"image": (40 * x[:, :16]).astype(np.int16).reshape(n, 4, 4, 1), "meta": x[:, 16:].astype(np.float32)}
    return inputs, {"digit": y[:, 0].astype(np.int64), "place": y[:, 1:3], "odd": y[:, 3].astype(bool)}


def job(**changes):
    sections = {
        "data": {"validation_fraction": 0.2, "scale": "standardize"},
        "model": {"layers": LAYERS, "outputs": list(LOSSES)},
        "losses": LOSSES,
        "train": {"epochs": 2, "batch_size": 13, "shards": 8, "eval_batch_size": 3},
        "run": RUN,
    }
    return (
        sections
        | {name: {**sections.get(name, {}), **more} for name, more in changes.items() if name != "losses"}
        | {"losses": changes.get("losses", LOSSES)}
    )


@pytest.fixture
def file(tmp_path):
    x, y = arrays()
    np.savez(tmp_path / "data.npz", **x, **y)
    return tmp_path / "data.npz"


def of_file(path, source="npz", **changes):
    return job(data={"source": source, "path": str(path), "x": list(INPUTS), "y": list(LOSSES)}, **changes)


def test_arrays_by_name_rows_and_files_give_the_same_bits(tmp_path, file):
    x, y = arrays()
    monitored = {"early_stopping": {"monitor": "val_digit_accuracy", "patience": 5, "restore_best": False}}
    by_name = hpcnn.fit(job(train={**job()["train"], **monitored}), (x, y), out=tmp_path / "a")
    swapped = hpcnn.fit(
        job(model={"inputs": INPUTS, **job()["model"]}), (dict(reversed(x.items())), y), out=tmp_path / "b"
    )
    from_file = hpcnn.fit(of_file(file), out=tmp_path / "c")
    assert by_name.weights_sha256 == swapped.weights_sha256 == from_file.weights_sha256
    flat = np.concatenate([part.reshape(N, -1).astype(np.float32) for part in x.values()], axis=1)
    targets = np.concatenate([part.reshape(N, -1).astype(np.float64) for part in y.values()], axis=1)
    rows = hpcnn.fit(job(model={"inputs": INPUTS, **job()["model"]}), (flat, targets), out=tmp_path / "d")
    assert rows.weights_sha256 == by_name.weights_sha256
    last = json.loads((tmp_path / "a" / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"loss", "digit_loss", "place_loss", "odd_loss", "val_loss", "val_odd_binary_accuracy"} <= last.keys()
    loaded = hpcnn.load(tmp_path / "c")
    for model in (by_name, rows, loaded):
        outputs = model.predict(dict(reversed(x.items())))
        assert [(name, each.shape) for name, each in outputs.items()] == [
            ("digit", (N, 3)), ("place", (N, 2)), ("odd", (N, 1)),
        ]  # fmt: skip
        np.testing.assert_array_equal(outputs["digit"], by_name.predict(flat)["digit"])
        assert model.evaluate(x, dict(reversed(y.items()))) == by_name.evaluate(flat, targets)


def test_hdf5_files_and_a_second_file(tmp_path, file):
    h5py = require("h5py")
    x, y = arrays()
    with h5py.File(tmp_path / "data.h5", "w") as out:
        for name, each in {**x, **y, "odd": y["odd"].astype(np.uint8)}.items():
            out[name] = each
    ours = hpcnn.fit(of_file(tmp_path / "data.h5", "hdf5"), out=tmp_path / "a")
    assert ours.weights_sha256 == hpcnn.fit(of_file(file), out=tmp_path / "b").weights_sha256


@pytest.mark.parametrize("arithmetic", ["native", "numpy"])
def test_any_number_of_ranks(file, arithmetic):
    data = {**of_file(file)["data"]}
    settings = {"arithmetic": arithmetic, "epochs": 2, "batch_size": 13, "shards": 8, "eval_batch_size": 3}
    trained = job_of_several(data=data, train=settings)
    one = train(trained, 1)
    for ranks in (2, 3, 5):
        many = train(trained, ranks)
        assert many.fingerprint == one.fingerprint
        assert many.bits() == one.bits()


def test_a_run_goes_on_with_the_inputs_that_its_data_name(tmp_path, file):
    whole = hpcnn.fit(of_file(file), out=tmp_path / "whole")
    with pytest.raises(hpcnn.TrainingStoppedError):
        hpcnn.fit(of_file(file, run={**RUN, "stop_at_step": 3}), out=tmp_path / "run")
    assert hpcnn.fit(of_file(file), out=tmp_path / "run", resume="auto").weights_sha256 == whole.weights_sha256


def test_a_network_of_a_program(tmp_path):
    x, y = arrays()
    layers = [
        Dense(4, name="a", inputs=("meta",)),
        Dense(2, name="place"),
        Dense(1, name="odd", activation="sigmoid", inputs=("a",)),
    ]
    network = Network(layers, inputs={"meta": (3,)}, outputs=["place", "odd"])
    targets = {name: y[name] for name in ("place", "odd")}
    fitted = hpcnn.fit(
        data=(x["meta"], targets), network=network, out=tmp_path / "run", overrides={"run.display": "none"}
    )
    assert fitted.predict(x["meta"])["odd"].shape == (N, 1)
    trainer = hpcnn.Trainer(network, {"place": "mse", "odd": {"name": "binary_crossentropy", "metrics": ["f1"]}})
    values = trainer.step({"meta": x["meta"]}, targets)
    assert list(values) == ["loss", "place_loss", "odd_loss", "odd_f1"]
    assert values["loss"] == pytest.approx(values["place_loss"] + values["odd_loss"], rel=1e-6)
    assert trainer.predict(x["meta"])["place"].shape == (N, 2)
    trainer.save(tmp_path / "state")
    assert hpcnn.load(tmp_path / "state").predict(x["meta"])["place"].shape == (N, 2)


def refused(error, message, *, x=None, y=None, **changes):
    given_x, given_y = arrays()
    with pytest.raises(error, match=re.escape(message)):
        hpcnn.fit(job(**changes), (given_x if x is None else x, given_y if y is None else y))


def test_messages_about_data():
    x, y = arrays()
    refused(
        DataError,
        "y of data has arrays named 'digit', but the model has 'digit', 'place', 'odd'",
        y={"digit": y["digit"]},
    )
    refused(
        DataError,
        "the arrays of x of data have different numbers of rows: image 36, meta 37",
        x={**x, "image": x["image"][1:]},
    )
    wrong = {"image": [5, 5], "meta": [3]}
    refused(DataError, "model.inputs.image = [5, 5], but a sample of the data has shape (4, 4, 1)",
            model={"layers": LAYERS, "outputs": list(LOSSES), "inputs": wrong})  # fmt: skip
    refused(ModelError, "the inputs 'image', 'meta' take 25 + 3 = 28 numbers of a sample, but one of the data has 19",
            x=samples(N)[0], model={"layers": LAYERS, "outputs": list(LOSSES), "inputs": wrong})  # fmt: skip
    refused(DataError, "targets of the training data have 5 numbers a sample (shape (5,)), but the outputs take 4: "
            "1 of 'digit', 2 of 'place', 1 of 'odd', in this order", y=np.zeros((N, 5)))  # fmt: skip
    refused(DataError, "targets of the training data for 'digit': labels run from",
            y={**y, "digit": y["digit"] + 7})  # fmt: skip


JOBS = {
    "both": ({"loss": {"name": "mse"}}, "the job has both [loss] and [losses]"),
    "unknown": (
        {"losses": {**LOSSES, "digits": {"name": "mse"}}}, "[losses.digits] is no output. Did you mean 'digit'?",
    ),
    "missing": (
        {"losses": {"odd": LOSSES["odd"]}}, "the output 'digit' has no loss: add a section [losses.digit]",
    ),
    "metrics": ({"train": {"metrics": ["mae"]}}, "train.metrics does not say of which output"),
    "one-hot": ({"data": {"one_hot": True}}, "data.one_hot = true is for one output"),
    "weights": (
        {"losses": {**LOSSES, "digit": {**LOSSES["digit"], "class_weights": "balanced"}}},
        "losses.digit.class_weights: classes are weighed in the only [loss] alone",
    ),
    "ctc": ({"losses": {**LOSSES, "place": {"name": "ctc"}}}, 'losses.place.name = "ctc": its targets have any length'),
    "probabilities": (
        {"losses": {**LOSSES, "place": {"name": "kl_divergence"}}},
        'losses.place.name = "kl_divergence" needs probabilities, but the network ends in activation = "linear"',
    ),
    "class metrics": (
        {"losses": {**LOSSES, "place": {"name": "mse", "metrics": ["f1"]}}},
        'losses.place.metrics has "f1", which needs classes, but losses.place.name = "mse"',
    ),
    "loss name": ({"losses": {**LOSSES, "digit": {"name": "mes"}}}, "unknown loss 'mes' in [losses.digit]"),
    "monitor": (
        {"train": {"early_stopping": {"monitor": "val_digit_mae"}}},
        'train.early_stopping.monitor = "val_digit_mae": this job computes no such value',
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", JOBS)
def test_messages_about_jobs(case):
    changes, message = JOBS[case]
    refused(HpcnnError, message, **changes)


def test_outputs_need_losses_and_losses_outputs():
    one = {**job(), "loss": {"name": "mse"}}
    del one["losses"]
    with pytest.raises(
        JobError, match=re.escape("model.outputs names 'digit', 'place', 'odd', but the job has [loss]")
    ):
        hpcnn.fit(one, arrays())
    refused(JobError, "[losses] needs model.outputs, the names of layers", model={"outputs": []})
    with pytest.raises(
        JobError, match=re.escape("loss.metrics is for the sections of several [losses]: use train.metrics")
    ):
        hpcnn.fit({"loss": {"name": "mse", "metrics": ["mae"]}, "model": {"layers": LAYERS}}, arrays())
