"""What convolutions hold, refuse and cost. Their passes are in the tests of all layers."""

from __future__ import annotations

import math
import re
import tracemalloc

import numpy as np
import pytest

from hpcnn.errors import ModelError
from hpcnn.job import layers as sections
from hpcnn.job import model as schema
from hpcnn.models.build import build_network
from hpcnn.nn import (
    Context,
    Conv1D,
    Conv2D,
    Conv2DTranspose,
    Conv3D,
    Conv3DTranspose,
    DepthwiseConv2D,
    Network,
    SeparableConv2D,
)
from hpcnn.nn.build import LAYERS as KINDS
from hpcnn.nn.build import model_section
from hpcnn.nn.native import NATIVE
from tests.nn.cases.convolution import LAYERS
from tests.nn.helpers import LARGE_BYTES, Model, alone, normal


@pytest.mark.parametrize("name", LAYERS)
def test_each_is_what_its_section_says(name):
    layer, shape = LAYERS[name]
    section = model_section(Network([layer], shape, "relu"))  # a head, so that the layer keeps its activation
    assert KINDS[section["layers"][0]["type"]] is type(layer)
    kind = next(cls for cls in sections.Layer.__args__ if cls.__struct_config__.tag == layer.kind)
    made = kind(**{key: value for key, value in section["layers"][0].items() if key != "type"})
    assert (
        build_network(schema.Model(layers=[made, sections.ActivationLayer(activation="relu")]), shape).layers[0]
        == layer
    )


def test_defaults_agree_with_the_schema():
    made = {
        sections.Conv1D: ({"filters": 2, "kernel_size": 3}, Conv1D(2, 3), (9, 2)),
        sections.Conv2D: ({"filters": 2, "kernel_size": 3}, Conv2D(2, 3), (9, 9, 2)),
        sections.Conv3D: ({"filters": 2, "kernel_size": 3}, Conv3D(2, 3), (9, 9, 9, 2)),
        sections.DepthwiseConv2D: ({"kernel_size": 3}, DepthwiseConv2D(3), (9, 9, 2)),
        sections.SeparableConv2D: ({"filters": 2, "kernel_size": 3}, SeparableConv2D(2, 3), (9, 9, 2)),
        sections.Conv2DTranspose: ({"filters": 2, "kernel_size": 3}, Conv2DTranspose(2, 3), (9, 9, 2)),
        sections.Conv3DTranspose: ({"filters": 2, "kernel_size": 3}, Conv3DTranspose(2, 3), (9, 9, 9, 2)),
    }
    for kind, (settings, layer, shape) in made.items():
        (built,) = build_network(schema.Model(layers=[kind(**settings)]), shape).layers
        assert built == layer.named(built.name)


@pytest.mark.parametrize("name", ["conv2d", "conv2d_transpose", "depthwise_conv2d", "separable_conv2d"])
def test_a_frozen_layer_leaves_the_gradients_alone_and_passes_dx(name):
    learning, shape = LAYERS[name]
    settings = {key: getattr(learning, key) for key in learning.__dataclass_fields__}
    frozen = type(learning)(**settings | {"trainable": False})
    x, dy = normal(3, *shape), normal(3, *learning.output_shape(shape), seed=1)
    passed = []
    for layer in (learning, frozen):
        model = alone(layer, shape)
        _, backward = layer.forward(model.params, x, model.ctx)
        passed.append(backward(dy.copy(), model.grads).copy())
        assert bool(model.grads) == layer.trainable
    np.testing.assert_array_equal(*passed)


