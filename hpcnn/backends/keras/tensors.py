"""NumPy arrays as TensorFlow's tensors and back, without a copy where the memory allows it."""

from __future__ import annotations

from typing import Any

import numpy as np

from hpcnn.comm.protocol import Array
from hpcnn.system.memory import ALIGNMENT


def can_share(array: Array) -> bool:
    """Return whether TensorFlow can compute with the array in place."""
    return array.flags.c_contiguous and array.flags.writeable and array.ctypes.data % ALIGNMENT == 0


def to_tensor(array: Array) -> Any:
    """Return the array as a tensor: of the same memory if it can be, valid as long as that stays as it is."""
    import tensorflow as tf

    if can_share(array) and array.size:
        return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
    return tf.constant(array)


def to_array(tensor: Any) -> Array:
    """Return the tensor as an array, for reading: of the same memory where that is the CPU's."""
    return np.asarray(tensor)
