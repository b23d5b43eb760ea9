"""Compression of gradients between ranks, on tensors of PyTorch."""

from __future__ import annotations

import torch

from hpcnn.comm.protocol import Compression as OfExchange
from hpcnn.comm.tensors.compression import Compressor


class TensorCompressor(Compressor):
    """A `Compressor` for tensors of PyTorch."""

    def between_hosts(self, hosts: int) -> OfExchange | None:
        """Return how gradients are rounded that travel between so many hosts.

        What is lost by it is added in the next step, so gradients need one of these for all steps.
        """
        if self.name is None:
            return None
        return OfExchange({"float16": "fp16", "bfloat16": "bf16"}[self.name], 1 << (hosts.bit_length() - 1))

    def compress(self, tensor: torch.Tensor) -> tuple[torch.Tensor, torch.dtype | None]:
        """Return the rounded tensor, and what `decompress` needs."""
        if self.name is None or tensor.dtype not in (torch.float32, torch.float64):
            return tensor, None
        return tensor.to(getattr(torch, self.name)), tensor.dtype

    def decompress(self, tensor: torch.Tensor, before: torch.dtype | None) -> torch.Tensor:
        """Return the tensor in its original type."""
        return tensor if before is None else tensor.to(before)


class Compression:
    """The kinds of compression."""

    none = TensorCompressor(None)
    fp16 = TensorCompressor("float16")
    bf16 = TensorCompressor("bfloat16")
