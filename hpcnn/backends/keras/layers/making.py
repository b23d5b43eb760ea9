"""What makes layers of Keras: of their settings, and activations by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from hpcnn.nn.activations import LEAKY_RELU_SLOPE
from hpcnn.nn.layer import Layer

Make = Callable[[Any, str], Any]
"""``(layer, dtype) -> keras layer``; that of several inputs takes a list.

How parameters start, and which of them learn, our layout says, not Keras.
"""
Put = Callable[[Layer, Any, str, dict[int, str]], Any]
"""``(layer, tensor, dtype, names) -> tensor`` puts a layer after a tensor, and notes the names of its parameters."""
Wrap = Callable[[Any, Any, str, dict[int, str], Put], Any]
"""The same for a layer around others, which is given what puts those."""


def plain(name: str, *fields: str) -> Make:
    """Return what makes the Keras layer `name`, which takes the values of `fields`."""

    def make(layer: Any, dtype: str) -> Any:
        import keras

        return getattr(keras.layers, name)(*(getattr(layer, field) for field in fields), dtype=dtype)

    return make


def activation(name: str) -> Callable[[Any], Any]:
    """Return Keras's activation of that name. Two of its own round a constant to float32 in float64 as well."""
    import keras

    found: Callable[[Any], Any] = EXACT[name] if name in EXACT else keras.activations.get(name)
    return found


def gelu(z: Any) -> Any:
    """Return z Phi(z); files of models name it as Keras's own, which computes the same in float32."""
    import tensorflow as tf

    return 0.5 * z * (1 + tf.math.erf(z * math.sqrt(0.5)))


def leaky_relu(z: Any) -> Any:
    """Return z, below 0 times Keras's default slope; named as its own, as `gelu` is."""
    import tensorflow as tf

    return tf.where(z > 0, z, LEAKY_RELU_SLOPE * z)


EXACT: Mapping[str, Callable[[Any], Any]] = {"gelu": gelu, "leaky_relu": leaky_relu}
"""In place of Keras's activations of these names."""
