"""hpcnn's own networks as Keras models: every layer and option, over the same parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpcnn.backends.keras.layers import common, normalization, recurrent
from hpcnn.backends.keras.layers.making import Make, Wrap, activation
from hpcnn.errors import ModelError
from hpcnn.nn.layer import Layer
from hpcnn.nn.network import Network

LAYERS: Mapping[type[Layer], Make] = {**common.LAYERS, **normalization.LAYERS, **recurrent.LAYERS}
WRAPPERS: Mapping[type[Layer], Wrap] = {**recurrent.WRAPPERS}
"""Layers around others, which put those themselves."""


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
    if type(layer) in WRAPPERS:
        return WRAPPERS[type(layer)](layer, tensor, dtype, names, _call)
    if type(layer) not in LAYERS:
        known = ", ".join(kind.__name__ for kind in (*LAYERS, *WRAPPERS))
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
