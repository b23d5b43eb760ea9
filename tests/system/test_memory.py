import numpy as np
import pytest

from hpcnn.system.memory import ALIGNMENT, aligned_empty


@pytest.mark.parametrize("shape", [0, 7, (3, 5), (2, 0, 3), (), [4, 2]])
@pytest.mark.parametrize("dtype", [np.float32, "float64", np.int64, np.uint8, bool])
def test_arrays_begin_at_a_cache_line_and_are_whole(shape, dtype):
    array = aligned_empty(shape, dtype)
    assert array.shape == np.empty(shape).shape
    assert array.dtype == dtype
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert array.ctypes.data % ALIGNMENT == 0 or not array.size


def test_arrays_share_no_memory():
    arrays = [aligned_empty(100, np.float32) for _ in range(20)]
    for number, array in enumerate(arrays):
        array[...] = number
    assert [array.tolist() for array in arrays] == [[number] * 100 for number in range(20)]
