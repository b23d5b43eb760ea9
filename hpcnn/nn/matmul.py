"""Matrix products on several threads, with the bits of one.

BLAS on several threads adds in another order than on one, for many shapes. So each call of BLAS runs on one thread, and
a large product is cut into pieces of its output, each a call of its own. A piece sums the same terms in the same order
as the whole does; only where it ends may BLAS pick another of its kernels. So each cut is tried out once on random
numbers, and a product that keeps its bits in none is never cut.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hpcnn.system.blas import limit_thread
from hpcnn.system.denormals import FlushDenormals

Array = NDArray[Any]

TILE = 24
"""Pieces start at multiples of this: the kernels of BLAS compute tiles 4, 8, 12 or 24 wide, and other code at edges."""
SMALLEST_PIECE = 2**25
"""Multiply-adds that are worth waking a thread for: about a millisecond."""

_Piece = tuple[slice, slice]
"""Rows and columns of the output."""
_WHOLE: tuple[_Piece, ...] = ((slice(None), slice(None)),)


class Matmul(Protocol):
    """``out = a . b``, for arrays of two axes."""

    def __call__(self, a: Array, b: Array, /, *, out: Array) -> Array:
        """Write the product to `out`, and return that."""


def matmul_on(threads: int) -> Matmul:
    """Return what multiplies on so many threads: NumPy's own function for one."""
    product: Matmul = np.matmul
    return product if threads == 1 else CutMatmul(threads, product)


class CutMatmul:
    """Multiplies on several threads, with the bits of `product`, which BLAS has to run on one thread.

    On its threads denormals count as zero, and no floating-point warning is given, as in the passes of a model.

    Args:
        threads: how many work at a time, the calling one included; at least 2.
        product: what multiplies each piece.
    """

    def __init__(self, threads: int, product: Matmul) -> None:
        self._threads, self._product = threads, product
        self._pool, self._process = self._new_pool(), os.getpid()
        self._cuts: dict[tuple[object, ...], tuple[_Piece, ...]] = {}

    def __call__(self, a: Array, b: Array, /, *, out: Array) -> Array:
        """Write the product to `out`, and return that."""
        size = out.size * a.shape[1]
        if size < 2 * SMALLEST_PIECE:
            return self._product(a, b, out=out)
        key = (a.shape, a.strides, b.shape, b.strides, out.strides, out.dtype)
        cut = self._cuts.get(key)
        if cut is None:
            cut = self._cuts[key] = self._choose(a, b, out, min(self._threads, size // SMALLEST_PIECE))
        return self._multiply(cut, a, b, out)

    def _multiply(self, cut: Iterable[_Piece], a: Array, b: Array, out: Array) -> Array:
        own, *others = cut
        pool = self._own_pool()
        pending = [pool.submit(self._product, a[i], b[:, j], out=out[i, j]) for i, j in others]
        i, j = own
        self._product(a[i], b[:, j], out=out[i, j])
        for piece in pending:
            piece.result()
        return out

    def _own_pool(self) -> ThreadPoolExecutor:
        """Return the pool, a new one after a fork: a child process has none of the threads."""
        if self._process != os.getpid():
            self._pool, self._process = self._new_pool(), os.getpid()
        return self._pool

    def _new_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._threads - 1, thread_name_prefix="matmul", initializer=_prepare_thread)

    def _choose(self, a: Array, b: Array, out: Array, pieces: int) -> tuple[_Piece, ...]:
        """Return the cut that keeps all bits of a product of such arrays. The longer axis first: it costs less."""
        a, b = _random_like(a, 1), _random_like(b, 2)
        whole = self._product(a, b, out=np.empty_like(out))
        for axis in sorted((0, 1), key=lambda axis: -out.shape[axis]):
            cut = _even_cut(out.shape[axis], axis, pieces)
            if np.array_equal(self._multiply(cut, a, b, np.empty_like(out)), whole):
                return cut
        return _WHOLE


def _even_cut(length: int, axis: int, pieces: int) -> tuple[_Piece, ...]:
    tiles = -(-length // TILE)
    bounds = sorted({min(length, tiles * piece // pieces * TILE) for piece in range(pieces + 1)})
    everything = slice(None)
    parts = [slice(start, stop) for start, stop in pairwise(bounds)]
    return tuple((part, everything) if axis == 0 else (everything, part) for part in parts)


def _random_like(array: Array, seed: int) -> Array:
    like = np.empty_like(array)
    like[...] = np.random.default_rng(seed).standard_normal(array.shape)
    return like


def _prepare_thread() -> None:
    limit_thread()
    np.seterr(all="ignore")
    FlushDenormals().__enter__()
