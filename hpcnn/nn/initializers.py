"""How parameters start: the distributions of Keras 3, drawn in float64 from a generator that the caller keys."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hpcnn.errors import ModelError, unknown_name
from hpcnn.nn.draws import Draws, NumpyDraws
from hpcnn.nn.workspace import Array

TRUNCATED_NORMAL_DEVIATION = 0.87962566103423978
"""Standard deviation of a standard normal variable cut off at -2 and 2."""


def fans(shape: tuple[int, ...]) -> tuple[float, float]:
    """Return (fan_in, fan_out): the numbers of inputs to and outputs from one unit of a kernel (..., inputs, outputs).

    >>> fans((784, 512)), fans((5,)), fans((3, 3, 8, 16))
    ((784, 512), (5, 5), (72, 144))
    """
    if len(shape) < 2:
        return math.prod(shape), math.prod(shape)
    field = math.prod(shape[:-2])
    return shape[-2] * field, shape[-1] * field


@dataclass(frozen=True)
class OwnInitializer:
    """An initializer that draws from either source."""

    draw: Callable[[tuple[int, ...], Draws], Array]

    def __call__(self, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
        """Draw from a generator of NumPy."""
        return self.draw(shape, NumpyDraws(generator))


def variance_scaling(scale: float, mode: str, distribution: str) -> OwnInitializer:
    """Return an initializer of variance ``scale / fan``.

    Args:
        scale: 1 (Glorot and Bengio, 2010; LeCun et al., 1998) or 2 (He et al., 2015).
        mode: ``fan_in``, or ``fan_avg``, the mean of fan in and fan out.
        distribution: ``uniform``, or ``normal``, which is truncated at two deviations.
    """

    def draw(shape: tuple[int, ...], draws: Draws) -> Array:
        fan_in, fan_out = fans(shape)
        variance = scale / max(1.0, fan_in if mode == "fan_in" else (fan_in + fan_out) / 2)
        if distribution == "uniform":
            return draws.uniform(math.sqrt(3 * variance), shape)
        return draws.truncated_normal(shape) * (math.sqrt(variance) / TRUNCATED_NORMAL_DEVIATION)

    return OwnInitializer(draw)


@OwnInitializer
def orthogonal(shape: tuple[int, ...], draws: Draws) -> Array:
    """Draw a matrix with orthonormal rows or columns, whichever are fewer (Saxe, McClelland and Ganguli, 2014)."""
    if len(shape) < 2:
        raise ModelError(f"the initializer 'orthogonal' needs at least two axes, but the parameter has shape {shape}")
    rows, columns = math.prod(shape[:-1]), shape[-1]
    q = draws.orthonormal(max(rows, columns), min(rows, columns))
    return np.ascontiguousarray(q if rows >= columns else q.T).reshape(shape)


@OwnInitializer
def random_uniform(shape: tuple[int, ...], draws: Draws) -> Array:
    """Uniform between -0.05 and 0.05."""
    return draws.uniform(0.05, shape)


@OwnInitializer
def zeros(shape: tuple[int, ...], draws: Draws) -> Array:
    """All 0."""
    return np.zeros(shape)


@OwnInitializer
def ones(shape: tuple[int, ...], draws: Draws) -> Array:
    """All 1."""
    return np.ones(shape)


@OwnInitializer
def complex_uniform(shape: tuple[int, ...], draws: Draws) -> Array:
    """Uniform in [0, 1 / (inputs x outputs)), as Li et al. (2021) have it: for `SpectralConv1D` alone."""
    half = 0.5 / (shape[-2] * shape[-1])
    return draws.uniform(half, shape) + half


INITIALIZERS: dict[str, OwnInitializer] = {
    "glorot_uniform": variance_scaling(1, "fan_avg", "uniform"),
    "glorot_normal": variance_scaling(1, "fan_avg", "normal"),
    "he_uniform": variance_scaling(2, "fan_in", "uniform"),
    "he_normal": variance_scaling(2, "fan_in", "normal"),
    "lecun_uniform": variance_scaling(1, "fan_in", "uniform"),
    "lecun_normal": variance_scaling(1, "fan_in", "normal"),
    "orthogonal": orthogonal,
    "random_uniform": random_uniform,
    "zeros": zeros,
    "ones": ones,
}


def initializer(name: str) -> OwnInitializer:
    """Return the initializer of that name.

    Raises:
        ModelError: there is none; the message holds the nearest name.
    """
    return INITIALIZERS[name] if name in INITIALIZERS else unknown_name("initializer", name, INITIALIZERS, ModelError)
