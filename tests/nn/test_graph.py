"""Networks whose layers name their inputs, blocks that repeat, and parameters that are used at several places."""

from __future__ import annotations

import re

import numpy as np
import pytest

from hpcnn.errors import ModelError
from hpcnn.nn import Activation, Add, Block, Dense, Dropout, Flatten, LayerNorm, Network, RepeatVector, Residual, Shared
from tests.nn.helpers import Model, alone, check_gradient, normal


def gradients(model, x, c):
    model.ctx.begin(training=True, random_key=(1,))
    _, backward = model.network.forward(model.params, x.copy(), model.ctx)
    dx = backward(c.copy(), model.grads, need_dx=True)
    return [dx.copy(), model.gradient.copy()]


def check(layers, input_shape):
    """Compare the gradients of a network with finite differences."""
    model = Model(layers, input_shape).shake()
    x, c = normal(4, *input_shape), normal(4, *model.network.output_shape, seed=1)

    learns = model.network.layout.trainable_size

    def function(x, vector):
        model.vector[:learns] = vector
        return float(np.vdot(model.forward(x)[0], c))

    point = [x, model.vector[:learns].copy()]
    function(*point)
    check_gradient(function, point, gradients(model, x, c))
    return model


def tanh(units, **options):
    return Dense(units, activation="tanh", **options)


