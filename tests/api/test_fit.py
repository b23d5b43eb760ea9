"""What `hpcnn.fit` gives in one process; on several ranks it is tested in tests/mpi."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hpcnn
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.errors import CheckpointError, DataError, ModelError
from hpcnn.job.load import load_job
from hpcnn.nn import Dense, Dropout, Layer, Network, Residual
from hpcnn.runs.inference import evaluate_trained
from tests.api.fitting import HELD, JOB, X, fit


def test_what_a_fit_gives(fitted: hpcnn.Fitted) -> None:
    assert fitted.complete
    assert [line["epoch"] for line in fitted.history] == [1, 2, 3]
    assert fitted.values == {
        name: fitted.history[-1][name] for name in ("loss", "accuracy", "val_loss", "val_accuracy")
    }
    assert f"weights_sha256='{fitted.weights_sha256}'" in repr(fitted)
    assert len(repr(fitted)) < 500
    assert {"dense_1/kernel", "dense_2/bias"} <= fitted.weights().keys()


def test_evaluate_gives_the_values_of_the_last_epoch(fitted: hpcnn.Fitted) -> None:
    values = fitted.evaluate(*HELD)
    assert values == {"loss": fitted.values["val_loss"], "accuracy": fitted.values["val_accuracy"]}
    right = np.mean(fitted.predict(HELD[0]).argmax(axis=1) == HELD[1])
    assert right == pytest.approx(values["accuracy"])


def test_predict_takes_any_number_of_samples(fitted: hpcnn.Fitted) -> None:
    many = np.concatenate([X] * 6)  # more than a piece
    outputs = fitted.predict(many)
    assert outputs.shape == (360, 3)
    np.testing.assert_allclose(outputs[:60], fitted.predict(X.tolist()), rtol=1e-5)
    with pytest.raises(DataError, match=r"shape \(3,\) per sample"):
        fitted.predict(X[:, :3])
    with pytest.raises(DataError, match="not finite"):
        fitted.predict(np.full((1, 4), np.nan))


def test_arrays_and_the_source_of_the_job_give_the_same_bits(tmp_path: Path) -> None:
    short = {"train.epochs": 1, "run.display": "quiet"}
    from_job = hpcnn.fit(overrides=short, out=tmp_path / "a")
    from_arrays = hpcnn.fit(data=hpcnn.load_digits(), overrides=short, out=tmp_path / "b")
    assert from_arrays.weights_sha256 == from_job.weights_sha256
    timings = ("seconds", "samples_per_s")
    first, second = (
        [{k: v for k, v in e.items() if k not in timings} for e in f.history] for f in (from_job, from_arrays)
    )
    assert first == second


def test_saved_and_loaded(fitted: hpcnn.Fitted, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model.safetensors")
    for loaded in (
        hpcnn.load(tmp_path / "model.safetensors"),
        hpcnn.load(fitted.folder),
        hpcnn.load(str(fitted.folder)),
    ):
        assert loaded.weights_sha256 == fitted.weights_sha256
        assert loaded.values == fitted.values
        assert loaded.complete
        np.testing.assert_array_equal(loaded.predict(X), fitted.predict(X))
    assert hpcnn.load(fitted.folder, "last").history == fitted.history
    assert hpcnn.load(tmp_path / "model.safetensors").history == []
    with pytest.raises(CheckpointError, match="there is no folder"):
        fitted.save(tmp_path / "none" / "model.safetensors")
    with pytest.raises(CheckpointError, match="there is no run"):
        hpcnn.load(tmp_path / "none")


def test_history_without_a_line_that_was_cut_off(fitted: hpcnn.Fitted, tmp_path: Path) -> None:
    folder = shutil.copytree(fitted.folder, tmp_path / "run")
    metrics = folder / "metrics.jsonl"
    metrics.write_text(metrics.read_text()[:-20])
    assert hpcnn.load(folder).history == fitted.history[:-1]
    metrics.write_bytes(b"\xff")
    with pytest.raises(CheckpointError, match=r"metrics.jsonl' can't be read .*Fix it, or delete it"):
        hpcnn.load(folder)
    with pytest.raises(CheckpointError, match=r"metrics.jsonl' can't be read"):  # of a run that is complete
        fit(tmp_path, resume="auto")


def test_each_fit_accounts_for_its_own_time(tmp_path: Path) -> None:
    hpcnn.connect().activity.seconds["other"] += 1e6  # of what was before it
    folder = fit(tmp_path).folder
    lines = [json.loads(line) for line in (folder / "time.jsonl").read_text().splitlines()]
    assert 0 < sum(sum(line["seconds"][phase]) for line in lines for phase in line["seconds"]) < 1e6


def test_a_second_fit_in_one_process(fitted: hpcnn.Fitted, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path).weights_sha256 == fitted.weights_sha256
    assert capsys.readouterr().out == f"weights sha256 {fitted.weights_sha256}\n"


def test_on_a_thread(fitted: hpcnn.Fitted, tmp_path: Path) -> None:
    results: list[hpcnn.Fitted] = []
    thread = threading.Thread(target=lambda: results.append(fit(tmp_path)))
    thread.start()
    thread.join()
    assert results[0].weights_sha256 == fitted.weights_sha256


def test_commands_say_that_the_data_were_in_memory(fitted: hpcnn.Fitted) -> None:
    with pytest.raises(DataError, match=r"arrays of a Python program.*; commands take files .--data"):
        evaluate_trained(fitted.trained, SerialCommunicator(), None)
    job = load_job(fitted.folder / "job.toml").job
    assert job.run.stall_abort_s == 0, "it would end the user's process"
    settings = job.data
    assert (settings.x_shape, settings.y_shape, settings.validation_samples) == ([60, 4], [60], 20)  # type: ignore[union-attr]


OWN = Network([Dense(8, activation="relu"), Residual([Dense(8), Dropout(0.2)]), Dense(3, activation="softmax")], (4,))
NO_MODEL = {key: value for key, value in JOB.items() if key != "model"}


def test_a_network_in_place_of_the_model_of_a_job(tmp_path: Path) -> None:
    layers = [
        {"type": "dense", "units": 8, "activation": "relu"},
        {"type": "residual", "layers": [{"type": "dense", "units": 8}, {"type": "dropout", "rate": 0.2}]},
        {"type": "dense", "units": 3, "activation": "softmax"},
    ]
    of_job = fit(tmp_path / "a", job={**JOB, "model": {"layers": layers}})
    fitted = fit(tmp_path / "b", job=NO_MODEL, network=OWN)
    assert fitted.weights_sha256 == of_job.weights_sha256
    loaded = hpcnn.load(fitted.folder)
    np.testing.assert_array_equal(loaded.predict(X), fitted.predict(X))
    assert load_job(fitted.folder / "job.toml").job.model.layers[2].name == "dense_3"


def test_a_training_of_a_network_is_resumed(tmp_path: Path) -> None:
    whole = fit(tmp_path / "a", job=NO_MODEL, network=OWN)
    with pytest.raises(hpcnn.TrainingStoppedError):
        fit(tmp_path / "b", job=NO_MODEL, network=OWN, overrides={"run.stop_at_step": 5})
    other = Network([Dense(3, activation="softmax")], (4,))
    with pytest.raises(CheckpointError, match="the run was started with other settings"):
        fit(tmp_path / "b", job=NO_MODEL, network=other, resume="auto")
    assert fit(tmp_path / "b", job=None, resume="auto").weights_sha256 == whole.weights_sha256


def test_networks_that_no_run_can_keep(tmp_path: Path) -> None:
    own = Network([Twice(), Dense(3, activation="softmax")], (4,))
    with pytest.raises(ModelError, match=r"layer 'twice_1' is a Twice, which no job file knows .* model.entry = "):
        fit(tmp_path, job=NO_MODEL, network=own)
    with pytest.raises(ModelError, match=r"the network is tuple; expected an hpcnn.nn.Network"):
        fit(tmp_path, job=NO_MODEL, network=OWN.layers)


class Twice(Layer):
    def forward(self, params: Any, x: Any, ctx: Any) -> Any:
        return 2 * x, lambda dy, grads, need_dx=True: 2 * dy


def test_a_network_alone_gets_the_loss_of_its_head_and_no_settings_of_the_digits(tmp_path):
    from hpcnn.api.jobs import GivenData, prepare_job
    from hpcnn.nn import Dense, Network

    pair = (np.zeros((4, 2)), np.zeros(4, int))
    for head, loss in (("softmax", "sparse_categorical_crossentropy"), ("linear", "mse")):
        network = Network([Dense(3, activation=head)], (2,))
        loaded, _ = prepare_job(
            None, (), GivenData(pair if head == "softmax" else (pair[0], np.zeros((4, 3)))), network
        )
        assert type(loaded.job.loss).__struct_config__.tag == loss
        assert (loaded.job.train.metrics, loaded.job.name) == ([], "fit")
    assert repr(network) == "Network((2,) -> (3,), dense_1)"


def test_a_name_stands_for_a_section():
    from hpcnn.api.jobs import table_of

    assert table_of({"loss": "mse", "optimizer": "sgd"})[0] == {"loss": {"name": "mse"}, "optimizer": {"name": "sgd"}}
