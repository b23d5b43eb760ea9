"""Layers that are computed together with the relu behind them: the bits of the two by themselves."""

from __future__ import annotations

import numpy as np
import pytest

from hpcnn.nn import (
    Activation,
    Add,
    BatchNormalization,
    Context,
    Conv2D,
    Dense,
    GlobalAveragePooling,
    Network,
)  # fmt: skip
from hpcnn.nn.layers.fused import Passed
from hpcnn.nn.native import NATIVE
from hpcnn.nn.plain import NUMPY
from tests.nn.helpers import normal

RELU = Activation("relu")
NORMS = {
    "batch": BatchNormalization(name="norm"),
    "shard": BatchNormalization(name="norm", statistics="shard"),
    "frozen": BatchNormalization(name="norm", trainable=False),
    "plain": BatchNormalization(name="norm", center=False, scale=False),
}
END = (GlobalAveragePooling(), Dense(2))
NETWORKS = {
    **{name: (Conv2D(5, 3), norm, RELU, *END) for name, norm in NORMS.items()},
    "norm of inputs": (NORMS["batch"], RELU, *END),
    "sum": (Conv2D(5, 3, name="a"), Conv2D(5, 3, name="b", inputs=("input",)), Add(inputs=("a", "b")), RELU, *END),
    "sum with inputs": (Conv2D(3, 3, padding="same", name="a"), Add(inputs=("input", "a")), RELU, *END),
    "convolution": (Conv2D(5, 3), RELU, *END),
    "dense": (Dense(5), RELU, *END),
}
APART = {
    "used twice": (Conv2D(5, 3, name="a"), Activation("relu", name="b"), Add(inputs=("a", "b")), *END),
    "sum of three": (
        *(Conv2D(5, 3, name=name, inputs=("input",)) for name in "abc"),
        Add(inputs=tuple("abc")),
        RELU,
        *END,
    ),
    "another activation": (Conv2D(5, 3), Activation("tanh"), *END),
    "activated before": (Conv2D(5, 3, activation="tanh"), RELU, *END),
}


def passes(network, arithmetic, dtype, *, training):
    """Return outputs, all gradients, that of the inputs, and the new state, as bytes."""
    params = {
        spec.name: normal(*spec.shape, seed=number, dtype=dtype) ** 2
        for number, spec in enumerate(network.layout.specs)
    }
    grads = {spec.name: np.full(spec.shape, np.nan, dtype) for spec in network.layout.specs if spec.trainable}
    state = {spec.name: np.zeros(spec.shape) for spec in network.state}
    ctx = Context(arithmetic=arithmetic)
    ctx.begin(training=training, new_state=state)
    y, backward = network.forward(params, normal(4, 6, 6, 3, dtype=dtype), ctx)
    given = y.copy()
    dx = backward(normal(*y.shape, seed=9, dtype=dtype), grads, need_dx=True)
    return [each.tobytes() for each in (given, dx, *grads.values(), *state.values())]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("arithmetic", [NATIVE, NUMPY], ids=["native", "numpy"])
@pytest.mark.parametrize("layers", NETWORKS.values(), ids=NETWORKS)
def test_together_they_have_the_same_bits(layers, arithmetic, dtype, training):
    network = Network(layers, (6, 6, 3))
    assert sum(isinstance(layer, Passed) for layer in network.passed) == 1
    together = passes(network, arithmetic, dtype, training=training)
    network.passed = [node.layer for node in network.nodes]
    assert passes(network, arithmetic, dtype, training=training) == together


@pytest.mark.parametrize("layers", APART.values(), ids=APART)
def test_others_stay_as_they_are(layers):
    network = Network(layers, (6, 6, 3))
    assert list(network.passed) == [node.layer for node in network.nodes]


def test_an_observer_sees_each_layer():
    network = Network(NETWORKS["batch"], (6, 6, 3))

    class Silent:
        def passes(self, layer):
            return (lambda: None), (lambda: None)

    network.observe(Silent())
    assert not any(isinstance(layer, Passed) for layer in network.passed)
    network.observe(None)
    assert any(isinstance(layer, Passed) for layer in network.passed)
