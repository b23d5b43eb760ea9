"""The network: what it checks, what it leaves out, what it allocates, and how it behaves when a run diverges."""

from __future__ import annotations

import re
import tracemalloc
from dataclasses import dataclass

import numpy as np
import pytest

from hpcnn.errors import ModelError
from hpcnn.nn import Activation, Context, Dense, Dropout, Flatten, LayerNorm, Network, Reshape, Residual
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
    network = Network([Flatten("f"), Dense("a", 5), Dense("b", 2, trainable=False)], [2, 3], "sigmoid")
    assert (network.input_shape, network.output_shape, network.head) == ((2, 3), (2,), "sigmoid")
    assert [spec.name for spec in network.layout.specs] == ["a/kernel", "a/bias", "b/kernel", "b/bias"]
    assert (network.layout.size, network.layout.trainable_size) == (47, 35)


def test_the_way_back_ends_at_the_lowest_layer_that_learns():
    calls = []
    layers = [Spy("1", calls), Dense("frozen", 3, trainable=False), Dense("low", 3), Spy("2", calls), Dense("top", 2)]
    model = Model(layers, (3,))
    y, backward = model.forward(normal(4, 3))
    assert backward(np.ones_like(y), model.grads) is None
    assert calls == [("2", True)]
    assert np.isfinite(model.gradient).all()


def test_a_residual_block_at_the_bottom_does_not_compute_dx():
    calls = []
    model = Model([Residual("r", (Spy("1", calls), Dense("a", 3), Spy("2", calls)))], (3,))
    y, backward = model.forward(normal(4, 3))
    backward(np.ones_like(y), model.grads)
    assert calls == [("2", True), ("1", False)]


def test_without_anything_that_learns_there_is_no_way_back():
    calls = []
    model = Model([Spy("1", calls), Dense("frozen", 3, trainable=False)], (3,))
    y, backward = model.forward(normal(4, 3))
    backward(np.ones_like(y), model.grads)
    assert calls == []


@pytest.mark.parametrize("head", ACTIVATIONS)
def test_the_head_turns_logits_into_outputs_and_leaves_them_alone(head):
    model = Model([Dense("a", 3)], (4,), head)
    logits, _ = model.forward(normal(5, 4))
    before = logits.copy()
    np.testing.assert_array_equal(model.network.head_forward(logits, model.ctx), apply(head, before))
    np.testing.assert_array_equal(logits, before)


def test_samples_may_differ_from_the_input_shape_by_axes_of_length_1():
    model, x = Model([Flatten("f"), Dense("a", 3)], (2, 3, 1)), normal(4, 2, 3)
    np.testing.assert_array_equal(model.forward(x)[0].copy(), model.forward(x[..., None])[0])
    with pytest.raises(ModelError, match=re.escape("the network takes samples of shape (2, 3, 1), but got (3, 2)")):
        model.forward(normal(4, 3, 2))


def test_inputs_take_the_type_of_the_parameters():
    model = Model([Dense("a", 3)], (4,), dtype=np.float32)
    x = np.arange(8).reshape(2, 4)
    for dtype in (np.uint8, np.int64, np.float64):
        y = model.forward(x.astype(dtype))[0]
        assert y.dtype == np.float32
        np.testing.assert_array_equal(y.copy(), model.forward(x.astype(np.float32))[0])


def test_a_smaller_piece_after_a_larger_one():
    model, x = Model([Dense("a", 3, activation="gelu"), LayerNorm("n"), Dense("b", 2)], (4,)), normal(6, 4)
    loss, y = MeanSquaredError().bind("linear"), normal(6, 2)
    expected = Model([Dense("a", 3, activation="gelu"), LayerNorm("n"), Dense("b", 2)], (4,))
    for n in (6, 2, 5, 6):
        assert model.step(loss, x[:n], y[:n]) == expected.step(loss, x[:n], y[:n])
        np.testing.assert_array_equal(model.gradient, expected.gradient)
        expected.ctx = Context()


# --- a run that diverges ---

