"""Attention and embeddings of positions. Layers that take ids are in tests/nn/test_embeddings.py."""

from __future__ import annotations

import numpy as np

from hpcnn.nn import MultiHeadAttention, PositionalEmbedding

LAYERS = {
    "attention": (MultiHeadAttention(2, 3, name="l"), (5, 4)),
    "attention_causal": (MultiHeadAttention(2, 4, causal=True, name="l"), (7, 3)),
    "attention_no_bias": (MultiHeadAttention(3, 2, use_bias=False, name="l"), (4, 5)),
    "attention_other_dims": (MultiHeadAttention(2, 3, value_dim=5, output_dim=7, name="l"), (6, 4)),
    "attention_grouped": (MultiHeadAttention(4, 3, num_kv_heads=2, name="l"), (5, 4)),
    "attention_grouped_causal": (MultiHeadAttention(3, 2, num_kv_heads=1, causal=True, name="l"), (6, 5)),
    "attention_one_position": (MultiHeadAttention(1, 1, bias_initializer="ones", name="l"), (1, 2)),
    "attention_long": (MultiHeadAttention(2, 8, causal=True, name="l"), (70, 6)),
    "positions_learned": (PositionalEmbedding(name="l"), (5, 3)),
    "positions_sines": (PositionalEmbedding("sinusoidal", name="l"), (9, 5)),
}


def attention(keras, layer, dtype):
    """Return a call of Keras's layer with one sequence."""
    made = built(keras, layer, dtype)
    return Called(made, lambda x: made(x, x, use_causal_mask=layer.causal))


def cross_attention(keras, layer, dtype, *, masked):
    """Return a call of Keras's layer with a list of inputs, the last of them a mask if `masked`."""
    made = built(keras, layer, dtype)

    def call(inputs):
        sequences = inputs[:-1] if masked else inputs
        roles = dict(zip(("query", "value", "key"), sequences, strict=False))
        roles.setdefault("value", sequences[0])
        mask = keras.ops.expand_dims(inputs[-1], 1) if masked else None
        return made(**roles, attention_mask=mask, use_causal_mask=layer.causal)

    return Called(made, call)


def built(keras, layer, dtype):
    """Return the layer of Keras."""
    if layer.kv_heads != layer.num_heads:
        made = keras.layers.GroupQueryAttention(
            layer.key_dim, layer.num_heads, layer.kv_heads, use_bias=layer.use_bias, dtype=dtype
        )
    else:
        made = keras.layers.MultiHeadAttention(
            layer.num_heads, layer.key_dim, layer.value_dim, use_bias=layer.use_bias,
            output_shape=layer.output_dim, dtype=dtype,
        )  # fmt: skip
    # both round the factor to float32 for float64, too
    factor = keras.ops.convert_to_tensor(np.array(layer.key_dim**-0.5, dtype))
    made._inverse_sqrt_key_dim = made._inverse_sqrt_head_dim = factor
    return made


def positions(keras, layer, dtype):
    """Return what adds a variable, or sines as the paper has them."""

    class Positions(keras.layers.Layer):
        def build(self, shape):
            self.table = None
            if layer.encoding == "learned":
                self.table = self.add_weight(shape=shape[1:], name="embeddings")

        def call(self, x):
            return x + (sines(*x.shape[1:]).astype(dtype) if self.table is None else self.table)

    return Positions(dtype=dtype)


def sines(length, features):
    """Return sines and cosines of positions, by NumPy's functions."""
    column = np.arange(features)
    angles = np.arange(length)[:, np.newaxis] / 10000.0 ** (column // 2 * 2 / features)
    return np.where(column % 2, np.cos(angles), np.sin(angles))


class Called:
    """A layer of Keras that is called in its own way, and its variables once it is built."""

    def __init__(self, layer, call):
        self._layer, self._call = layer, call

    def __call__(self, x):
        return self._call(x)

    @property
    def weights(self):
        return self._layer.weights


KERAS = {MultiHeadAttention: attention, PositionalEmbedding: positions}
