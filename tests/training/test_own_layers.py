"""Layers of one's own between those that the compiled core computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import hpcnn
from hpcnn.nn import Activation, Context, Dense, Dropout, Layer, LayerNorm, Network, Residual
from hpcnn.nn.layer import Backward, Params

RNG = np.random.default_rng(3)
X, Y = RNG.normal(size=(10, 6)).astype(np.float32), RNG.integers(0, 3, 10)


def read_only(x: Any) -> Any:
    copy = x.copy()
    copy.flags.writeable = False
    return copy


SAME_VALUES = {
    "column by column": np.asfortranarray,
    "every second": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "backwards": lambda x: x[:, ::-1].copy()[:, ::-1],
    "read-only": read_only,
}


@dataclass(frozen=True)
class Same(Layer):
    """Returns what it is given, in arrays of another make."""

    make: Callable[[Any], Any]

    def forward(self, params: Params, x: Any, ctx: Context) -> tuple[Any, Backward]:
        return self.make(x), lambda dy, grads, *, need_dx=True: self.make(dy)


def weights_after_steps(make: Callable[[Any], Any]) -> dict[str, Any]:
    layers: list[Layer] = [
        Dense(6, activation="relu", name="first"),
        Same(make, name="a"),
        LayerNorm(name="norm"),
        Same(make, name="b"),
        Dropout(0.2, name="drop"),
        Same(make, name="c"),
        Residual((Same(make, name="d"), Dense(6, activation="gelu", name="inner")), name="residual"),
        Same(make, name="e"),
        Dense(3, name="last"),
        Activation("relu", name="positive"),
        Same(make, name="f"),
    ]
    loss = {"name": "sparse_categorical_crossentropy"}
    made = hpcnn.Trainer(Network(layers, (6,), head="softmax"), loss, {"name": "sgd", "learning_rate": 0.1}, shards=3)
    for _ in range(2):
        made.step(X, Y)
    made.evaluate(X, Y)
    return made.weights()


@pytest.mark.parametrize("make", SAME_VALUES.values(), ids=list(SAME_VALUES))
def test_arrays_of_any_make_have_the_bits_of_plain_ones(make: Callable[[Any], Any]) -> None:
    plain = weights_after_steps(np.copy)
    for name, weights in weights_after_steps(make).items():
        np.testing.assert_array_equal(weights, plain[name])


def test_arrays_of_float64_are_taken_in_a_model_of_float32() -> None:
    plain = weights_after_steps(np.copy)
    for name, weights in weights_after_steps(lambda x: x.astype(np.float64)).items():
        assert weights.dtype == np.float32
        np.testing.assert_allclose(weights, plain[name], rtol=1e-4, atol=1e-6)
