"""Convolutions with every option, and what Keras makes of them."""

from __future__ import annotations

from hpcnn.nn import (
    Conv1D,
    Conv1DTranspose,
    Conv2D,
    Conv2DTranspose,
    Conv3D,
    Conv3DTranspose,
    DepthwiseConv2D,
    SeparableConv2D,
)

LAYERS = {
    "conv1d": (Conv1D(4, 3, name="l"), (9, 2)),
    "conv1d_causal": (Conv1D(3, 3, padding="causal", dilation_rate=2, name="l"), (8, 2)),
    "conv1d_causal_stride": (Conv1D(3, 4, padding="causal", strides=2, activation="tanh", name="l"), (9, 2)),
    "conv1d_same_stride": (Conv1D(3, 2, strides=3, padding="same", use_bias=False, name="l"), (10, 3)),
    "conv2d": (Conv2D(4, 3, activation="relu", name="l"), (6, 5, 3)),
    "conv2d_same": (Conv2D(5, (3, 2), padding="same", activation="swish", name="l"), (5, 6, 2)),
    "conv2d_stride": (Conv2D(3, 3, strides=(2, 1), padding="same", activation="softmax", name="l"), (6, 5, 2)),
    "conv2d_dilated": (Conv2D(3, 3, dilation_rate=(2, 1), padding="same", name="l"), (7, 6, 2)),
    "conv2d_pointwise": (Conv2D(6, 1, name="l"), (3, 4, 5)),
    "conv2d_groups": (Conv2D(6, 3, groups=2, padding="same", activation="elu", name="l"), (4, 5, 4)),
    "conv3d": (Conv3D(3, (2, 3, 1), activation="sigmoid", name="l"), (4, 5, 3, 2)),
    "conv3d_stride": (Conv3D(2, (2, 3, 3), strides=2, use_bias=False, name="l"), (5, 4, 3, 2)),
    "depthwise_conv2d": (DepthwiseConv2D(3, name="l"), (6, 5, 4)),
    "depthwise_conv2d_more": (
        DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2, activation="relu", name="l"),
        (6, 7, 3),
    ),
    "depthwise_conv2d_dilated": (DepthwiseConv2D((2, 3), dilation_rate=2, use_bias=False, name="l"), (6, 7, 3)),
    "separable_conv2d": (SeparableConv2D(5, 3, padding="same", activation="tanh", name="l"), (5, 5, 3)),
    "separable_conv2d_more": (
        SeparableConv2D(4, (2, 3), strides=2, depth_multiplier=2, use_bias=False, name="l"),
        (6, 7, 2),
    ),
    "conv1d_transpose": (Conv1DTranspose(3, 4, strides=2, padding="same", activation="softmax", name="l"), (5, 2)),
    "conv1d_transpose_gaps": (Conv1DTranspose(3, 2, strides=3, activation="relu", name="l"), (5, 2)),
    "conv2d_transpose": (Conv2DTranspose(3, 3, strides=2, activation="swish", name="l"), (4, 3, 2)),
    "conv2d_transpose_same": (
        Conv2DTranspose(2, (3, 2), strides=(2, 3), padding="same", use_bias=False, name="l"),
        (3, 4, 3),
    ),
    "conv2d_transpose_dilated": (Conv2DTranspose(2, 3, dilation_rate=2, name="l"), (4, 5, 2)),
    "conv3d_transpose": (Conv3DTranspose(2, 3, strides=(1, 2, 2), padding="same", name="l"), (3, 2, 3, 2)),
}
"""Name -> (layer, shape of a sample)."""


def _make(keras, layer, dtype):
    options = {
        "filters",
        "kernel_size",
        "strides",
        "padding",
        "dilation_rate",
        "groups",
        "depth_multiplier",
        "use_bias",
    }
    given = {key: getattr(layer, key) for key in options if hasattr(layer, key)}
    kind = getattr(keras.layers, type(layer).__name__)
    made = kind(**given, activation=keras.activations.get(layer.activation), dtype=dtype)
    if "Transpose" in type(layer).__name__ and max(layer.dilation_rate) > 1:
        import tensorflow as tf

        made.call = tf.function(made.call, jit_compile=True)  # TensorFlow has no other on a CPU
    return made


KERAS = dict.fromkeys({type(layer) for layer, _ in LAYERS.values()}, _make)
"""Class -> ``(keras, layer, type) -> layer of Keras``."""
