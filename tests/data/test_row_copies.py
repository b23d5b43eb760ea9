"""Rows are copied by the compiled core, and by NumPy where there is none: the same rows."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from hpcnn.data import row_copies
from hpcnn.data.row_copies import columns_to_rows, take_rows
from hpcnn.kernels.loading import find_core
from tests.timing import WAIT_S


@pytest.fixture(params=["native", "numpy"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "native":
        assert find_core() is not None
    else:
        monkeypatch.setattr(row_copies, "find_core", lambda: None)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (300, 70), (513, 130)])
def test_columns_become_rows(dtype: type, shape: tuple[int, int]) -> None:
    values = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    out = np.zeros((shape[0], shape[1] + 2), dtype)
    columns_to_rows(tuple(np.ascontiguousarray(column) for column in values.T), out[:, 1:-1])
    np.testing.assert_array_equal(out[:, 1:-1], values)
    assert not out[:, [0, -1]].any()


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("width", [1, 12, 5000])
def test_rows_are_taken_from_anywhere(width: int) -> None:
    rng = np.random.default_rng(0)
    source = rng.integers(0, 256, 100_000).astype(np.uint8)
    starts = rng.integers(0, len(source) - width, 500)
    out = np.empty((500, width), np.uint8)
    take_rows(source, starts, out)
    np.testing.assert_array_equal(out, source[starts[:, None] + np.arange(width)])


def test_nobody_loads_the_core_who_may_do_without() -> None:
    """With NumPy arithmetic it need not be there; and ranks choose its instruction set before it is loaded."""
    program = """
import sys
import hpcnn.data.readers.hdf5, hpcnn.data.readers.images, hpcnn.data.tables.float_block, hpcnn.runs.session
print("hpcnn.kernels.core" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=WAIT_S)
    assert done.stdout == "False\n"
