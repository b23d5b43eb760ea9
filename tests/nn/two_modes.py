"""Training of a network in NumPy mode and in another one, step by step, from the same start.

Two other modes that train the same differ from each other by no more than the parts of the tolerance that both keep to,
added up: nothing needs to train in both at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hpcnn.backends.numpy.model import NumpyModel
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.job.optimizer import Sgd
from hpcnn.nn import Dense, Dropout, GaussianNoise, Layer, Network, SpatialDropout
from hpcnn.nn.loss import BoundLoss, Loss
from hpcnn.nn.losses import MeanSquaredError
from hpcnn.optim.build import build_optimizer
from hpcnn.training.model import Model
from hpcnn.training.replica import Replica
from hpcnn.training.step_stats import StatsLayout
from hpcnn.training.updater import make_updater
from tests.nn.cases import LAYERS, LOSSES
from tests.nn.cases.losses import loss_case
from tests.nn.helpers import normal
from tests.small_jobs import cut

TOLERANCE = {"float32": 1e-5, "float64": 1e-10}
STEPS = 50
"""After the first step and after this one the two modes are compared."""
MakeModel = Callable[[Network, BoundLoss, StatsLayout, Any], Model]
"""``network, loss, sums, vector -> the model of the other mode``."""


def same(ours, theirs, dtype: str, part: float = 1.0) -> None:
    """Compare arrays, to a part of the tolerance."""
    tolerance = part * TOLERANCE[dtype]
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance * max(1.0, float(np.abs(ours).max())))


def draws(layer: Layer) -> bool:
    return isinstance(layer, Dropout | SpatialDropout | GaussianNoise) or any(
        draws(inner) for inner in getattr(layer, "layers", ())
    )


def _updater_of(network: Network, dtype: str):
    return make_updater(
        SerialCommunicator(), network.layout, build_optimizer(Sgd()), shards=1, dtype=dtype,
        stats_length=StatsLayout([]).size + sum(spec.size for spec in network.state),
    )  # fmt: skip


def replicas_of(network: Network, dtype: str, make: MakeModel, loss: Loss | None = None) -> tuple[Replica, Replica]:
    """Return the network in both modes, with the same weights."""
    bound, sums = (loss or MeanSquaredError()).bind(network.head), StatsLayout([])
    updaters = [_updater_of(network, dtype) for _ in range(2)]
    ours = Replica(NumpyModel(network, bound, sums, updaters[0].store.array), updaters[0], seed=0)
    theirs = Replica(make(network, bound, sums, updaters[1].store.array), updaters[1], seed=0)
    ours.model.vector += 0.3 * normal(ours.model.vector.size, seed=5, dtype=np.dtype(dtype))
    theirs.load_weights(ours.weights())
    return ours, theirs


def check_the_same(ours, theirs, dtype, y=None, *, x=None, steps=STEPS, part=1.0):
    """Compare the two modes before the first step, after it and after the last."""
    shape = ours.model.network.input_shape, ours.model.network.output_shape
    x = normal(6, *shape[0], dtype=np.dtype(dtype)) if x is None else x
    y = normal(6, *shape[1], seed=1, dtype=np.dtype(dtype)) if y is None else y

    def check_outputs():
        same(ours.model.predict_piece(x), theirs.model.predict_piece(x), dtype, part)
        same(ours.model.eval_piece(x, y), theirs.model.eval_piece(x, y), dtype, part)

    check_outputs()
    for step in range(steps):
        sums = [replica.train_step(step, cut(x, y, 1), factor=1.0) for replica in (ours, theirs)]
        if step in (0, steps - 1):
            same(*sums, dtype, part)
            same(ours.updater.exchange.vector, theirs.updater.exchange.vector, dtype, part)
            same(ours.model.vector, theirs.model.vector, dtype, part)
            check_outputs()


def network_with(name: str) -> Network:
    """Return a network of a layer of the table, behind one that makes the gradient of its input count."""
    layer, input_shape = LAYERS[name]
    return Network([Dense(input_shape[-1], name="before"), layer], input_shape)


def train_with_layer(name: str, dtype: str, make: MakeModel, part: float = 1.0) -> None:
    """Compare 50 steps with a layer of the table; none where it draws random numbers, which modes draw otherwise."""
    steps = 0 if draws(LAYERS[name][0]) else STEPS
    check_the_same(*replicas_of(network_with(name), dtype, make), dtype, steps=steps, part=part)


_HEADS = {
    "binary": "sigmoid", "categorical": "softmax", "sparse": "softmax", "dice": "sigmoid", "iou": "sigmoid",
    "kl": "softmax", "poisson": "softplus",
}  # fmt: skip


def train_with_loss(name: str, dtype: str, make: MakeModel, part: float = 1.0) -> None:
    """Compare 50 steps with a loss of the table."""
    loss = LOSSES[name]
    head = _HEADS.get(name.partition("_")[0], "linear")
    network = Network([Dense(5, activation="tanh", name="a"), Dense(3, name="b")], (4,), head)
    _, targets = loss_case(loss, network.output_shape)
    targets = targets if loss.target_kind == "labels" else targets.astype(dtype)
    # The gradient of a percentage is a step 100 times as high as that of mae: soon one mode is on its other side.
    steps = 3 if name == "mape" else STEPS
    check_the_same(*replicas_of(network, dtype, make, loss), dtype, targets, steps=steps, part=part)
