"""The network: what it checks, what it leaves out, what it allocates, and how it behaves when a run diverges."""

from __future__ import annotations

import re
import tracemalloc
from dataclasses import dataclass

import msgspec
import numpy as np
import pytest

from hpcnn.errors import ModelError
from hpcnn.job import model as schema
from hpcnn.models.build import build_network
from hpcnn.nn import (
    Activation,
    BatchNormalization,
    Context,
    Dense,
    Dropout,
    Flatten,
    GroupNormalization,
    LayerNorm,
    Network,
    Reshape,
    Residual,
    RMSNormalization,
)
from hpcnn.nn.activations import ACTIVATIONS, apply
from hpcnn.nn.layer import Layer
from hpcnn.nn.losses import MeanSquaredError, SparseCategoricalCrossentropy
from tests.nn.helpers import LARGE_BYTES, Model, normal


@dataclass(frozen=True)
class Spy(Layer):
    """Passes everything on, and writes down what it is asked for."""

    calls: list

    def forward(self, params, x, ctx):
        def backward(dy, grads, *, need_dx=True):
            self.calls.append((self.name, need_dx))
            return dy if need_dx else None

        return x, backward


def test_shapes_and_layout():
    network = Network([Flatten(name="f"), Dense(5, name="a"), Dense(2, trainable=False, name="b")], [2, 3], "sigmoid")
    assert (network.input_shape, network.output_shape, network.head) == ((2, 3), (2,), "sigmoid")
    assert [spec.name for spec in network.layout.specs] == ["a/kernel", "a/bias", "b/kernel", "b/bias"]
    assert (network.layout.size, network.layout.trainable_size) == (47, 35)


def test_the_way_back_ends_at_the_lowest_layer_that_learns():
    calls = []
    layers = [
        Spy(calls, name="1"),
        Dense(3, trainable=False, name="frozen"),
        Dense(3, name="low"),
        Spy(calls, name="2"),
        Dense(2, name="top"),
    ]
    model = Model(layers, (3,))
    y, backward = model.forward(normal(4, 3))
    assert backward(np.ones_like(y), model.grads) is None
    assert calls == [("2", True)]
    assert np.isfinite(model.gradient).all()


def test_a_residual_block_at_the_bottom_does_not_compute_dx():
    calls = []
    model = Model([Residual((Spy(calls, name="1"), Dense(3, name="a"), Spy(calls, name="2")), name="r")], (3,))
    y, backward = model.forward(normal(4, 3))
    backward(np.ones_like(y), model.grads)
    assert calls == [("2", True)]


def test_without_anything_that_learns_there_is_no_way_back():
    calls = []
    model = Model([Spy(calls, name="1"), Dense(3, trainable=False, name="frozen")], (3,))
    y, backward = model.forward(normal(4, 3))
    backward(np.ones_like(y), model.grads)
    assert calls == []


@pytest.mark.parametrize("head", ACTIVATIONS)
def test_the_head_turns_logits_into_outputs_and_leaves_them_alone(head):
    model = Model([Dense(3, name="a")], (4,), head)
    logits, _ = model.forward(normal(5, 4))
    before = logits.copy()
    np.testing.assert_array_equal(model.network.head_forward(logits, model.ctx), apply(head, before))
    np.testing.assert_array_equal(logits, before)


def test_samples_may_differ_from_the_input_shape_by_axes_of_length_1():
    model, x = Model([Flatten(name="f"), Dense(3, name="a")], (2, 3, 1)), normal(4, 2, 3)
    np.testing.assert_array_equal(model.forward(x)[0].copy(), model.forward(x[..., None])[0])
    with pytest.raises(ModelError, match=re.escape("the network takes samples of shape (2, 3, 1), but got (3, 2)")):
        model.forward(normal(4, 3, 2))


def test_inputs_take_the_type_of_the_parameters():
    model = Model([Dense(3, name="a")], (4,), dtype=np.float32)
    x = np.arange(8).reshape(2, 4)
    for dtype in (np.uint8, np.int64, np.float64):
        y = model.forward(x.astype(dtype))[0]
        assert y.dtype == np.float32
        np.testing.assert_array_equal(y.copy(), model.forward(x.astype(np.float32))[0])


def test_a_smaller_piece_after_a_larger_one():
    model, x = (
        Model([Dense(3, activation="gelu", name="a"), LayerNorm(name="n"), Dense(2, name="b")], (4,)),
        normal(6, 4),
    )
    loss, y = MeanSquaredError().bind("linear"), normal(6, 2)
    expected = Model([Dense(3, activation="gelu", name="a"), LayerNorm(name="n"), Dense(2, name="b")], (4,))
    for n in (6, 2, 5, 6):
        assert model.step(loss, x[:n], y[:n]) == expected.step(loss, x[:n], y[:n])
        np.testing.assert_array_equal(model.gradient, expected.gradient)
        expected.ctx = Context()


