"""Normalisations, with every option."""

from hpcnn.nn import BatchNormalization, GroupNormalization, RMSNormalization

LAYERS = {
    "batch_norm": (BatchNormalization(name="l"), (5,)),
    "batch_norm_3d": (BatchNormalization(momentum=0.7, epsilon=0.01, name="l"), (3, 2, 6)),
    "batch_norm_shard": (BatchNormalization(statistics="shard", name="l"), (2, 3)),
    "batch_norm_no_center": (BatchNormalization(center=False, name="l"), (5,)),
    "batch_norm_no_scale": (BatchNormalization(scale=False, name="l"), (5,)),
    "batch_norm_frozen": (BatchNormalization(trainable=False, name="l"), (2, 5)),
    "group_norm": (GroupNormalization(name="l", groups=3), (4, 2, 6)),
    "group_norm_1": (GroupNormalization(groups=1, epsilon=0.1, name="l"), (3, 5)),
    "group_norm_32": (GroupNormalization(name="l"), (8, 64)),
    "group_norm_instance": (GroupNormalization(groups=-1, name="l"), (7, 4)),
    "group_norm_no_center": (GroupNormalization(groups=2, center=False, name="l"), (2, 4)),
    "group_norm_no_scale": (GroupNormalization(groups=2, scale=False, name="l"), (2, 4)),
    "rms_norm": (RMSNormalization(name="l"), (5,)),
    "rms_norm_3d": (RMSNormalization(epsilon=0.1, name="l"), (2, 3, 4)),
}


def _batch_normalization(keras, layer, dtype):
    return keras.layers.BatchNormalization(
        axis=-1, momentum=layer.momentum, epsilon=layer.epsilon, center=layer.center, scale=layer.scale, dtype=dtype
    )


def _group_normalization(keras, layer, dtype):
    options = {"groups": layer.groups} if layer.groups != 32 else {}
    return keras.layers.GroupNormalization(
        axis=-1, epsilon=layer.epsilon, center=layer.center, scale=layer.scale, dtype=dtype, **options
    )


def _rms_normalization(keras, layer, dtype):
    options = {"epsilon": layer.epsilon} if layer.epsilon != 1e-6 else {}
    return keras.layers.RMSNormalization(dtype=dtype, **options)


KERAS = {
    BatchNormalization: _batch_normalization,
    GroupNormalization: _group_normalization,
    RMSNormalization: _rms_normalization,
}
