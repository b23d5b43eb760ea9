"""Layers that move, leave out or repeat entries, noise, and rectifiers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpcnn.backends.keras.layers.making import Make, plain
from hpcnn.backends.keras.layers.spatial import Operation, for_axes
from hpcnn.nn.axis_maps import interpolated
from hpcnn.nn.layer import Layer
from hpcnn.nn.layers import (
    ELU,
    Cropping,
    GaussianNoise,
    LeakyReLU,
    Permute,
    PReLU,
    RepeatVector,
    SpatialDropout,
    UpSampling,
    ZeroPadding,
)
from hpcnn.nn.layers.spatial import for_each_axis


def _up_sampling(layer: Any, dtype: str) -> Any:
    import keras

    if layer.interpolation == "nearest":
        return for_axes("UpSampling", "size")(layer, dtype)
    if dtype == "float32":
        return keras.layers.UpSampling2D(layer.size, interpolation="bilinear", dtype=dtype)

    def compute(tensor: Any) -> Any:
        for equation, length, times in zip(
            ("ij,njwc->niwc", "ij,nhjc->nhic"),
            tensor.shape[1:3],
            for_each_axis(layer, "size", layer.size, tensor.shape[1:3]),
            strict=True,
        ):
            tensor = keras.ops.einsum(equation, interpolated(length, times).matrix(), tensor)
        return tensor

    return Operation(compute)


def _leaky_relu(layer: Any, dtype: str) -> Any:
    import keras

    if dtype == "float32":
        return keras.layers.LeakyReLU(layer.negative_slope, dtype=dtype)
    return Operation(lambda tensor: keras.ops.where(tensor > 0, tensor, layer.negative_slope * tensor))


def _prelu(layer: Any, dtype: str) -> Any:
    import keras

    return keras.layers.PReLU(shared_axes=list(layer.shared_axes) or None, dtype=dtype)


LAYERS: Mapping[type[Layer], Make] = {
    ZeroPadding: for_axes("ZeroPadding", "padding"),
    Cropping: for_axes("Cropping", "cropping"),
    UpSampling: _up_sampling,
    Permute: plain("Permute", "dims"),
    RepeatVector: plain("RepeatVector", "n"),
    SpatialDropout: for_axes("SpatialDropout", "rate"),
    GaussianNoise: plain("GaussianNoise", "stddev"),
    PReLU: _prelu,
    LeakyReLU: _leaky_relu,
    ELU: plain("ELU", "alpha"),
}