GRAPHS = {
    "a skip over two layers": [tanh(4, name="a"), tanh(4), tanh(4, name="b"), Add(inputs=("a", "b")), Dense(2)],
    "two ways from the input": [
        tanh(4, name="a"), tanh(4, name="b", inputs=("input",)), Add(inputs=("a", "b")), Dense(2),
    ],
    "the input itself": [tanh(3, name="a"), Add(inputs=("a", "input")), Dense(2)],
    "an output that three take": [
        tanh(4, name="a"), tanh(4, name="b", inputs=("a",)), tanh(4, name="c", inputs=("a",)),
        Add(name="d", inputs=("b", "c")), Add(inputs=("d", "a")), Dense(2),
    ],
    "twice the same": [tanh(4, name="a"), Add(inputs=("a", "a")), Dense(2)],
    "a skip out of a block": [
        Residual([tanh(3, name="a"), tanh(3)]), tanh(3, name="b"), Add(inputs=("a", "b")), Dense(2),
    ],
    "nested and repeated": [
        Block([Residual([LayerNorm(), tanh(3)], repeat=2), tanh(3)], repeat=2), Dense(2),
    ],
    "shared": [tanh(3, name="a"), Shared("a"), Shared("a"), Dense(2)],
    "shared on two ways": [
        tanh(4, name="a"), Shared("a", name="b", inputs=("input",)), tanh(4), Add(inputs=("a", "dense_2")), Dense(2),
    ],
    "frozen beside a way that learns": [
        tanh(4, name="a", trainable=False), tanh(4, name="b", inputs=("input",)), Add(inputs=("a", "b")), Dense(2),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_gradients(name):
    check(GRAPHS[name], (3,))


def test_shared_parameters_exist_once_and_get_the_sum_of_their_gradients():
    shared = alone(Block([tanh(3, name="a"), Shared("a", name="again")]), (3,)).shake()
    apart = alone(Block([tanh(3, name="a"), tanh(3, name="b")]), (3,))
    assert [spec.name for spec in shared.network.layout.specs] == ["a/kernel", "a/bias"]
    for name in ("kernel", "bias"):
        for layer in ("a", "b"):
            apart.params[f"{layer}/{name}"][...] = shared.params[f"a/{name}"]
    x, c = normal(4, 3), normal(4, 3, seed=1)
    dx, _ = gradients(shared, x, c)
    np.testing.assert_array_equal(dx, gradients(apart, x, c)[0])
    for name in ("kernel", "bias"):
        both = apart.grads[f"a/{name}"] + apart.grads[f"b/{name}"]
        np.testing.assert_allclose(shared.grads[f"a/{name}"], both, rtol=1e-13)


def test_a_shared_layer_that_is_frozen_has_no_gradient():
    model = Model([Dense(3, trainable=False, name="a"), Shared("a"), Dense(2)], (3,))
    assert sorted(model.grads) == ["dense_2/bias", "dense_2/kernel"]
    gradients(model, normal(4, 3), normal(4, 2))


def test_repetitions_are_numbered_and_have_parameters_of_their_own():
    inner = [Dense(3, name="wide"), Dense(3, name="mine"), Add(name="s", inputs=("mine", "outside"))]
    network = Network([Dense(3, name="outside"), Block(inner, repeat=2, name="part")], (3,))
    assert network.layer_names == [
        "outside", "part_1", "wide_1", "mine_1", "s_1", "part_2", "wide_2", "mine_2", "s_2",
    ]  # fmt: skip
    takes = {
        node.layer.name: [network.nodes[source].layer.name for source in node.sources] for node in network.nodes[1:]
    }
    assert takes["s_1"] == ["mine_1", "outside"]
    assert takes["s_2"] == ["mine_2", "outside"]
    assert takes["wide_2"] == ["s_1"]
    assert network.layout.size == 5 * 12


def test_the_head_is_found_within_a_block():
    network = Network([Block([Dense(4), Dense(3, activation="softmax")], repeat=1)], (2,))
    assert (network.head, network.ending) == ("softmax", "softmax")


def test_what_comes_last_is_the_output_and_tells_its_ending():
    assert Network([tanh(3, name="a"), Dropout(0.1), Flatten()], (3,)).ending == "tanh"
    assert Network([tanh(3, name="a"), Dense(3, name="b"), Add(inputs=("a", "b"))], (3,)).ending == "linear"


MESSAGES = {
    "unknown": (
        [Dense(3, name="first"), Dense(3, inputs=("frist",))],
        "layer 'dense_2' takes 'frist', which is no layer before it. Did you mean 'first'?",
    ),
    "cycle": (
        [Dense(3, name="a", inputs=("b",)), Dense(3, name="b")],
        "layer 'a' takes 'b', which is no layer before it.",
    ),
    "two for one": (
        [Dense(3, name="a"), Dense(3, name="b"), Dense(3, inputs=("a", "b"))],
        "layer 'dense_3' takes one input, but inputs names 2: a, b. Put them together by a layer such as concatenate",
    ),
    "one for two": ([Dense(3), Add()], "layer 'add_1' takes several inputs: name them, inputs = [...]"),
    "unused": (
        [Dense(3, name="a"), Dense(3, inputs=("input",))],
        "no layer takes the output of layer 'a': name it in the inputs of another, or remove it",
    ),
    "shares with nothing": (
        [Dense(3, name="a"), Shared("b")],
        "layer 'shared_1' shares the parameters of 'b', which is no layer before it that has some of its own. "
        "Name one of a",
    ),
    "shares with what has none": (
        [Flatten(name="a"), Shared("a")],
        "which is no layer before it that has some of its own. Name one of them: so far there is none",
    ),
    "too many layers": (
        [Block([Block([Dense(3), Residual([Dense(3)])], repeat=1000)], repeat=1000)],
        "a network of 4,001,000 layers, with the repetitions of blocks, but at most 100,000 are possible. Give a lower",
    ),
    "a parameter too large": (
        [Dense(3 * 10**10)],
        "dense_1/kernel would have 90,000,000,000 entries, the shape (3, 30000000000), but at most 68,719,476,736 "
        "are possible. Make the layer smaller.",
    ),
    "an output too large": (
        [RepeatVector(10**12)],
        "an output of layer 'repeat_vector_1' would have 3,000,000,000,000 entries, the shape (1000000000000, 3), but",
    ),
    "shares with another shape": (
        [Dense(2, name="a"), Shared("a")],
        "layer 'shared_1' can't share the parameters of 'a': inputs of shape (2,) would need others than those of "
        "shape (3,)",
    ),
}


@pytest.mark.parametrize("case", MESSAGES)
def test_messages(case):
    layers, message = MESSAGES[case]
    with pytest.raises(ModelError, match=re.escape(message)):
        Network(layers, (3,))


def test_a_block_has_layers_and_is_there_once_at_least():
    with pytest.raises(ModelError, match="layer 'x' holds no layers: give it at least one"):
        Block([], name="x")
    with pytest.raises(ModelError, match="layer 'x': repeat must be at least 1, but is 0"):
        Block([Dense(3)], repeat=0, name="x")


def test_only_the_first_repetition_of_a_block_takes_its_inputs():
    layers = [Dense(4, name="a"), Dense(4, name="b"), Residual([Dense(4)], repeat=2, name="r", inputs=("a",))]
    network = Network([*layers, Add(inputs=("r_2", "b"))], (3,))
    assert [node.sources for node in network.nodes] == [(-1,), (0,), (0,), (0, 2), (3,), (3, 4), (5, 1)]


@pytest.mark.parametrize("last", [Activation("tanh", inputs=("a",)), Block([Activation("tanh")], inputs=("a",))])
def test_an_activation_of_another_output_than_the_last_does_not_become_the_head(last):
    layers = [Dense(4, name="a"), Dense(4, name="b")]
    with pytest.raises(ModelError, match="no layer takes the output of layer 'b'"):
        Network([*layers, last], (3,))
    network = Network([*layers, Add(name="c", inputs=("a", "b")), last.taking(["c"])], (3,))
    assert (network.head, len(network.nodes)) == ("tanh", 3)
