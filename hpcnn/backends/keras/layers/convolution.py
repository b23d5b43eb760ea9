"""Convolutions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpcnn.backends.keras.layers.making import Make, activation
from hpcnn.nn.layer import Layer
from hpcnn.nn.layers import (
    Conv1D,
    Conv1DTranspose,
    Conv2D,
    Conv2DTranspose,
    Conv3D,
    Conv3DTranspose,
    DepthwiseConv2D,
    SeparableConv2D,
)

_SHARED = ("kernel_size", "strides", "padding", "dilation_rate", "use_bias")


def _sliding(*fields: str) -> Make:
    """Return what makes the Keras layer of the same name, which takes the values of `fields`, too."""

    def make(layer: Any, dtype: str) -> Any:
        import keras

        settings = {field: getattr(layer, field) for field in (*_SHARED, *fields)}
        kind = getattr(keras.layers, type(layer).__name__)
        return kind(**settings, activation=activation(layer.activation), dtype=dtype)

    return make


def _transposed(layer: Any, dtype: str) -> Any:
    """TensorFlow dilates them on a CPU only where XLA compiles them: a function of arguments alone."""
    import keras
    import tensorflow as tf

    made = _sliding("filters")(layer, dtype)
    options = {"strides": 1, "padding": layer.padding, "dilation_rate": layer.dilation_rate}
    compiled = tf.function(lambda x, kernel: keras.ops.conv_transpose(x, kernel, **options), jit_compile=True)

    def call(x: Any) -> Any:
        z = compiled(x, made.kernel.value)
        return made.activation(z + made.bias.value if made.use_bias else z)

    if max(layer.dilation_rate) > 1:
        made.call = call
    return made


LAYERS: Mapping[type[Layer], Make] = {
    **dict.fromkeys((Conv1D, Conv2D, Conv3D), _sliding("filters", "groups")),
    **dict.fromkeys((Conv1DTranspose, Conv2DTranspose, Conv3DTranspose), _transposed),
    DepthwiseConv2D: _sliding("depth_multiplier"),
    SeparableConv2D: _sliding("filters", "depth_multiplier"),
}
