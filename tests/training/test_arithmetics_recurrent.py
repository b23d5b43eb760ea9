"""Recurrent layers in both arithmetics; in the compiled core, recorded for all shards at once and shard by shard."""

from itertools import pairwise

import numpy as np
import pytest

from hpcnn.core.tree import fold_leaves
from hpcnn.errors import JobError
from hpcnn.kernels import core
from hpcnn.nn.native import NATIVE, NativeArithmetic, ShardRows
from tests.nn.cases.recurrent import LAYERS
from tests.nn.helpers import alone, normal
from tests.small_jobs import make_job, train

BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])
STARTS = [0, 4, 4, 5, 11, 13]
"""Rows of five leaves: one is empty."""
SUBTREES = [(0, 4), (4, 5)]


def passes(model, layer, x, c, arithmetic, grads):
    """Return y and dx of the layer; its gradients are written to `grads`."""
    model.ctx.arithmetic = arithmetic
    model.ctx.begin(training=True)
    y, backward = layer.forward(model.params, x, model.ctx)
    y = y.copy()  # the pass back may use its memory
    return y, backward(c.copy(), grads).copy()


def case(name, dtype, n=STARTS[-1]):
    layer, input_shape = LAYERS[name]
    model = alone(layer, input_shape, dtype=dtype).shake()
    return (
        model,
        layer,
        normal(n, *input_shape, dtype=dtype),
        normal(n, *model.network.output_shape, seed=1, dtype=dtype),
    )


@BOTH
@pytest.mark.parametrize("name", LAYERS)
def test_both_compute_the_same(name, dtype):
    model, layer, x, c = case(name, dtype)
    y, dx = passes(model, layer, x, c, model.ctx.arithmetic, model.grads)
    gradient = model.gradient.copy()
    model.gradient.fill(np.nan)
    ours = passes(model, layer, x, c, NATIVE, model.grads)
    tolerance = 1e-11 if dtype == np.float64 else 2e-5
    for expected, computed in zip((y, dx, gradient), (*ours, model.gradient), strict=True):
        assert computed.dtype == dtype
        np.testing.assert_allclose(
            computed, expected, rtol=tolerance, atol=tolerance * max(1, abs(expected).max(initial=0))
        )


@BOTH
@pytest.mark.parametrize("name", LAYERS)
def test_all_shards_at_once_give_the_bits_of_one_after_the_other(name, dtype):
    model, layer, x, c = case(name, dtype)
    vectors = [np.full_like(model.gradient, np.nan) for _ in SUBTREES]
    views = [model.network.layout.gradient_views(vector) for vector in vectors]
    grads = {name: tuple(view[name] for view in views) for name in model.grads}
    program, dy = core.Program(), c.copy()
    model.ctx.arithmetic = NativeArithmetic(program, ShardRows(SUBTREES, STARTS))
    model.ctx.begin(training=True)
    given = np.zeros_like(x)  # recorded before the inputs are there, as in a training
    y, backward = layer.forward(model.params, given, model.ctx)
    forward = len(program)
    dx = backward(dy, grads)
    given[...] = x
    for _ in range(2):  # what a pass leaves behind does not matter to the next
        program.run(0, forward)
        outputs = y.copy()
        dy[...] = c
        program.run(forward)

    other, rows = case(name, dtype)[0], list(pairwise(STARTS))

    def of_leaf(leaf):
        part = slice(*rows[leaf])
        own_y, own_dx = passes(other, layer, x[part].copy(), c[part], NativeArithmetic(), other.grads)
        np.testing.assert_array_equal(own_y, outputs[part])
        np.testing.assert_array_equal(own_dx, dx[part])
        return other.gradient.copy()

    for subtree, vector in zip(SUBTREES, vectors, strict=True):
        np.testing.assert_array_equal(fold_leaves(subtree, of_leaf, np.add), vector)


@pytest.mark.parametrize("name", ["lstm_sequences", "gru", "gru_before", "bidirectional_mul"])
def test_one_result_on_any_number_of_threads(name):
    results = set()
    for threads in (1, 2, 3):
        core.use_threads(threads)
        model, layer, x, c = case(name, np.float32, n=600)  # enough work for threads
        y, dx = passes(model, layer, x, c, NATIVE, model.grads)
        results.add((y.tobytes(), dx.tobytes(), model.gradient.tobytes()))
    core.use_threads(1)
    assert len(results) == 1


def test_a_job_of_recurrent_layers_has_one_result_on_any_number_of_ranks():
    """Its last activation is within a container."""
    lstm = {"type": "lstm", "units": 4, "return_sequences": True, "recurrent_l2": 0.01}
    layers = [
        {"type": "reshape", "shape": [5, 1]},
        {"type": "bidirectional", "layers": [lstm]},
        {"type": "simple_rnn", "units": 3, "return_sequences": True},
        {"type": "gru", "units": 4},
        {"type": "reshape", "shape": [1, 4]},
        {"type": "time_distributed", "layers": [{"type": "dense", "units": 3, "activation": "softmax"}]},
        {"type": "flatten"},
    ]
    job = make_job(model={"layers": layers}, train={"arithmetic": "native"})
    assert len({train(job, ranks).fingerprint for ranks in (1, 2, 3)}) == 1


@pytest.mark.parametrize(
    ("last", "ends_in_a_probability"),
    [
        ({"type": "simple_rnn", "units": 1, "activation": "sigmoid"}, True),
        ({"type": "simple_rnn", "units": 1}, False),
        ({"type": "bidirectional", "layers": [{"type": "simple_rnn", "units": 1, "activation": "sigmoid"}]}, True),
        ({"type": "bidirectional", "merge_mode": "sum",
          "layers": [{"type": "simple_rnn", "units": 1, "activation": "sigmoid"}]}, False),
        ({"type": "lstm", "units": 1}, False),
    ],
)  # fmt: skip
def test_a_loss_of_probabilities_needs_an_activation_that_makes_them(last, ends_in_a_probability):
    settings = {
        "model": {"layers": [{"type": "reshape", "shape": [5, 1]}, last]},
        "loss": {"name": "binary_crossentropy"},
    }
    if ends_in_a_probability:
        make_job(**settings)
        return
    with pytest.raises(JobError, match="binary_crossentropy"):
        make_job(**settings)
