"""Compression of gradients between ranks, by the names that scripts for Horovod use."""

from __future__ import annotations

from typing import Any

import numpy as np

from hpcnn.errors import CommunicatorError, MissingExtraError


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

    def __repr__(self) -> str:
        return f"Compression.{ {None: 'none', 'float16': 'fp16', 'bfloat16': 'bf16'}[self.name] }"


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


def numpy_type(name: str) -> np.dtype[Any]:
    """Return the NumPy type of this name, which may be bfloat16.

    Raises:
        MissingExtraError: NumPy lacks it without a package that is not installed.
    """
    if name == "bfloat16":
        try:
            import ml_dtypes  # installed with TensorFlow and jax
        except ImportError:
            raise MissingExtraError("ml_dtypes", "keras", "bfloat16 between ranks") from None

        kind: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return kind
    return np.dtype(name)