def test_each_carries_its_penalties():
    def penalties(layer):
        return [(spec.name, spec.l1, spec.l2) for spec in layer.parameters((8, 8, 4))]

    kernel = [("l/kernel", 1, 2), ("l/bias", 3, 4)]
    options = {"kernel_l1": 1, "kernel_l2": 2, "bias_l1": 3, "bias_l2": 4, "name": "l"}
    assert penalties(Conv2D(2, 3, **options)) == kernel
    assert penalties(Conv2DTranspose(2, 3, **options)) == kernel
    options = {"depthwise_l1": 1, "depthwise_l2": 2, "bias_l1": 3, "bias_l2": 4, "name": "l"}
    assert penalties(DepthwiseConv2D(3, **options)) == kernel
    names = [("l/depthwise_kernel", 1, 2), ("l/pointwise_kernel", 5, 6), ("l/bias", 3, 4)]
    assert penalties(SeparableConv2D(2, 3, pointwise_l1=5, pointwise_l2=6, **options)) == names


def test_initializers_know_the_size_of_the_kernel():
    (kernel, _) = Conv2D(64, 3, kernel_initializer="he_normal", name="l").parameters((8, 8, 32))
    drawn = kernel.initializer(kernel.shape, np.random.default_rng(0))
    np.testing.assert_allclose(drawn.std(), math.sqrt(2 / (9 * 32)), rtol=0.02)


def test_multiply_adds():
    assert Conv2D(16, 3, name="l").multiply_adds((10, 10, 4)) == 8 * 8 * 9 * 4 * 16
    assert Conv2D(16, 3, groups=2, padding="same", name="l").multiply_adds((10, 10, 4)) == 10 * 10 * 9 * 2 * 16
    assert DepthwiseConv2D(3, depth_multiplier=2, name="l").multiply_adds((10, 10, 4)) == 8 * 8 * 9 * 8
    assert SeparableConv2D(5, 3, name="l").multiply_adds((10, 10, 4)) == 8 * 8 * (9 * 4 + 4 * 5)
    assert Conv2DTranspose(5, 3, strides=2, name="l").multiply_adds((10, 10, 4)) == 100 * 4 * 9 * 5


def test_the_last_activation_becomes_the_head():
    network = Network([Conv2D(3, 1, activation="softmax"), Conv2D(4, 1, activation="sigmoid")], (2, 2, 1))
    assert (network.head, network.layers[1].activation, network.layers[0].activation) == (
        "sigmoid",
        "linear",
        "softmax",
    )
    assert Conv2D(3, 1, activation="relu").ending(None) == "relu"


@pytest.mark.parametrize("native", [False, True])
def test_a_steady_step_allocates_nothing_large(native):
    layers = [
        Conv2D(16, 3, padding="same", activation="relu", name="a"),
        Conv2D(32, 3, strides=2, groups=2, activation="swish", name="b"),
        DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="c"),
        SeparableConv2D(32, 3, activation="tanh", name="d"),
        Conv2DTranspose(16, 3, strides=2, name="e"),
    ]
    model, x = Model(layers, (32, 32, 4), dtype=np.float32), normal(16, 32, 32, 4, dtype=np.float32)
    context = Context(arithmetic=NATIVE) if native else model.ctx

    def step():
        y, backward = model.network.forward(model.params, x, context)
        backward(y, model.grads)

    step()
    tracemalloc.start()
    try:
        step()
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        step()
        assert tracemalloc.get_traced_memory()[1] - before < LARGE_BYTES
    finally:
        tracemalloc.stop()


