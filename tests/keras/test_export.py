"""Exported `.keras` files: plain Keras loads them, and makes of raw inputs what NumPy mode makes of them."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from hpcnn.comm.serial import SerialCommunicator
from hpcnn.errors import HpcnnError
from hpcnn.nn.activations import ACTIVATIONS
from hpcnn.runs.inference import TrainedModel, input_loader, open_trained, predict
from hpcnn.storage.checkpoint import save_checkpoint
from tests.keras.modes import keras_backend
from tests.nn.two_modes import TOLERANCE
from tests.small_jobs import make_job, train

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
"""Keras's own variables give it when they are saved."""
LAYERS = [
    {"type": "reshape", "shape": [5, 1], "name": "sequence"},
    {"type": "positional_embedding"},
    {"type": "positional_embedding", "encoding": "sinusoidal"},
    {"type": "spectral_conv1d", "filters": 2, "modes": 3},
    {"type": "gru", "units": 2, "activation": "gelu", "recurrent_activation": "leaky_relu", "return_sequences": True},
    {
        "type": "bidirectional",
        "layers": [{"type": "simple_rnn", "units": 2, "activation": "gelu", "return_sequences": True}],
        "name": "both",
    },
    {"type": "flatten", "inputs": ["sequence"]},
    {"type": "padding_mask", "name": "mask"},
    {"type": "cross_attention", "num_heads": 2, "key_dim": 2, "output_dim": 1, "inputs": ["both", "mask"]},
    {"type": "reshape", "shape": [5, 1, 1]},
    {"type": "zero_padding"},
    {"type": "up_sampling", "interpolation": "bilinear"},
    {"type": "max_pooling", "strides": 1},
    {"type": "average_pooling", "padding": "same"},
    {"type": "up_sampling", "size": [1, 2]},
    {"type": "prelu", "shared_axes": [1, 2]},
    {"type": "leaky_relu"},
    {"type": "elu", "alpha": 0.7},
    {"type": "cropping", "cropping": [[1, 0], [0, 1]]},
    {"type": "permute", "dims": [2, 1, 3]},
    {"type": "spatial_dropout", "rate": 0.1},
    {"type": "gaussian_noise", "stddev": 0.1},
    {"type": "flatten"},
    {"type": "repeat_vector", "n": 2},
    {"type": "global_average_pooling", "keepdims": True},
    {"type": "global_max_pooling"},
    {"type": "layer_norm"},
    *({"type": "dense", "units": 6, "activation": name} for name in ACTIVATIONS if name != "softmax"),
    {"type": "layer_norm", "center": False, "scale": False},
    {"type": "batch_normalization"},
    {"type": "group_normalization", "groups": 2, "scale": False},
    {"type": "rms_normalization"},
    *({"type": "activation", "activation": name} for name in ("gelu", "leaky_relu")),
    {"type": "dropout", "rate": 0.3},
    {"type": "residual", "layers": [{"type": "dense", "units": 6, "activation": "gelu", "use_bias": False}]},
    {"type": "dense", "units": 3, "activation": "softmax"},
]
"""Every kind of layer but convolutions, and every activation."""


@pytest.fixture(scope="module", autouse=True)
def backend():
    with keras_backend() as started:
        yield started


@pytest.fixture(scope="module", params=["float32", "float64"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of a model that NumPy trained."""
    file = tmp_path_factory.mktemp("trained") / "last.safetensors"
    save_checkpoint(file, train(make_job(model={"layers": LAYERS}, train={"dtype": request.param, "epochs": 1})).state)
    return file


def predicted(trained: TrainedModel, file: Path) -> np.ndarray:
    comm = SerialCommunicator()
    loader = input_loader(trained, comm, str(file))
    return np.concatenate([part.copy() for part in predict(trained, comm, loader) if part is not None])


def test_every_layer_comes_back_in_plain_keras(path: Path, backend, tmp_path: Path) -> None:
    import keras

    from hpcnn.tools.export.keras_file import write_keras

    x = np.random.default_rng(0).normal(3, 2, (20, 5)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    expected = predicted(open_trained(path), tmp_path / "x.npy")
    trained = open_trained(path, backend="keras", backend_of=lambda job: backend)
    for scaling in (True, False):
        write_keras(trained, tmp_path / "model.keras", scaling=scaling)
        with zipfile.ZipFile(tmp_path / "model.keras") as archive:
            assert b"hpcnn" not in archive.read("config.json")  # plain Keras would not find it
        model = keras.saving.load_model(tmp_path / "model.keras")
        assert trained.scaling is not None
        given = x if scaling else (x - trained.scaling.shift) * trained.scaling.scale
        np.testing.assert_allclose(model(given.astype(expected.dtype)), expected, rtol=1e-5, atol=TOLERANCE["float32"])
        assert len(list(tmp_path.iterdir())) == 2


def test_what_keras_can_not_save(path: Path, backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hpcnn.tools.export.keras_file import write_keras

    trained = open_trained(path, backend="keras", backend_of=lambda job: backend)
    with pytest.raises(HpcnnError, match=r"can't write .*model\.keras'"):
        write_keras(trained, tmp_path / "none" / "model.keras")

    def save(self, target):
        raise NotImplementedError("no get_config")

    monkeypatch.setattr(type(trained.spec.network.model), "save", save)
    with pytest.raises(HpcnnError, match="Keras can't save the model: NotImplementedError: no get_config"):
        write_keras(trained, tmp_path / "model.keras", scaling=False)
    assert list(tmp_path.iterdir()) == []
