"""Normalisations: both arithmetics agree, and no bit depends on which shards are computed together."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from hpcnn.core.tree import additions, fold_rows, maximal_subtrees
from hpcnn.kernels import core
from hpcnn.nn import Context
from hpcnn.nn.layer import BatchLayer
from hpcnn.nn.native import NATIVE, NativeArithmetic, ShardRows
from hpcnn.system.memory import aligned_empty
from tests.nn.cases.normalization import LAYERS
from tests.nn.helpers import alone, normal
from tests.small_jobs import make_job, train

BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])
SIZES = (3, 0, 5, 1, 4, 9)
"""Samples of each shard."""
CUTS = {"one rank": (0, 6), "two ranks": (0, 3, 6), "other ranks": (0, 1, 6), "each alone": tuple(range(7))}


def aligned(array):
    copy = aligned_empty(array.shape, array.dtype)
    copy[...] = array
    return copy


class Rank:
    """The recorded pass of one rank over its shards [first, stop)."""

    def __init__(self, model, x, dy, first, stop):
        starts = np.cumsum([0, *SIZES])
        rows = slice(starts[first], starts[stop])
        self.subtrees = maximal_subtrees(len(SIZES), (first, stop))
        self.program, self.ends = core.Program(), []
        shards = ShardRows(self.subtrees, [int(start - starts[first]) for start in starts[first : stop + 1]])
        self.ctx = Context(training=True, arithmetic=NativeArithmetic(self.program, shards))
        self.given_x, self.given_dy = x[rows], dy[rows]
        self.x, self.dy = (aligned(np.zeros_like(each)) for each in (self.given_x, self.given_dy))
        self.grads = {
            name: tuple(np.full_like(each, np.nan) for _ in self.subtrees) for name, each in model.grads.items()
        }
        self.sums, self.totals = [], []
        layer = model.network.layers[0]
        if isinstance(layer, BatchLayer) and layer.collects(self.ctx):
            self.y, self.dx = self._in_step(layer, model)
        else:
            self.y, backward = layer.forward(model.params, self.x, self.ctx)
            self.dx = backward(self.dy, self.grads)
        self.ends.append(len(self.program))

    def _in_step(self, layer, model):
        sums, resume = layer.begin(model.params, self.x, self.ctx)
        y, pull = resume(self._wait(sums))
        sums, resume_back = pull.begin(self.dy, self.grads, need_dx=True)
        assert (sums is not None) == layer.synchronized
        return y, resume_back(None if sums is None else self._wait(sums))

    def _wait(self, sums):
        self.ends.append(len(self.program))
        self.sums.append(sums)
        self.totals.append(np.full(sums.shape[1], np.nan))
        return self.totals[-1]

    def run(self, piece):
        self.program.run(0 if piece == 0 else self.ends[piece - 1], self.ends[piece])


def computed(layer, shape, dtype, cuts, *, times=1):
    """Return outputs, gradient of the inputs and gradients, whose shards are dealt to ranks as `cuts` say."""
    model = alone(layer, shape, dtype=dtype).shake()
    x, dy = (normal(sum(SIZES), *shape, seed=seed, dtype=dtype) + seed for seed in (1, 2))
    ranks = [Rank(model, x, dy, *part) for part in pairwise(cuts)]
    for _ in range(times):
        for rank in ranks:
            rank.x[...], rank.dy[...] = rank.given_x, rank.given_dy
        for piece in range(len(ranks[0].ends)):
            for rank in ranks:
                rank.run(piece)
            if piece < len(ranks[0].sums):
                total = fold_rows(np.concatenate([rank.sums[piece] for rank in ranks]))
                for rank in ranks:
                    rank.totals[piece][...] = total
    results = [np.concatenate([getattr(rank, name) for rank in ranks]) for name in ("y", "dx")]
    subtrees = [subtree for rank in ranks for subtree in rank.subtrees]
    for name in model.grads:
        parts = [part for rank in ranks for part in rank.grads[name]]
        for left, right in additions(len(SIZES), subtrees):
            parts[left] = parts[left] + parts[right]
        results.append(parts[0])
    return results


@BOTH
@pytest.mark.parametrize("name", LAYERS)
def test_no_bit_depends_on_the_ranks(name, dtype) -> None:
    expected = computed(*LAYERS[name], dtype, CUTS["one rank"])
    assert all(np.isfinite(each).all() for each in expected)
    for cuts in CUTS.values():
        for right, other in zip(expected, computed(*LAYERS[name], dtype, cuts, times=2), strict=True):
            np.testing.assert_array_equal(right, other)


@BOTH
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("training", [True, False])
def test_both_arithmetics_agree(name, dtype, training) -> None:
    layer, shape = LAYERS[name]
    tolerance = 1e-12 if dtype is np.float64 else 2e-6
    results = []
    for arithmetic in (None, NATIVE):
        model = alone(layer, shape, dtype=dtype).shake()
        if arithmetic:
            model.ctx.arithmetic = arithmetic
        model.ctx.begin(training=training)
        y, backward = layer.forward(model.params, normal(9, *shape, dtype=dtype) + dtype(2), model.ctx)
        dx = backward(normal(9, *shape, seed=1, dtype=dtype), model.grads)
        results.append([y, dx, model.gradient])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance * max(1, np.abs(theirs).max(initial=0)))


@BOTH
@pytest.mark.parametrize("name", [name for name in LAYERS if name.startswith("batch")])
def test_a_pass_at_once_has_the_bits_of_one_in_pieces(name, dtype) -> None:
    layer, shape = LAYERS[name]
    expected = computed(layer, shape, dtype, CUTS["one rank"])
    model = alone(layer, shape, dtype=dtype).shake()
    x, dy = (normal(sum(SIZES), *shape, seed=seed, dtype=dtype) + seed for seed in (1, 2))
    shards = ShardRows([(0, len(SIZES))], [int(start) for start in np.cumsum([0, *SIZES])])
    model.ctx.arithmetic = NativeArithmetic(shards=shards)
    model.ctx.begin(training=True)
    y, backward = layer.forward(model.params, x.astype(dtype), model.ctx)
    dx = backward(dy.astype(dtype), model.grads)
    for ours, right in zip([y, dx, *model.grads.values()], expected, strict=True):
        np.testing.assert_array_equal(ours, right)


@pytest.mark.parametrize("arithmetic", ["native", "numpy"])
def test_a_training_has_the_bits_of_any_number_of_ranks_and_of_one_that_stopped(arithmetic) -> None:
    layers = [
        {"type": "dense", "units": 8},
        {"type": "batch_normalization", "statistics": "shard", "momentum": 0.5},
        {"type": "reshape", "shape": [2, 4]},
        {"type": "group_normalization", "groups": 2},
        {"type": "rms_normalization"},
        {"type": "flatten"},
        {"type": "dense", "units": 3, "activation": "softmax"},
    ]
    settings = make_job(model={"layers": layers}, train={"arithmetic": arithmetic})
    whole = train(settings)
    assert [train(settings, ranks).fingerprint for ranks in (2, 3)] == [whole.fingerprint] * 2
    stopped = train(settings, 2, stop_at=4)
    averages = stopped.state.tensors["model/batch_normalization_1/moving_variance"]
    assert (averages != 1).all()
    assert train(settings, 3, start=stopped.state).bits() == whole.bits()