DEEP = [Dense("a", 4), Residual("r", (LayerNorm("n"), Dense("b", 4))), Dropout("d", 0.5), Dense("c", 2)]


@pytest.mark.parametrize("place", ["a", "b", "c"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_the_first_layer_that_is_not_finite_is_named(place, value):
    model = Model(DEEP, (3,))
    model.params[f"{place}/bias"][0] = value
    assert model.network.first_not_finite(model.params, normal(40, 3), model.ctx) == place


def test_a_residual_sum_that_overflows_is_named_itself():
    model = Model([Residual("r", (Dense("a", 3, use_bias=False),))], (3,))
    model.params["a/kernel"][...] = np.eye(3)
    assert model.network.first_not_finite(model.params, np.full((1, 3), 1.5e308), model.ctx) == "r"


def test_no_layer_is_named_if_all_is_finite():
    model = Model(DEEP, (3,))
    assert model.network.first_not_finite(model.params, normal(40, 3), model.ctx) is None


def test_the_search_repeats_the_draws_of_the_last_pass():
    model = Model([Dropout("d", 0.5), Dense("a", 1)], (64,), dtype=np.float32)
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


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_overflow_gives_no_warning(name):
    model = Model([Dense("a", 4, activation=name), LayerNorm("n"), Dense("b", 3)], (3,), "softmax", np.float32)
    model.vector *= 1e30
    model.params["b/bias"][0] = np.inf
    loss = SparseCategoricalCrossentropy().bind("softmax")
    total = model.step(loss, normal(5, 3, dtype=np.float32) * 1e10, np.zeros(5, int))
    assert not np.isfinite(total)


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
    layers = [Dense("a", 512, activation="relu"), Dense("b", 512, activation="relu"), Dense("c", 10)]
    labels = np.arange(128) % 10
    loss = SparseCategoricalCrossentropy()
    assert peak_of_a_step(layers, loss, normal(128, 784, dtype=dtype), labels, "softmax") < LARGE_BYTES


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_neither_do_the_other_layers(name):
    layers = [
        Reshape("r", (4, 64)),
        Dense("a", 64, activation=name),
        Activation("act", name),
        Residual("res", (LayerNorm("n"), Dropout("d", 0.5), Dense("b", 64))),
        Flatten("f"),
    ]
    x = normal(128, 256, dtype=np.float32)
    assert peak_of_a_step(layers, MeanSquaredError(), x, x, name) < LARGE_BYTES


# --- messages ---

MESSAGES = {
    "empty": (lambda: Network([], (3,)), "a network needs at least one layer, but got none"),
    "head": (lambda: Network([Dense("a", 1)], (3,), "sofmax"), "unknown activation 'sofmax'. Did you mean 'softmax'?"),
    "twice": (lambda: Network([Dense("a", 1), Dense("a", 1)], (3,)), "but these appear twice: 'a'. Rename all but one"),
    "twice_inside": (
        lambda: Network([Dense("a", 3), Residual("b", (Dense("a", 3),))], (3,)),
        "layer names must differ, but these appear twice: 'a'.",
    ),
    "layer": (
        lambda: Network([Dense("a", 6), Reshape("shape", (4, -1))], (3,)),
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
        ([Dense("a", 2)], "softmax", "softmax"),
        ([Dense("a", 2)], "linear", "linear"),
        ([Dense("a", 2, activation="sigmoid")], "linear", "sigmoid"),
        ([Activation("a", "softmax"), Reshape("r", (2, 1)), Flatten("f"), Dropout("d", 0.5)], "linear", "softmax"),
        ([Flatten("f")], "linear", "linear"),
        ([Activation("a", "softmax"), LayerNorm("n")], "linear", "linear"),
        ([Residual("r", (Activation("a", "softmax"),))], "linear", "linear"),
        ([Own("own")], "linear", None),
        ([Own("own")], "sigmoid", "sigmoid"),
    ],
)
def test_the_last_activation(layers, head, ending):
    assert Network(layers, (2,), head).ending == ending
