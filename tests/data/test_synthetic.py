import tracemalloc

import numpy as np
import pytest

from hpcnn.data import random_numbers
from hpcnn.data import rows as rows_module
from hpcnn.data.readers import read_source, synthetic
from hpcnn.job.data import Synthetic
from tests.data.helpers import take

N = 20_000


def linear(**settings):
    return read_source(Synthetic(**{"kind": "linear", "samples": N, "features": 3, **settings}), None)


def clouds(**settings):
    return read_source(Synthetic(**{"kind": "classification", "samples": N, "features": 2, **settings}), None)


@pytest.mark.parametrize("make", [linear, clouds])
def test_a_row_is_a_function_of_seed_and_place(make, monkeypatch):
    source = make(features=5)
    indices = np.random.default_rng(0).integers(0, N, 300)
    for rows, again, other in (
        (source.x, make(features=5).x, make(features=5, seed=1).x),
        (source.y, make(features=5).y, make(features=5, seed=1).y),
    ):
        values = take(rows)
        assert take(again).tobytes() == values.tobytes()
        assert not np.array_equal(take(other), values)
        assert take(rows, indices=indices).tobytes() == values[indices].tobytes()
        assert np.concatenate([take(rows, indices=[i]) for i in indices]).tobytes() == values[indices].tobytes()
    monkeypatch.setattr(rows_module, "BLOCK_BYTES", 200)
    small = make(features=5)
    assert take(small.x, indices=indices).tobytes() == take(source.x, indices=indices).tobytes()
    assert take(small.y, indices=indices).tobytes() == take(source.y, indices=indices).tobytes()


@pytest.mark.parametrize("make", [linear, clouds])
def test_more_samples_keep_the_first(make):
    np.testing.assert_array_equal(take(make(samples=10).x), take(make(samples=99).x, indices=range(10)))
    np.testing.assert_array_equal(take(make(samples=10).y), take(make(samples=99).y, indices=range(10)))


@pytest.mark.parametrize("make", [linear, clouds])
def test_any_size_without_memory(make):
    source = make(samples=10**12, features=100)
    indices = np.random.default_rng(0).integers(0, 10**12, 2000)
    x, y = np.empty((2000, 100), np.float32), np.empty((2000, *source.y.shape[1:]), source.y.dtype)
    source.x.take(indices, x)
    source.y.take(indices, y)
    assert len(np.unique(x[:, 0])) > 1990
    tracemalloc.start()
    try:
        source.x.take(indices, x)
        source.y.take(indices, y)
        assert tracemalloc.get_traced_memory()[1] < 2**16
    finally:
        tracemalloc.stop()


def test_linear_inputs_are_uniform_and_independent():
    x = take(linear().x)
    assert x.min() >= 0
    assert x.max() < 1
    assert np.histogram(x, 10, (0, 1))[0] == pytest.approx([6000] * 10, abs=400)
    assert np.corrcoef(x, rowvar=False) == pytest.approx(np.eye(3), abs=0.03)
    assert np.corrcoef(x[:-1, 0], x[1:, 0])[0, 1] == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize(("slope", "intercept"), [(2.5, -1.0), (1.0, 0.0)])
def test_linear_targets_without_noise_are_exact(slope, intercept):
    source = linear(slope=slope, intercept=intercept, noise=0.0)
    np.testing.assert_allclose(take(source.y)[:, 0], take(source.x).sum(axis=1) * slope + intercept, rtol=1e-14)


def test_least_squares_finds_slope_and_intercept():
    source = linear(slope=2.5, intercept=-1.0, noise=0.5)
    x, y = take(source.x), take(source.y)[:, 0]
    solution, *_ = np.linalg.lstsq(np.column_stack([x, np.ones(N)]), y)
    assert solution == pytest.approx([2.5, 2.5, 2.5, -1.0 + 0.25], abs=0.03)
    noise = y - x.sum(axis=1) * 2.5 + 1.0
    assert noise.min() >= 0
    assert noise.max() < 0.5
    assert noise.std() == pytest.approx(0.5 / np.sqrt(12), rel=0.02)


@pytest.mark.parametrize("noise", [0.5, 3.0])
def test_clouds_are_gaussian_around_their_centres(noise):
    source = clouds(classes=4, noise=noise)
    x, y = take(source.x), take(source.y)
    assert y.dtype == np.int64
    assert np.bincount(y) == pytest.approx([N / 4] * 4, rel=0.05)
    for label in range(4):
        rest = (x[y == label] - source.x.centres[label]) / noise
        assert rest.mean(axis=0) == pytest.approx([0, 0], abs=0.06)
        assert np.cov(rest, rowvar=False) == pytest.approx(np.eye(2), abs=0.06)
    normal = ((x - source.x.centres[y]) / noise).ravel()
    assert (normal**4).mean() == pytest.approx(3, abs=0.15)
    assert np.mean(np.abs(normal) < 1) == pytest.approx(0.6827, abs=0.01)


def test_clouds_without_noise_are_their_centres():
    source = clouds(noise=0.0)
    np.testing.assert_array_equal(take(source.x), source.x.centres[take(source.y)])


@pytest.mark.parametrize("features", [1, 3, 50])
def test_centres_lie_two_deviations_apart_on_the_average(features):
    centres = clouds(features=features, classes=300).x.centres
    squares = ((centres[:, None] - centres) ** 2).sum(axis=-1)
    assert np.sqrt(squares[~np.eye(300, dtype=bool)].mean()) == pytest.approx(synthetic.DISTANCE, rel=0.1)


def test_hash_is_splitmix64():
    """Against the reference sequence of splitmix64 started at 0."""
    counter_hash = random_numbers.CounterHash(0, 0, 3)
    counter_hash._columns = np.arange(1, 4, dtype=np.uint64) * np.uint64(random_numbers.GAMMA)
    bits = counter_hash.bits(np.array([0, 1]))
    assert [hex(value) for value in bits[0].tolist()] == [
        "0xe220a8397b1dcdaf",
        "0x6e789e6aa1b965f4",
        "0x6c45d188009454f",
    ]
    state = 0
    mask = 2**64 - 1
    for value in bits.ravel().tolist():
        state = (state + random_numbers.GAMMA) & mask
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        assert value == z ^ (z >> 31)
