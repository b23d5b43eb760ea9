"""Dense layers, activations, shapes that change without a copy, and dropout."""

from __future__ import annotations

from collections.abc import Mapping

from hpcnn.backends.torch.layers.making import Call, Make, Place, activation, behind, stateless
from hpcnn.nn.layer import Layer
from hpcnn.nn.layers import Activation, Dense, Dropout, Flatten, Reshape


def _dense(place: Place) -> Call:
    from torch.nn import functional as f

    kernel, bias = place.name("kernel"), place.name("bias")
    if place.layer.use_bias:
        return behind(place.layer.activation, lambda p, x, training: f.linear(x, p[kernel].t(), p[bias]))
    return behind(place.layer.activation, lambda p, x, training: f.linear(x, p[kernel].t()))


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
