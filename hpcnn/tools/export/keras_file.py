"""A trained model as a `.keras` file, which plain Keras loads: raw inputs in, the outputs of `hpcnn predict` out."""

from __future__ import annotations

import math
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcnn.backends.keras.network import KerasNetwork
from hpcnn.backends.keras.runtime import ALONE
from hpcnn.data.samples import Scaling
from hpcnn.errors import HpcnnError
from hpcnn.runs.inference import TrainedModel
from hpcnn.tools.outputs import writing


def write_keras(trained: TrainedModel, path: Path, *, scaling: bool = True) -> None:
    """Write the model to `path`; with `scaling`, inputs and outputs are in the units of the job's data."""
    network = trained.spec.network
    assert isinstance(network, KerasNetwork)
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "model.keras"  # Keras looks at the ending
        with ALONE:
            network.assign(trained.model.weights())
            model = network.model
            if scaling and (trained.scaling or trained.target_scaling):
                model = _scaled(network, trained.scaling, trained.target_scaling, trained.job.name)
            try:
                model.save(saved)
            except Exception as error:
                raise HpcnnError(f"Keras can't save the model: {type(error).__name__}: {error}") from None
        with writing(path) as temporary:
            shutil.copyfile(saved, temporary)


def _scaled(network: KerasNetwork, scaling: Scaling | None, target_scaling: Scaling | None, name: str) -> Any:
    """Return the model between layers that scale its inputs, and undo that of targets, in float64 as in training."""
    import keras

    inputs, scaled, start = [], [], 0
    shapes = network.inputs or {"": network.input_shape}
    entries = sum(map(math.prod, shapes.values()))
    for part, shape in shapes.items():
        stop = start + math.prod(shape)
        inputs.append(keras.Input(shape, dtype=network.dtype, name=part or None))
        if scaling is None:
            scaled.append(inputs[-1])
        else:
            shift, scale = (
                values[start:stop].reshape(shape) if values.shape else values for values in scaling.flat(entries)
            )
            scaled.append(_rescaling(scale, -shift * scale, "float64")(inputs[-1]))
        start = stop
    outputs = network.model(scaled if network.inputs else scaled[0])
    if target_scaling is not None:
        shift, scale = (
            values.reshape(network.output_shape) if values.shape else values
            for values in target_scaling.flat(math.prod(network.output_shape))
        )
        outputs = keras.layers.Activation("linear", dtype=network.dtype)(
            _rescaling(1 / scale, shift, "float64")(outputs)
        )
    return keras.Model(inputs if network.inputs else inputs[0], outputs, name=re.sub(r"\W", "_", name))


def _rescaling(scale: NDArray[np.float64], offset: NDArray[np.float64], dtype: str) -> Any:
    """Return a layer for ``inputs * scale + offset``."""
    import keras

    return keras.layers.Rescaling(scale.tolist(), offset.tolist(), dtype=dtype)
