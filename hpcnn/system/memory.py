"""Memory laid out for speed."""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

ALIGNMENT = 64
"""Bytes; one cache line, and one AVX-512 register."""
HUGE_PAGE = 2 << 20
"""Bytes that one entry of the processor's table of pages covers, where the system gives them."""


def aligned_empty(shape: int | Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
    """Return an uninitialised C-ordered array whose data begin at a multiple of 64 bytes.

    >>> aligned_empty((3, 5), np.float32).ctypes.data % 64
    0
    """
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    dtype = np.dtype(dtype)
    raw = np.empty(math.prod(shape) * dtype.itemsize + ALIGNMENT, dtype=np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)


def kept_empty(shape: int | Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
    """Return what `aligned_empty` returns, on huge pages where the system has them: for what is kept and used often.

    NumPy asks for them from 4 MB on, and begins anywhere within the first. No physical memory is taken beyond the end.
    """
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < HUGE_PAGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return aligned_empty(shape, dtype)
    try:
        memory = mmap.mmap(-1, size + HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory.madvise(mmap.MADV_HUGEPAGE)
    except OSError:  # a system without them, or without so much memory, of which NumPy speaks
        return aligned_empty(shape, dtype)
    raw = np.frombuffer(memory, np.uint8)
    start = -raw.ctypes.data % HUGE_PAGE
    return raw[start : start + size].view(dtype).reshape(shape)
