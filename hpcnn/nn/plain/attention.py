"""Attention by products of whole matrices, one for each sample and head."""

from __future__ import annotations

import math

import numpy as np

from hpcnn.nn.arithmetic import AttentionBackward
from hpcnn.nn.workspace import Array, Workspace


class PlainAttention:
    """See `Arithmetic`."""

    def attention(
        self, ctx: Workspace, owner: object, q: Array, k: Array, v: Array, mask: Array | None, *, causal: bool
    ) -> tuple[Array, AttentionBackward]:
        """Keep the probabilities, (n, kv_heads, heads of each, queries, keys)."""
        (n, queries, heads, dim), (keys, kv_heads, values) = q.shape, v.shape[1:]
        scale, dtype, shared = 1 / math.sqrt(dim), q.dtype, heads // kv_heads
        scores = (n, kv_heads, shared, queries, keys)

        def by_head(array: Array) -> Array:
            """Return a view (n, kv_heads, heads of each, rows, width)."""
            n, rows, all_heads, width = array.shape
            return array.reshape(n, rows, kv_heads, all_heads // kv_heads, width).transpose(0, 2, 3, 1, 4)

        p = ctx.scratch(owner, "p", scores, dtype)
        np.matmul(by_head(q), by_head(k).swapaxes(-1, -2), out=p)
        np.multiply(p, scale, out=p)
        left_out = _left_out(ctx, owner, mask, n, queries, keys, causal=causal)
        if left_out is not None:
            np.copyto(p, -np.inf, where=left_out)
        _softmax(ctx, owner, p)
        out = ctx.scratch(owner, "out", (n, queries, heads, values), dtype)
        np.matmul(p, by_head(v), out=by_head(out))

        def backward(dout: Array) -> tuple[Array, Array, Array]:
            dout = by_head(dout.reshape(out.shape))
            ds = ctx.scratch(owner, "ds", scores, dtype)
            np.matmul(dout, by_head(v).swapaxes(-1, -2), out=ds)
            total = ctx.scratch(owner, "total", (*scores[:-1], 1), dtype)
            np.vecdot(ds, p, out=total[..., 0])
            np.subtract(ds, total, out=ds)
            np.multiply(ds, p, out=ds)
            np.multiply(ds, scale, out=ds)
            dq, dk, dv = (
                ctx.scratch(owner, f"d{name}", a.shape, dtype) for name, a in zip("qkv", (q, k, v), strict=True)
            )
            np.matmul(ds, by_head(k), out=by_head(dq))
            for x, y, gradient, use in ((ds, by_head(q), dk, "shares of k"), (p, dout, dv, "shares of v")):
                shares = ctx.scratch(owner, use, (n, kv_heads, shared, keys, y.shape[-1]), dtype)
                np.matmul(x.swapaxes(-1, -2), y, out=shares)
                np.add.reduce(shares, axis=2, out=by_head(gradient)[:, :, 0])
            return dq, dk, dv

        return out, backward


def _left_out(
    ctx: Workspace, owner: object, mask: Array | None, n: int, queries: int, keys: int, *, causal: bool
) -> Array | None:
    """Return which keys a query does not see, so that it broadcasts with scores; None if it sees all."""
    left_out: Array | None = None
    if causal:
        left_out = ctx.scratch(owner, "behind", (queries, keys), np.bool_)
        np.greater(np.arange(keys), np.arange(queries)[:, np.newaxis], out=left_out)
    if mask is not None:
        padding = np.equal(mask, 0, out=ctx.scratch(owner, "padding", mask.shape, np.bool_))[:, np.newaxis]
        if left_out is None:
            left_out = padding
        else:
            both = ctx.scratch(owner, "left out", (n, queries, keys), np.bool_)
            left_out = np.logical_or(left_out, padding, out=both)
        left_out = left_out[:, np.newaxis, np.newaxis]
    return left_out


def _softmax(ctx: Workspace, owner: object, p: Array) -> None:
    """Make probabilities of scores: 0 in each row that is -inf throughout."""
    row = ctx.scratch(owner, "row", (*p.shape[:-1], 1), p.dtype)
    np.maximum.reduce(p, axis=-1, keepdims=True, out=row, initial=-np.inf)
    np.copyto(row, 0, where=row == -np.inf)
    np.subtract(p, row, out=p)
    np.exp(p, out=p)
    np.add.reduce(p, axis=-1, keepdims=True, out=row)
    np.copyto(row, 1, where=row == 0)
    np.divide(p, row, out=p)
