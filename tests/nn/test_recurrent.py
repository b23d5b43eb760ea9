"""Recurrent layers: their shapes, parameters, names and messages. What they compute is in the tables of cases."""

from __future__ import annotations

import re

import numpy as np
import pytest

from hpcnn.errors import ModelError
from hpcnn.job import layers as sections
from hpcnn.job.model import Model as ModelSection
from hpcnn.models.build import build_network
from hpcnn.nn import (
    GRU,
    LSTM,
    Activation,
    Bidirectional,
    Dense,
    Dropout,
    LayerNorm,
    Network,
    Residual,
    SimpleRNN,
    TimeDistributed,
)
from hpcnn.nn.build import model_section
from hpcnn.nn.losses import SparseCategoricalCrossentropy
from hpcnn.nn.params import ParamSpec
from tests.nn.helpers import LARGE_BYTES, Model, normal
from tests.nn.test_network import peak_of_a_step


def test_defaults_agree_with_the_schema():
    inner = sections.Dense(units=2)
    given = [
        sections.SimpleRNN(units=3, return_sequences=True),
        sections.GRU(units=3, return_sequences=True),
        sections.Bidirectional(layers=[sections.LSTM(units=3, return_sequences=True)]),
        sections.TimeDistributed(layers=[inner]),
        sections.Flatten(),
    ]
    network = build_network(ModelSection(layers=given), (5, 4))
    assert network.layers[:-1] == (
        SimpleRNN(3, return_sequences=True, name="simple_rnn_1"),
        GRU(3, return_sequences=True, name="gru_1"),
        Bidirectional((LSTM(3, return_sequences=True, name="lstm_1"),), name="bidirectional_1"),
        TimeDistributed((Dense(2, name="dense_1"),), name="time_distributed_1"),
    )
    again = build_network(ModelSection(**model_section(network) | {"layers": given}), (5, 4))
    assert again.layers == network.layers


@pytest.mark.parametrize(
    ("layer", "shapes"),
    [
        (SimpleRNN(4, name="l"), {"l/kernel": (3, 4), "l/recurrent_kernel": (4, 4), "l/bias": (4,)}),
        (LSTM(4, name="l"), {"l/kernel": (3, 16), "l/recurrent_kernel": (4, 16), "l/bias": (16,)}),
        (GRU(4, name="l"), {"l/kernel": (3, 12), "l/recurrent_kernel": (4, 12), "l/bias": (2, 12)}),
        (GRU(4, reset_after=False, use_bias=False, name="l"), {"l/kernel": (3, 12), "l/recurrent_kernel": (4, 12)}),
        (GRU(4, reset_after=False, name="l"),
         {"l/kernel": (3, 12), "l/recurrent_kernel": (4, 12), "l/bias": (12,)}),
        (Bidirectional((SimpleRNN(4, use_bias=False, name="i"),), name="l"),
         {"forward_i/kernel": (3, 4), "forward_i/recurrent_kernel": (4, 4),
          "backward_i/kernel": (3, 4), "backward_i/recurrent_kernel": (4, 4)}),
    ],
)  # fmt: skip
def test_parameters_are_those_of_keras(layer, shapes):
    assert {spec.name: spec.shape for spec in layer.parameters((5, 3))} == shapes


@pytest.mark.parametrize(
    ("unit_forget_bias", "start", "expected"), [(True, "zeros", 1), (False, "zeros", 0), (True, "ones", 1)]
)
def test_the_bias_of_the_forget_gate_starts_at_1(unit_forget_bias, start, expected):
    model = Model([LSTM(2, unit_forget_bias=unit_forget_bias, bias_initializer=start, name="l")], (5, 3))
    others = 1.0 if start == "ones" else 0.0
    np.testing.assert_array_equal(model.params["l/bias"], [others, others, expected, expected, *[others] * 4])
    u = model.params["l/recurrent_kernel"]
    np.testing.assert_allclose(u @ u.T, np.eye(2), atol=1e-12)


def test_penalties_go_to_their_parameters():
    layer = GRU(2, kernel_l1=1, kernel_l2=2, recurrent_l1=3, recurrent_l2=4, bias_l1=5, bias_l2=6, name="l")
    assert [(spec.l1, spec.l2) for spec in layer.parameters((5, 3))] == [(1, 2), (3, 4), (5, 6)]


def test_shapes():
    assert LSTM(4, name="l").output_shape((5, 3)) == (4,)
    assert LSTM(4, return_sequences=True, name="l").output_shape((5, 3)) == (5, 4)
    assert Bidirectional((LSTM(4, name="i"),), name="l").output_shape((5, 3)) == (8,)
    assert TimeDistributed((LSTM(4, name="i"),), name="l").output_shape((2, 5, 3)) == (2, 4)


def test_multiply_adds():
    assert LSTM(4, name="l").multiply_adds((5, 3)) == 5 * (3 + 4) * 16
    assert Bidirectional((GRU(4, name="i"),), name="l").multiply_adds((5, 3)) == 2 * 5 * (3 + 4) * 12
    assert TimeDistributed((Dense(4, name="i"),), name="l").multiply_adds((5, 3)) == 5 * 12
    assert Dense(4, name="i").multiply_adds((5, 3)) == 5 * 12
    assert LayerNorm(name="l").multiply_adds((5,)) == 0


