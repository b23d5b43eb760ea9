import numpy as np
import pytest

from hpcnn.data.reduction import SERIAL
from tests.data.helpers import on_ranks

LEAVES = np.random.default_rng(0).normal(size=(23, 5)) * 10.0 ** np.arange(-10, 13)[:, None]


def tree(lo, hi):
    return LEAVES[lo] if hi - lo == 1 else tree(lo, (lo + hi) // 2) + tree((lo + hi) // 2, hi)


def test_serial_sum_follows_the_canonical_tree():
    assert SERIAL.sum(23, lambda i: LEAVES[i]).tobytes() == tree(0, 23).tobytes()
    np.testing.assert_allclose(SERIAL.sum(23, lambda i: LEAVES[i]), LEAVES.sum(axis=0))


def test_serial_max_is_elementwise():
    np.testing.assert_array_equal(SERIAL.max(23, lambda i: LEAVES[i]), LEAVES.max(axis=0))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 30])
def test_ranks_agree_with_serial_to_the_bit(size):
    """Checks the helper that other tests lean on."""
    for total in on_ranks(size, lambda reduction: reduction.sum(23, lambda i: LEAVES[i])):
        assert total.tobytes() == tree(0, 23).tobytes()
    for high in on_ranks(size, lambda reduction: reduction.max(23, lambda i: LEAVES[i])):
        np.testing.assert_array_equal(high, LEAVES.max(axis=0))
