"""Dense layers, activations, shapes, dropout and blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpcnn.backends.keras.layers.making import Make, activation, plain
from hpcnn.nn.layer import Layer
from hpcnn.nn.layers import Activation, Dense, Dropout, Flatten, Reshape


def _dense(layer: Any, dtype: str) -> Any:
    import keras

    return keras.layers.Dense(
        layer.units, activation=activation(layer.activation), use_bias=layer.use_bias, dtype=dtype
    )


def _activation_layer(name: str, dtype: str) -> Any:
    import keras

    return keras.layers.Activation(activation(name), dtype=dtype)


LAYERS: Mapping[type[Layer], Make] = {
    Dense: _dense,
    Activation: lambda layer, dtype: _activation_layer(layer.activation, dtype),
    Flatten: plain("Flatten"),
    Reshape: plain("Reshape", "shape"),
    Dropout: plain("Dropout", "rate"),
}
