"""Pooling, layers that change shapes, noise and rectifiers: every option at least once."""

from __future__ import annotations

from hpcnn.nn import (
    ELU,
    AveragePooling,
    Cropping,
    GaussianNoise,
    GlobalAveragePooling,
    GlobalMaxPooling,
    LeakyReLU,
    MaxPooling,
    Permute,
    PReLU,
    RepeatVector,
    SpatialDropout,
    UpSampling,
    ZeroPadding,
)

LAYERS = {
    "max_pooling_1d": (MaxPooling(name="l"), (7, 3)),
    "max_pooling_2d": (MaxPooling((2, 3), strides=(1, 2), name="l"), (5, 7, 2)),
    "max_pooling_2d_same": (MaxPooling(3, strides=2, padding="same", name="l"), (6, 5, 17)),
    "max_pooling_3d": (MaxPooling([2, 1, 2], name="l"), (4, 3, 5, 2)),
    "max_pooling_3d_gaps": (MaxPooling(1, strides=2, name="l"), (4, 3, 5, 2)),
    "average_pooling_1d_same": (AveragePooling(3, strides=1, padding="same", name="l"), (7, 3)),
    "average_pooling_2d": (AveragePooling(name="l"), (5, 6, 2)),
    "average_pooling_2d_same": (AveragePooling(4, strides=(3, 2), padding="same", name="l"), (7, 5, 17)),
    "average_pooling_2d_gaps": (AveragePooling(1, strides=2, padding="same", name="l"), (5, 6, 2)),
    "average_pooling_3d": (AveragePooling(2, strides=1, name="l"), (3, 4, 3, 2)),
    "global_max_pooling_1d": (GlobalMaxPooling(name="l"), (7, 3)),
    "global_max_pooling_2d": (GlobalMaxPooling(keepdims=True, name="l"), (5, 4, 17)),
    "global_max_pooling_3d": (GlobalMaxPooling(name="l"), (2, 3, 4, 3)),
    "global_average_pooling_1d": (GlobalAveragePooling(keepdims=True, name="l"), (7, 3)),
    "global_average_pooling_2d": (GlobalAveragePooling(name="l"), (5, 4, 17)),
    "global_average_pooling_3d": (GlobalAveragePooling(name="l"), (2, 3, 4, 3)),
    "zero_padding_1d": (ZeroPadding((1, 2), name="l"), (4, 3)),
    "zero_padding_2d": (ZeroPadding(name="l"), (4, 3, 2)),
    "zero_padding_2d_sides": (ZeroPadding([[0, 2], [1, 0]], name="l"), (4, 3, 2)),
    "zero_padding_3d": (ZeroPadding((1, 0, 2), name="l"), (2, 3, 2, 2)),
    "zero_padding_0": (ZeroPadding(0, name="l"), (4, 3)),
    "cropping_1d": (Cropping((0, 2), name="l"), (4, 3)),
    "cropping_2d": (Cropping(name="l"), (4, 3, 2)),
    "cropping_2d_sides": (Cropping(((1, 0), (0, 1)), name="l"), (4, 3, 2)),
    "cropping_3d": (Cropping(1, name="l"), (3, 4, 3, 2)),
    "up_sampling_1d": (UpSampling(3, name="l"), (4, 3)),
    "up_sampling_2d": (UpSampling((2, 3), name="l"), (3, 2, 2)),
    "up_sampling_2d_bilinear": (UpSampling((3, 2), interpolation="bilinear", name="l"), (3, 4, 2)),
    "up_sampling_2d_bilinear_one": (UpSampling((1, 4), interpolation="bilinear", name="l"), (3, 1, 2)),
    "up_sampling_3d": (UpSampling(name="l"), (2, 1, 3, 2)),
    "permute": (Permute((2, 1), name="l"), (4, 3)),
    "permute_3d": (Permute((3, 1, 2), name="l"), (20, 3, 18)),
    "permute_4d": (Permute((2, 4, 1, 3), name="l"), (2, 3, 4, 5)),
    "repeat_vector": (RepeatVector(3, name="l"), (4,)),
    "spatial_dropout_1d": (SpatialDropout(0.4, name="l"), (3, 20)),
    "spatial_dropout_2d": (SpatialDropout(0.4, name="l"), (2, 3, 20)),
    "spatial_dropout_3d": (SpatialDropout(0.4, name="l"), (2, 1, 2, 20)),
    "spatial_dropout_0": (SpatialDropout(0.0, name="l"), (2, 3, 4)),
    "gaussian_noise": (GaussianNoise(0.3, name="l"), (5, 3)),
    "gaussian_noise_0": (GaussianNoise(0.0, name="l"), (5, 3)),
    "prelu": (PReLU(name="l"), (5,)),
    "prelu_shared": (PReLU((1, 2), alpha_initializer="ones", name="l"), (3, 2, 4)),
    "prelu_shared_within": (PReLU((2,), name="l"), (3, 2, 4)),
    "prelu_shared_but_first": (PReLU((2, 3), name="l"), (3, 2, 4)),
    "prelu_one": (PReLU((1, 2), name="l"), (3, 4)),
    "leaky_relu_layer": (LeakyReLU(0.1, name="l"), (3, 4)),
    "elu_layer": (ELU(0.7, name="l"), (3, 4)),
    "elu_layer_1": (ELU(name="l"), (3, 4)),
}


