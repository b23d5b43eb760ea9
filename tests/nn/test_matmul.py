"""Matrix products on several threads: the bits of one, whatever BLAS does at the edges of a piece."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest

from hpcnn.nn import Context, Dense
from hpcnn.nn.matmul import SMALLEST_PIECE, TILE, CutMatmul, matmul_on
from hpcnn.system.denormals import FlushDenormals
from tests.forks import ends_in_a_child
from tests.nn.helpers import Model, normal
from tests.timing import WAIT_S

BARELY = (256, 1024, 256)
"""Rows, terms and columns of a product that is just large enough for two pieces."""


class Outer:
    """A product that is quick to tell and the same everywhere: column 0 of a times row 0 of b. It keeps a record."""

    def __init__(self):
        self.calls = []

    def __call__(self, a, b, /, *, out):
        self.calls.append((out.shape, threading.get_ident()))
        return np.multiply(a[:, :1], b[:1], out=out)


def operands(m, k, n, dtype=np.float64):
    return normal(m, k, dtype=dtype), normal(k, n, dtype=dtype), np.empty((m, n), dtype)


def test_one_thread_is_numpy_itself():
    assert matmul_on(1) is np.matmul
    assert Context().matmul is np.matmul


@pytest.mark.parametrize("threads", [2, 5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "features", "units"), [(300, 784, 600), (1000, 301, 515), (64, 1000, 2048)])
def test_the_three_products_of_a_layer_keep_their_bits(n, features, units, dtype, threads):
    matmul = matmul_on(threads)
    x, kernel, dz = (normal(*shape, dtype=dtype) for shape in ((n, features), (features, units), (n, units)))
    for a, b in ((x, kernel), (x.T, dz), (dz, kernel.T)):
        expected = np.matmul(a, b)
        out = np.full_like(expected, np.nan)
        assert matmul(a, b, out=out) is out
        assert out.tobytes() == expected.tobytes()
        again = np.full_like(expected, np.nan)  # as already tried out
        assert matmul(a, b, out=again).tobytes() == expected.tobytes()


@pytest.mark.parametrize("threads", [2, 3])
def test_a_layer_multiplies_by_the_context(threads):
    x, dy = normal(256, 1024), normal(256, 300, seed=1)
    results = []
    for matmul in (np.matmul, matmul_on(threads)):
        calls = []

        def spy(a, b, /, *, out, matmul=matmul, calls=calls):
            calls.append(out.shape)
            return matmul(a, b, out=out)

        model = Model([Dense(1024, name="a"), Dense(300, name="b")], (1024,))
        model.ctx = Context(matmul=spy)
        logits, backward = model.forward(x)
        y = logits.copy()
        backward(dy.copy(), model.grads)
        assert len(calls) == 5  # two forward; three back, as nobody needs dx of the first layer
        results.append((y.tobytes(), model.gradient.tobytes()))
    assert results[0] == results[1]


def test_pieces_run_at_the_same_time():
    everyone = threading.Barrier(3, timeout=WAIT_S)
    armed = False

    def product(a, b, /, *, out):
        if armed:
            everyone.wait()  # breaks, if one of three pieces is not running
        return Outer()(a, b, out=out)

    matmul = CutMatmul(3, product)
    a, b, out = operands(512, 512, 512)
    matmul(a, b, out=out)
    armed = True
    matmul(a, b, out=out)
    assert np.array_equal(out, a[:, :1] * b[:1])


@pytest.mark.parametrize(("threads", "pieces"), [(2, 2), (3, 3), (64, 4)])
@pytest.mark.parametrize(("m", "n"), [(512, 500), (500, 512)])
def test_the_longer_axis_is_cut_at_tiles_into_pieces_worth_a_thread(m, n, threads, pieces):
    product = Outer()
    matmul = CutMatmul(threads, product)
    a, b, out = operands(m, 528, n)  # four times what a piece has at least
    matmul(a, b, out=out)
    product.calls.clear()
    matmul(a, b, out=out)
    axis = int(n > m)
    assert len(product.calls) == pieces
    lengths = sorted(shape[axis] for shape, _ in product.calls)
    assert sum(lengths) == 512
    assert {shape[1 - axis] for shape, _ in product.calls} == {500}
    assert sum(length % TILE != 0 for length in lengths) == 1  # the last
    assert lengths[-1] - lengths[0] < 2 * TILE


@pytest.mark.parametrize("shorter", [0, 1])
def test_small_products_stay_whole(shorter):
    product = Outer()
    m, k, n = BARELY
    a, b, out = operands(m, k - shorter, n)
    CutMatmul(2, product)(a, b, out=out)
    whole = len(product.calls) == 1
    assert whole == bool(shorter)


@pytest.mark.parametrize(
    ("axes", "pieces"),
    [
        ((), [(120, 256), (136, 256)]),
        ((1,), [(120, 256), (136, 256)]),
        ((0,), [(256, 120), (256, 136)]),
        ((0, 1), [(256, 256)]),
    ],
)
def test_a_cut_that_changes_bits_is_not_made(axes, pieces):
    """The length of a piece along `axes` changes the last bits of its numbers."""
    outer = Outer()

    def product(a, b, /, *, out):
        outer(a, b, out=out)
        for axis in axes:
            out *= 1 + 1e-15 * out.shape[axis]
        return out

    matmul = CutMatmul(2, product)
    a, b, out = operands(*BARELY)
    matmul(a, b, out=out)
    outer.calls.clear()
    matmul(a, b, out=out)
    assert sorted(shape for shape, _ in outer.calls) == pieces
    assert out.tobytes() == product(a, b, out=np.empty_like(out)).tobytes()


def test_each_shape_and_layout_is_tried_out_once():
    product = Outer()
    matmul = CutMatmul(2, product)
    counts = []
    a, b, out = operands(*BARELY)
    wide = np.empty((256, 300))[:, :256]
    for arrays in ((a, b, out), (a + 1, b, out), (np.asfortranarray(a), b, out), (a, b, wide), (a, b, out)):
        product.calls.clear()
        matmul(arrays[0], arrays[1], out=arrays[2])
        counts.append(len(product.calls))
    assert counts == [5, 2, 5, 5, 2]  # whole, cut and the product itself; or only that


@pytest.mark.parametrize("scale", [1e-20, 1e30])
def test_pieces_flush_denormals_and_warn_of_nothing(scale):
    product = Outer()
    matmul = CutMatmul(2, product)
    a, b, out = operands(*BARELY, dtype=np.float32)
    matmul(a, b, out=out)  # starts the thread, which would else inherit what is set below
    a, b = a * np.float32(scale), b * np.float32(scale)
    with FlushDenormals(), np.errstate(all="ignore"):
        matmul(a, b, out=out)
        expected = product(a, b, out=np.empty_like(out))
    assert out.tobytes() == expected.tobytes()
    assert not expected.any() or np.isinf(expected).any()


def test_a_fault_in_a_piece_is_raised():
    home = threading.get_ident()

    def product(a, b, /, *, out):
        if threading.get_ident() != home:
            raise MemoryError("no room")
        return Outer()(a, b, out=out)

    a, b, out = operands(*BARELY)
    with pytest.raises(MemoryError, match="no room"):
        CutMatmul(2, product)(a, b, out=out)


def test_a_child_process_has_threads_of_its_own():
    matmul = CutMatmul(2, Outer())
    a, b, out = operands(*BARELY)
    matmul(a, b, out=out)

    def again():
        other = np.empty_like(out)
        matmul(a, b, out=other)
        assert np.array_equal(other, out)

    assert ends_in_a_child(again)
    again()


def test_the_smallest_product_that_is_cut():
    assert math.prod(BARELY) == 2 * SMALLEST_PIECE
