"""Exported models: onnxruntime and NumPy make of the files what `hpcnn predict` makes of the run."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from hpcnn import export
from hpcnn.backends.numpy.backend import NUMPY
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.data.samples import Scaling
from hpcnn.errors import HpcnnError, MissingExtraError, ModelError
from hpcnn.job.schema import Job
from hpcnn.models.build import build_network
from hpcnn.nn import Dense, Dropout, Embedding, Flatten, Layer, Network, PaddingMask, Residual
from hpcnn.nn.activations import ACTIVATIONS
from hpcnn.runs.inference import TrainedModel, input_loader, open_trained, predict
from hpcnn.storage.checkpoint import save_checkpoint
from hpcnn.tools.export import onnx_file
from hpcnn.tools.export.npz_file import METADATA, write_npz
from hpcnn.tools.export.onnx_file import IR_VERSION, OPSET, onnx_model, write_onnx
from hpcnn.tools.open_run import by_numpy
from tests.models.cases import SMALL, batch_of, section
from tests.mpi.launch import ROOT
from tests.nn.cases import LAYERS
from tests.nn.cases.recurrent import NOT_IN_ONNX
from tests.nn.helpers import Model, normal
from tests.require import require
from tests.small_jobs import make_job, train
from tests.timing import WAIT_S

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module")
def runtime():
    require("onnx")
    return require("onnxruntime")


def outputs_of(runtime, model: bytes | str, x: np.ndarray) -> np.ndarray:
    session = runtime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (outputs,) = session.run(["output"], {"input": x.astype(np.float32)})
    return outputs


def check_the_same(runtime, model: Model, x: np.ndarray) -> None:
    network = model.network
    made = onnx_model(network, network.layout.state_dict(model.vector), None).SerializeToString()
    for rows in (x, x[:1]):
        logits, _ = model.forward(rows, training=False)
        expected = network.head_forward(logits, model.ctx)
        np.testing.assert_allclose(outputs_of(runtime, made, rows), expected, **TOLERANCE)


@pytest.mark.parametrize("name", [name for name in LAYERS if name not in NOT_IN_ONNX])
def test_each_layer(runtime, name: str) -> None:
    layer, input_shape = LAYERS[name]
    check_the_same(runtime, Model([layer], input_shape).shake(), normal(6, *input_shape))


@pytest.mark.parametrize("case", SMALL)
def test_each_network_by_name(runtime, case: str) -> None:
    network = build_network(section(case), SMALL[case][1])
    model = Model(network.layers, network.input_shape, network.head).shake()
    for spec in network.layout.specs:
        if spec.state:
            model.params[spec.name][...] = abs(model.params[spec.name])
    check_the_same(runtime, model, batch_of(case, network, n=3)[0].astype(np.float32).astype(float))


@pytest.mark.parametrize("name", NOT_IN_ONNX)
def test_activations_that_no_recurrent_operation_has_are_refused(name: str) -> None:
    require("onnx")
    layer, input_shape = LAYERS[name]
    model = Model([layer], input_shape)
    message = (
        f"layer 'l' has the activation '{NOT_IN_ONNX[name]}', which no recurrent operation of ONNX has. Known: linear"
    )
    with pytest.raises(ModelError, match=message):
        onnx_model(model.network, model.network.layout.state_dict(model.vector), None)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_each_activation_within_and_as_head(runtime, activation: str) -> None:
    model = Model([Dense(5, activation=activation, name="head"), Dense(4, name="b")], (3,), activation).shake()
    check_the_same(runtime, model, 4 * normal(20, 3))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_far_from_zero(runtime, activation: str) -> None:
    model = Model([Dense(3, use_bias=False, name="a")], (3,), activation)
    model.params["a/kernel"][...] = np.eye(3)
    x = np.array([[-80.0, 0.0, 80.0], [-1e-4, 1e-4, 20.0], [-20.0, -5.0, 5.0]])
    check_the_same(runtime, model, x)


def test_the_file_says_what_it_is(runtime) -> None:
    model = Model([Flatten(name="a"), Dense(4, name="b")], (2, 3))
    made = onnx_model(model.network, model.network.layout.state_dict(model.vector), None)
    assert made.ir_version == IR_VERSION
    assert [(each.domain, each.version) for each in made.opset_import] == [("", OPSET)]
    session = runtime.InferenceSession(made.SerializeToString())
    (taken,), (given,) = session.get_inputs(), session.get_outputs()
    assert (taken.name, taken.shape, taken.type) == ("input", ["batch", 2, 3], "tensor(float)")
    assert (given.name, given.shape, given.type) == ("output", ["batch", 4], "tensor(float)")


@pytest.mark.parametrize("shape", [(), (4,)])
def test_scaling_is_computed_in_float64(runtime, shape: tuple[int, ...]) -> None:
    """In float32, the difference of such inputs and their mean would lose its digits."""
    model = Model([Dense(3, name="a")], (4, 1) if shape else (4,))
    scaling = Scaling(np.full(shape, 16_777_215.3), np.full(shape, 0.7))
    weights = model.network.layout.state_dict(model.vector)
    x = 16_777_214 + np.arange(8.0).reshape(2, *model.network.input_shape) % 3
    made = onnx_model(model.network, weights, scaling).SerializeToString()
    logits, _ = model.forward((x - 16_777_215.3) * 0.7, training=False)
    np.testing.assert_allclose(outputs_of(runtime, made, x), logits, **TOLERANCE)


@dataclass(frozen=True)
class Own(Layer):
    def forward(self, params, x, ctx):
        return x, None


def test_layers_of_users_are_refused() -> None:
    require("onnx")
    for layers in ([Own(name="mine")], [Residual((Own(name="mine"),), name="a")]):
        with pytest.raises(
            ModelError, match=r"layer 'mine' is a Own, which can't be written as ONNX\. Known: Dense, Act"
        ):
            onnx_model(Network(layers, (3,)), {}, None)


# ------------------------------------------------------------------------------------------------------ trained models


@pytest.fixture(scope="module", params=["float32", "float64"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    path = tmp_path_factory.mktemp("trained") / "last.safetensors"
    save_checkpoint(path, train(make_job(train={"dtype": request.param, "epochs": 1})).state)
    return open_trained(path)


@pytest.fixture(scope="module")
def inputs(trained: TrainedModel) -> tuple[Path, np.ndarray, np.ndarray]:
    """Return raw inputs: their file, themselves, and what `hpcnn predict` makes of them."""
    path = trained.path.with_name("x.npy")
    x = np.random.default_rng(0).normal(3, 2, (20, 5)).astype(np.float32)
    np.save(path, x)
    comm = SerialCommunicator()
    parts = [part.copy() for part in predict(trained, comm, input_loader(trained, comm, str(path))) if part is not None]
    return path, x, np.concatenate(parts)


def test_raw_inputs_give_the_outputs_of_predict(runtime, trained: TrainedModel, inputs, tmp_path: Path) -> None:
    _, x, expected = inputs
    write_onnx(trained, tmp_path / "model.onnx")
    np.testing.assert_allclose(outputs_of(runtime, str(tmp_path / "model.onnx"), x), expected, **TOLERANCE)
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    facts = session.get_modelmeta().custom_metadata_map
    assert (facts["job"], facts["weights_sha256"]) == (trained.job.name, trained.weights_sha256)
    assert facts["scaling"] == "in the file"


def test_scaling_may_be_left_out(runtime, trained: TrainedModel, inputs, tmp_path: Path) -> None:
    _, x, expected = inputs
    write_onnx(trained, tmp_path / "model.onnx", scaling=False)
    assert trained.scaling is not None
    scaled = (x - trained.scaling.shift) * trained.scaling.scale
    np.testing.assert_allclose(outputs_of(runtime, str(tmp_path / "model.onnx"), scaled), expected, **TOLERANCE)


def test_an_archive_holds_all_that_is_needed(trained: TrainedModel, tmp_path: Path) -> None:
    write_npz(trained, tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz", allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    facts = json.loads(str(arrays.pop(METADATA)))
    assert facts["weights_sha256"] == trained.weights_sha256
    assert facts["job"]["train"]["batch_size"] == 13
    assert facts["input_shape"] == [5]
    assert trained.scaling is not None
    np.testing.assert_array_equal(arrays.pop("scaling/shift"), trained.scaling.shift)
    np.testing.assert_array_equal(arrays.pop("scaling/scale"), trained.scaling.scale)
    weights = trained.model.weights()
    assert arrays.keys() == weights.keys()
    for name, array in arrays.items():
        assert array.tobytes() == weights[name].tobytes()
        assert array.dtype == weights[name].dtype


def test_what_onnx_can_not_hold(trained: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "SIZE_LIMIT", 100)
    with pytest.raises(ModelError, match=r"the parameters take \d+ bytes, but an ONNX file holds 2 GiB at most"):
        write_onnx(trained, tmp_path / "model.onnx")
    job = SimpleNamespace(model=SimpleNamespace(entry="m:f"))
    keras = SimpleNamespace(spec=SimpleNamespace(network=object()), job=job)
    with pytest.raises(ModelError, match=r"what the function 'm:f' builds.*--backend numpy.*--format keras"):
        write_onnx(keras, tmp_path / "model.onnx")  # type: ignore[arg-type]
    job.model.entry = ""
    with pytest.raises(ModelError, match=r"from hpcnn's own layers. Leave out --backend"):
        write_onnx(keras, tmp_path / "model.onnx")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_numpy_computes_the_layers_of_a_job_whatever_trained_them() -> None:
    job, otherwise = make_job(), object()
    assert by_numpy(lambda job: otherwise)(job) is NUMPY  # type: ignore[arg-type, return-value]
    entry = SimpleNamespace(model=SimpleNamespace(layers=[], entry="m:f"))
    chosen = by_numpy(lambda job: otherwise)(entry)  # type: ignore[arg-type, return-value]
    assert chosen is otherwise
    assert isinstance(job, Job)


@pytest.mark.parametrize(
    ("output", "given", "form"),
    [(None, None, "onnx"), (None, "npz", "npz"), ("a.keras", None, "keras"), ("a.npz", "npz", "npz")],
)
def test_formats(tmp_path: Path, output: str | None, given: str | None, form: str) -> None:
    require("onnx")
    path = None if output is None else tmp_path / output
    assert export._format(SimpleNamespace(output=path, format=given, no_scaling=False)) == form  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("output", "given", "message"),
    [("a.txt", None, r"a\.txt' must end in \.onnx, \.keras, \.npz"), ("a.npz", "onnx", r"must end in \.onnx$"),
     ("none/a.onnx", None, "there is no folder .*none' to write 'a.onnx' to")],
)  # fmt: skip
def test_outputs_that_can_not_be(tmp_path: Path, output: str, given: str | None, message: str) -> None:
    with pytest.raises(HpcnnError, match=message):
        export._format(SimpleNamespace(output=tmp_path / output, format=given))  # type: ignore[arg-type]


def test_scaling_can_not_be_left_out_where_it_lies_apart() -> None:
    with pytest.raises(HpcnnError, match="--no-scaling has no effect with --format npz"):
        export._format(SimpleNamespace(output=None, format="npz", no_scaling=True))  # type: ignore[arg-type]


def test_without_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"writing ONNX files needs the package 'onnx'.*hpcnn\[onnx\]"):
        export._format(SimpleNamespace(output=None, format=None))  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------------- serving


@pytest.fixture
def server(runtime, tmp_path: Path) -> Iterator[tuple[str, Model]]:
    """Serve a model, and return its address and itself."""
    model = Model([Dropout(0.5, name="d"), Dense(3, name="a")], (4,), "softmax").shake()
    made = onnx_model(model.network, model.network.layout.state_dict(model.vector), None)
    (tmp_path / "model.onnx").write_bytes(made.SerializeToString())
    command = [sys.executable, "-u", str(ROOT / "examples" / "serve_onnx.py"), str(tmp_path / "model.onnx"), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1], model
        process.kill()


def test_the_example_serves(server: tuple[str, Model]) -> None:
    address, model = server
    x = normal(2, 4)
    request = urllib.request.Request(address, json.dumps(x.tolist()).encode(), method="POST")
    with urllib.request.urlopen(request, timeout=WAIT_S) as reply:
        outputs = json.load(reply)
    logits, _ = model.forward(x, training=False)
    np.testing.assert_allclose(outputs, model.network.head_forward(logits, model.ctx), **TOLERANCE)


def test_layers_that_take_ids(runtime) -> None:
    ids = np.random.default_rng(1).integers(0, 9, (6, 5)).astype(float)
    check_the_same(runtime, Model([Embedding(9, 3, name="a"), Flatten(name="b")], (5,)).shake(), ids)
    check_the_same(runtime, Model([PaddingMask(name="a"), Dense(2, name="b")], (5,)).shake(), ids)
