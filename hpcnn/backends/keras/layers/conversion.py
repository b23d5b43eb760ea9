"""hpcnn's own networks as Keras models: every layer and option, over the same parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hpcnn.backends.keras.layers import (
    attention,
    common,
    convolution,
    merging,
    normalization,
    pooling,
    recurrent,
    shapes,
    spectral,
)
from hpcnn.backends.keras.layers.making import Make, Wrap, activation
from hpcnn.errors import ModelError
from hpcnn.nn.graph import Node
from hpcnn.nn.layer import Layer, MultiInput
from hpcnn.nn.network import Network

LAYERS: Mapping[type[Layer], Make] = {
    **common.LAYERS,
    **convolution.LAYERS,
    **merging.LAYERS,
    **normalization.LAYERS,
    **pooling.LAYERS,
    **shapes.LAYERS,
    **attention.LAYERS,
    **recurrent.LAYERS,
    **spectral.LAYERS,
}
_IN_CELL = re.compile(r"^\w+_cell/")
WRAPPERS: Mapping[type[Layer], Wrap] = recurrent.WRAPPERS


def to_keras(network: Network, dtype: str) -> tuple[Any, dict[int, str]]:
    """Return the network as a `keras.Model`, and the name of our parameter for the id of each of its variables.

    Raises:
        ModelError: a layer of the network is not one of hpcnn's own.
    """
    import keras

    inputs = keras.Input(network.input_shape, dtype=dtype)
    names: dict[int, str] = {}
    outputs: list[Any] = []
    made: dict[str, Any] = {}
    for node in network.nodes:
        given = [inputs if source < 0 else outputs[source] for source in node.sources]
        outputs.append(_call(node, given, dtype, made, names))
    tensor = outputs[-1]
    if network.head != "linear":
        tensor = keras.layers.Activation(activation(network.head), dtype=dtype)(tensor)
    return keras.Model(inputs, tensor), names


def _call(node: Node, given: list[Any], dtype: str, made: dict[str, Any], names: dict[int, str]) -> Any:
    """Put the layer of a node behind the tensors that it takes, and note the names of its parameters.

    `made` has the layers by the name of the first parameter, for those that share theirs.
    """
    layer = node.layer
    if not node.shared and not isinstance(layer, MultiInput):
        return _put(layer, given[0], dtype, names)
    if type(layer) in WRAPPERS:
        raise ModelError(f"{layer.title} is a {type(layer).__name__}, whose parameters can't be shared in Keras mode")
    first = next(iter(node.shared.values()), layer.name)
    if first not in made:
        made[first] = _make(layer, dtype)
    output = made[first](given if isinstance(layer, MultiInput) else given[0])
    if node.owns:
        _note(layer, made[first], names)
    return output


def _put(layer: Layer, tensor: Any, dtype: str, names: dict[int, str]) -> Any:
    """Put a layer behind one tensor, and note the names of its parameters."""
    if type(layer) in WRAPPERS:
        return WRAPPERS[type(layer)](layer, tensor, dtype, names, _put)
    made = _make(layer, dtype)
    output = made(tensor)
    _note(layer, made, names)
    return output


def _note(layer: Layer, made: Any, names: dict[int, str]) -> None:
    for variable in made.weights:  # its path begins with Keras's own name of the layer; recurrent ones keep a cell
        names[id(variable)] = f"{layer.name}/{_IN_CELL.sub('', variable.path.partition('/')[2])}"


def _make(layer: Layer, dtype: str) -> Any:
    if type(layer) not in LAYERS:
        known = ", ".join(kind.__name__ for kind in (*LAYERS, *WRAPPERS))
        raise ModelError(
            f"layer {layer.name!r} is a {type(layer).__name__}, which NumPy mode has and Keras mode has not. Known: "
            f'{known}. Set backend = "numpy", or let model.entry return a keras.Model.'
        )
    return LAYERS[type(layer)](layer, dtype)
