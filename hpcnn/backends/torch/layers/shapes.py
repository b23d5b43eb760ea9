"""Layers that move, leave out or repeat entries, noise, and rectifiers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpcnn.backends.torch.layers.making import Call, Make, Place, stateless
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
from hpcnn.nn.layers.spatial import for_each_axis, pairs_for_each_axis


def _zero_padding(place: Place) -> Call:
    from torch.nn import functional as f

    pairs = pairs_for_each_axis(place.layer, "padding", place.layer.padding, place.input_shape[:-1])
    around = [0, 0, *(side for pair in pairs[::-1] for side in pair)]
    return stateless(lambda x: f.pad(x, around))


def _cropping(place: Place) -> Call:
    axes = place.input_shape[:-1]
    pairs = pairs_for_each_axis(place.layer, "cropping", place.layer.cropping, axes)
    kept = [slice(before, length - after) for length, (before, after) in zip(axes, pairs, strict=True)]
    inside = (slice(None), *kept)
    return stateless(lambda x: x[inside])


def _up_sampling(place: Place) -> Call:
    from torch.nn import functional as f

    axes = place.input_shape[:-1]
    size = for_each_axis(place.layer, "size", place.layer.size, axes)

    def repeated(x: Any) -> Any:
        for axis, times in enumerate(size, 1):
            x = x.repeat_interleave(times, axis) if times > 1 else x
        return x

    if place.layer.interpolation == "nearest":
        return stateless(repeated)
    return stateless(
        lambda x: f.interpolate(
            x.movedim(-1, 1), place.output_shape[:-1], mode="bilinear", align_corners=False
        ).movedim(1, -1)
    )


def _permute(place: Place) -> Call:
    order = (0, *place.layer.dims)
    return stateless(lambda x: x.permute(order))


def _repeat_vector(place: Place) -> Call:
    return stateless(lambda x: x[:, None].expand(x.shape[0], *place.output_shape))


def _spatial_dropout(place: Place) -> Call:
    from torch.nn import functional as f

    rate, ones = place.layer.rate, (1,) * (len(place.input_shape) - 1)

    def call(p: Mapping[str, Any], x: Any, training: bool) -> Any:
        if not training or not rate:
            return x
        return x * f.dropout(x.new_ones(x.shape[0], *ones, x.shape[-1]), rate)

    return call


def _gaussian_noise(place: Place) -> Call:
    import torch

    stddev = place.layer.stddev
    return lambda p, x, training: x + stddev * torch.randn_like(x) if training and stddev else x


def _prelu(place: Place) -> Call:
    """At 0 neither the inputs nor alpha have a gradient, as in Keras."""
    import torch

    alpha = place.name("alpha")
    return lambda p, x, training: torch.relu(x) - p[alpha] * torch.relu(-x)


def _leaky_relu(place: Place) -> Call:
    from torch.nn import functional as f

    return stateless(lambda x: f.leaky_relu(x, place.layer.negative_slope))


def _elu(place: Place) -> Call:
    from torch.nn import functional as f

    return stateless(lambda x: f.elu(x, place.layer.alpha))


LAYERS: Mapping[type[Layer], Make] = {
    ZeroPadding: _zero_padding,
    Cropping: _cropping,
    UpSampling: _up_sampling,
    Permute: _permute,
    RepeatVector: _repeat_vector,
    SpatialDropout: _spatial_dropout,
    GaussianNoise: _gaussian_noise,
    PReLU: _prelu,
    LeakyReLU: _leaky_relu,
    ELU: _elu,
}