MESSAGES = {
    "filters": (lambda: Conv2D(0, 3, name="l"), "layer 'l': filters must be at least 1, but is 0"),
    "groups": (lambda: Conv2D(4, 3, groups=0, name="l"), "layer 'l': groups must be at least 1, but is 0"),
    "multiple": (
        lambda: Conv2D(5, 3, groups=2, name="l"),
        "layer 'l': filters must be a multiple of groups = 2, but is 5",
    ),
    "channels": (
        lambda: Conv2D(4, 3, groups=2, name="l").output_shape((8, 8, 3)),
        "layer 'l': groups = 2 must divide the number of channels, but inputs of shape (8, 8, 3) have 3",
    ),
    "kernel_size": (
        lambda: Conv2D(4, (3, 3, 3), name="l"),
        "layer 'l': kernel_size must be one number or 2, each from 1 to 1048576, but is (3, 3, 3)",
    ),
    "strides": (
        lambda: Conv1D(4, 3, strides=0, name="l"),
        "layer 'l': strides must be one number, each from 1 to 1048576, but is 0",
    ),
    "huge strides": (lambda: Conv1D(4, 3, strides=10**9, name="l"), "each from 1 to 1048576, but is 1000000000"),
    "reach": (
        lambda: Conv1D(4, 9, dilation_rate=10**6, padding="causal", name="l").output_shape((8, 1)),
        "layer 'l': kernel_size (9,), strides (1,) and dilation_rate (1000000,) reach too far beyond "
        "inputs with axes of (8,). Make them smaller.",
    ),
    "transposed_reach": (
        lambda: Conv3DTranspose(4, 9, dilation_rate=10**5, name="l").output_shape((8, 8, 8, 1)),
        "strides (1, 1, 1) and dilation_rate (100000, 100000, 100000) reach too far",
    ),
    "both": (
        lambda: Conv2D(4, 3, strides=2, dilation_rate=(1, 2), name="l"),
        "layer 'l': strides (2, 2) and dilation_rate (1, 2) can't both be above 1: set one of them to 1",
    ),
    "padding": (lambda: Conv2D(4, 3, padding="sane", name="l"), "unknown padding 'sane'. Did you mean 'same'?"),
    "causal": (lambda: Conv2D(4, 3, padding="causal", name="l"), "unknown padding 'causal'."),
    "axes": (
        lambda: Conv2D(4, 3, name="l").output_shape((28, 28)),
        "layer 'l' needs inputs of shape (height, width, channels), but each sample has shape (28, 28). "
        "Put a reshape layer before it, or, if it is the first layer, set model.input_shape = [28, 28, 1].",
    ),
    "transposed_axes": (
        lambda: Conv2DTranspose(4, 3, name="l").output_shape((28,)),
        "layer 'l' needs inputs of shape (height, width, channels), but each sample has shape (28,). "
        "Put a reshape layer before it.",
    ),
    "too_small": (
        lambda: Conv2D(4, 5, name="l").output_shape((4, 8, 3)),
        "layer 'l': a kernel of size (5, 5) (dilation_rate (1, 1)) does not fit into inputs of shape (4, 8, 3). "
        'Make it smaller, or set padding = "same".',
    ),
    "activation": (
        lambda: Conv2D(1, 1, activation="rleu", name="l"),
        "unknown activation 'rleu'. Did you mean 'relu'?",
    ),
    "kernel": (lambda: Conv2D(1, 1, kernel_initializer="zero", name="l"), "unknown initializer 'zero'."),
    "transposed_kernel": (
        lambda: Conv2DTranspose(1, 1, kernel_initializer="zero", name="l"),
        "unknown initializer 'zero'.",
    ),
    "transposed_filters": (lambda: Conv2DTranspose(0, 3, name="l"), "layer 'l': filters must be at least 1, but is 0"),
    "depthwise": (lambda: DepthwiseConv2D(1, depthwise_initializer="zero", name="l"), "unknown initializer 'zero'."),
    "multiplier": (
        lambda: DepthwiseConv2D(1, depth_multiplier=0, name="l"),
        "layer 'l': depth_multiplier must be at least 1, but is 0",
    ),
    "separable": (lambda: SeparableConv2D(0, 1, name="l"), "layer 'l': filters must be at least 1, but is 0"),
    "pointwise": (
        lambda: SeparableConv2D(1, 1, pointwise_initializer="zero", name="l"),
        "unknown initializer 'zero'.",
    ),
    "bias": (lambda: Conv2D(1, 1, bias_initializer="one", name="l"), "unknown initializer 'one'. Did you mean 'ones'?"),
}


@pytest.mark.parametrize("case", MESSAGES)
def test_messages(case):
    make, message = MESSAGES[case]
    with pytest.raises(ModelError, match=re.escape(message)):
        make()
