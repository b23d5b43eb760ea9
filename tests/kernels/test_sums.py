"""Sums of vectors and of one number a row along the tree, counts of what is right, scaling of data."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcnn.core.tree import additions, fold_leaves, maximal_subtrees, owned_leaves
from hpcnn.training.metrics import Accuracy
from tests.kernels.core import make_shards

DTYPES = [np.float32, np.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [0, 1, 7, 1024, 3001])
def test_vectors_are_added(core, n, dtype):
    rng = np.random.default_rng(n)
    x1, x2 = (rng.normal(size=n).astype(dtype) for _ in range(2))
    y = np.full(n, np.nan, dtype)
    for tasks in ((0, n // 3), (n // 3, n)):
        core.run("add", dtype, tasks, size=n, x1=x1, x2=x2, y=y)
    assert y.tobytes() == (x1 + x2).tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_sum_of_two_vectors_is_flushed(core, dtype):
    tiny = np.finfo(dtype).tiny
    x = np.array([tiny, -tiny] * 9, dtype)
    core.run("add", dtype, x.size, size=x.size, x1=x * dtype(0.75), x2=x / dtype(-4), y=x)
    assert not x.any()
    assert np.signbit(x).tolist() == [False, True] * 9


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=30, deadline=None)
@given(leaves=st.integers(1, 40), size=st.integers(1, 7), n=st.integers(1, 1500), seed=st.integers(0, 9))
def test_slots_are_added_along_the_tree_and_left_alone(cores, leaves, size, n, seed, dtype):
    owned = (owned_leaves(leaves, size, rank) for rank in range(size))
    subtrees = [each for leaf in owned if leaf[0] < leaf[1] for each in maximal_subtrees(leaves, leaf)]
    order = np.array(additions(leaves, subtrees), np.int64).reshape(-1, 2)
    rng = np.random.default_rng(seed)
    slots = [(rng.normal(size=n) * rng.choice([1, np.finfo(dtype).tiny])).astype(dtype) for _ in subtrees]
    before = [slot.tobytes() for slot in slots]
    sums = [slot.copy() for slot in slots]
    for left, right in order:
        sums[left] += sums[right]
    for core in cores:
        out = np.full(n, np.nan, dtype)
        for tasks in ((0, n // 2), (n // 2, n)):
            core.run(
                "fold", dtype, tasks, size=n, slots=len(slots), slot=slots, additions=len(order), order=order, out=out
            )
        assert out.tobytes() == sums[0].tobytes(), core.isa
        assert [slot.tobytes() for slot in slots] == before


@pytest.mark.parametrize("place", [0, 2])
def test_the_sum_of_slots_may_be_one_of_them(core, place):
    slots = [np.random.default_rng(i).normal(size=1000) for i in range(3)]
    expected = slots[0] + (slots[1] + slots[2])
    order = np.array([[1, 2], [0, 1]])
    core.run("fold", float, 1000, size=1000, slots=3, slot=slots, additions=2, order=order, out=slots[place])
    assert slots[place].tobytes() == expected.tobytes()


GROUPS = [[3, 1, 0, 4], [2], [5, 0, 1]]


def test_numbers_of_rows_are_added_along_the_tree(core):
    kept = []
    shards = make_shards(GROUPS, kept)
    terms = np.random.default_rng(0).normal(size=shards.rows)
    out = [np.full(1, np.nan) for _ in GROUPS]
    core.run("shard_totals", float, 1, shards=shards, terms=terms, out=out)
    first = 0
    for group, total in zip(GROUPS, out, strict=True):
        starts = np.cumsum([first, *group])

        def leaf(i, starts=starts):
            return np.add.accumulate([0.0, *terms[starts[i] : starts[i + 1]]])[-1]

        assert total[0] == fold_leaves((0, len(group)), leaf, lambda left, right: left + right)
        first = starts[-1]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("positions", [1, 3])
@pytest.mark.parametrize(("columns", "multilabel", "labels"), [(1, 0, 0), (1, 0, 1), (4, 0, 0), (4, 0, 1), (4, 1, 0)])
def test_what_is_right_is_what_the_metric_counts(core, columns, multilabel, labels, positions, dtype):
    kept = []
    shards = make_shards(GROUPS, kept)
    rng = np.random.default_rng(columns)
    outputs = rng.integers(0, 5, (shards.rows, positions, columns)).astype(dtype) / 4  # with equals
    outputs[0, 0, -1] = np.nan
    targets = rng.integers(0, max(2, columns), (shards.rows, positions))
    if not labels:
        targets = rng.integers(0, 5, outputs.shape).astype(dtype) / 4
    right = [np.array([100.0]) for _ in GROUPS]
    fields = {"positions": positions, "columns": columns, "multilabel": multilabel, "labels": labels}
    core.run("count_right", dtype, 1, shards=shards, outputs=outputs, targets=targets, right=right, **fields)
    metric = Accuracy("accuracy", columns, bool(labels), bool(multilabel))
    ends = np.cumsum([0, *map(sum, GROUPS)])
    for group, (lo, hi) in enumerate(pairwise(ends)):
        stats = np.zeros(2)
        metric.add(stats, outputs[lo:hi], targets[lo:hi])
        assert right[group][0] == 100 + stats[0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shifts", "scales"), [(1, 1), (1, 9), (9, 1), (9, 9)])
def test_data_are_scaled_in_float64(core, shifts, scales, dtype):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, 9))
    shift, scale = rng.normal(size=shifts), rng.normal(size=scales)
    x[0, 0] = shift[0] + 1e-310
    y = np.full(x.shape, np.nan, dtype)
    one = {"shift_is_one": shifts == 1, "scale_is_one": scales == 1}
    core.run("standardize", dtype, 5, rows=5, columns=9, x=x, shift=shift, scale=scale, y=y, **one)
    expected = ((x - shift) * scale).astype(dtype)
    expected[np.abs(expected) < np.finfo(dtype).tiny] *= 0
    assert y.tobytes() == expected.tobytes()
