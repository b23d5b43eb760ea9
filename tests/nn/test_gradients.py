"""Every gradient against finite differences in float64, and proof that the comparison would notice a wrong one."""

from __future__ import annotations

import numpy as np
import pytest

from hpcnn.nn import Context, Dense, Dropout, Flatten, LayerNorm, Residual
from hpcnn.nn.activations import ACTIVATIONS
from hpcnn.nn.losses import SparseCategoricalCrossentropy
from hpcnn.nn.native import NativeArithmetic
from hpcnn.nn.plain import NumpyArithmetic
from tests.nn.cases import LAYERS, LOSSES, LOSSES_BEHIND_HEADS
from tests.nn.cases.losses import fitting_logits, loss_case
from tests.nn.helpers import Model, alone, check_gradient, normal

BOTH = pytest.mark.parametrize("make", [NumpyArithmetic, NativeArithmetic], ids=["numpy", "native"])


def layer_gradient(layer, input_shape, need_dx=True, make=NumpyArithmetic):
    """Return (function of x and the flat trainable parameters, point, gradient) for the sum of c x outputs.

    `make` makes an arithmetic, which counts its random draws, for a pass.
    """
    model = alone(layer, input_shape).shake()
    x, c = normal(4, *input_shape), normal(4, *model.network.output_shape, seed=1)
    learning = model.vector[: model.network.layout.trainable_size]

    def function(x, vector):
        learning[...] = vector
        model.ctx.arithmetic = make()
        return float(np.vdot(model.forward(x)[0], c))

    point = [x, learning.copy()]
    function(*point)
    model.ctx.arithmetic = make()
    model.ctx.begin(training=True, random_key=(1,))
    _, backward = model.network.forward(model.params, x.copy(), model.ctx)
    dx = backward(c.copy(), model.grads, need_dx=need_dx)
    return function, point, [None if dx is None else dx.copy(), model.gradient.copy()]


@BOTH
@pytest.mark.parametrize("name", LAYERS)
def test_layer(name, make):
    check_gradient(*layer_gradient(*LAYERS[name], make=make))


@BOTH
@pytest.mark.parametrize("name", LAYERS)
def test_layer_without_dx_returns_none_and_the_same_parameter_gradients(name, make):
    with_dx, without = (layer_gradient(*LAYERS[name], need_dx=need, make=make)[2] for need in (True, False))
    assert without[0] is None
    np.testing.assert_array_equal(without[1], with_dx[1])


@pytest.mark.parametrize("name", LAYERS)
def test_the_pass_back_leaves_the_outputs_as_they_are(name):
    """With the core, metrics of a network that ends there are computed of them when it is done."""
    layer, input_shape = LAYERS[name]
    model = alone(layer, input_shape).shake()
    model.ctx.arithmetic = NativeArithmetic()
    y, backward = model.forward(normal(4, *input_shape))
    before = y.copy()
    backward(normal(*y.shape, seed=1), model.grads, need_dx=True)
    np.testing.assert_array_equal(y, before)


@pytest.mark.parametrize("shape", [(7, 5), (2, 3, 4)])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(name, shape):
    c = normal(*shape, seed=1)

    def function(z):
        return float(np.vdot(ACTIVATIONS[name](z.copy(), Context(), "a")[0], c))

    z = 2 * normal(*shape)
    _, backward = ACTIVATIONS[name](z.copy(), Context(), "a")
    check_gradient(function, [z], [backward(c.copy())])


@pytest.mark.parametrize(("name", "head", "outputs", "weighted"), LOSSES_BEHIND_HEADS)
def test_loss_behind_each_head(name, head, outputs, weighted):
    weights = np.array([0.5, 0.0, 2.0, 1.0, 1.0, 3.0]) if weighted else None
    loss = LOSSES[name].bind(head)
    logits, targets = loss_case(loss.loss, outputs)
    logits = fitting_logits(loss.loss, head, logits)
    total, _, backward = loss(logits, targets, weights, Context())
    assert np.isfinite(total)
    check_gradient(lambda z: loss(z, targets, weights, Context())[0], [logits], [backward()])


@pytest.mark.parametrize("name", [name for name, loss in LOSSES.items() if "crossentropy" in loss.name])
def test_clipped_probabilities_have_no_gradient(name):
    loss = LOSSES[name].bind("linear")
    outputs = np.array([[0.2, 0.8], [-1.0, 2.0]])
    targets = np.array([0, 0]) if loss.target_kind == "labels" else np.array([[1.0, 0.0], [1.0, 0.0]])
    gradient = loss(outputs, targets, None, Context())[2]()
    assert (gradient[0] != 0).all()
    assert (gradient[1] == 0).all()


def test_a_whole_network():
    layers = [
        Flatten(name="f"),
        Dense(6, activation="selu", name="a"),
        Residual((LayerNorm(name="n"), Dense(6, activation="gelu", name="b"), Dropout(0.3, name="d")), name="r"),
        Dense(4, name="c"),
    ]
    model = Model(layers, (2, 3), "softmax").shake()
    loss = SparseCategoricalCrossentropy(label_smoothing=0.1).bind("softmax")
    x, y = normal(5, 2, 3), np.array([0, 1, 3, 2, 1])

    def function(vector):
        model.vector[...] = vector
        return model.step(loss, x, y)

    point = model.vector.copy()
    function(point)
    check_gradient(function, [point], [model.gradient.copy()])


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("factor", [0.9995, 1.0005])
def test_the_check_notices_a_gradient_wrong_by_a_two_thousandth(seed, factor):
    function, point, gradient = layer_gradient(*LAYERS["residual"])
    check_gradient(function, point, gradient, seed)
    with pytest.raises(AssertionError, match="numeric"):
        check_gradient(function, point, [array * factor for array in gradient], seed)


@pytest.mark.parametrize("name", ["dense", "layer_norm", "residual"])
def test_the_check_notices_one_wrong_array(name):
    function, point, (dx, dparams) = layer_gradient(*LAYERS[name])
    with pytest.raises(AssertionError, match="numeric"):
        check_gradient(function, point, [dx * 1.0005, dparams])
    with pytest.raises(AssertionError, match="numeric"):
        check_gradient(function, point, [dx, dparams * 1.0005])


def test_the_check_notices_that_it_compares_nothing():
    with pytest.raises(AssertionError, match="nothing to compare"):
        check_gradient(lambda x: 0.0, [np.ones(3)], [np.zeros(3)])
