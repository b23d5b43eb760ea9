"""Copies of rows, and of columns as rows: by the compiled core where it is there, else by NumPy, slower."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hpcnn.data.sampler import Indices
from hpcnn.kernels.loading import find_core

_Bytes = NDArray[np.uint8]
_BLOCK_COLUMNS, _BLOCK_ROWS = 64, 256
"""What becomes rows together, so that it fits the cache both ways."""
_TAKEN = 2**20
"""Bytes that are taken together."""


def take_rows(source: _Bytes, starts: Indices, out: _Bytes) -> None:
    """Write rows of bytes, (n, width), that begin at the places `starts` of `source`, (n,), into `out`."""
    core = find_core()
    if core is not None:
        core.take_rows(source, starts, out)
        return
    width = np.arange(out.shape[1])
    step = max(1, _TAKEN // max(1, out.shape[1]))
    for first in range(0, len(out), step):
        source.take(starts[first : first + step, None] + width, out=out[first : first + step], mode="clip")


def columns_to_rows(columns: tuple[NDArray[np.generic], ...], out: NDArray[np.generic]) -> None:
    """Write columns, each (n,) and in one piece, into `out`, (n, columns), of the same type; each row in one piece."""
    core = find_core()
    if core is not None:
        core.columns_to_rows(columns, out)
        return
    for first in range(0, len(columns), _BLOCK_COLUMNS):
        together = np.stack(columns[first : first + _BLOCK_COLUMNS])
        for start in range(0, len(out), _BLOCK_ROWS):
            rows = slice(start, start + _BLOCK_ROWS)
            out[rows, first : first + len(together)] = together[:, rows].T
