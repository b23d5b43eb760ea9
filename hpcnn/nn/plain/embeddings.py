"""Rows of tables by their numbers, and tables that are added to each sample."""

from __future__ import annotations

import numpy as np

from hpcnn.nn.arithmetic import Grad, TableBackward
from hpcnn.nn.ids import whole_ids
from hpcnn.nn.plain.sums import sum_rows
from hpcnn.nn.workspace import Array, Workspace


class PlainEmbeddings:
    """See `Arithmetic`."""

    def embedding(
        self, ctx: Workspace, owner: object, ids: Array, table: Array, title: str
    ) -> tuple[Array, TableBackward]:
        """Copy rows. The gradient adds row by row."""
        whole = whole_ids(ctx, owner, ids, len(table), title)
        y = ctx.scratch(owner, "y", (len(ids), table.shape[1]), table.dtype)
        np.take(table, whole, axis=0, out=y, mode="clip")  # else it makes a copy of y

        def backward(dy: Array, table_grad: Grad, /) -> None:
            table_grad.fill(0)
            np.add.at(table_grad, whole, dy)

        return y, backward

    def add_table(self, ctx: Workspace, owner: object, x: Array, table: Array) -> tuple[Array, TableBackward]:
        """Add. The gradient of the table sums over samples."""
        y = np.add(x, table, out=ctx.scratch(owner, "y", x.shape, x.dtype))

        def backward(dy: Array, table_grad: Grad, /) -> None:
            sum_rows(dy.reshape(len(dy), table.size), ctx, out=table_grad.reshape(-1))

        return y, backward

    def not_zero(self, ctx: Workspace, owner: object, x: Array) -> Array:
        """Compare."""
        return np.not_equal(x, 0, out=ctx.scratch(owner, "y", x.shape, x.dtype), casting="unsafe")

    def zeros(self, ctx: Workspace, owner: object, x: Array) -> Array:
        """Fill."""
        zeros = ctx.scratch(owner, "dx", x.shape, x.dtype)
        zeros.fill(0)
        return zeros
