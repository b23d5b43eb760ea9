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
        count = x.numel() // x.shape[-1]
        rows = x.reshape(1, count, 1, x.shape[-1]).permute(0, 3, 1, 2)
        weights = p.get(gamma), p.get(beta)
        if training and learns and count:
            averages = p[mean].clone(), _unbiased(p[variance], count)
            y = torch.native_batch_norm(rows, *weights, *averages, True, 1 - momentum, epsilon)[0]
            p[mean].copy_(averages[0])
            p[variance].copy_(averages[1] * ((count - 1) / count) if count > 1 else p[variance] * momentum)
        else:
            y = torch.batch_norm(rows, *weights, p[mean], p[variance], False, 0.0, epsilon, False)
        return y.permute(0, 2, 3, 1).reshape(x.shape)

    return call


def _unbiased(variance: Any, count: int) -> Any:
    """Return a variance of `count` numbers divided by one less, which is what PyTorch averages; NumPy mode does not."""
    return variance * (count / (count - 1)) if count > 1 else variance.clone()


LAYERS: Mapping[type[Layer], Make] = {
    LayerNorm: _layer_norm,
    BatchNormalization: _batch_normalization,
    GroupNormalization: _group_normalization,
    RMSNormalization: _rms_normalization,
}
