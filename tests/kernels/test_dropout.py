"""Dropout: which entries are kept follows from their place in the batch alone."""

import ctypes

import numpy as np
import pytest

from tests.kernels.core import make

SEED, STEP, STREAM = 0x123456789ABCDEF, 7, 11


def dropped(core, x, rate, *, first=0, seed=SEED, step=STEP, stream=STREAM):
    y = np.full_like(x, np.nan)
    place = make("dropout_place", [], first_sample=first, step=step)
    samples, columns = x.shape
    fields = {"samples": samples, "columns": columns, "rate": rate, "seed": seed, "stream": stream}
    core.run("dropout", x.dtype, samples, place=place, x=x, y=y, **fields)
    return y


def words(core, columns, sample):
    """Return the random words of a sample, by `philox`."""
    key = (ctypes.c_uint32 * 2)(SEED & 0xFFFFFFFF, SEED >> 32)
    out = np.empty(-(-columns // 4) * 4, np.uint32)
    for block in range(out.size // 4):
        counter = (ctypes.c_uint32 * 4)(block, sample, STEP, STREAM)
        core.library.philox(counter, key, ctypes.c_void_p(out[4 * block :].ctypes.data))
    return out[:columns]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rate", [0.0, 0.3, 0.5, 0.999])
@pytest.mark.parametrize("columns", [1, 5, 64, 300, 1031])
def test_an_entry_is_kept_by_its_own_word_and_scaled(core, columns, rate, dtype):
    x = np.random.default_rng(0).normal(size=(4, columns)).astype(dtype)
    kept = np.array([(words(core, columns, 20 + i) >> 8) * 2.0**-24 >= rate for i in range(4)])
    expected = np.where(kept, x * dtype(1 / (1 - rate)), dtype(0))
    assert dropped(core, x, rate, first=20).tobytes() == expected.tobytes()
    assert kept.mean() == pytest.approx(1 - rate, abs=4 * np.sqrt(rate * (1 - rate) / kept.size))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_how_samples_are_grouped_changes_nothing(core, dtype):
    x = np.random.default_rng(1).normal(size=(9, 100)).astype(dtype)
    whole = dropped(core, x, 0.4)
    for lo, hi in ((0, 1), (1, 6), (6, 9)):
        assert dropped(core, x[lo:hi].copy(), 0.4, first=lo).tobytes() == whole[lo:hi].tobytes()


@pytest.mark.parametrize(
    "other", [{"seed": SEED + 1}, {"seed": SEED + 2**40}, {"step": 8}, {"stream": 12}, {"first": 1}]
)
def test_each_part_of_the_key_counts(core, other):
    x = np.ones((1, 1000), np.float32)
    same = np.mean((dropped(core, x, 0.5) > 0) == (dropped(core, x, 0.5, **other) > 0))
    assert same == pytest.approx(0.5, abs=0.08)


def test_it_may_be_done_in_place_and_the_way_back_drops_the_same(core):
    x = np.random.default_rng(2).normal(size=(3, 50)).astype(np.float32)
    y = dropped(core, x, 0.5)
    assert np.array_equal(y != 0, dropped(core, np.ones_like(x), 0.5) != 0)
    place = make("dropout_place", [], first_sample=0, step=STEP)
    core.run("dropout", x.dtype, 3, samples=3, columns=50, rate=0.5, seed=SEED, stream=STREAM, place=place, x=x, y=x)
    assert x.tobytes() == y.tobytes()


def test_what_becomes_too_small_is_flushed(core):
    tiny = np.finfo(np.float32).tiny
    y = dropped(core, np.full((1, 200), tiny / 4, np.float32), 0.5)
    assert not y.any()
