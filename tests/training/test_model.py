"""The passes of a model as a whole, in NumPy mode."""

import numpy as np
import pytest

from hpcnn.backends.numpy.model import NumpyModel
from hpcnn.nn import Dense, LayerNorm, Network
from hpcnn.nn.activations import ACTIVATIONS
from hpcnn.nn.losses import LOSSES
from hpcnn.training.model import Accumulator
from hpcnn.training.step_stats import LOSS, StatsLayout
from tests.nn.helpers import normal

VALUES = [name for name in LOSSES if name not in ("ctc", "contrastive")]  # whose targets have other shapes


def diverged(activation: str, loss: str, head: str) -> NumpyModel:
    """Return a model whose outputs overflow."""
    layers = [Dense(4, activation=activation, name="a"), LayerNorm(name="n"), Dense(3, name="b", kernel_l2=0.1)]
    network = Network(layers, (3,), head)
    vector = np.empty(network.layout.size, np.float32)
    network.layout.initialize(vector, 1)
    vector *= 1e30
    model = NumpyModel(network, LOSSES[loss]().bind(head), StatsLayout([]), vector)
    model.params["b/bias"][0] = np.inf
    return model


@pytest.mark.parametrize(
    ("activation", "loss", "head"),
    [
        *((name, "sparse_categorical_crossentropy", "softmax") for name in ACTIVATIONS),
        *(
            ("relu", name, head)
            for name in LOSSES
            if name in VALUES
            for head in ("linear", "sigmoid", "softmax", "tanh")
        ),
    ],
)
def test_overflow_gives_no_warning(activation: str, loss: str, head: str) -> None:
    model = diverged(activation, loss, head)
    x = normal(5, 3, dtype=np.float32) * 1e10
    y = np.zeros(5, int) if model.loss.target_kind == "labels" else np.full((5, 3), 1 / 3, np.float32)
    assert not np.isfinite(model.predict_piece(x)).all() or head in ("sigmoid", "tanh")
    assert not np.isfinite(model.eval_piece(x, y)[LOSS]) or "crossentropy" in loss or head in ("sigmoid", "tanh")
    assert not np.isfinite(model.penalty())
    with np.errstate(all="ignore"):  # as within a step
        vector, stats = np.empty(model.network.layout.trainable_size, np.float32), model.layout.zeros()
        backward = model.forward_shard((0, 0), x, y, None, stats)
        backward(Accumulator(model.network.layout, vector, stats), None)
