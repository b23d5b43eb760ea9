"""Dense layers, activations, shapes that change without a copy, and dropout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpcnn.backends.torch.layers.making import Call, Make, Place, activation, behind, stateless
from hpcnn.nn.layer import Layer
from hpcnn.nn.layers import Activation, Dense, Dropout, Flatten, Reshape


def _dense(place: Place) -> Call:
    """A single product of rows: with the kernel as it is, it takes less time than `linear` with the transposed one."""
    import torch

    kernel, bias, wide = place.name("kernel"), place.name("bias"), len(place.input_shape) > 1

    def product(p: Mapping[str, Any], x: Any, training: bool) -> Any:
        rows = x.flatten(0, -2) if wide else x
        y = torch.addmm(p[bias], rows, p[kernel]) if place.layer.use_bias else rows.mm(p[kernel])
        return y.reshape(x.shape[0], *place.output_shape) if wide else y

    return behind(place.layer.activation, product)


def _activation(place: Place) -> Call:
    return stateless(activation(place.layer.activation) or (lambda x: x))


def _reshaped(place: Place) -> Call:
    return stateless(lambda x: x.reshape(x.shape[0], *place.output_shape))


def _dropout(place: Place) -> Call:
    from torch.nn import functional as f

    rate = place.layer.rate
    return lambda p, x, training: f.dropout(x, rate, training)


LAYERS: Mapping[type[Layer], Make] = {
    Dense: _dense,
    Activation: _activation,
    Flatten: _reshaped,
    Reshape: _reshaped,
    Dropout: _dropout,
}
