import numpy as np
import pytest

from hpcnn.system.memory import ALIGNMENT, HUGE_PAGE, aligned_empty, kept_empty


@pytest.mark.parametrize("make", [aligned_empty, kept_empty])
@pytest.mark.parametrize("shape", [0, 7, (3, 5), (2, 0, 3), (), [4, 2], (HUGE_PAGE, 2)])
@pytest.mark.parametrize("dtype", [np.float32, "float64", np.int64, np.uint8, bool])
def test_arrays_begin_at_a_cache_line_and_are_whole(make, shape, dtype):
    array = make(shape, dtype)
    assert array.shape == np.empty(shape).shape
    assert array.dtype == dtype
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert array.ctypes.data % ALIGNMENT == 0 or not array.size


@pytest.mark.parametrize(("make", "size"), [(aligned_empty, 100), (kept_empty, 100), (kept_empty, HUGE_PAGE)])
def test_arrays_share_no_memory(make, size):
    arrays = [make(size, np.uint8) for _ in range(20)]
    for number, array in enumerate(arrays):
        array[...] = number
    assert all((array == number).all() for number, array in enumerate(arrays))


def test_large_arrays_that_are_kept_begin_at_a_huge_page():
    array = kept_empty((HUGE_PAGE + 100,), np.uint8)
    assert array.ctypes.data % HUGE_PAGE == 0
    array[-1] = 7
    assert array[-1] == 7
