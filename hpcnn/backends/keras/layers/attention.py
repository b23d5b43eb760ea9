"""Attention, and embeddings of ids and of positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hpcnn.backends.keras.layers.making import Make
from hpcnn.errors import ModelError
from hpcnn.nn.layer import Layer
from hpcnn.nn.layers import CrossAttention, Embedding, MultiHeadAttention, PaddingMask, PositionalEmbedding
from hpcnn.nn.sines import position_sines


def _embedding(layer: Any, dtype: str) -> Any:
    import keras

    return keras.layers.Embedding(layer.input_dim, layer.output_dim, dtype=dtype)


def _positions(layer: Any, dtype: str) -> Any:
    import keras

    class Positions(keras.layers.Layer):  # type: ignore[misc]
        """Adds a vector to each position."""

        embeddings: Any = None

        def build(self, shape: Sequence[int]) -> None:
            if layer.encoding == "learned":
                self.embeddings = self.add_weight(shape=shape[1:], name="embeddings")

        def call(self, x: Any) -> Any:
            if self.embeddings is not None:
                return x + self.embeddings
            return x + position_sines(*x.shape[1:], np.dtype(dtype).char)

    return Positions(dtype=dtype)


def _padding_mask(layer: Any, dtype: str) -> Any:
    import keras

    return keras.layers.Lambda(lambda x: keras.ops.cast(x != 0, dtype), dtype=dtype)


class _Called:
    """A layer of Keras that takes a list of query, value and key, and perhaps a mask of keys."""

    def __init__(self, layer: Any, dtype: str) -> None:
        import keras

        if layer.kv_heads == layer.num_heads:
            self._made = keras.layers.MultiHeadAttention(
                layer.num_heads,
                layer.key_dim,
                layer.value_dim,
                use_bias=layer.use_bias,
                output_shape=layer.output_dim,
                dtype=dtype,
            )
        else:
            _check_grouped(layer)
            self._made = keras.layers.GroupQueryAttention(
                layer.key_dim, layer.num_heads, layer.kv_heads, use_bias=layer.use_bias, dtype=dtype
            )
        # Keras rounds the factor to float32 in float64 as well
        factor = keras.ops.convert_to_tensor(np.array(layer.key_dim**-0.5, dtype))
        self._made._inverse_sqrt_key_dim = self._made._inverse_sqrt_head_dim = factor
        self._causal = layer.causal

    def __call__(self, inputs: Any) -> Any:
        tensors = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
        options = {}
        if len(tensors) > 1 and len(tensors[-1].shape) == 2:
            options["attention_mask"] = tensors.pop()[:, None]
        query, value, *key = tensors if len(tensors) > 1 else tensors * 2
        return self._made(query, value, *key, use_causal_mask=self._causal, **options)

    @property
    def weights(self) -> Sequence[Any]:
        """The variables of Keras's layer."""
        weights: Sequence[Any] = self._made.weights
        return weights


def _check_grouped(layer: Any) -> None:
    if layer.values != layer.key_dim or layer.output_dim is not None:
        raise ModelError(
            f"{layer.title}: with num_kv_heads, Keras mode has no value_dim and output_dim of its own. Leave them out, "
            'or set backend = "numpy".'
        )


LAYERS: Mapping[type[Layer], Make] = {
    Embedding: _embedding,
    PositionalEmbedding: _positions,
    PaddingMask: _padding_mask,
    MultiHeadAttention: _Called,
    CrossAttention: _Called,
}
