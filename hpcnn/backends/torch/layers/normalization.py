"""Normalisations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpcnn.backends.torch.layers.making import Call, Make, Place
from hpcnn.nn.layer import Layer
from hpcnn.nn.layers import BatchNormalization, GroupNormalization, LayerNorm, RMSNormalization


def _layer_norm(place: Place) -> Call:
    from torch.nn import functional as f

    gamma, beta, epsilon = place.name("gamma"), place.name("beta"), place.layer.epsilon
    shape = place.input_shape[-1:]
    return lambda p, x, training: f.layer_norm(x, shape, p.get(gamma), p.get(beta), epsilon)


def _rms_normalization(place: Place) -> Call:
    from torch.nn import functional as f

    scale, shape, epsilon = place.name("scale"), place.input_shape[-1:], place.layer.epsilon
    return lambda p, x, training: f.rms_norm(x, shape, p[scale], epsilon)


def _group_normalization(place: Place) -> Call:
    """PyTorch's own gradients of gamma and beta fail for beta alone, and where the inputs need none."""
    import torch

    gamma, beta, epsilon = place.name("gamma"), place.name("beta"), place.layer.epsilon
    groups = place.input_shape[-1] if place.layer.groups == -1 else place.layer.groups

    def call(p: Mapping[str, Any], x: Any, training: bool) -> Any:
        rows, scale, shift = x.movedim(-1, 1), p.get(gamma), p.get(beta)
        if scale is not None and (x.requires_grad or not torch.is_grad_enabled()):
            return torch.group_norm(rows, groups, scale, shift, epsilon).movedim(1, -1)
        y = torch.group_norm(rows, groups, eps=epsilon).movedim(1, -1)
        y = y if scale is None else y * scale
        return y if shift is None else y + shift

    return call


def _batch_normalization(place: Place) -> Call:
    """Normalise by the samples of the shard; the moving averages become those with its mean and variance in them."""
    import torch

    gamma, beta, mean, variance = (place.name(name) for name in ("gamma", "beta", "moving_mean", "moving_variance"))
    momentum, epsilon, learns = place.layer.momentum, place.layer.epsilon, place.layer.trainable

    def call(p: Mapping[str, Any], x: Any, training: bool) -> Any:
        # one image whose pixels are the rows, channels last: what PyTorch has a fast kernel for
        rows = x.reshape(1, x.numel() // x.shape[-1], 1, x.shape[-1]).permute(0, 3, 1, 2)
        weights = p.get(gamma), p.get(beta)
        if not (training and learns and x.shape[0]):
            y = torch.batch_norm(rows, *weights, p[mean], p[variance], False, 0.0, epsilon, False)
        else:
            y, own, inverse = torch.native_batch_norm(rows, *weights, None, None, True, 0.0, epsilon)
            with torch.no_grad():
                p[mean].lerp_(own.to(p[mean].dtype), 1 - momentum)
                spread = (inverse.double() ** -2 - epsilon).clamp_min(0)
                p[variance].lerp_(spread.to(p[variance].dtype), 1 - momentum)
        return y.permute(0, 2, 3, 1).reshape(x.shape)

    return call


LAYERS: Mapping[type[Layer], Make] = {
    LayerNorm: _layer_norm,
    BatchNormalization: _batch_normalization,
    GroupNormalization: _group_normalization,
    RMSNormalization: _rms_normalization,
}
