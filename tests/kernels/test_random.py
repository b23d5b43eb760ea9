"""Random numbers: the published vectors of Philox, the distributions, and that a key alone decides."""

import ctypes
import hashlib
import math
from collections import Counter

import numpy as np
import pytest

N = 200_000
CRITICAL = 2.0
"""Of sqrt(n) times Kolmogorov and Smirnov's distance: it is above this with probability 0.0007."""


@pytest.fixture
def draw(cores):
    library = cores[0].library

    def draw(name, n, *, seed=5, stream=1, place=0):
        out = np.full(n, -1, np.int64) if name == "permutation" else np.full(n, np.nan)
        function = getattr(library, f"random_{name}")
        function.argtypes = [ctypes.c_uint64, ctypes.c_uint32, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_int64]
        function.restype = None
        function(seed, stream, place, out.ctypes.data, n)
        return out

    return draw


KNOWN = [  # kat_vectors of Random123: counter, key, words
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([2**32 - 1] * 4, [2**32 - 1] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_philox_gives_the_published_words(cores, counter, key, words):
    assert philox(cores[0], counter, key) == words


def philox(core, counter, key):
    out = (ctypes.c_uint32 * 4)()
    core.library.philox((ctypes.c_uint32 * 4)(*counter), (ctypes.c_uint32 * 2)(*key), out)
    return list(out)


def test_a_uniform_number_is_made_of_the_words_of_its_place(cores, draw):
    seed, stream, place = 0x123456789ABCDEF0, 9, 2**40 + 3
    block = place // 2
    words = philox(cores[0], [block % 2**32, block >> 32, 0, stream], [seed % 2**32, seed >> 32])
    assert draw("uniform", 1, seed=seed, stream=stream, place=place)[0] == ((words[3] << 32 | words[2]) >> 11) / 2**53


def normal_distribution(z):
    return np.array([math.erfc(-x / math.sqrt(2)) / 2 for x in z])


def truncated_distribution(z):
    low, high = normal_distribution([-2, 2])
    return (normal_distribution(z) - low) / (high - low)


VARIANCE = 1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2))
DISTRIBUTIONS = [
    # name, distribution function, mean, variance, limits
    ("uniform", lambda u: u, 0.5, 1 / 12, (0, 1)),
    ("normal", normal_distribution, 0, 1, (-9, 9)),
    ("truncated_normal", truncated_distribution, 0, VARIANCE, (-2, 2)),
]


@pytest.mark.parametrize(
    ("name", "distribution", "mean", "variance", "limits"), DISTRIBUTIONS, ids=lambda d: str(d)[:16]
)
def test_numbers_are_distributed_as_they_should_be(draw, name, distribution, mean, variance, limits):
    x = np.sort(draw(name, N))
    assert limits[0] <= x[0] < x[-1] <= limits[1]
    assert np.unique(x).size == N
    assert x.mean() == pytest.approx(mean, abs=4 * math.sqrt(variance / N))
    assert x.var() == pytest.approx(variance, rel=0.02)
    steps = np.arange(N + 1) / N
    share = distribution(x)
    assert max(abs(share - steps[:-1]).max(), abs(share - steps[1:]).max()) < CRITICAL / math.sqrt(N)
    shuffled = draw(name, N)
    assert abs(np.corrcoef(shuffled[1:], shuffled[:-1])[0, 1]) < 4 / math.sqrt(N)


def test_the_inverse_of_the_normal_distribution_is_exact_to_some_ulp(draw):
    """Both it and the uniform number of the same place come from the same bits."""
    p, z = draw("uniform", N), draw("normal", N)
    assert np.corrcoef(p, z)[0, 1] > 0.97
    np.testing.assert_allclose(normal_distribution(z), p, rtol=1e-12, atol=2.0**-51)
    tail = np.concatenate([p[p < 1e-3], p[:100]])
    assert tail.size > 150
    np.testing.assert_allclose(normal_distribution(z[p < 1e-3]), p[p < 1e-3], rtol=1e-10)


@pytest.mark.parametrize("name", ["uniform", "normal", "truncated_normal"])
def test_a_number_depends_on_its_key_alone(draw, name):
    whole = draw(name, 101, place=10)
    for first, n in ((0, 1), (0, 50), (3, 98), (100, 1), (101, 0)):
        assert draw(name, n, place=10 + first).tobytes() == whole[first : first + n].tobytes()
    for other in ({"seed": 6}, {"seed": 5 + 2**32}, {"stream": 2}, {"place": 2**33 + 10}):
        assert not np.isin(draw(name, 101, **({"place": 10} | other)), whole).any()


@pytest.mark.parametrize("n", [2, 3, 4])
def test_each_permutation_is_as_likely(draw, n):
    draws = 6000
    counts = Counter(tuple(draw("permutation", n, place=place)) for place in range(draws))
    expected = draws / math.factorial(n)
    assert len(counts) == math.factorial(n)
    assert sum((count - expected) ** 2 / expected for count in counts.values()) < 3 * math.factorial(n) + 10


@pytest.mark.parametrize("n", [0, 1, 2, 1000, 60_000])
def test_a_permutation_holds_each_number_once_and_is_that_of_its_key(draw, n):
    order = draw("permutation", n, place=3)
    assert np.sort(order).tolist() == list(range(n))
    assert draw("permutation", n, place=3).tolist() == order.tolist()
    if n > 100:
        for other in ({"seed": 6}, {"stream": 2}, {"place": 4}, {"place": 3 + 2**32}):
            assert np.mean(draw("permutation", n, **({"place": 3} | other)) == order) < 0.02
        assert abs(np.corrcoef(order, np.arange(n))[0, 1]) < 4 / math.sqrt(n)


def test_a_permutation_is_the_shuffle_of_its_definition(cores, draw):
    seed, stream, place, n = 7, 3, 2, 500
    drawn = iter(
        word
        for block in range(n)
        for words in [philox(cores[0], [block, place, 0, stream], [seed, 0])]
        for word in (words[0] | words[1] << 32, words[2] | words[3] << 32)
    )
    order = list(range(n))
    for i in range(n - 1, 0, -1):
        while True:
            product = next(drawn) * (i + 1)
            if product % 2**64 >= 2**64 % (i + 1):
                break
        other = product >> 64
        order[i], order[other] = order[other], order[i]
    assert draw("permutation", n, seed=seed, stream=stream, place=place).tolist() == order


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("uniform", "48eee89dbc5c10da"),
        ("normal", "730ac74be5af72d5"),
        ("truncated_normal", "8d209ba59492ab69"),
        ("permutation", "cccaeaf53c4bf1ab"),
    ],
)
def test_the_bits_are_known(draw, name, start):
    """They are the same on every processor."""
    assert hashlib.sha256(draw(name, 100_000).tobytes()).hexdigest().startswith(start)
