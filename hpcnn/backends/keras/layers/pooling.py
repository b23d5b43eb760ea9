"""Pooling."""

from __future__ import annotations

from collections.abc import Mapping

from hpcnn.backends.keras.layers.making import Make
from hpcnn.backends.keras.layers.spatial import for_axes
from hpcnn.nn.layer import Layer
from hpcnn.nn.layers import AveragePooling, GlobalAveragePooling, GlobalMaxPooling, MaxPooling

LAYERS: Mapping[type[Layer], Make] = {
    MaxPooling: for_axes("MaxPooling", "pool_size", "strides", "padding"),
    AveragePooling: for_axes("AveragePooling", "pool_size", "strides", "padding"),
    GlobalMaxPooling: for_axes("GlobalMaxPooling", "keepdims"),
    GlobalAveragePooling: for_axes("GlobalAveragePooling", "keepdims"),
}
