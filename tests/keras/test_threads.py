"""Keras mode in several threads: the bits of one, whoever is the first to predict, evaluate, train or export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import hpcnn
from tests.api.fitting import HELD, JOB, X, fit
from tests.at_once import at_once
from tests.keras.modes import keras_backend

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
LAYERS = [
    {"type": "dense", "units": 8, "activation": "gelu", "kernel_l2": 0.01},
    {"type": "dropout", "rate": 0.3},
    {"type": "dense", "units": 3, "activation": "softmax"},
]
KERAS = {**JOB, "backend": "keras", "model": {"layers": LAYERS}, "train": {**JOB["train"], "dtype": "float64"}}


@pytest.fixture(scope="module", autouse=True)
def backend():
    with keras_backend() as started:
        yield started


def test_models_that_threads_share_and_trainings_beside_them(tmp_path: Path) -> None:
    from hpcnn.tools.export.keras_file import write_keras

    fitted = fit(tmp_path / "alone", job=KERAS)
    loaded = hpcnn.load(fitted.folder)  # nothing is traced yet
    alone, values = fitted.predict(X), fitted.evaluate(*HELD)
    exported = hpcnn.load(fitted.folder)
    write_keras(exported.trained, tmp_path / "model.keras")  # the file names Keras's own activations, in float32
    assert np.array_equal(exported.predict(X), alone)

    def body(number: int) -> str:
        if number == 0:
            write_keras(loaded.trained, tmp_path / "model.keras")
        for _ in range(5):
            assert np.array_equal(loaded.predict(X), alone)
            assert loaded.evaluate(*HELD) == values
        assert np.array_equal(hpcnn.load(fitted.folder).predict(X), alone)
        return fit(tmp_path / str(number), job=KERAS).weights_sha256

    assert set(at_once(body)) == {fitted.weights_sha256}
