"""Activation functions and their gradients, in place, without large temporaries. Definitions are those of Keras 3."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from hpcnn.errors import ModelError, unknown_name
from hpcnn.nn.erf import BLOCK, erf
from hpcnn.nn.workspace import Array, Workspace

ActivationBackward = Callable[[Array], Array]
"""``dy -> dz``; dy may be overwritten, and may be what is returned."""
Activation = Callable[[Array, Workspace, object], tuple[Array, ActivationBackward]]
"""``(z, ctx, owner) -> (y, backward)``; z is C-ordered scratch of the caller and may be overwritten, y may be z."""

LEAKY_RELU_SLOPE = 0.2
SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


def _temporary(z: Array, ctx: Workspace, owner: object, use: str = "temporary") -> Array:
    return ctx.scratch(owner, f"activation.{use}", z.shape, z.dtype)


def _row_values(z: Array, ctx: Workspace, owner: object) -> Array:
    """Return scratch for one value a row: shape (..., 1)."""
    return ctx.scratch(owner, "activation.row", (*z.shape[:-1], 1), z.dtype)


def _mask(y: Array, out: Array, *, positive: bool) -> Array:
    """Return integers as wide as y's entries: all bits set where y > 0 (else: where y's sign bit is set), or none.

    They lie in `out`, an array like y, or y itself. Integer arithmetic on the bits is faster than booleans, which
    NumPy would convert element by element.
    """
    bits = y.view(f"i{y.itemsize}")
    mask = out.view(bits.dtype)
    if positive:
        bits = np.negative(bits, out=mask)
    np.right_shift(bits, 8 * y.itemsize - 1, out=mask)
    return mask


def _step(y: Array, ctx: Workspace, owner: object, *, positive: bool) -> Array:
    """Return 1.0 where y > 0 (else: where y's sign bit is set) and 0.0 elsewhere."""
    mask = _mask(y, _temporary(y, ctx, owner, "mask"), positive=positive)
    np.bitwise_and(mask, int(np.ones((), y.dtype).view(mask.dtype)), out=mask)
    return mask.view(y.dtype)


def linear(z: Array, ctx: Workspace, owner: object) -> tuple[Array, ActivationBackward]:
    """Return z itself."""
    return z, lambda dy: dy


def relu(z: Array, ctx: Workspace, owner: object) -> tuple[Array, ActivationBackward]:
    """Return y = max(z, 0); the gradient at 0 is 0."""
    np.maximum(z, 0, out=z)  # in this order -0.0 becomes +0.0, which the mask needs

    def backward(dy: Array) -> Array:
        mask = _mask(z, z, positive=True)  # in place of y, which nobody needs any more
        bits = dy.view(mask.dtype)
        np.bitwise_and(bits, mask, out=bits)
        return dy

    return z, backward


def leaky_relu(z: Array, ctx: Workspace, owner: object) -> tuple[Array, ActivationBackward]:
    """Return y = z for z > 0, 0.2 z elsewhere."""
    np.maximum(z, np.multiply(z, LEAKY_RELU_SLOPE, out=_temporary(z, ctx, owner)), out=z)

    def backward(dy: Array) -> Array:
        slope = _step(z, ctx, owner, positive=True)
        np.multiply(slope, 1 - LEAKY_RELU_SLOPE, out=slope)
        np.add(slope, LEAKY_RELU_SLOPE, out=slope)
        return np.multiply(dy, slope, out=dy)

    return z, backward


def elu(z: Array, ctx: Workspace, owner: object) -> tuple[Array, ActivationBackward]:
    """Return y = z for z > 0, exp(z) - 1 elsewhere (Clevert, Unterthiner and Hochreiter, 2016)."""
    negative = np.minimum(z, 0, out=_temporary(z, ctx, owner))
    np.expm1(negative, out=negative)
    np.maximum(z, 0, out=z)
    np.add(z, negative, out=z)

    def backward(dy: Array) -> Array:
        slope = np.minimum(z, 0, out=_temporary(z, ctx, owner))
        np.add(slope, 1, out=slope)
        return np.multiply(dy, slope, out=dy)

    return z, backward


def selu(z: Array, ctx: Workspace, owner: object) -> tuple[Array, ActivationBackward]:
    """Return y = scale z for z > 0, scale alpha (exp(z) - 1) elsewhere (Klambauer et al., 2017)."""
    negative = np.minimum(z, 0, out=_temporary(z, ctx, owner))
    np.expm1(negative, out=negative)
    np.multiply(negative, SELU_SCALE * SELU_ALPHA, out=negative)
    np.maximum(z, 0, out=z)
    np.multiply(z, SELU_SCALE, out=z)
    np.add(z, negative, out=z)

    def backward(dy: Array) -> Array:
        slope = _step(z, ctx, owner, positive=False)
        np.multiply(slope, SELU_SCALE * (SELU_ALPHA - 1), out=slope)
        np.add(slope, SELU_SCALE, out=slope)
        np.add(slope, np.minimum(z, 0, out=_temporary(z, ctx, owner)), out=slope)
        return np.multiply(dy, slope, out=dy)

    return z, backward


def gelu(z: Array, ctx: Workspace, owner: object) -> tuple[Array, ActivationBackward]:
    """Return y = z Phi(z), with the exact normal distribution function (Hendrycks and Gimpel, 2016)."""
    phi, y = _temporary(z, ctx, owner, "phi"), _temporary(z, ctx, owner, "y")
    np.multiply(z, math.sqrt(0.5), out=phi)
    erf(phi, phi, ctx.scratch(owner, "activation.work", (3, BLOCK), z.dtype))
    np.add(phi, 1, out=phi)
    np.multiply(phi, 0.5, out=phi)
    np.multiply(z, phi, out=y)

    def backward(dy: Array) -> Array:
        slope = np.multiply(z, z, out=_temporary(z, ctx, owner))
        np.multiply(slope, -0.5, out=slope)
        np.exp(slope, out=slope)
        np.multiply(slope, 1 / math.sqrt(2 * math.pi), out=slope)
        np.multiply(slope, z, out=slope)
        np.add(slope, phi, out=slope)
        return np.multiply(dy, slope, out=dy)

    return y, backward


def swish(z: Array, ctx: Workspace, owner: object) -> tuple[Array, ActivationBackward]:
    """Return y = z sigmoid(z), also known as SiLU."""
    gate = _temporary(z, ctx, owner, "gate")
    np.copyto(gate, z)
    sigmoid(gate, ctx, owner)
    np.multiply(z, gate, out=z)

    def backward(dy: Array) -> Array:
        slope = np.subtract(1, gate, out=_temporary(z, ctx, owner))
        np.multiply(slope, z, out=slope)
        np.add(slope, gate, out=slope)
        return np.multiply(dy, slope, out=dy)

    return z, backward


def softplus(z: Array, ctx: Workspace, owner: object) -> tuple[Array, ActivationBackward]:
    """Return y = log(1 + exp(z))."""
    tail = np.abs(z, out=_temporary(z, ctx, owner))
    np.negative(tail, out=tail)
    np.exp(tail, out=tail)
    np.log1p(tail, out=tail)
    np.maximum(z, 0, out=z)
    np.add(z, tail, out=z)

    def backward(dy: Array) -> Array:
        slope = np.negative(z, out=_temporary(z, ctx, owner))
        np.expm1(slope, out=slope)  # sigmoid(z) = 1 - exp(-y)
        np.negative(slope, out=slope)
        return np.multiply(dy, slope, out=dy)

    return z, backward


def sigmoid(z: Array, ctx: Workspace, owner: object) -> tuple[Array, ActivationBackward]:
    """Return y = 1 / (1 + exp(-z))."""
    with np.errstate(over="ignore"):  # exp(-z) = inf gives y = 0, as it should
        np.exp(np.negative(z, out=z), out=z)
    np.add(z, 1, out=z)
    np.divide(1, z, out=z)

    def backward(dy: Array) -> Array:
        slope = np.subtract(1, z, out=_temporary(z, ctx, owner))
        np.multiply(slope, z, out=slope)
        return np.multiply(dy, slope, out=dy)

    return z, backward


def tanh(z: Array, ctx: Workspace, owner: object) -> tuple[Array, ActivationBackward]:
    """Return y, the hyperbolic tangent of z."""
    np.tanh(z, out=z)

    def backward(dy: Array) -> Array:
        slope = np.multiply(z, z, out=_temporary(z, ctx, owner))
        np.subtract(1, slope, out=slope)
        return np.multiply(dy, slope, out=dy)

    return z, backward


def softmax(z: Array, ctx: Workspace, owner: object) -> tuple[Array, ActivationBackward]:
    """Return y = exp(z) / sum of exp(z) over the last axis."""
    row = _row_values(z, ctx, owner)
    np.subtract(z, np.maximum.reduce(z, axis=-1, keepdims=True, out=row), out=z)  # each row's own maximum
    np.exp(z, out=z)
    np.divide(z, np.add.reduce(z, axis=-1, keepdims=True, out=row), out=z)

    def backward(dy: Array) -> Array:
        weighted = np.multiply(dy, z, out=_temporary(z, ctx, owner))
        row = np.add.reduce(weighted, axis=-1, keepdims=True, out=_row_values(z, ctx, owner))
        np.subtract(dy, row, out=dy)
        return np.multiply(dy, z, out=dy)

    return z, backward


ACTIVATIONS: dict[str, Activation] = {
    "linear": linear,
    "relu": relu,
    "leaky_relu": leaky_relu,
    "elu": elu,
    "selu": selu,
    "gelu": gelu,
    "swish": swish,
    "softplus": softplus,
    "sigmoid": sigmoid,
    "tanh": tanh,
    "softmax": softmax,
}


def activation(name: str) -> Activation:
    """Return the activation of that name.

    Raises:
        ModelError: there is none; the message holds the nearest name.
    """
    return ACTIVATIONS[name] if name in ACTIVATIONS else unknown_name("activation", name, ACTIVATIONS, ModelError)


def apply(name: str, z: Any) -> Array:
    """Return the activation `name` of `z`, shape (..., units), as a new array.

    >>> apply("relu", [[-1.0, 2.0]]).tolist()
    [[0.0, 2.0]]
    """
    z = np.asarray(z)
    dtype = z.dtype if z.dtype in (np.float32, np.float64) else np.dtype(np.float64)
    with np.errstate(all="ignore"):
        return activation(name)(np.array(z, dtype=dtype, order="C"), Workspace(), "apply")[0]
