"""Attention, embeddings and tables: the bits of the scalar loops, whatever computes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.kernels.core import Core, make_shards

Array = NDArray[Any]
DTYPES = st.sampled_from([np.float32, np.float64])
LENGTHS = st.one_of(st.integers(1, 20), st.sampled_from([63, 64, 65, 130]))
KEYS = st.one_of(LENGTHS, st.sampled_from([256, 300]))
WIDTHS = st.one_of(st.integers(1, 40), st.sampled_from([64]))
LEAVES = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=7), min_size=1, max_size=3)


def numbers(rng: np.random.Generator, *shape: int, dtype: Any) -> Array:
    """Return numbers of several magnitudes, as a view of a wider array."""
    wide = rng.standard_normal((*shape[:-1], shape[-1] + 3)) * 10.0 ** rng.integers(-2, 1, (*shape[:-1], shape[-1] + 3))
    return wide.astype(dtype)[..., : shape[-1]]


def with_strides(**arrays: Array) -> dict[str, Any]:
    return {
        **arrays,
        **{f"{name}_stride": tuple(s // a.itemsize for s in a.strides[:3]) for name, a in arrays.items()},
    }


class Attention:
    """Arrays of one attention and its gradients."""

    def __init__(self, seed: int, n: int, heads: int, shared: int, lengths: tuple[int, int], widths: tuple[int, int],
                 dtype: Any, *, causal: bool, masked: bool) -> None:  # fmt: skip
        rng = np.random.default_rng(seed)
        (queries, keys), (dim, value_dim) = lengths, widths
        self.dtype, self.tasks = dtype, n * heads
        self.q = numbers(rng, n, queries, heads * shared, dim, dtype=dtype)
        self.k = numbers(rng, n, keys, heads, dim, dtype=dtype)
        self.v = numbers(rng, n, keys, heads, value_dim, dtype=dtype)
        self.dout = numbers(rng, n, queries, heads * shared, value_dim, dtype=dtype)
        self.shape = {"samples": n, "heads": heads * shared, "kv_heads": heads, "queries": queries, "keys": keys,
                      "dim": dim, "value_dim": value_dim, "causal": causal, "scale": dim**-0.5}  # fmt: skip
        if masked:
            mask = (rng.random((n, keys)) < 0.6).astype(dtype)
            mask[0, : keys // 2] = 0  # with `causal` nothing is left for the first queries
            self.shape["mask"] = mask

    def forward(self, core: Core, *cuts: int) -> tuple[Array, Array]:
        out = np.full((*self.dout.shape[:3], self.dout.shape[3] + 2), np.nan, self.dtype)
        saved = np.full((self.q.shape[0], self.q.shape[2], self.q.shape[1], 2), np.nan)
        arrays = with_strides(q=self.q, k=self.k, v=self.v, out=out)
        for task in zip((0, *cuts), (*cuts, self.tasks), strict=True):
            core.run("attention", self.dtype, task, **self.shape, **arrays, saved=saved)
        assert np.isnan(out[..., -2:]).all(), "written past the end of a row"
        return out[..., :-2].copy(), saved

    def backward(self, core: Core, saved: Array, *cuts: int) -> list[Array]:
        dq, dk, dv = (np.full(array.shape, np.nan, self.dtype) for array in (self.q, self.k, self.v))
        arrays = with_strides(q=self.q, k=self.k, v=self.v, dout=self.dout, dq=dq, dk=dk, dv=dv)
        for task in zip((0, *cuts), (*cuts, self.tasks), strict=True):
            core.run("attention_backward", self.dtype, task, **self.shape, **arrays, saved=saved)
        return [dq, dk, dv]


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 99), st.integers(1, 2), st.integers(1, 2), st.integers(1, 3), st.tuples(LENGTHS, KEYS),
    st.tuples(WIDTHS, WIDTHS), DTYPES, st.booleans(), st.booleans(), st.data(),
)  # fmt: skip
def test_attention_has_the_bits_of_the_scalar_loops(
    cores: list[Core], reference: Core, seed: int, n: int, heads: int, shared: int, lengths: tuple[int, int],
    widths: tuple[int, int], dtype: Any, causal: bool, masked: bool, data: Any,
) -> None:  # fmt: skip
    case = Attention(seed, n, heads, shared, lengths, widths, dtype, causal=causal, masked=masked)
    out, saved = case.forward(reference)
    expected = [out, saved, *case.backward(reference, saved)]
    cut = data.draw(st.integers(0, case.tasks))
    for core in cores:
        out, saved = case.forward(core, cut)
        for right, computed in zip(expected, [out, saved, *case.backward(core, saved, cut)], strict=True):
            assert right.tobytes() == computed.tobytes(), core.isa


@pytest.mark.parametrize("causal", [False, True])
def test_probabilities_of_large_scores_and_excluded_keys(cores: list[Core], causal: bool) -> None:
    case = Attention(1, 1, 1, 1, (70, 70), (1, 8), np.float32, causal=causal, masked=False)
    case.q[...], case.shape["scale"] = 1, 1.0
    case.k[0, :, 0, 0] = np.where(np.arange(70) % 3 == 0, 2e4, -np.inf)
    case.v[0, 3] = 7
    for core in cores:
        out, _ = case.forward(core)
        np.testing.assert_array_equal(out[0, 0, 0], case.v[0, 0, 0] if causal else out[0, 1, 0])
        seen = case.v[0, ::3, 0]
        expected = seen.cumsum(axis=0) / np.arange(1, len(seen) + 1)[:, np.newaxis] if causal else seen.mean(axis=0)
        np.testing.assert_allclose(out[0, ::3, 0], np.broadcast_to(expected, (24, 8)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_stays(core: Core, dtype: Any) -> None:
    case = Attention(1, 1, 1, 1, (5, 5), (3, 3), dtype, causal=False, masked=False)
    case.k[0, 2, 0, 1] = np.nan
    assert np.isnan(case.forward(core)[0]).all()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 99), LEAVES, st.integers(1, 12), st.integers(1, 50), DTYPES, st.data())
def test_gradients_of_embeddings_follow_the_tree_of_shards(
    cores: list[Core],
    reference: Core,
    seed: int,
    leaves: list[list[int]],
    entries: int,
    columns: int,
    dtype: Any,
    data: Any,
) -> None:
    rng = np.random.default_rng(seed)
    rows, cut = sum(map(sum, leaves)), data.draw(st.integers(0, entries))
    ids = rng.integers(0, entries, rows).astype(dtype)
    dy = np.ascontiguousarray(numbers(rng, rows, columns, dtype=dtype))

    def gradients(core: Core, *tasks: tuple[int, int]) -> bytes:
        kept: list[Any] = []
        out = [np.full((entries, columns), np.nan, dtype) for _ in leaves]
        fields = {"shards": make_shards(leaves, kept), "entries": entries, "columns": columns}
        for task in tasks:
            core.run("embedding_gradient", dtype, task, **fields, ids=ids, dy=dy, out=out)
        return b"".join(array.tobytes() for array in out)

    expected = gradients(reference, (0, entries))
    for core in cores:
        assert gradients(core, (0, cut), (cut, entries)) == expected, core.isa


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tables_and_masks(core: Core, dtype: Any) -> None:
    rng = np.random.default_rng(2)
    x, table = rng.standard_normal((3, 37)).astype(dtype), rng.standard_normal(37).astype(dtype)
    x[0, 0], table[0] = np.finfo(dtype).tiny, -np.finfo(dtype).tiny / 2
    y = np.empty_like(x)
    core.run("add_table", dtype, 3, samples=3, size=37, x=x, table=table, y=y)
    expected = x + table
    expected[np.abs(expected) < np.finfo(dtype).tiny] = 0
    np.testing.assert_array_equal(y, expected)
    x[1, :4] = 0, -0.0, np.nan, 1e-40
    core.run("not_zero", dtype, x.size, size=x.size, x=x, y=y)
    np.testing.assert_array_equal(y, (x != 0).astype(dtype))
