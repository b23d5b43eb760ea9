"""Compression of gradients between ranks, on tensors of Keras."""

from __future__ import annotations

from typing import Any

from hpcnn.comm.tensors.compression import Compressor


class TensorCompressor(Compressor):
    """A `Compressor` for tensors of Keras's backend."""

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


class Compression:
    """The kinds of compression."""

    none = TensorCompressor(None)
    fp16 = TensorCompressor("float16")
    bf16 = TensorCompressor("bfloat16")
