import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcnn.data import rows as rows_module
from hpcnn.data.rows import ArrayRows, OneHotRows, ReshapedRows, ScaledRows, SubsetRows, materialize
from tests.data.helpers import take

rng = np.random.default_rng(0)
FLOATS = rng.normal(size=(300, 5, 7))
LABELS = rng.integers(0, 4, 300)

BYTES = np.arange(600, dtype=np.uint8).reshape(300, 2)
HALF = np.arange(0, 300, 2)

CASES = {
    "float64": lambda: (ArrayRows(FLOATS), FLOATS),
    "float32": lambda: (ArrayRows(FLOATS.astype(np.float32)), FLOATS.astype(np.float32)),
    "uint8": lambda: (ArrayRows(BYTES), BYTES),
    "bool": lambda: (ArrayRows(FLOATS > 0), FLOATS > 0),
    "big endian": lambda: (ArrayRows(FLOATS.astype(">f4")), FLOATS.astype(">f4")),
    "fortran": lambda: (ArrayRows(np.asfortranarray(FLOATS)), FLOATS),
    "strided": lambda: (ArrayRows(FLOATS[::3, :, 1:4]), FLOATS[::3, :, 1:4]),
    "labels": lambda: (ArrayRows(LABELS), LABELS),
    "subset": lambda: (SubsetRows(ArrayRows(FLOATS), HALF), FLOATS[::2]),
    "scaled": lambda: (ScaledRows(ArrayRows(FLOATS), np.float64(2.0), np.float64(3.0)), (FLOATS - 2.0) * 3.0),
    "scaled by column": lambda: (
        ScaledRows(SubsetRows(ArrayRows(FLOATS), HALF), FLOATS[0], FLOATS[1]),
        (FLOATS[::2] - FLOATS[0]) * FLOATS[1],
    ),
    "scaled bytes": lambda: (ScaledRows(ArrayRows(BYTES), np.float64(0.5), np.float64(3.0)), (BYTES - 0.5) * 3.0),
    "reshaped": lambda: (ReshapedRows(ArrayRows(FLOATS), (35,)), FLOATS.reshape(300, 35)),
    "one-hot": lambda: (OneHotRows(ArrayRows(LABELS), 4), np.eye(4, dtype=np.uint8)[LABELS]),
    "one-hot rows": lambda: (OneHotRows(ArrayRows(LABELS.reshape(100, 3)), 4), np.eye(4)[LABELS.reshape(100, 3)]),
}
"""Rows, and what they hold."""


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]()


@pytest.mark.parametrize("dtype", [None, np.float32, np.float64, np.int64])
@pytest.mark.parametrize("block_bytes", [1, 1000, 2**17])
@pytest.mark.parametrize("name", CASES)
def test_take_equals_indexing(name, dtype, block_bytes, monkeypatch):
    monkeypatch.setattr(rows_module, "BLOCK_BYTES", block_bytes)
    rows, values = CASES[name]()
    assert rows.shape == values.shape
    indices = rng.integers(0, len(values), 64)
    expected = values[indices].astype(rows.dtype if dtype is None else dtype)
    np.testing.assert_array_equal(take(rows, dtype, indices), expected)


def test_take_of_nothing(case):
    assert take(case[0], np.float32, []).shape == (0, *case[0].shape[1:])


def test_take_writes_the_whole_of_out_and_nothing_else(case):
    rows, values = case
    whole = np.full((6, *rows.shape[1:]), 77.0)
    rows.take(np.array([3, 1]), whole[2:4])
    np.testing.assert_array_equal(whole[2:4], values[[3, 1]].astype(np.float64))
    assert (whole[[0, 1, 4, 5]] == 77.0).all()


def test_out_that_would_be_copied_is_refused():
    with pytest.raises(AssertionError, match="swallow"):
        CASES["reshaped"]()[0].take(np.arange(2), np.empty((35, 2)).T)
    with pytest.raises(AssertionError, match="swallow"):
        CASES["float64"]()[0].take(np.arange(2), np.empty((7, 5, 2)).T)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_large_array_in_steady_state(case, dtype):
    rows, _ = case
    indices = rng.integers(0, rows.shape[0], 20_000)
    out = np.empty((len(indices), *rows.shape[1:]), dtype)
    rows.take(indices, out)
    tracemalloc.start()
    try:
        for _ in range(3):
            rows.take(indices, out)
        assert tracemalloc.get_traced_memory()[1] < 2**16
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("leaf", [7, 2**16])
def test_materialized_bits_are_those_of_take(case, dtype, leaf, monkeypatch):
    rows, _ = case
    monkeypatch.setattr(rows_module, "LEAF_ENTRIES", leaf)
    done = materialize(rows, dtype)
    assert take(done, dtype).tobytes() == take(rows, dtype).tobytes()


def test_what_is_materialized():
    scaled = CASES["scaled"]()[0]
    done = materialize(scaled, np.float32)
    assert isinstance(done, ArrayRows)
    assert done.dtype == np.float32
    assert materialize(done, np.float32) is done


def test_what_is_not_materialized(monkeypatch):
    mapped = ScaledRows(SubsetRows(ArrayRows(FLOATS, mapped=True), np.arange(5)), np.float64(0), np.float64(1))
    assert materialize(mapped, np.float32) is mapped
    hot = CASES["one-hot"]()[0]
    assert materialize(hot, np.float32) is hot
    scaled = CASES["scaled"]()[0]
    size = FLOATS.size * 4
    monkeypatch.setattr(rows_module, "MATERIALIZE_BYTES", size - 1)
    assert materialize(scaled, np.float32) is scaled
    monkeypatch.setattr(rows_module, "MATERIALIZE_BYTES", size)
    assert materialize(scaled, np.float32) is not scaled


def test_a_misaligned_array_is_not_copied_whole():
    raw = np.zeros(8 * 2**20 + 1, np.uint8)
    misaligned = raw[1:].view(np.float64).reshape(-1, 8)
    assert not misaligned.flags.aligned
    rows, out = ArrayRows(misaligned), np.empty((4, 8))
    tracemalloc.start()
    try:
        rows.take(np.arange(4), out)
        assert tracemalloc.get_traced_memory()[1] < 2**16
    finally:
        tracemalloc.stop()


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 50), features=st.integers(1, 9), entries=st.integers(1, 100))
def test_chunks_tile_the_rows(n, features, entries):
    values = np.arange(n * features).reshape(n, features)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows_module, "LEAF_ENTRIES", entries)
        chunks = rows_module.Chunks(ArrayRows(values), np.float64)
        parts = [chunk.copy() for chunk in chunks]
    assert len(parts) == len(chunks)
    np.testing.assert_array_equal(np.concatenate(parts), values)
    assert all(len(part) * features <= max(entries, features) for part in parts)
    with pytest.raises(IndexError):
        chunks[len(chunks)]
