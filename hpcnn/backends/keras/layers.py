"""hpcnn's own networks as Keras models: every layer and option, over the same parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from hpcnn.errors import ModelError
from hpcnn.nn.activations import LEAKY_RELU_SLOPE
from hpcnn.nn.layer import Layer
from hpcnn.nn.layers import Activation, Dense, Dropout, Flatten, Reshape, Residual
from hpcnn.nn.network import Network
from hpcnn.nn.normalization import LayerNorm


def to_keras(network: Network, dtype: str) -> tuple[Any, dict[int, str]]:
    """Return the network as a `keras.Model`, and the name of our parameter for the id of each of its variables.

    Raises:
        ModelError: a layer of the network is not one of hpcnn's own.
    """
    import keras

    inputs = keras.Input(network.input_shape, dtype=dtype)
    names: dict[int, str] = {}
    tensor = inputs
    for layer in network.layers:
        tensor = _call(layer, tensor, dtype, names)
    if network.head != "linear":
        tensor = keras.layers.Activation(activation(network.head), dtype=dtype)(tensor)
    return keras.Model(inputs, tensor), names


def _call(layer: Layer, tensor: Any, dtype: str, names: dict[int, str]) -> Any:
    """Put the layer after `tensor`, and note the names of its parameters."""
    if type(layer) not in LAYERS:
        known = ", ".join(kind.__name__ for kind in LAYERS)
        raise ModelError(
            f"layer {layer.name!r} is a {type(layer).__name__}, which NumPy mode has and Keras mode has not. Known: "
            f'{known}. Set backend = "numpy", or let model.entry return a keras.Model.'
        )
    made = LAYERS[type(layer)](layer, dtype)
    inner = tensor
    for child in layer.children:
        inner = _call(child, inner, dtype, names)
    output = made([tensor, inner] if layer.children else tensor)
    names.update({id(variable): f"{layer.name}/{variable.name}" for variable in made.weights})
    return output


def _dense(layer: Any, dtype: str) -> Any:
    import keras

    return keras.layers.Dense(
        layer.units, activation=activation(layer.activation), use_bias=layer.use_bias, dtype=dtype
    )


def _layer_norm(layer: Any, dtype: str) -> Any:
    import keras

    return keras.layers.LayerNormalization(epsilon=layer.epsilon, center=layer.center, scale=layer.scale, dtype=dtype)


def _plain(name: str, *fields: str) -> Callable[[Any, str], Any]:
    """Return what makes the Keras layer `name`, which takes the values of `fields`."""

    def make(layer: Any, dtype: str) -> Any:
        import keras

        return getattr(keras.layers, name)(*(getattr(layer, field) for field in fields), dtype=dtype)

    return make


LAYERS: Mapping[type[Layer], Callable[[Any, str], Any]] = {
    Dense: _dense,
    Activation: lambda layer, dtype: _activation_layer(layer.activation, dtype),
    Flatten: _plain("Flatten"),
    Reshape: _plain("Reshape", "shape"),
    Dropout: _plain("Dropout", "rate"),
    LayerNorm: _layer_norm,
    Residual: _plain("Add"),
}
"""``(layer, dtype) -> keras layer``; that of a container takes its input and what its children make of it.

How parameters start, and which of them learn, our layout says, not Keras.
"""


def _activation_layer(name: str, dtype: str) -> Any:
    import keras

    return keras.layers.Activation(activation(name), dtype=dtype)


def activation(name: str) -> Callable[[Any], Any]:
    """Return Keras's activation of that name. Two of its own round a constant to float32 in float64 as well."""
    import keras

    found: Callable[[Any], Any] = EXACT[name] if name in EXACT else keras.activations.get(name)
    return found


def _gelu(z: Any) -> Any:
    import tensorflow as tf

    return 0.5 * z * (1 + tf.math.erf(z * math.sqrt(0.5)))


def _leaky_relu(z: Any) -> Any:
    import tensorflow as tf

    return tf.where(z > 0, z, LEAKY_RELU_SLOPE * z)


EXACT: Mapping[str, Callable[[Any], Any]] = {"gelu": _gelu, "leaky_relu": _leaky_relu}
"""In place of Keras's activations of these names."""