# --- a run that diverges ---

DEEP = [
    Dense(4, name="a"),
    Residual((LayerNorm(name="n"), Dense(4, name="b")), name="r"),
    Dropout(0.5, name="d"),
    Dense(2, name="c"),
]


@pytest.mark.parametrize("place", ["a", "b", "c"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_the_first_layer_that_is_not_finite_is_named(place, value):
    model = Model(DEEP, (3,))
    model.params[f"{place}/bias"][0] = value
    assert model.network.first_not_finite(model.params, normal(40, 3), model.ctx) == place


def test_a_residual_sum_that_overflows_is_named_itself():
    model = Model([Residual((Dense(3, use_bias=False, name="a"),), name="r")], (3,))
    model.params["a/kernel"][...] = np.eye(3)
    assert model.network.first_not_finite(model.params, np.full((1, 3), 1.5e308), model.ctx) == "r"


def test_no_layer_is_named_if_all_is_finite():
    model = Model(DEEP, (3,))
    assert model.network.first_not_finite(model.params, normal(40, 3), model.ctx) is None


@np.errstate(over="ignore")
def test_the_search_repeats_the_draws_of_the_last_pass():
    model = Model([Dropout(0.5, name="d"), Dense(1, name="a")], (64,), dtype=np.float32)
    x = np.full((1, 64), 1.06e37, np.float32)
    model.params["a/kernel"][...] = 0.5
    found = set()
    for key in range(40):
        finite = np.isfinite(model.forward(x, key=(key,))[0]).all()
        model.ctx.random.random()
        name = model.network.first_not_finite(model.params, x, model.ctx)
        assert name == (None if finite else "a")
        found.add(name)
    assert found == {None, "a"}


# --- names, heads and containers ---


def test_layers_without_a_name_are_numbered_as_in_a_job():
    inner = (LayerNorm(), Dense(5), Dense(5, name="mine"))
    network = Network([Flatten(), Dense(5), Residual(inner), Dense(2)], (5,))
    names = ["flatten_1", "dense_1", "residual_1", "layer_norm_1", "dense_2", "mine", "dense_4"]
    assert network.layer_names == names
    assert [spec.name for spec in network.layout.specs][-2:] == ["dense_4/kernel", "dense_4/bias"]
    sections = [{"type": "flatten"}, {"type": "dense", "units": 5}]
    sections += [{"type": "residual", "layers": [{"type": "layer_norm"}, sections[1], {**sections[1], "name": "mine"}]}]
    job = msgspec.convert({"layers": [*sections, {"type": "dense", "units": 2}]}, schema.Model)
    assert build_network(job, (5,)).layers == network.layers


class Cubed(Dense):
    def forward(self, params, x, ctx):
        y, backward = super().forward(params, x, ctx)
        return y**3, lambda dy, grads, need_dx=True: backward(3 * np.cbrt(y) ** 2 * dy, grads, need_dx=need_dx)


@pytest.mark.parametrize(
    ("layers", "given", "head", "left"),
    [
        ([Dense(2, activation="softmax")], "linear", "softmax", [Dense(2, name="dense_1")]),
        ([Dense(2), Activation("tanh")], "linear", "tanh", [Dense(2, name="dense_1")]),
        ([Activation("tanh")], "linear", "linear", [Activation("tanh", name="activation_1")]),
        ([Dense(2, activation="relu")], "softmax", "softmax", [Dense(2, activation="relu", name="dense_1")]),
        ([Cubed(2, activation="relu")], "linear", "linear", [Cubed(2, activation="relu", name="cubed_1")]),
    ],
)
def test_the_activation_of_the_last_layer_becomes_the_head(layers, given, head, left):
    network = Network(layers, (2,), given)
    assert (network.head, list(network.layers)) == (head, left)


def test_containers_of_ones_own_are_looked_into():
    model = Model([Twice((Dense(3, name="a"), Dense(3))), Dense(2, activation="tanh")], (3,))
    assert model.network.layer_names == ["twice_1", "a", "dense_2", "dense_3"]
    told = []

    class Watch:
        def passes(self, layer):
            return lambda: told.append(layer), lambda: None

    model.network.observe(Watch())
    y = model.forward(normal(4, 3))[0].copy()
    assert told == ["twice_1", "a", "dense_2", "dense_3"]
    model.network.observe(None)
    np.testing.assert_array_equal(model.forward(normal(4, 3))[0], y)
    model.params["dense_2/bias"][0] = np.nan
    assert model.network.first_not_finite(model.params, normal(4, 3), model.ctx) == "dense_2"


@dataclass(frozen=True)
class Twice(Residual):
    """2 x + layers(x), for two layers."""

    def parameters(self, input_shape):
        return [spec for layer in self.layers for spec in layer.parameters(input_shape)]

    def forward(self, params, x, ctx):
        first, second = self.layers
        y, first_backward = first.forward(params, x, ctx)
        y, second_backward = second.forward(params, y, ctx)

        def backward(dy, grads, *, need_dx=True):
            return 2 * dy + first_backward(second_backward(dy.copy(), grads), grads)

        return 2 * x + y, backward


def test_a_layer_without_a_name_is_called_by_its_class_in_messages():
    with pytest.raises(ModelError, match=r"^a LayerNorm layer: epsilon must be above 0, but is 0"):
        LayerNorm(epsilon=0)


# --- memory ---


def peak_of_a_step(layers, loss, x, y, head):
    model = Model(layers, x.shape[1:], head, x.dtype)
    bound = loss.bind(head)
    for _ in range(3):
        model.step(bound, x, y)
    tracemalloc.start()
    try:
        model.step(bound, x, y)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        model.step(bound, x, y)
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_steady_step_allocates_nothing_large(dtype):
    layers = [Dense(512, activation="relu", name="a"), Dense(512, activation="relu", name="b"), Dense(10, name="c")]
    labels = np.arange(128) % 10
    loss = SparseCategoricalCrossentropy()
    assert peak_of_a_step(layers, loss, normal(128, 784, dtype=dtype), labels, "softmax") < LARGE_BYTES


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_neither_do_the_other_layers(name):
    layers = [
        Reshape((4, 64), name="r"),
        Dense(64, activation=name, name="a"),
        Activation(name, name="act"),
        Residual((LayerNorm(name="n"), Dropout(0.5, name="d"), Dense(64, name="b")), name="res"),
        Residual((BatchNormalization(name="bn"), GroupNormalization(name="gn")), name="res2"),
        RMSNormalization(name="rn"),
        Flatten(name="f"),
    ]
    x = normal(128, 256, dtype=np.float32)
    assert peak_of_a_step(layers, MeanSquaredError(), x, x, name) < LARGE_BYTES


# --- messages ---

MESSAGES = {
    "empty": (lambda: Network([], (3,)), "a network needs at least one layer, but got none"),
    "head": (
        lambda: Network([Dense(1, name="a")], (3,), "sofmax"),
        "unknown activation 'sofmax'. Did you mean 'softmax'?",
    ),
    "twice": (
        lambda: Network([Dense(1, name="a"), Dense(1, name="a")], (3,)),
        "but these appear twice: 'a'. Rename all but one",
    ),
    "twice_inside": (
        lambda: Network([Dense(3, name="a"), Residual((Dense(3, name="a"),), name="b")], (3,)),
        "layer names must differ, but these appear twice: 'a'.",
    ),
    "layer": (
        lambda: Network([Dense(6, name="a"), Reshape((4, -1), name="shape")], (3,)),
        "layer 'shape' can't turn inputs of shape (6,) (6 numbers a sample) into (4, -1): 6 is not a multiple of 4",
    ),
}


@pytest.mark.parametrize("case", MESSAGES)
def test_messages(case):
    make, message = MESSAGES[case]
    with pytest.raises(ModelError, match=re.escape(message)):
        make()


class Own(Layer):
    def forward(self, params, x, ctx):
        return x, lambda dy, grads, need_dx=True: dy


@pytest.mark.parametrize(
    ("layers", "head", "ending"),
    [
        ([Dense(2, name="a")], "softmax", "softmax"),
        ([Dense(2, name="a")], "linear", "linear"),
        ([Dense(2, activation="sigmoid", name="a")], "linear", "sigmoid"),
        (
            [Activation("softmax", name="a"), Reshape((2, 1), name="r"), Flatten(name="f"), Dropout(0.5, name="d")],
            "linear",
            "softmax",
        ),
        ([Flatten(name="f")], "linear", "linear"),
        ([Activation("softmax", name="a"), LayerNorm(name="n")], "linear", "linear"),
        ([Residual((Activation("softmax", name="a"),), name="r")], "linear", "linear"),
        ([Own(name="own")], "linear", None),
        ([Own(name="own")], "sigmoid", "sigmoid"),
    ],
)
def test_the_last_activation(layers, head, ending):
    assert Network(layers, (2,), head).ending == ending
