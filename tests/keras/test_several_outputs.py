"""Two inputs and three outputs: against a functional model of Keras, in Keras mode, and in exported files."""

from __future__ import annotations

import numpy as np
import pytest

from hpcnn.comm.serial import SerialCommunicator
from hpcnn.runs.build import build_replica, build_spec
from hpcnn.runs.inference import open_trained, predict
from hpcnn.storage.checkpoint import save_checkpoint
from hpcnn.training.loader import PieceLoader
from tests.keras.modes import both_replicas, keras_backend
from tests.keras_type import keras_type
from tests.nn.two_modes import same
from tests.require import require
from tests.small_jobs import cut, train
from tests.training.several import INPUTS, LOSSES, WIDTH, job_of_several, samples

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
N, RATE, MOMENTUM = 24, 0.125, 0.75
"""Numbers that float32 has exactly: Keras keeps rates in it."""


@pytest.fixture(scope="module", autouse=True)
def backend():
    with keras_backend() as started:
        yield started


def functional():
    """Return the same network, as a user of Keras would write it."""
    import keras

    layers = keras.layers
    image, meta = keras.Input((4, 4, 1), name="image"), keras.Input((3,), name="meta")
    of_image = layers.Flatten()(layers.Conv2D(2, 3, activation="relu", name="c")(image))
    joined = layers.Concatenate()([of_image, layers.Dense(4, activation="tanh", name="m")(meta)])
    digit = layers.Dense(3, activation="softmax", name="digit")(joined)
    place = layers.Dense(2, name="place")(joined)
    odd = layers.Dense(1, activation="sigmoid", name="odd")(joined)
    model = keras.Model({"image": image, "meta": meta}, {"digit": digit, "place": place, "odd": odd})
    model.compile(
        optimizer=keras.optimizers.SGD(RATE, momentum=MOMENTUM),
        loss={
            "digit": keras.losses.SparseCategoricalCrossentropy(),
            "place": keras.losses.Huber(0.5),
            "odd": keras.losses.BinaryCrossentropy(),
        },
        loss_weights={name: loss.get("weight", 1.0) for name, loss in LOSSES.items()},
    )
    return model


def parts(x, y):
    return (
        {"image": x[:, :16].reshape(-1, 4, 4, 1), "meta": x[:, 16:]},
        {"digit": y[:, 0], "place": y[:, 1:3], "odd": y[:, 3:]},
    )


@pytest.fixture
def double_layers():
    with keras_type(require("keras"), "float64"):
        yield


@pytest.mark.usefixtures("double_layers")
@pytest.mark.parametrize("arithmetic", ["native", "numpy"])
def test_five_steps_of_a_functional_model(arithmetic):
    model = functional()
    job = job_of_several(
        optimizer={"name": "sgd", "learning_rate": RATE, "momentum": MOMENTUM},
        train={"dtype": "float64", "shards": 3, "arithmetic": arithmetic},
    )
    ours = build_replica(job, build_spec(job, (WIDTH,)), SerialCommunicator())
    layers = {name: model.get_layer(name) for name in ("c", "m", "digit", "place", "odd")}
    ours.load_weights(
        {f"{name}/{v.path.split('/')[-1]}": np.array(v) for name, each in layers.items() for v in each.weights}
    )
    for step in range(5):
        x, y = samples(N, seed=step)
        sums = ours.train_step(step, cut(x, y, 3), factor=1.0)
        values = ours.model.layout.values(sums)
        theirs = model.train_on_batch(*parts(x, y), return_dict=True)
        model.reset_metrics()
        assert values["loss"] == pytest.approx(theirs["loss"], rel=1e-10)
        for name in LOSSES:
            assert values[f"{name}_loss"] == pytest.approx(theirs[f"{name}_loss"], rel=1e-10)
    for name, each in layers.items():
        for variable in each.weights:
            same(ours.weights()[f"{name}/{variable.path.split('/')[-1]}"], np.array(variable), "float64")
    outputs = model.predict_on_batch(parts(x, y)[0])
    row = np.concatenate([np.asarray(outputs[name]) for name in LOSSES], axis=1)
    same(ours.model.predict_piece(x), row, "float64")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_keras_mode_computes_what_numpy_mode_does(backend, dtype):
    job = job_of_several(train={"dtype": dtype, "shards": 2, "arithmetic": "numpy"})
    ours, theirs = both_replicas(job, (WIDTH,), backend)
    x, y = samples(N, dtype=dtype)
    for step in range(5):
        sums = [replica.train_step(step, cut(x, y, 2), factor=1.0) for replica in (ours, theirs)]
        same(*sums, dtype)
    same(ours.model.vector, theirs.model.vector, dtype)
    same(ours.model.predict_piece(x), theirs.model.predict_piece(x), dtype)
    same(ours.model.eval_piece(x, y), theirs.model.eval_piece(x, y), dtype)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a file of a model that NumPy trained, and the data."""
    folder = tmp_path_factory.mktemp("several")
    x, y = samples(40)
    np.savez(folder / "data.npz", x=x, y=y)
    job = job_of_several(data={"path": str(folder / "data.npz"), "scale": "standardize"}, train={"epochs": 1})
    save_checkpoint(folder / "last.safetensors", train(job).state)
    return folder / "last.safetensors", x


def expected(file, x):
    model, comm = open_trained(file), SerialCommunicator()
    from hpcnn.data.rows import ArrayRows, materialize

    rows = materialize(model.scaling.apply(ArrayRows(x)), np.float32)
    loader = PieceLoader(rows, None, piece_size=64, input_shape=(WIDTH,), dtype=np.float32)
    (outputs,) = predict(model, comm, loader)
    return {output.name: output.of(outputs) for output in model.spec.network.outputs}


def test_a_keras_file_has_the_inputs_and_outputs(backend, trained, tmp_path):
    import keras

    from hpcnn.tools.export.keras_file import write_keras

    file, x = trained
    write_keras(open_trained(file, backend="keras", backend_of=lambda job: backend), tmp_path / "model.keras")
    model = keras.models.load_model(tmp_path / "model.keras")
    assert [each.name for each in model.inputs] == list(INPUTS)
    outputs = model.predict_on_batch([x[:, :16].reshape(-1, 4, 4, 1), x[:, 16:]])
    for found, (name, wanted) in zip(outputs, expected(file, x).items(), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5, err_msg=name)
