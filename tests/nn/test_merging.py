"""Layers of several inputs: against finite differences, against Keras, and in both arithmetics."""

from __future__ import annotations

import re
from itertools import combinations, product

import numpy as np
import pytest

from hpcnn.errors import ModelError
from hpcnn.kernels import core
from hpcnn.nn import Add, Average, Concatenate, Context, Layer, Maximum, MultiInput, Multiply
from hpcnn.nn.native import NATIVE, NativeArithmetic
from tests.nn.helpers import check_gradient, normal
from tests.require import require

SAME = [(3, 4)] * 2
CASES = {
    **{
        f"{kind.__name__.lower()}_{len(shapes)}": (kind(name="l"), shapes)
        for kind in (Add, Average, Multiply, Maximum)
        for shapes in (SAME, [(5,)] * 4)
    },
    "concatenate": (Concatenate(name="l"), [(3, 4), (3, 1), (3, 17)]),
    "concatenate_first": (Concatenate(axis=1, name="l"), [(3, 4), (2, 4)]),
    "concatenate_middle": (Concatenate(axis=-2, name="l"), [(2, 3, 4), (2, 1, 4)]),
    "concatenate_vectors": (Concatenate(name="l"), [(3,), (2,)]),
}
ARITHMETICS = pytest.mark.parametrize("arithmetic", [None, NATIVE])


def context(arithmetic=None):
    return Context() if arithmetic is None else Context(arithmetic=arithmetic)


def inputs_of(name, dtype=np.float64, n=6):
    layer, shapes = CASES[name]
    x = [normal(n, *shape, seed=number, dtype=dtype) for number, shape in enumerate(shapes)]
    return layer, x, normal(n, *layer.output_shape(shapes), seed=9, dtype=dtype)


def all_passes(layer, x, dy, ctx, need_dx=None):
    y, backward = layer.forward({}, x, ctx)
    y = y.copy()
    return y, backward(dy.copy(), {}, need_dx=need_dx or [True] * len(x))


@ARITHMETICS
@pytest.mark.parametrize("name", CASES)
def test_gradient(name, arithmetic):
    layer, x, c = inputs_of(name)
    _, dx = all_passes(layer, x, c, context(arithmetic))
    check_gradient(lambda *point: float(np.vdot(layer.forward({}, point, Context())[0], c)), x, dx)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CASES)
def test_both_arithmetics_compute_the_same(name, dtype):
    layer, x, dy = inputs_of(name, dtype)
    x[0][0], x[1][0] = np.float64(0.5), np.float64(0.5)  # equals, where they are of one shape
    (y, dx), (other_y, other_dx) = (all_passes(layer, x, dy, context(each)) for each in (NATIVE, None))
    for ours, theirs in zip([y, *dx], [other_y, *other_dx], strict=True):
        assert ours.dtype == dtype
        np.testing.assert_allclose(ours, theirs, rtol=2e-6 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("name", CASES)
def test_a_row_does_not_depend_on_its_neighbours_and_a_program_repeats_it(name):
    layer, x, dy = inputs_of(name, np.float32)
    program, given = core.Program(), dy.copy()
    y, backward = layer.forward({}, x, context(NativeArithmetic(program)))
    dx = backward(given, {}, need_dx=[True] * len(x))
    for _ in range(2):
        given[...] = dy
        program.run()
    for rows in (slice(0, 1), slice(1, 1), slice(1, 6)):
        part, dpart = all_passes(layer, [each[rows] for each in x], dy[rows], context(NATIVE))
        for whole, own in zip([y, *dx], [part, *dpart], strict=True):
            assert whole[rows].tobytes() == own.tobytes()


@ARITHMETICS
@pytest.mark.parametrize("name", CASES)
def test_gradients_lie_apart_and_only_those_that_are_needed(name, arithmetic):
    layer, x, dy = inputs_of(name)
    _, expected = all_passes(layer, x, dy, context(arithmetic))
    expected = [each.copy() for each in expected]
    before = [each.copy() for each in x]
    for need_dx in product([False, True], repeat=len(x)):
        _, dx = all_passes(layer, x, dy, context(arithmetic), need_dx)
        assert [each is not None for each in dx] == list(need_dx)
        made = [(one, right) for one, right in zip(dx, expected, strict=True) if one is not None]
        for one, right in made:
            np.testing.assert_array_equal(one, right)
        for (one, _), (other, _) in combinations(made, 2):
            assert not np.shares_memory(one, other)
    for each, kept in zip(x, before, strict=True):
        np.testing.assert_array_equal(each, kept)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CASES)
