"""Normalisations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpcnn.backends.keras.layers.making import Make
from hpcnn.nn.layer import Layer
from hpcnn.nn.layers import LayerNorm


def _layer_norm(layer: Any, dtype: str) -> Any:
    import keras

    return keras.layers.LayerNormalization(epsilon=layer.epsilon, center=layer.center, scale=layer.scale, dtype=dtype)


LAYERS: Mapping[type[Layer], Make] = {LayerNorm: _layer_norm}
