"""Attention of several inputs: against finite differences, Keras, and what is exported."""

from __future__ import annotations

import numpy as np
import pytest

from hpcnn.nn import Context, CrossAttention
from hpcnn.nn.params import ParamLayout
from tests.nn.cases.attention import cross_attention
from tests.nn.helpers import check_gradient, normal
from tests.require import require

N = 4
CASES = {
    "value": (CrossAttention(2, 3, name="l"), ((5, 4), (6, 3))),
    "key": (CrossAttention(2, 4, value_dim=2, output_dim=5, name="l"), ((5, 4), (6, 3), (6, 5))),
    "causal": (CrossAttention(2, 3, causal=True, use_bias=False, name="l"), ((7, 4), (5, 3))),
    "mask": (CrossAttention(2, 4, name="l"), ((5, 4), (6, 3), (6,))),
    "all": (CrossAttention(4, 3, num_kv_heads=2, causal=True, name="l"), ((5, 4), (6, 3), (6, 2), (6,))),
    "self": (CrossAttention(2, 3, causal=True, name="l"), ((5, 4), (5,))),
}


class Case:
    """A layer with parameters, inputs and a direction of its outputs."""

    def __init__(self, name, dtype=np.float64):
        self.layer, self.shapes = CASES[name]
        self.layout = ParamLayout(self.layer.parameters(self.shapes))
        self.vector = normal(self.layout.size, seed=5, dtype=dtype)
        self.x = [normal(N, *shape, seed=i, dtype=dtype) for i, shape in enumerate(self.shapes)]
        self.masked = len(self.shapes[-1]) == 1
        if self.masked:
            self.x[-1] = (self.x[-1] > -0.5).astype(dtype)
            self.x[-1][:, 0] = 1  # Keras has other outputs where nothing is left
        self.c = normal(N, *self.layer.output_shape(self.shapes), seed=9, dtype=dtype)

    def forward(self, x, vector):
        return self.layer.forward(self.layout.views(vector), x, Context())


@pytest.mark.parametrize("name", CASES)
def test_gradients(name):
    case = Case(name)
    mask = case.x[-1:] if case.masked else []
    sequences = case.x[: -1 if case.masked else None]

    def function(*point):
        y, _ = case.forward([*point[:-1], *mask], point[-1])
        return float(np.vdot(y, case.c))

    y, backward = case.forward(case.x, case.vector)
    assert y.shape == case.c.shape
    gradient = np.empty_like(case.vector)
    dx = backward(case.c.copy(), case.layout.gradient_views(gradient), need_dx=[True] * len(case.x))
    check_gradient(function, [*sequences, case.vector], [*dx[: len(sequences)], gradient])
    if case.masked:
        assert not dx[-1].any()
    assert all(not np.shares_memory(a, b) for a in dx for b in dx if a is not b)


@pytest.mark.parametrize("name", CASES)
def test_gradients_of_inputs_that_nobody_needs_are_none(name):
    case = Case(name)
    _, backward = case.forward(case.x, case.vector)
    expected = [np.empty_like(case.vector) for _ in range(2)]
    whole = backward(case.c.copy(), case.layout.gradient_views(expected[0]), need_dx=[True] * len(case.x))
    whole = [each.copy() for each in whole]
    for place in range(len(case.x)):
        need = [each == place for each in range(len(case.x))]
        dx = backward(case.c.copy(), case.layout.gradient_views(expected[1]), need_dx=need)
        np.testing.assert_array_equal(expected[1], expected[0])
        np.testing.assert_array_equal(dx[place], whole[place])
        assert [each is not None for each in dx] == need


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("ours", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_keras_and_our_layer_for_keras_compute_the_same(name, ours, dtype):
    keras, tf = require("keras"), require("tensorflow")
    from hpcnn.backends.keras.layers.conversion import LAYERS

    case, layer = Case(name, dtype), CASES[name][0]
    if ours:
        made = LAYERS[CrossAttention](layer, np.dtype(dtype).name)
    else:
        made = cross_attention(keras, layer, np.dtype(dtype).name, masked=case.masked)
    tensors = [tf.constant(each) for each in case.x]
    made(tensors)
    params = case.layout.views(case.vector)
    for variable, value in zip(made.weights, params.values(), strict=True):
        variable.assign(value)
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        y = made(tensors)
        total = tf.reduce_sum(y * case.c)
    sequences = len(tensors) - case.masked
    expected = tape.gradient(total, [*tensors[:sequences], *(variable.value for variable in made.weights)])
    our_y, backward = case.forward(case.x, case.vector)
    grads = case.layout.gradient_views(np.empty_like(case.vector))
    dx = backward(case.c.copy(), grads, need_dx=[True] * len(case.x))[:sequences]
    tolerance = 1e-10 if dtype == np.float64 else 2e-5
    np.testing.assert_allclose(our_y, y, rtol=tolerance, atol=tolerance)
    for own, their in zip([*dx, *grads.values()], expected, strict=True):
        np.testing.assert_allclose(own, their, rtol=tolerance, atol=tolerance * max(1, np.abs(their).max()))
    names = [variable.path.partition("/")[2] for variable in made.weights]
    assert [f"l/{each}" for each in names] == list(params)


@pytest.mark.parametrize("name", CASES)
def test_onnx(name):
    onnx, runtime = require("onnx"), require("onnxruntime")
    from hpcnn.tools.export.graph import Graph
    from hpcnn.tools.export.nodes.attention import add_cross_attention
    from hpcnn.tools.export.onnx_file import IR_VERSION, OPSET

    case, layer = Case(name), CASES[name][0]
    if case.masked:
        case.x[-1][1] = 0  # nothing is left to attend to
    graph = Graph(case.layout.views(case.vector))
    inputs = [f"input {place}" for place in range(len(case.x))]
    output = add_cross_attention(graph, layer, inputs, case.shapes)
    kind = onnx.TensorProto.FLOAT
    values = [onnx.helper.make_tensor_value_info(each, kind, ["n", *shape])
              for each, shape in zip(inputs, case.shapes, strict=True)]  # fmt: skip
    constants = [onnx.numpy_helper.from_array(value, each) for each, value in graph.constants.items()]
    made = onnx.helper.make_graph(
        graph.nodes, "attention", values,
        [onnx.helper.make_tensor_value_info(output, kind, ["n", *case.c.shape[1:]])], constants,
    )  # fmt: skip
    model = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {each: x.astype(np.float32) for each, x in zip(inputs, case.x, strict=True)}
    (y,) = session.run([output], feed)
    np.testing.assert_allclose(y, case.forward(case.x, case.vector)[0], rtol=2e-5, atol=2e-5)
