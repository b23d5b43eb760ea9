"""Random networks as Keras's layers, called in the order of the graph: written apart from hpcnn's own conversion."""

from __future__ import annotations

import math

import numpy as np

from hpcnn.nn import (
    Activation,
    Add,
    Average,
    BatchNormalization,
    Bidirectional,
    Block,
    Concatenate,
    CrossAttention,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    LayerNorm,
    Maximum,
    Multiply,
    PaddingMask,
    Reshape,
    Residual,
    Shared,
    TimeDistributed,
)
from hpcnn.nn.layer import MultiInput
from tests.nn.cases import KERAS, KERAS_BY_SHAPE, recurrent
from tests.nn.cases.attention import cross_attention

MERGING = (Add, Average, Maximum, Multiply)


def activation_of(keras, name):
    """Return Keras's activation. Two round a constant to float32 also for float64, so those are put together here."""
    if name == "gelu":
        return lambda x: 0.5 * x * (1 + keras.ops.erf(x * math.sqrt(0.5)))
    if name == "leaky_relu":
        return lambda x: keras.ops.where(x > 0, x, 0.2 * x)
    return keras.activations.get(name)


def _prefixes(name, layer):
    """Return what the parameters' names begin with, in Keras's order."""
    if isinstance(layer, Bidirectional):
        return f"forward_{layer.inner.name}/", f"backward_{layer.inner.name}/"
    return (f"{name}/",)


class KerasGraph:
    """Keras's layers of a graph, with hpcnn's parameters."""

    def __init__(self, graph, params, dtype):
        import keras

        self._keras, self._graph, self._dtype = keras, graph, np.dtype(dtype).name
        self._params, self._made = params, {}
        self.variables = {}
        """Keras's, by hpcnn's names."""

    def __call__(self, x, *, training=False):
        outputs, last = {"input": x}, x
        for layer in self._graph.layers:
            given = [outputs[name] for name in layer.inputs] or [last]
            for number in range(1, getattr(layer, "repeat", 1) + 1):
                last = self._call(layer, given, training, f"_{number}" if getattr(layer, "repeat", 1) > 1 else "")
                given = [last]
                outputs[layer.name + (f"_{number}" if getattr(layer, "repeat", 1) > 1 else "")] = last
        return last

    def _call(self, layer, given, training, suffix=""):
        if isinstance(layer, Block):
            inner = given
            for each in layer.layers:
                inner = [self._call(each, inner, training, suffix)]
            return given[0] + inner[0] if isinstance(layer, Residual) else inner[0]
        if isinstance(layer, Shared):
            (layer,) = (each for each in self._graph.layers if each.name == layer.layer)
        if isinstance(layer, TimeDistributed):
            steps = [given[0][:, step] for step in range(given[0].shape[1])]
            return self._keras.ops.stack([self._call(layer.inner, [step], training) for step in steps], axis=1)
        name = layer.name + suffix
        if name not in self._made:
            self._made[name] = self._new(layer, given)
            self._call_made(layer, name, given, training=False)  # which builds it
            names = [full for prefix in _prefixes(name, layer) for full in self._params if full.startswith(prefix)]
            weights = getattr(self._made[name], "weights", [])
            assert len(names) == len(weights)
            for full, variable in zip(names, weights, strict=True):
                variable.assign(self._params[full])
                self.variables[full] = variable
        return self._call_made(layer, name, given, training=training)

    def _call_made(self, layer, name, given, *, training):
        made = self._made[name]
        if isinstance(layer, BatchNormalization):
            return made(given[0], training=training)
        return made(given if isinstance(layer, MultiInput) else given[0])

    def _new(self, layer, given):
        keras, name = self._keras, self._dtype
        layers = keras.layers
        if isinstance(layer, CrossAttention):
            return cross_attention(keras, layer, name, masked=len(given[-1].shape) == 2)
        if isinstance(layer, MERGING):
            return getattr(layers, type(layer).__name__)(dtype=name)
        if isinstance(layer, Concatenate):
            return layers.Concatenate(layer.axis, dtype=name)
        if isinstance(layer, PaddingMask):
            return lambda x: keras.ops.cast(keras.ops.not_equal(x, 0), name)
        if type(layer) in recurrent.KERAS:
            return recurrent.KERAS[type(layer)](keras, layer, name, activation_of)
        if type(layer) in KERAS_BY_SHAPE:
            return KERAS_BY_SHAPE[type(layer)](keras, layer, tuple(given[0].shape[1:]), name)
        if type(layer) in KERAS:
            made = KERAS[type(layer)](keras, layer, name)
            if getattr(layer, "activation", "") in ("gelu", "leaky_relu"):
                made.activation = activation_of(keras, layer.activation)
            return made
        return {
            Dense: lambda: layers.Dense(
                layer.units, activation=activation_of(keras, layer.activation), use_bias=layer.use_bias, dtype=name
            ),
            Embedding: lambda: layers.Embedding(layer.input_dim, layer.output_dim, dtype=name),
            LayerNorm: lambda: layers.LayerNormalization(
                center=layer.center, scale=layer.scale, epsilon=layer.epsilon, dtype=name
            ),
            Reshape: lambda: layers.Reshape(layer.shape, dtype=name),
            Dropout: lambda: layers.Dropout(layer.rate, dtype=name),
            Activation: lambda: layers.Activation(activation_of(keras, layer.activation), dtype=name),
            Flatten: lambda: layers.Flatten(dtype=name),
        }[type(layer)]()


def passes(graph, params, x, dy, dtype, *, training):
    """Return outputs, the gradient of the inputs if they are no ids, those of the parameters, and new state."""
    import tensorflow as tf

    model = KerasGraph(graph, params, dtype)
    tensor = tf.constant(x)
    model(tensor)
    for full, variable in model.variables.items():  # building may have moved averages
        variable.assign(params[full])
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        y = model(tensor, training=training)
        total = tf.reduce_sum(y * dy)
    learning = {name: each for name, each in model.variables.items() if each.trainable}
    dx, *gradients = tape.gradient(total, [tensor, *(each.value for each in learning.values())])
    found = {name: np.asarray(tf.convert_to_tensor(each)) for name, each in zip(learning, gradients, strict=True)}
    if training:
        found |= {name: np.asarray(each) for name, each in model.variables.items() if not each.trainable}
    return {"y": np.asarray(y), **found, **({} if graph.ids else {"dx": np.asarray(dx)})}
