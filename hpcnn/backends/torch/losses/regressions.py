"""Losses that are a function of output and target, one value an output."""

from __future__ import annotations

from typing import Any

from hpcnn.nn.losses import EPSILON


def mse(loss: Any, outputs: Any, targets: Any) -> Any:
    """Return (output - target)^2."""
    return (outputs - targets).square()


def mae(loss: Any, outputs: Any, targets: Any) -> Any:
    """Return |output - target|."""
    return (outputs - targets).abs()


def huber(loss: Any, outputs: Any, targets: Any) -> Any:
    """Return the error's square, or its size where that is large."""
    from torch.nn import functional as f

    return f.huber_loss(outputs, targets, reduction="none", delta=loss.delta)


def mape(loss: Any, outputs: Any, targets: Any) -> Any:
    """Return the error in percent of the target."""
    return 100 * (outputs - targets).abs() / targets.abs().clamp_min(EPSILON)


def msle(loss: Any, outputs: Any, targets: Any) -> Any:
    """Return the squared error of the logarithms."""
    ours, theirs = (each.clamp_min(EPSILON).log1p() for each in (outputs, targets))
    return (ours - theirs).square()


def log_cosh(loss: Any, outputs: Any, targets: Any) -> Any:
    """Return log(cosh(output - target)), whose gradient is tanh: exact near 0, where that of the formula is not."""
    error = outputs - targets
    known = error.detach()
    size = known.abs()
    value = size + (0.5 * (-2 * size).expm1()).log1p()
    return value + known.tanh() * (error - known)


def poisson(loss: Any, outputs: Any, targets: Any) -> Any:
    """Return output - target log(output)."""
    return outputs - targets * (outputs + EPSILON).log()


def hinge(loss: Any, outputs: Any, targets: Any) -> Any:
    """Return max(0, 1 - t output)."""
    import torch

    side = torch.where(targets > 0, 1.0, -1.0).to(targets.dtype)
    return (1 - side * outputs).relu()