def _of_axes(keras, layer, input_shape, dtype, name, **settings):
    return getattr(keras.layers, f"{name}{len(input_shape) - 1}D")(dtype=dtype, **settings)


def _pooling(name):
    def make(keras, layer, input_shape, dtype):
        settings = {"pool_size": layer.pool_size, "strides": layer.strides, "padding": layer.padding}
        return _of_axes(keras, layer, input_shape, dtype, name, **settings)

    return make


def _global(name):
    return lambda keras, layer, input_shape, dtype: _of_axes(
        keras, layer, input_shape, dtype, name, keepdims=layer.keepdims
    )


def _up_sampling(keras, layer, input_shape, dtype):
    if layer.interpolation == "nearest":
        return _of_axes(keras, layer, input_shape, dtype, "UpSampling", size=layer.size)
    if dtype == "float32":
        return keras.layers.UpSampling2D(layer.size, interpolation="bilinear", dtype=dtype)
    return keras.layers.Lambda(lambda x: _bilinear(x, layer.size), dtype=dtype)  # TensorFlow computes in float32


def _bilinear(x, size):
    """Interpolate along one axis and then the other, by neighbours of a sample whose edges are repeated."""
    import tensorflow as tf

    for axis, times in enumerate(size, 1):
        padded = tf.concat([tf.gather(x, [0], axis=axis), x, tf.gather(x, [x.shape[axis] - 1], axis=axis)], axis)
        parts = []
        for place in range(x.shape[axis] * times):
            centre = (2 * place + 1) / (2 * times) + 0.5
            below = int(centre)
            share = centre - below
            low, high = (tf.gather(padded, [below + more], axis=axis) for more in (0, 1))
            parts.append((1 - share) * low + share * high)
        x = tf.concat(parts, axis)
    return x


def _leaky_relu(keras, layer, input_shape, dtype):
    if dtype == "float32":
        return keras.layers.LeakyReLU(layer.negative_slope, dtype=dtype)
    return keras.layers.Lambda(lambda x: keras.ops.where(x > 0, x, layer.negative_slope * x), dtype=dtype)


KERAS = {
    MaxPooling: _pooling("MaxPooling"),
    AveragePooling: _pooling("AveragePooling"),
    GlobalMaxPooling: _global("GlobalMaxPooling"),
    GlobalAveragePooling: _global("GlobalAveragePooling"),
    ZeroPadding: lambda keras, layer, shape, dtype: _of_axes(
        keras, layer, shape, dtype, "ZeroPadding", padding=layer.padding
    ),
    Cropping: lambda keras, layer, shape, dtype: _of_axes(
        keras, layer, shape, dtype, "Cropping", cropping=layer.cropping
    ),
    UpSampling: _up_sampling,
    Permute: lambda keras, layer, shape, dtype: keras.layers.Permute(layer.dims, dtype=dtype),
    RepeatVector: lambda keras, layer, shape, dtype: keras.layers.RepeatVector(layer.n, dtype=dtype),
    SpatialDropout: lambda keras, layer, shape, dtype: _of_axes(
        keras, layer, shape, dtype, "SpatialDropout", rate=layer.rate
    ),
    GaussianNoise: lambda keras, layer, shape, dtype: keras.layers.GaussianNoise(layer.stddev, dtype=dtype),
    PReLU: lambda keras, layer, shape, dtype: keras.layers.PReLU(
        shared_axes=list(layer.shared_axes) or None, dtype=dtype
    ),
    LeakyReLU: _leaky_relu,
    ELU: lambda keras, layer, shape, dtype: keras.layers.ELU(layer.alpha, dtype=dtype),
}
"""See `tests.nn.cases.KERAS`."""
KERAS_FLOAT32 = {"max_pooling_3d", "max_pooling_3d_gaps", "average_pooling_3d"}
"""See `tests.nn.cases.KERAS_FLOAT32`."""
