"""Attention, and embeddings of ids and of positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hpcnn.backends.keras.layers.making import Make
from hpcnn.backends.keras.layers.spatial import Operation
from hpcnn.errors import ModelError
from hpcnn.nn.layer import Layer
from hpcnn.nn.layers import CrossAttention, Embedding, MultiHeadAttention, PaddingMask, PositionalEmbedding
from hpcnn.nn.sines import position_sines


def _embedding(layer: Any, dtype: str) -> Any:
    import keras

    return keras.layers.Embedding(layer.input_dim, layer.output_dim, dtype=dtype)


def _positions(layer: Any, dtype: str) -> Any:
    if layer.encoding == "learned":
        return _Learned(dtype)
    return Operation(lambda x: x + position_sines(*x.shape[1:], np.dtype(dtype).char))


class _Learned:
    """Adds a learned vector to each position, which is looked up as an id is."""

    def __init__(self, dtype: str) -> None:
        self._dtype = dtype
        self._made: Any = None

    def __call__(self, x: Any) -> Any:
        import keras

        _, length, features = x.shape
        self._made = self._made or keras.layers.Embedding(length, features, dtype=self._dtype)
        return x + self._made(keras.ops.zeros_like(x[..., 0], "int32") + np.arange(length, dtype=np.int32))

    @property
    def weights(self) -> Sequence[Any]:
        """The variables of Keras's layer."""
        weights: Sequence[Any] = self._made.weights
        return weights


def _padding_mask(layer: Any, dtype: str) -> Any:
    import keras

    return Operation(lambda x: keras.ops.cast(keras.ops.not_equal(x, 0), dtype))


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
