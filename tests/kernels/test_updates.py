"""Optimizers' chains, norms and the search for what is not finite: the bits of the reference, in every variant."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcnn.optim.links import Kind
from tests.kernels.core import make
from tests.kernels.structures import CONSTANTS

DTYPES = [np.float32, np.float64]
SIZE = 2 * 1024 + 77
C = (0.3, 0.1, 0.95, 0.07, 1e-3)


def values(seed, n, dtype):
    """Return updates, parameters and two states, with numbers of every kind among them."""
    rng = np.random.default_rng(seed)
    u, p, s1, s2 = (rng.normal(size=n).astype(dtype) for _ in range(4))
    s1, s2 = np.abs(s1), np.abs(s2)
    tiny = np.finfo(dtype).tiny
    for array in (u, p, s1, s2):
        array[rng.random(n) < 0.1] = 0
        array[rng.random(n) < 0.1] *= tiny * 3
    u[rng.random(n) < 0.05] *= np.sqrt(tiny)
    u[rng.random(n) < 0.02] = np.nan
    u[rng.random(n) < 0.02] = np.inf
    return u, p, s1, s2


def do(core, dtype, arrays, links, cuts=()):
    """Do links (kind, start, stop, constants) in tasks cut at `cuts`; return the bytes of all arrays."""
    u, p, s1, s2 = arrays = [array.copy() for array in arrays]
    kept = []
    chain = []
    for kind, start, stop, constants in links:
        link = make("link", kept, kind=kind, start=start, stop=stop, s1=s1, s2=s2)
        link.c[:] = constants
        chain.append(link)
    marks = [0, *cuts, u.size]
    for begin, end in pairwise(marks):
        core.run("update", dtype, (begin, end), size=u.size, u=u, p=p, links=len(links), chain=chain)
    return [array.tobytes() for array in arrays]


def same_but_for_nan(one, other, dtype):
    """Whether the bits are the same; a NaN is a NaN, whatever its sign."""
    x, y = (np.frombuffer(each, dtype).copy() for each in (one, other))
    x[np.isnan(x)] = y[np.isnan(y)] = np.nan
    return x.tobytes() == y.tobytes()


def test_the_kinds_are_those_of_the_core():
    assert {kind.name: kind.value for kind in Kind} == {name: CONSTANTS[name] for name in Kind.__members__}
    assert CONSTANTS["APPLY"] == len(Kind) - 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.name)
def test_each_link_has_the_bits_of_the_reference(core, reference, kind, dtype):
    arrays = values(int(kind), SIZE, dtype)
    links = [(kind, 5, SIZE - 3, C)]
    with np.errstate(all="ignore"):
        expected = do(reference, dtype, arrays, links)
        assert all(map(same_but_for_nan, do(core, dtype, arrays, links), expected, [dtype] * 4))
    assert expected != [array.tobytes() for array in arrays]


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_chains_over_parts_of_a_block_have_the_bits_of_the_reference_for_any_tasks(cores, reference, data, dtype):
    n = data.draw(st.integers(1, 3000), "n")
    ends = st.tuples(st.integers(0, n), st.integers(0, n)).map(sorted)
    kinds = data.draw(
        st.lists(st.tuples(st.sampled_from(Kind), ends | st.just([0, n])), min_size=1, max_size=5), "links"
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=3), "cuts"))
    links = [(kind, *where, C) for kind, where in kinds]
    arrays = values(n, n, dtype)
    expected = do(reference, dtype, arrays, links)
    for core in cores:
        assert all(map(same_but_for_nan, do(core, dtype, arrays, links, cuts), expected, [dtype] * 4)), core.isa


@pytest.mark.parametrize("dtype", DTYPES)
def test_states_and_parameters_are_flushed(core, dtype):
    tiny = np.finfo(dtype).tiny
    u, p, s1, s2 = (np.full(100, value, dtype) for value in (0, -tiny, tiny, tiny))
    do_all = [(Kind.ADAM, 0, 100, (0.9, 0.1, 0.9, 0.1, 1e-7)), (Kind.SCALE, 0, 100, (0.0,) + 4 * (0.0,))]
    first, second = (np.frombuffer(each, dtype) for each in do(core, dtype, (u, p, s1, s2), do_all)[2:])
    assert not first.any()
    assert not second.any()
    u -= dtype(0.75) * tiny * 2
    apply = [(Kind.APPLY, 0, 100, (1.0,) + 4 * (0.0,))]
    params = np.frombuffer(do(core, dtype, (u, 2 * p, s1, s2), apply)[1], dtype)
    assert not params.any()
    assert np.signbit(params).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradient_sums_are_flushed_before_the_first_link(core, dtype):
    u = np.array([1, -1, 0.5, -0.5] * 40, dtype) * np.finfo(dtype).tiny
    links = [(Kind.SCALE, 0, u.size, (2.0**20,) + 4 * (0.0,))]
    scaled = np.frombuffer(do(core, dtype, (u, u, u, u), links)[0], dtype)
    assert np.array_equal(scaled, np.where(np.abs(u) < np.finfo(dtype).tiny, 0, u * dtype(2**20)))


@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=30, deadline=None)
@given(starts=st.lists(st.integers(0, 5000), min_size=2, max_size=6).map(sorted), seed=st.integers(0, 9))
def test_sums_of_cells_have_the_bits_of_the_reference(cores, reference, starts, seed, square, dtype):
    x = np.random.default_rng(seed).normal(size=5000).astype(dtype)
    start = np.array(starts, np.int64)
    sums = []
    for core in (reference, *cores):
        cells = np.full(start.size - 1, np.nan)
        core.run("cell_sums", dtype, cells.size, count=cells.size, start=start, square=square, x=x, cells=cells)
        sums.append(cells.tobytes())
    assert len(set(sums)) == 1
    exact = [np.abs(x[lo:hi].astype(float)) ** (1 + square) for lo, hi in pairwise(start)]
    np.testing.assert_allclose(np.frombuffer(sums[0]), [cell.sum() for cell in exact], rtol=1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("place", [0, 1, 1023, 1024, 3000, 4108])
def test_the_first_that_is_not_finite_is_found(core, place, dtype):
    largest = {np.float32: 2.0**64, np.float64: 2.0**512}[dtype]
    for wrong, squared in ((np.nan, False), (np.inf, False), (-np.inf, False), (largest, True), (-largest, True)):
        x = np.random.default_rng(0).normal(size=4109).astype(dtype)
        x[:9] = np.nextafter(dtype(largest), dtype(0))  # the largest whose square is finite
        assert found(core, x, square=True) == found(core, x, square=False) == -1
        x[place:] = wrong
        assert found(core, x, square=True) == place
        assert found(core, x, square=False) == (-1 if squared else place)


def found(core, x, *, square):
    place = np.array([-7])
    core.run("find_not_finite", x.dtype, 1, size=x.size, square=square, x=x, found=place)
    return place[0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_is_found_in_nothing(core, dtype):
    assert found(core, np.empty(0, dtype), square=True) == -1
