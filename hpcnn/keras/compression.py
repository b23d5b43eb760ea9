"""Compression of gradients between ranks, by the names that scripts for Horovod use."""

from __future__ import annotations

from typing import Any

import numpy as np

from hpcnn.errors import CommunicatorError
from hpcnn.keras.numpy_calls import numpy_type


class Compressor:
    """The type to which floating-point numbers of 4 bytes or more are converted, to be sent and added.

    Args:
        name: the type; None converts nothing.
    """

    def __init__(self, name: str | None) -> None:
        self.name = name

    @property
    def wire(self) -> np.dtype[Any] | None:
        """The NumPy type."""
        return None if self.name is None else numpy_type(self.name)

    def compress(self, tensor: Any) -> tuple[Any, Any]:
        """Return the rounded tensor, and what `decompress` needs."""
        import keras

        before = keras.backend.standardize_dtype(tensor.dtype)
        if self.name is None or before not in ("float32", "float64"):
            return tensor, None
        return keras.ops.cast(tensor, self.name), before

    def decompress(self, tensor: Any, before: Any) -> Any:
        """Return the tensor in its original type."""
        import keras

        return tensor if before is None else keras.ops.cast(tensor, before)

    def __repr__(self) -> str:
        return f"Compression.{ {None: 'none', 'float16': 'fp16', 'bfloat16': 'bf16'}[self.name] }"


class Compression:
    """The kinds of compression."""

    none = Compressor(None)
    fp16 = Compressor("float16")
    bf16 = Compressor("bfloat16")


def check_compression(compression: Any) -> Compressor:
    """Return `compression`.

    Raises:
        CommunicatorError: it is something else.
    """
    if not isinstance(compression, Compressor):
        raise CommunicatorError(
            f"compression={compression!r} is not one of hpcnn's: use Compression.none, Compression.fp16 "
            "or Compression.bf16"
        )
    return compression