def test_what_outputs_end_in():
    rnn = SimpleRNN(4, activation="sigmoid", name="i")
    assert rnn.ending(None) == "sigmoid"
    assert LSTM(4, name="l").ending("relu") == "linear"
    assert Bidirectional((rnn,), name="l").ending(None) == "sigmoid"
    assert Bidirectional((rnn,), merge_mode="ave", name="l").ending(None) == "linear"
    assert TimeDistributed((Dense(2, activation="relu", name="i"),), name="l").ending(None) == "relu"


def test_the_activation_of_the_last_inner_layer_becomes_the_head():
    network = Network([TimeDistributed((Dense(2, activation="softmax"),))], (5, 3))
    assert (network.head, network.layers[0].inner.activation) == ("softmax", "linear")
    assert Network([Dense(2), TimeDistributed((Activation("softmax"),))], (5, 3)).head == "softmax"


def test_layers_are_watched_and_checked():
    passed = []

    class Observer:
        def passes(self, layer):
            return (lambda: passed.append(layer)), (lambda: None)

    layers = [Bidirectional((LSTM(3, return_sequences=True),)), TimeDistributed((Dense(2),))]
    model = Model(layers, (5, 3)).shake()
    expected = model.forward(normal(2, 5, 3))[0].copy()
    model.network.observe(Observer())
    np.testing.assert_array_equal(model.forward(normal(2, 5, 3))[0], expected)
    assert passed == ["bidirectional_1", "time_distributed_1", "dense_1"]
    model.params["forward_lstm_1/kernel"][...] = np.nan
    assert model.network.first_not_finite(model.params, normal(2, 5, 3), model.ctx) == "bidirectional_1"


def test_a_step_allocates_nothing_that_grows_with_the_batch():
    layers = [
        Bidirectional((GRU(64, return_sequences=True),), merge_mode="mul"),
        LSTM(64, return_sequences=True),
        GRU(64, reset_after=False, return_sequences=True),
        TimeDistributed((Dense(10),)),
    ]

    def peak(n):
        x, labels = normal(n, 5, 32, dtype=np.float32), np.zeros((n, 5), np.int64)
        return peak_of_a_step(layers, SparseCategoricalCrossentropy(), x, labels, "softmax")

    assert peak(512) - peak(64) < LARGE_BYTES


class Averaging(LayerNorm):
    def parameters(self, input_shape):
        return [ParamSpec("i/mean", input_shape, lambda shape, _: np.zeros(shape), trainable=False, state=True)]


MESSAGES = {
    "units": (lambda: LSTM(0, name="l"), "layer 'l': units must be at least 1, but is 0"),
    "activation": (lambda: GRU(1, activation="tahn", name="l"), "unknown activation 'tahn'. Did you mean 'tanh'?"),
    "softmax": (
        lambda: LSTM(1, recurrent_activation="softmax", name="l"),
        "layer 'l': a cell computes each unit on its own, so its activation can't be 'softmax'. Put a dense layer",
    ),
    "initializer": (lambda: LSTM(1, recurrent_initializer="one", name="l"), "unknown initializer 'one'. Did you mean"),
    "axes": (
        lambda: GRU(1, name="l").output_shape((3,)),
        "layer 'l' takes samples of shape (steps, features), with one step at least, but each sample has the shape",
    ),
    "steps": (
        lambda: TimeDistributed((Dense(1),), name="l").output_shape(()),
        "layer 'l' takes samples of shape (steps, ...)",
    ),
    "two": (lambda: TimeDistributed((Dense(1), Dense(1)), name="l"), "layer 'l' holds one layer, but got 2"),
    "dense": (
        lambda: Bidirectional((Dense(1),), name="l"),
        "layer 'l' goes both ways with a recurrent layer (lstm, gru, simple_rnn), but holds a Dense",
    ),
    "backwards": (
        lambda: Bidirectional((LSTM(1, go_backwards=True, name="i"),), name="l"),
        "layer 'l': its layer 'i' must not set go_backwards",
    ),
    "mode": (
        lambda: Bidirectional((LSTM(1),), merge_mode="avg", name="l"),
        "unknown merge_mode 'avg'. Did you mean 'ave'?",
    ),
    "dropout": (
        lambda: TimeDistributed((Residual((Dropout(0.1, name="i"),)),), name="l"),
        "layer 'l' can't hold layer 'i': random numbers are drawn for each sample. Put the dropout layer before",
    ),
    "state": (
        lambda: TimeDistributed((Averaging(name="i"),), name="l").parameters((5, 3)),
        "layer 'l' can't hold layer 'i', which averages over the samples of a batch ('i/mean')",
    ),
}


@pytest.mark.parametrize("case", MESSAGES)
def test_messages(case):
    make, message = MESSAGES[case]
    with pytest.raises(ModelError, match=re.escape(message)):
        make()
