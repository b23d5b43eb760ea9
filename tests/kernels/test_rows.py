"""Copies of rows, against NumPy's."""

import numpy as np
import pytest

from hpcnn.kernels import core


@pytest.mark.parametrize("dtype", [np.int8, np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("n", "columns"), [(1, 1), (5, 3), (64, 16), (1025, 67), (16, 130)])
def test_columns_become_those_of_rows(n, columns, dtype):
    values = np.random.default_rng(n).integers(0, 100, (columns, n)).astype(dtype)
    if dtype is np.float16:
        values = values.view(np.uint16)
    out = np.full((n, columns + 2), 77, values.dtype)
    core.columns_to_rows(tuple(values), out[:, 1:-1])
    np.testing.assert_array_equal(out[:, 1:-1], values.T)
    assert (out[:, [0, -1]] == 77).all()


@pytest.mark.parametrize("size", [1, 7, 64, 513, 4096])
def test_rows_are_taken_from_any_byte(size):
    source = np.random.default_rng(size).integers(0, 256, 3 * size + 11, np.uint8)
    starts = np.array([3, 2 * size + 11, 0, 3, size])
    out = np.empty((5, size), np.uint8)
    core.take_rows(source, starts, out)
    np.testing.assert_array_equal(out, [source[start : start + size] for start in starts])


ROWS, STARTS = np.zeros(10, np.uint8), np.zeros(2, np.int64)
REFUSED = {
    "before": (core.take_rows, (ROWS, np.array([-1, 0]), np.empty((2, 3), np.uint8)), "rows within source"),
    "behind": (core.take_rows, (ROWS, np.array([0, 8]), np.empty((2, 3), np.uint8)), "rows within source"),
    "too large": (core.take_rows, (ROWS, STARTS, np.empty((2, 11), np.uint8)), "rows within source"),
    "fewer": (core.take_rows, (ROWS, STARTS, np.empty((3, 3), np.uint8)), "one for each row"),
    "turned": (core.take_rows, (ROWS, STARTS, np.empty((3, 2), np.uint8).T), "out must be C-ordered"),
    "longer": (core.columns_to_rows, ((np.zeros(3), np.zeros(4)), np.empty((3, 2))), "4 entries, but needs 3"),
    "types": (core.columns_to_rows, ((np.zeros(3), np.zeros(3, np.int64)), np.empty((3, 2))), "floats of 64 bits"),
    "strides": (core.columns_to_rows, ((np.zeros(6)[::2],), np.empty((3, 1))), "columns must be C-ordered"),
    "number": (core.columns_to_rows, ((np.zeros(3),), np.empty((3, 2))), "columns must be a tuple"),
    "list": (core.columns_to_rows, ([np.zeros(3)], np.empty((3, 1))), "columns must be a tuple"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(case):
    function, arguments, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        function(*arguments)
