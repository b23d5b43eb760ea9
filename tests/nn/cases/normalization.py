"""Normalisations, with every option."""

from hpcnn.nn import BatchNormalization

LAYERS = {
    "batch_norm": (BatchNormalization(name="l"), (5,)),
    "batch_norm_3d": (BatchNormalization(momentum=0.7, epsilon=0.01, name="l"), (3, 2, 6)),
    "batch_norm_shard": (BatchNormalization(statistics="shard", name="l"), (2, 3)),
    "batch_norm_no_center": (BatchNormalization(center=False, name="l"), (5,)),
    "batch_norm_no_scale": (BatchNormalization(scale=False, name="l"), (5,)),
    "batch_norm_bare": (BatchNormalization(center=False, scale=False, name="l"), (2, 5)),
    "batch_norm_frozen": (BatchNormalization(trainable=False, name="l"), (2, 5)),
}


def _batch_normalization(keras, layer, dtype):
    return keras.layers.BatchNormalization(
        axis=-1, momentum=layer.momentum, epsilon=layer.epsilon, center=layer.center, scale=layer.scale, dtype=dtype
    )


KERAS = {BatchNormalization: _batch_normalization}
