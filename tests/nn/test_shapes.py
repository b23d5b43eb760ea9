"""What pooling, layers that change shapes, noise and rectifiers return and refuse. Gradients are checked elsewhere."""

from __future__ import annotations

import re
import tracemalloc

import msgspec
import numpy as np
import pytest

from hpcnn.errors import ModelError
from hpcnn.job import model as schema
from hpcnn.models.build import build_network
from hpcnn.nn import (
    ELU,
    AveragePooling,
    Context,
    Cropping,
    Dense,
    GaussianNoise,
    GlobalMaxPooling,
    LeakyReLU,
    MaxPooling,
    Network,
    Permute,
    PReLU,
    RepeatVector,
    SpatialDropout,
    UpSampling,
    ZeroPadding,
)
from hpcnn.nn.axis_maps import interpolated, repeated, shifted
from hpcnn.nn.build import LAYERS as KINDS
from hpcnn.nn.build import model_section
from hpcnn.nn.native import NATIVE
from tests.nn.cases.shapes import LAYERS
from tests.nn.helpers import LARGE_BYTES, Model, alone, normal

ARITHMETICS = pytest.mark.parametrize("make", [Context, lambda **settings: Context(arithmetic=NATIVE, **settings)])


def output(layer, x, ctx):
    return layer.forward({}, np.asarray(x, float), ctx)[0].copy()


