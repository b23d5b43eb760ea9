"""A trained model as a `.keras` file, which plain Keras loads: raw inputs in, the outputs of `hpcnn predict` out."""

from __future__ import annotations

import math
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hpcnn.backends.keras.network import KerasNetwork
from hpcnn.backends.keras.runtime import ALONE
from hpcnn.data.samples import Scaling
from hpcnn.errors import HpcnnError
from hpcnn.runs.inference import TrainedModel
from hpcnn.tools.outputs import writing


def write_keras(trained: TrainedModel, path: Path, *, scaling: bool = True) -> None:
    """Write the model to `path`; with `scaling`, it takes inputs as they are in the job's data."""
    network = trained.spec.network
    assert isinstance(network, KerasNetwork)
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "model.keras"  # Keras looks at the ending
        with ALONE:
            network.assign(trained.model.weights())
            model = network.model
            if scaling and trained.scaling is not None:
                model = _scaled(network, trained.scaling, trained.job.name)
            try:
                model.save(saved)
            except Exception as error:
                raise HpcnnError(f"Keras can't save the model: {type(error).__name__}: {error}") from None
        with writing(path) as temporary:
            shutil.copyfile(saved, temporary)


def _scaled(network: KerasNetwork, scaling: Scaling, name: str) -> Any:
    """Return the model behind a layer that scales its inputs, in float64 as in training."""
    import keras

    inputs, scaled, start = [], [], 0
    for part, shape in (network.inputs or {"": network.input_shape}).items():
        stop = start + math.prod(shape)
        shift, scale = (
            values.reshape(-1)[start:stop].reshape(shape) if values.shape else values
            for values in (scaling.shift, scaling.scale)
        )
        inputs.append(keras.Input(shape, dtype=network.dtype, name=part or None))
        scaled.append(keras.layers.Rescaling(scale.tolist(), (-shift * scale).tolist(), dtype="float64")(inputs[-1]))
        start = stop
    model, name = network.model, re.sub(r"\W", "_", name)
    if network.inputs:
        return keras.Model(inputs, model(scaled), name=name)
    return keras.Model(inputs[0], model(scaled[0]), name=name)
