"""Networks by name after their training: loaded, evaluated, applied and exported, as those that list their layers."""

from pathlib import Path

import numpy as np
import pytest

import hpcnn
from hpcnn.backends.numpy.backend import NUMPY
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.errors import CheckpointError
from hpcnn.job.models import OPTIONS
from hpcnn.models.build import build_network
from hpcnn.runs.inference import (
    checkpoint_path,
    evaluate_trained,
    input_loader,
    open_trained,
)
from hpcnn.runs.predictions import write_predictions
from hpcnn.tools.export.npz_file import write_npz
from hpcnn.tools.export.onnx_file import write_onnx
from hpcnn.tools.open_run import by_numpy
from tests.models.cases import SMALL, batch_of, section
from tests.require import require


@pytest.mark.parametrize("name", OPTIONS)
def test_a_network_by_name_after_its_training(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options, shape = SMALL[name]
    network = build_network(section(name), shape)
    x, y = batch_of(name, network, n=12)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    np.save(tmp_path / "x.npy", x)
    loss = "sparse_categorical_crossentropy" if network.head == "softmax" else "mse"
    job = {
        "data": {"source": "npz", "path": "data.npz", "validation_path": "data.npz"},
        "model": {"name": name, "options": options},
        "loss": {"name": loss},
        "train": {"epochs": 1, "batch_size": 6, "shards": 2, "early_stopping": None},
        "run": {"display": "quiet"},
    }
    fitted = hpcnn.fit(job, out=tmp_path / "run")
    loaded = hpcnn.load(tmp_path / "run")
    assert loaded.weights_sha256 == fitted.weights_sha256
    assert loaded.evaluate(x, y) == {"loss": fitted.values["val_loss"]}

    comm, path = SerialCommunicator(), checkpoint_path(tmp_path / "run")
    trained = open_trained(path, backend_of=by_numpy(lambda job: pytest.fail("not by NumPy")))
    assert evaluate_trained(trained, comm, None)[2] == {"loss": fitted.values["val_loss"]}
    write_predictions(trained, comm, input_loader(trained, comm, str(tmp_path / "x.npy")), tmp_path / "out.npy")
    predicted = np.load(tmp_path / "out.npy")
    np.testing.assert_array_equal(predicted, loaded.predict(x))

    write_npz(trained, tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz") as archive:
        for parameter, value in fitted.weights().items():
            np.testing.assert_array_equal(archive[parameter], value)
    require("onnx")
    runtime = require("onnxruntime")
    write_onnx(trained, tmp_path / "model.onnx")
    session = runtime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (outputs,) = session.run(["output"], {"input": x.astype(np.float32)})
    np.testing.assert_allclose(outputs, predicted, rtol=1e-4, atol=1e-5)
    with pytest.raises(CheckpointError, match=r"--entry m:f, but no Python function builds the model"):
        open_trained(path, "m:f", backend_of=lambda job: NUMPY)