@pytest.mark.parametrize("name", LAYERS)
def test_a_steady_step_allocates_nothing_large(name):
    layer, input_shape = LAYERS[name]
    model = alone(layer, input_shape)
    x = normal(-(-6 * LARGE_BYTES // (8 * int(np.prod(input_shape)))), *input_shape)
    dy = np.ones((len(x), *model.network.output_shape))

    def step():
        model.ctx.begin(training=True)
        layer.forward(model.params, x, model.ctx)[1](dy, model.grads)

    step(), step()
    tracemalloc.start()
    try:
        step()
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        step()
        # of views with gaps, NumPy buffers 8192 numbers for each of three operands
        assert tracemalloc.get_traced_memory()[1] - before < 3 * LARGE_BYTES
    finally:
        tracemalloc.stop()


@ARITHMETICS
def test_the_first_of_equals_gets_the_gradient(make):
    x = np.array([[1.0, 3.0, 3.0, 3.0, 2.0, 2.0]])[:, :, None]
    y, backward = MaxPooling(3, strides=2, name="l").forward({}, x, make())
    assert y.ravel().tolist() == [3, 3]
    assert backward(np.array([[[1.0], [10.0]]]), {}).ravel().tolist() == [0, 1, 10, 0, 0, 0]


@ARITHMETICS
def test_entries_beyond_the_edges_do_not_count(make):
    assert output(AveragePooling(2, padding="same", name="l"), [[[1], [3], [5]]], make()).ravel().tolist() == [2, 5]
    assert output(MaxPooling(2, padding="same", name="l"), [[[-1], [-3], [-5]]], make()).ravel().tolist() == [-1, -5]


@ARITHMETICS
def test_shapes_are_changed_entry_by_entry(make):
    x = np.arange(1.0, 5).reshape(1, 2, 2, 1)
    assert output(ZeroPadding([[1, 0], [0, 1]], name="l"), x, make())[0, :, :, 0].tolist() == [
        [0, 0, 0], [1, 2, 0], [3, 4, 0]]  # fmt: skip
    assert output(Cropping([[1, 0], [0, 1]], name="l"), x, make()).ravel().tolist() == [3]
    assert output(UpSampling([1, 2], name="l"), x, make()).ravel().tolist() == [1, 1, 2, 2, 3, 3, 4, 4]
    bilinear = UpSampling([1, 2], interpolation="bilinear", name="l")
    assert output(bilinear, x, make()).ravel().tolist() == [1, 1.25, 1.75, 2, 3, 3.25, 3.75, 4]
    assert output(Permute([2, 1, 3], name="l"), x, make()).ravel().tolist() == [1, 3, 2, 4]
    assert output(RepeatVector(2, name="l"), [[1, 2]], make()).tolist() == [[[1, 2], [1, 2]]]


@pytest.mark.parametrize(
    "axis_map",
    [shifted(4, 2, 1), shifted(4, -1, -2), repeated(3, 2), interpolated(5, 3), interpolated(1, 3)],
)
def test_transposed_maps(axis_map):
    np.testing.assert_array_equal(axis_map.transposed.matrix(), axis_map.matrix().T)
    np.testing.assert_array_equal(axis_map.transposed.transposed.matrix(), axis_map.matrix())


@ARITHMETICS
def test_channels_are_dropped_whole(make):
    layer, x = SpatialDropout(0.5, name="l"), np.ones((3, 4, 5, 40))
    y, backward = layer.forward({}, x, make(training=True))
    y = y.copy()
    assert set(np.unique(y)) == {0, 2}
    assert (y == y[:, :1, :1]).all()
    assert 0.3 < (y == 0).mean() < 0.7
    np.testing.assert_array_equal(backward(np.ones_like(x), {}), y)
    assert layer.forward({}, x, make())[0] is x


@ARITHMETICS
def test_noise_is_normal_and_of_training_alone(make):
    layer, x = GaussianNoise(0.5, name="l"), np.full((40, 500), 3.0)
    noise = output(layer, x, make(training=True)) - 3
    assert noise.mean() == pytest.approx(0, abs=0.02)
    assert noise.std() == pytest.approx(0.5, rel=0.03)
    assert len(np.unique(noise)) == noise.size
    assert layer.forward({}, x, make())[0] is x


@ARITHMETICS
@pytest.mark.parametrize(
    ("layer", "at_zero"),
    [(PReLU(alpha_initializer="ones", name="l"), 0), (LeakyReLU(name="l"), 0.3), (ELU(0.3, name="l"), 0.3)],
)
def test_the_gradient_at_zero_is_that_of_keras(make, layer, at_zero):
    x = np.array([[0.0, -1.0, 1.0]])
    backward = layer.forward({"l/alpha": np.full(3, 0.3)}, x, make())[1]
    below = 0.3 / np.e if isinstance(layer, ELU) else 0.3
    np.testing.assert_allclose(backward(np.ones((1, 3)), {}), [[at_zero, below, 1]], rtol=1e-12)


def test_what_outputs_went_through_last():
    assert MaxPooling(name="l").ending("relu") == "relu"
    assert MaxPooling(name="l").ending("softmax") is None
    assert Permute((1,), name="l").ending("softmax") is None
    assert ZeroPadding(name="l").ending("sigmoid") == "sigmoid"
    assert RepeatVector(2, name="l").ending("softmax") == "softmax"
    assert GaussianNoise(0.1, name="l").ending("tanh") == SpatialDropout(0.1, name="l").ending("tanh") == "tanh"
    assert PReLU(name="l").ending("relu") == "linear"
    assert LeakyReLU(name="l").ending("relu") == "leaky_relu"
    assert ELU(name="l").ending("relu") == "elu"


def test_kinds_are_those_of_job_files():
    for layer, _ in LAYERS.values():
        assert KINDS[layer.kind] is type(layer)


@pytest.mark.parametrize("name", LAYERS)
def test_a_job_file_can_hold_each_setting(name):
    layer, input_shape = LAYERS[name]
    network = Network([layer, Dense(2, name="end")], input_shape)
    section = msgspec.convert(msgspec.toml.decode(msgspec.toml.encode(model_section(network))), schema.Model)
    assert build_network(section, input_shape).layers == network.layers


def test_prelu_carries_its_penalty():
    (alpha,) = PReLU((1,), alpha_l1=1, alpha_l2=2, trainable=False, name="l").parameters((4, 3))
    assert (alpha.name, alpha.shape, alpha.l1, alpha.l2, alpha.trainable) == ("l/alpha", (1, 3), 1, 2, False)
    model = Model([PReLU(name="a"), PReLU(trainable=False, name="b")], (3,))
    assert list(model.grads) == ["a/alpha"]


SHAPE = (4, 4, 3)
MESSAGES = {
    "axes": (
        lambda: MaxPooling(name="l").output_shape((5,)),
        "layer 'l' needs samples of shape (length, channels), (height, width, channels) or (depth, height, width, "
        "channels), but they have shape (5,). Put a reshape layer before it, or, "
        "if it is the first layer, set model.input_shape = [5, 1].",
    ),
    "axes_of_dropout": (lambda: SpatialDropout(0.1, name="l").output_shape((5,)), "layer 'l' needs samples of shape"),
    "pool_size": (
        lambda: MaxPooling(0, name="l"),
        "layer 'l': pool_size must be an integer from 1 to 1048576, or a list with one for each spatial axis (1 to 3), "
        "but is 0",
    ),
    "pool_size_huge": (lambda: MaxPooling(10**18, padding="same", name="l"), "from 1 to 1048576, or a list"),
    "pool_size_list": (lambda: MaxPooling([2, 2.5], name="l"), "for each spatial axis (1 to 3), but is [2, 2.5]"),
    "strides": (lambda: AveragePooling(2, strides=[], name="l"), "layer 'l': strides must be an integer from 1 to"),
    "other_axes": (
        lambda: MaxPooling([2, 2], name="l").output_shape((9, 3)),
        "layer 'l': pool_size has 2 numbers, [2, 2], but samples have 1 spatial axes, (9,). Give one number for each, "
        "or one for all.",
    ),
    "padding": (
        lambda: MaxPooling(padding="full", name="l"),
        "layer 'l': padding must be \"valid\" or \"same\", but is 'full'",
    ),
    "too_large": (
        lambda: MaxPooling(5, name="l").output_shape(SHAPE),
        "layer 'l': windows of (5, 5) don't fit into samples of shape (4, 4, 3). Choose a smaller pool_size, or "
        'padding = "same".',
    ),
    "global": (lambda: GlobalMaxPooling(name="l").output_shape(()), "but they have shape ()"),
    "zero_padding": (
        lambda: ZeroPadding(-1, name="l"),
        "layer 'l': padding must be an integer from 0 to 1048576, or a list with one such number, or a pair [before, "
        "after], for each spatial axis, but is -1",
    ),
    "zero_padding_huge": (lambda: ZeroPadding(10**9, name="l"), "padding must be an integer from 0 to 1048576, or"),
    "pairs": (lambda: ZeroPadding([[1, 2, 3]], name="l"), "for each spatial axis, but is [[1, 2, 3]]"),
    "number_of_pairs": (
        lambda: Cropping([[1, 0], [0, 1]], name="l").output_shape((9, 3)),
        "layer 'l': cropping has 2 entries, [[1, 0], [0, 1]], but samples have 1 spatial axes, (9,). Give one number "
        "or pair for each, or one number for all.",
    ),
    "nothing_left": (
        lambda: Cropping(2, name="l").output_shape(SHAPE),
        "layer 'l': cropping [[2, 2], [2, 2]] leaves nothing of samples of shape (4, 4, 3). Crop less.",
    ),
    "size": (lambda: UpSampling(0, name="l"), "layer 'l': size must be an integer from 1 to"),
    "interpolation": (
        lambda: UpSampling(interpolation="cubic", name="l"),
        "layer 'l': interpolation must be \"nearest\" or \"bilinear\", but is 'cubic'",
    ),
    "bilinear": (
        lambda: UpSampling(interpolation="bilinear", name="l").output_shape((4, 3)),
        "layer 'l': interpolation = \"bilinear\" is for samples of shape (height, width, channels), but they have "
        'shape (4, 3). Choose "nearest".',
    ),
    "dims": (
        lambda: Permute((0, 1), name="l"),
        "layer 'l': dims must hold each axis of a sample once, counted from 1, as [2, 1], but is [0, 1]",
    ),
    "number_of_dims": (
        lambda: Permute((2, 1), name="l").output_shape(SHAPE),
        "layer 'l': dims = [2, 1] names 2 axes, but samples of shape (4, 4, 3) have 3",
    ),
    "repeat": (lambda: RepeatVector(0, name="l"), "layer 'l': n must be at least 1, but is 0"),
    "repeat_shape": (
        lambda: RepeatVector(2, name="l").output_shape((4, 3)),
        "layer 'l' repeats vectors, of shape (features,), but samples have shape (4, 3). Put a flatten layer before",
    ),
    "rate": (lambda: SpatialDropout(1.0, name="l"), "layer 'l': rate must be at least 0 and below 1, but is 1.0"),
    "stddev": (lambda: GaussianNoise(2, name="l"), "layer 'l': stddev must be between 0 and 1, but is 2"),
    "shared_axes": (
        lambda: PReLU((3,), name="l").output_shape((4, 3)),
        "layer 'l': shared_axes must hold axes of a sample, counted from 1, each once: of samples of shape (4, 3) 1 to "
        "2. But it is [3].",
    ),
    "alpha": (lambda: ELU(-0.1, name="l"), "layer 'l': alpha must be at least 0, but is -0.1"),
    "slope": (lambda: LeakyReLU(-0.1, name="l"), "layer 'l': negative_slope must be at least 0, but is -0.1"),
}


@pytest.mark.parametrize("case", MESSAGES)
def test_messages(case):
    make, message = MESSAGES[case]
    with pytest.raises(ModelError, match=re.escape(message)):
        make()
