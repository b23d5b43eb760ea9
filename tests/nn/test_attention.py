"""What attention does with what it sees, and the memory that it takes."""

from __future__ import annotations

import numpy as np
import pytest

from hpcnn.nn import Context, CrossAttention, Embedding, Flatten, MultiHeadAttention, PositionalEmbedding, Residual
from hpcnn.nn.losses import MeanSquaredError
from hpcnn.nn.native import NATIVE
from hpcnn.nn.params import ParamLayout
from hpcnn.nn.plain import NUMPY
from tests.nn.helpers import LARGE_BYTES, normal
from tests.nn.test_network import peak_of_a_step

BOTH = pytest.mark.parametrize("arithmetic", [NATIVE, NUMPY], ids=["native", "numpy"])


def outputs(arithmetic, layer, x, shapes):
    """Return what the layer makes of x, with parameters that differ from 0."""
    layout = ParamLayout(layer.parameters(shapes))
    params = layout.views(normal(layout.size, seed=5))
    return layer.forward(params, x, Context(arithmetic=arithmetic))[0].copy()


@BOTH
def test_a_causal_position_sees_nothing_behind_it(arithmetic):
    layer, x = MultiHeadAttention(2, 4, causal=True, name="l"), normal(2, 90, 5)
    y = outputs(arithmetic, layer, x, (90, 5))
    for place in (1, 63, 64, 70):
        other = x.copy()
        other[:, place:] = 3 * normal(2, 90 - place, 5, seed=place)
        changed = outputs(arithmetic, layer, other, (90, 5))
        np.testing.assert_allclose(changed[:, :place], y[:, :place], rtol=1e-12)
        assert (np.abs(changed - y)[:, place:].max(axis=2) > 1e-3).all()


@BOTH
@pytest.mark.parametrize("causal", [False, True])
def test_what_is_left_out_by_a_mask_might_as_well_not_be_there(arithmetic, causal):
    layer = CrossAttention(2, 4, name="l", causal=causal)
    query, value, mask = normal(3, 5, 4), normal(3, 7, 6, seed=1), np.ones((3, 7))
    mask[:, 4:] = 0
    short = outputs(arithmetic, layer, [query, value[:, :4].copy()], ((5, 4), (4, 6)))
    value[:, 4:] = 1e3
    masked = outputs(arithmetic, layer, [query, value, mask], ((5, 4), (7, 6), (7,)))
    np.testing.assert_allclose(masked, short, rtol=1e-12)


@BOTH
def test_where_all_is_left_out_the_output_is_the_bias(arithmetic):
    layer = CrossAttention(2, 4, name="l", bias_initializer="ones")
    x = [normal(3, 5, 4), np.ones((3, 5))]
    x[1][1] = 0
    layout = ParamLayout(layer.parameters([(5, 4), (5,)]))
    params = layout.views(normal(layout.size, seed=5))
    y, _ = layer.forward(params, x, Context(arithmetic=arithmetic))
    bias = params["l/attention_output/bias"]
    np.testing.assert_array_equal(y[1], np.broadcast_to(bias, (5, 4)))
    assert not np.isclose(y[[0, 2]], bias).all(axis=(1, 2)).any()


def test_a_steady_step_allocates_nothing_large():
    layers = [
        Embedding(50, 64, name="e"),
        PositionalEmbedding(name="p"),
        PositionalEmbedding("sinusoidal", name="q"),
        Residual((MultiHeadAttention(4, 16, num_kv_heads=2, causal=True, name="a"),), name="r"),
        Flatten(name="f"),
    ]
    ids = np.random.default_rng(0).integers(0, 50, (32, 24)).astype(np.float32)
    peak = peak_of_a_step(layers, MeanSquaredError(), ids, normal(32, 24 * 64, dtype=np.float32), "linear")
    assert peak < LARGE_BYTES
