"""Recurrent layers, and layers that go through sequences with another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpcnn.backends.keras.layers.making import Make, Put, Wrap, activation
from hpcnn.nn.layer import Layer
from hpcnn.nn.layers import GRU, LSTM, Bidirectional, SimpleRNN, TimeDistributed


def _recurrent(name: str, *more: str) -> Make:
    """Return what makes the recurrent layer `name` of Keras, which has `more` settings than all have."""

    def make(layer: Any, dtype: str) -> Any:
        import keras

        settings = {each: getattr(layer, each) for each in more}
        if "recurrent_activation" in settings:
            settings["recurrent_activation"] = activation(layer.recurrent_activation)
        return getattr(keras.layers, name)(
            layer.units,
            activation=activation(layer.activation),
            use_bias=layer.use_bias,
            return_sequences=layer.return_sequences,
            go_backwards=layer.go_backwards,
            dtype=dtype,
            **settings,
        )

    return make


def _bidirectional(layer: Any, tensor: Any, dtype: str, names: dict[int, str], put: Put) -> Any:
    import keras

    ways = [LAYERS[type(way)](way, dtype) for way in layer.ways]
    made = keras.layers.Bidirectional(ways[0], layer.merge_mode, backward_layer=ways[1], dtype=dtype)
    output = made(tensor)
    for way, own in zip(layer.ways, (made.forward_layer, made.backward_layer), strict=True):
        names.update({id(variable): f"{way.name}/{variable.name}" for variable in own.weights})
    return output


def _time_distributed(layer: Any, tensor: Any, dtype: str, names: dict[int, str], put: Put) -> Any:
    import keras

    step = keras.Input(tensor.shape[2:], dtype=dtype)
    return keras.layers.TimeDistributed(keras.Model(step, put(layer.inner, step, dtype, names)), dtype=dtype)(tensor)


LAYERS: Mapping[type[Layer], Make] = {
    SimpleRNN: _recurrent("SimpleRNN"),
    LSTM: _recurrent("LSTM", "recurrent_activation"),
    GRU: _recurrent("GRU", "recurrent_activation", "reset_after"),
}
WRAPPERS: Mapping[type[Layer], Wrap] = {Bidirectional: _bidirectional, TimeDistributed: _time_distributed}