def test_keras_computes_the_same(name, dtype):
    keras, tf = require("keras"), require("tensorflow")
    layer, x, c = inputs_of(name, dtype)
    x[1].flat[0] = x[0].flat[0]
    settings = {"axis": layer.axis} if isinstance(layer, Concatenate) else {}
    theirs = getattr(keras.layers, type(layer).__name__)(dtype=np.dtype(dtype).name, **settings)
    tensors = [tf.constant(each) for each in x]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        y = theirs(tensors)
        total = tf.reduce_sum(y * c)
    ours, dx = all_passes(layer, x, c, Context())
    for mine, other in zip([ours, *dx], [y, *tape.gradient(total, tensors)], strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5 if dtype == np.float32 else 1e-10)


@pytest.mark.parametrize("name", CASES)
def test_keras_mode_computes_the_same(name):
    require("keras"), require("tensorflow")
    from hpcnn.backends.keras.layers.merging import LAYERS

    layer, x, _ = inputs_of(name)
    ours = layer.forward({}, x, Context())[0]
    np.testing.assert_allclose(ours, LAYERS[type(layer)](layer, "float64")(x), rtol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_onnx_computes_the_same(name):
    onnx, runtime = require("onnx"), require("onnxruntime")
    from hpcnn.tools.export.graph import Graph
    from hpcnn.tools.export.nodes.merging import LAYERS
    from hpcnn.tools.export.onnx_file import IR_VERSION, OPSET

    layer, x, _ = inputs_of(name, np.float32)
    ours, graph = layer.forward({}, x, Context())[0], Graph({})
    names = [f"x{number}" for number in range(len(x))]
    graph.add("Identity", LAYERS[type(layer)](graph, layer, names, None), name="y")
    tensors = [onnx.helper.make_tensor_value_info(each, 1, None) for each in [*names, "y"]]
    made = onnx.helper.make_model(
        onnx.helper.make_graph(graph.nodes, "test", tensors[:-1], tensors[-1:]),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    session = runtime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, dict(zip(names, x, strict=True)))[0], ours, rtol=1e-6)


def test_a_layer_of_several_inputs_is_a_layer():
    for layer, shapes in CASES.values():
        assert isinstance(layer, MultiInput)
        assert isinstance(layer, Layer)
        assert layer.recordable
        assert layer.parameters(shapes) == ()
        assert layer.multiply_adds(shapes) == 0
    assert Add(name="l").ending("relu") == "linear"
    assert Concatenate(name="l").ending("relu") is None


MESSAGES = {
    "one": (lambda: Add(name="l").output_shape([(3,)]), "layer 'l' merges two inputs or more, but got 1"),
    "shapes": (
        lambda: Add(name="l").output_shape([(3,), (4,)]),
        "layer 'l' takes inputs of one shape, but they have the shapes (3,), (4,). Bring them to the same shape",
    ),
    "lengths": (
        lambda: Concatenate(name="l").output_shape([(3, 4), (2, 4)]),
        "layer 'l' puts inputs side by side along axis -1; along all others they must have the same lengths, but their "
        "shapes are (3, 4), (2, 4)",
    ),
    "axis": (
        lambda: Concatenate(axis=3, name="l").output_shape([(3, 4), (3, 4)]),
        "layer 'l': axis must be 1 to 2, or -2 to -1, for samples of shape (3, 4), but is 3",
    ),
    "batch_axis": (lambda: Concatenate(axis=0, name="l").output_shape([(3,), (4,)]), "axis must be 1 to 1, or -1 to"),
}


@pytest.mark.parametrize("case", MESSAGES)
def test_messages(case):
    make, message = MESSAGES[case]
    with pytest.raises(ModelError, match=re.escape(message)):
        make()
