"""Pooling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpcnn.backends.keras.layers.making import Make
from hpcnn.backends.keras.layers.spatial import Operation, for_axes
from hpcnn.errors import ModelError
from hpcnn.nn.layer import Layer
from hpcnn.nn.layers import AveragePooling, GlobalAveragePooling, GlobalMaxPooling, MaxPooling


def _windows(name: str) -> Make:
    make = for_axes(name, "pool_size", "strides", "padding")

    def made(layer: Any, dtype: str) -> Any:
        of_keras = make(layer, dtype)

        def call(tensor: Any) -> Any:
            if len(tensor.shape) == 5 and dtype == "float64":
                raise ModelError(
                    f'{layer.title}: TensorFlow pools volumes in float32 alone. Set train.dtype = "float32", or '
                    'backend = "numpy".'
                )
            return of_keras(tensor)

        return Operation(call)

    return made


LAYERS: Mapping[type[Layer], Make] = {
    MaxPooling: _windows("MaxPooling"),
    AveragePooling: _windows("AveragePooling"),
    GlobalMaxPooling: for_axes("GlobalMaxPooling", "keepdims"),
    GlobalAveragePooling: for_axes("GlobalAveragePooling", "keepdims"),
}
