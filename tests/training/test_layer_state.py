"""Layers with state that no gradient changes: running averages, in NumPy mode."""

import re
from dataclasses import dataclass

import numpy as np
import pytest

from hpcnn.comm.serial import SerialCommunicator
from hpcnn.errors import ModelError
from hpcnn.nn import Dense, Layer, LayerNorm, Network
from hpcnn.nn.initializers import zeros
from hpcnn.nn.layers import Residual
from hpcnn.nn.params import ParamSpec
from hpcnn.runs.build import build_replica, build_spec
from hpcnn.training.replica import NotFiniteError
from tests.small_jobs import build, cut, make_job, train

KEEP = 0.75


@dataclass(frozen=True)
class Centred(Layer):
    """Subtracts the running mean of what it is given; in training, the mean over the shard."""

    def parameters(self, input_shape):
        return [ParamSpec(f"{self.name}/mean", input_shape, zeros, trainable=False, state=True)]

    def forward(self, params, x, ctx):
        mean = params[f"{self.name}/mean"]
        if ctx.training:
            own = x.mean(axis=0)
            ctx.new_state[f"{self.name}/mean"][...] = KEEP * mean + (1 - KEEP) * own
            mean = own

        def backward(dy, grads, *, need_dx=True):
            return dy - dy.mean(axis=0) * ctx.training if need_dx else None

        return x - mean, backward


def network(input_shape):
    layers = [Dense(6, activation="tanh"), Centred(), Residual([LayerNorm(), Centred()]), Dense(3)]
    return Network(layers, input_shape, "softmax")


def job(**changes):
    return make_job(model={"layers": None, "entry": f"{__name__}:network"}, **changes)


def test_state_is_the_mean_over_the_samples_of_all_shards():
    settings = job(train={"shards": 3, "dtype": "float64"})
    replica = build_replica(settings, build_spec(settings, (5,)), SerialCommunicator())
    x, y = np.random.default_rng(1).normal(size=(11, 5)), np.arange(11) % 3
    start = replica.weights()
    dense = {name: array for name, array in start.items() if name.startswith("dense_1/")}
    for _ in range(2):
        replica.load_weights(replica.weights() | dense)
        replica.train_step(0, cut(x, y, 3), factor=1.0)
    hidden = np.tanh(x @ start["dense_1/kernel"] + start["dense_1/bias"])
    np.testing.assert_allclose(replica.weights()["centred_1/mean"], (1 - KEEP**2) * hidden.mean(axis=0), rtol=1e-12)
    assert abs(replica.weights()["centred_2/mean"]).max() > 0


@pytest.mark.parametrize("sharding", [False, True])
def test_the_same_bits_on_any_number_of_ranks_and_after_a_stop(sharding):
    settings = job(train={"optimizer_sharding": sharding})
    whole = train(settings)
    assert [train(settings, ranks).fingerprint for ranks in (2, 3)] == [whole.fingerprint] * 2
    stopped = train(settings, 2, stop_at=4)
    assert abs(stopped.state.tensors["model/centred_1/mean"]).max() > 0
    assert train(settings, 3, start=stopped.state).bits() == whole.bits()


def test_evaluation_leaves_state_as_it_is_and_uses_it():
    replica = build(job()).replica
    x = np.random.default_rng(1).normal(size=(4, 5)).astype(np.float32)
    before, sha256 = replica.model.predict_piece(x).copy(), replica.model.fingerprint()
    replica.model.eval_piece(x, np.zeros(4, int))
    assert replica.model.fingerprint() == sha256
    replica.model.params["centred_1/mean"][...] = np.arange(6)
    assert replica.model.fingerprint() != sha256
    assert not np.allclose(replica.model.predict_piece(x), before)


def test_what_is_not_finite_is_found_behind_state():
    replica = build(job(train={"shards": 1})).replica
    replica.model.params["layer_norm_1/gamma"][0] = np.inf
    x = np.ones((4, 5), np.float32) * np.arange(4, dtype=np.float32)[:, None]
    with pytest.raises(NotFiniteError) as caught:
        replica.train_step(0, cut(x, np.zeros(4, int), 1), factor=1.0)
    assert "layer 'layer_norm_1'" in caught.value.where


def test_state_can_not_be_trainable():
    with pytest.raises(ModelError, match=re.escape("parameter 'a/mean' is state, which no gradient changes: set trai")):
        ParamSpec("a/mean", (3,), zeros, state=True)
