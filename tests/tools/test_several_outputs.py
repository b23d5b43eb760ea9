"""Networks with several inputs and outputs in the commands: shown, exported, predicted, not explained by gradients."""

import numpy as np
import pytest

from hpcnn.comm.serial import SerialCommunicator
from hpcnn.errors import ModelError
from hpcnn.runs.build import build_replica, build_spec
from hpcnn.runs.inference import input_loader, open_trained
from hpcnn.runs.predictions import write_predictions
from hpcnn.storage.checkpoint import save_checkpoint
from hpcnn.tools.explain.gradients import input_gradient
from hpcnn.tools.export.onnx_file import write_onnx
from hpcnn.tools.show.drawing import svg_file
from hpcnn.tools.show.table import network_table
from tests.require import require
from tests.small_jobs import cut, train
from tests.training.several import LOSSES, WIDTH, job_of_several, samples


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a trained model, and a file of its data."""
    folder = tmp_path_factory.mktemp("several")
    x, y = samples(40)
    np.savez(folder / "data.npz", x=x, y=y)
    job = job_of_several(data={"path": str(folder / "data.npz"), "scale": "standardize"}, train={"epochs": 1})
    save_checkpoint(folder / "last.safetensors", train(job).state)
    return open_trained(folder / "last.safetensors"), folder / "data.npz"


def test_predictions_have_a_file_for_each_output_and_onnx_gives_the_same(trained, tmp_path):
    model, file = trained
    comm = SerialCommunicator()
    shapes = write_predictions(model, comm, input_loader(model, comm, str(file)), tmp_path / "out.npy")
    assert {path.name: shape for path, shape in shapes.items()} == {
        "out.digit.npy": (40, 3), "out.place.npy": (40, 2), "out.odd.npy": (40, 1),
    }  # fmt: skip
    require("onnx")
    runtime = require("onnxruntime")
    write_onnx(model, tmp_path / "model.onnx")
    session = runtime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_outputs()] == list(LOSSES)
    x = np.load(file)["x"].astype(np.float32)
    found = session.run(None, {"image": x[:, :16].reshape(-1, 4, 4, 1), "meta": x[:, 16:]})
    for name, outputs in zip(LOSSES, found, strict=True):
        np.testing.assert_allclose(outputs, np.load(tmp_path / f"out.{name}.npy"), rtol=1e-5, atol=1e-5)


def test_gradients_explain_one_output(trained):
    with pytest.raises(ModelError, match="explains the model's only output, but it has digit, place, odd"):
        input_gradient(trained[0])


def test_inputs_and_outputs_are_shown(trained):
    network = trained[0].spec.network
    lines = list(network_table(network, 10))
    for start in ("input image", "input meta", "output digit", "output place", "output odd"):
        assert any(line.startswith(start) for line in lines), start
    assert "output odd" in svg_file(network, "several")


def test_activations_computed_again_have_the_same_bits():
    x, y = samples(20, dtype=np.float32)
    replicas = []
    for again in (False, True):
        job = job_of_several(train={"checkpoint_activations": again, "shards": 3})
        replicas.append(build_replica(job, build_spec(job, (WIDTH,)), SerialCommunicator()))
        replicas[-1].train_step(0, cut(x, y, 3), factor=1.0)
    assert [len(replica.model.network.segments) > 1 for replica in replicas] == [False, True]
    assert replicas[0].model.fingerprint() == replicas[1].model.fingerprint()
