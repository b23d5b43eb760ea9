"""Shared by the tests of nn: gradients against finite differences, and networks with their arrays."""

from __future__ import annotations

import numpy as np

from hpcnn.nn import Context, Dropout, Network

LARGE_BYTES = 96 * 1024
"""More than NumPy's own buffer of 8192 numbers and the small change of a step; less than any array the tests use."""
TOLERANCE = 1e-7
STEP = 1e-5


def check_gradient(function, point, gradient, seed=0):
    """Compare `gradient` of `function` at `point` (lists of float64 arrays) with central differences, in one direction.

    The difference of fourth order has an error far below the tolerance. It is measured against the gradient's norm: the
    derivative in a direction may happen to be nearly 0.
    """
    rng = np.random.default_rng([seed, 77])
    direction = [rng.standard_normal(array.shape) for array in point]

    def along(step):
        return function(*(array + step * way for array, way in zip(point, direction, strict=True)))

    numeric = (8 * (along(STEP) - along(-STEP)) - (along(2 * STEP) - along(-2 * STEP))) / (12 * STEP)
    analytic = sum(np.vdot(way, array) for way, array in zip(direction, gradient, strict=True))
    norm = np.sqrt(sum(np.vdot(array, array) for array in gradient))
    assert norm > 0, "nothing to compare: the gradient is 0"
    assert abs(numeric - analytic) <= TOLERANCE * norm, f"numeric {numeric}, analytic {analytic}, norm {norm}"


class Model:
    """A network with parameters and gradients, in one place."""

    def __init__(self, layers, input_shape, head="linear", dtype=np.float64, seed=3):
        self.network = Network(layers, input_shape, head)
        layout = self.network.layout
        self.vector, self.gradient = np.zeros(layout.size, dtype), np.full(layout.trainable_size, np.nan, dtype)
        layout.initialize(self.vector, seed)
        self.params, self.grads = layout.views(self.vector), layout.gradient_views(self.gradient)
        self.ctx = Context()

    def shake(self, seed=5):
        """Move all parameters off their initial values, so that biases and scales matter."""
        self.vector += 0.3 * np.random.default_rng(seed).standard_normal(self.vector.shape).astype(self.vector.dtype)
        return self

    def forward(self, x, training=True, key=(1,)):
        self.ctx.begin(training=training, random_key=key)
        return self.network.forward(self.params, x, self.ctx)

    def step(self, loss, x, y, weights=None, key=(1,)):
        logits, backward = self.forward(x, key=key)
        total, _, loss_backward = loss(logits, y, weights, self.ctx)
        backward(loss_backward(), self.grads)
        return total


def alone(layer, input_shape, **options):
    """Return a model of one layer that keeps its activation: that of the last layer becomes the head."""
    return Model([layer, Dropout(0.0, name="nothing")], input_shape, **options)


def normal(*shape, seed=0, dtype=np.float64):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)
