"""Attention, without any array of queries x keys."""

from __future__ import annotations

import math

import numpy as np

from hpcnn.nn.arithmetic import AttentionBackward
from hpcnn.nn.native.base import NativeBase
from hpcnn.nn.workspace import Array, Workspace


class NativeAttention(NativeBase):
    """See `Arithmetic`."""

    def attention(
        self, ctx: Workspace, owner: object, q: Array, k: Array, v: Array, mask: Array | None, *, causal: bool
    ) -> tuple[Array, AttentionBackward]:
        """Compute probabilities block by block; the pass back computes them again."""
        (n, queries, heads, dim), dtype = q.shape, q.dtype
        k, v = self._plain(k, dtype), self._plain(v, dtype)
        mask = None if mask is None else self._plain(mask, dtype)
        out = ctx.scratch(owner, "out", (n, queries, heads, v.shape[3]), dtype)
        saved = ctx.scratch(owner, "saved", (n, heads, queries, 2), np.float64)
        scale = 1 / math.sqrt(dim)
        self._do.attention(q, k, v, mask, out, saved, causal, scale)

        def backward(dout: Array) -> tuple[Array, Array, Array]:
            dq, dk, dv = (
                ctx.scratch(owner, f"d{name}", array.shape, dtype) for name, array in (("q", q), ("k", k), ("v", v))
            )
            dout = self._plain(dout, dtype).reshape(out.shape)
            self._do.attention_backward(q, k, v, mask, saved, dout, dq, dk, dv, causal, scale)
            return dq, dk, dv

        return out, backward
