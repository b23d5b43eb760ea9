"""Tensors as arrays, and arrays as tensors, without a copy where the memory of the CPU holds them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from hpcnn.comm.protocol import Array
from hpcnn.errors import CommunicatorError


def array_of(tensor: torch.Tensor) -> Array:
    """Return the values of a tensor; those of bfloat16, which NumPy has not, as float32.

    Raises:
        CommunicatorError: NumPy has nothing like it.
    """
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise CommunicatorError(
            f"a tensor of layout {tensor.layout} and type {tensor.dtype} can't be sent: make it dense, "
            "by to_dense() or dequantize()"
        )
    on_cpu = tensor.detach().resolve_conj().resolve_neg().cpu()
    return (on_cpu.float() if on_cpu.dtype == torch.bfloat16 else on_cpu).numpy()


def tensor_of(array: Array, device: Any = None) -> torch.Tensor:
    """Return a tensor over the memory of a writable array, or on another device a copy."""
    tensor = torch.from_numpy(np.asarray(array))
    return tensor if device is None else tensor.to(device)


def as_tensor(value: Any) -> torch.Tensor:
    """Return a tensor, or a number or an array as one."""
    return value if isinstance(value, torch.Tensor) else torch.as_tensor(value)
