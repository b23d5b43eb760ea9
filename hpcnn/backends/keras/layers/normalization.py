"""Normalisations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpcnn.backends.keras.layers.making import Make
from hpcnn.nn.layer import Layer
from hpcnn.nn.layers import BatchNormalization, GroupNormalization, LayerNorm, RMSNormalization


def _layer_norm(layer: Any, dtype: str) -> Any:
    import keras

    return keras.layers.LayerNormalization(epsilon=layer.epsilon, center=layer.center, scale=layer.scale, dtype=dtype)


def _batch_normalization(layer: Any, dtype: str) -> Any:
    import keras

    return keras.layers.BatchNormalization(
        momentum=layer.momentum,
        epsilon=layer.epsilon,
        center=layer.center,
        scale=layer.scale,
        trainable=layer.trainable,  # a frozen one normalises by the moving averages in training, too
        dtype=dtype,
    )


def _group_normalization(layer: Any, dtype: str) -> Any:
    import keras

    return keras.layers.GroupNormalization(
        groups=layer.groups, epsilon=layer.epsilon, center=layer.center, scale=layer.scale, dtype=dtype
    )


def _rms_normalization(layer: Any, dtype: str) -> Any:
    import keras

    return keras.layers.RMSNormalization(epsilon=layer.epsilon, dtype=dtype)


LAYERS: Mapping[type[Layer], Make] = {
    LayerNorm: _layer_norm,
    BatchNormalization: _batch_normalization,
    GroupNormalization: _group_normalization,
    RMSNormalization: _rms_normalization,
}
