"""NumPy arrays as PyTorch's tensors and back, without a copy where the memory allows it."""

from __future__ import annotations

from typing import Any

import numpy as np

from hpcnn.comm.protocol import Array
from hpcnn.system.memory import ALIGNMENT


def to_tensor(array: Array) -> Any:
    """Return a C-ordered array as a tensor: of the same memory if that begins as PyTorch's own, else a copy.

    The bits of sums can depend on where memory begins, and a shard's samples are anywhere in those of a batch.
    """
    import torch

    if array.flags.writeable and array.__array_interface__["data"][0] % ALIGNMENT == 0:
        return torch.from_numpy(array)
    return torch.tensor(array)


def view_of(array: Array) -> Any:
    """Return a writeable array as a tensor of the same memory."""
    import torch

    return torch.from_numpy(array)


def to_array(tensor: Any) -> Array:
    """Return the tensor as an array for reading, of the same memory where that is the host's."""
    array: Array = tensor.detach().cpu().numpy()
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)
