"""Rows of tables by their numbers, and tables that are added to each sample."""

from __future__ import annotations

from hpcnn.kernels import core
from hpcnn.nn.arithmetic import Grad, TableBackward
from hpcnn.nn.ids import whole_ids
from hpcnn.nn.native.base import CODES, NativeBase, real_type, sums
from hpcnn.nn.workspace import Array, Workspace


class NativeEmbeddings(NativeBase):
    """See `Arithmetic`."""

    def embedding(
        self, ctx: Workspace, owner: object, ids: Array, table: Array, title: str
    ) -> tuple[Array, TableBackward]:
        """Copy rows. The gradient sums the rows of each id in order."""
        if self._do is core:
            whole_ids(ctx, owner, ids, len(table), title)
        ids = self._plain(ids, table.dtype)
        y = ctx.scratch(owner, "y", (len(ids), table.shape[1]), table.dtype)
        self._do.embedding(ids, table, y)

        def backward(dy: Array, table_grad: Grad, /) -> None:
            self._do.embedding_gradient(self._shards_of(len(ids)), ids, self._plain(dy, table.dtype), sums(table_grad))

        return y, backward

    def add_table(self, ctx: Workspace, owner: object, x: Array, table: Array) -> tuple[Array, TableBackward]:
        """Add. The gradient of the table sums over samples."""
        x = self._plain(x, table.dtype)
        y = ctx.scratch(owner, "y", x.shape, x.dtype)
        self._do.add_table(x, table, y)

        def backward(dy: Array, table_grad: Grad, /) -> None:
            rows = self._plain(dy, x.dtype).reshape(len(x), table.size)
            self._do.column_sums(self._shards_of(len(x)), rows, None, sums(table_grad))

        return y, backward

    def not_zero(self, ctx: Workspace, owner: object, x: Array) -> Array:
        """Compare."""
        x = self._plain(x, real_type(x))
        y = ctx.scratch(owner, "y", x.shape, x.dtype)
        self._do.not_zero(x, y)
        return y

    def zeros(self, ctx: Workspace, owner: object, x: Array) -> Array:
        """Copy zeros, in each step: what is returned may have been overwritten."""
        dtype = real_type(x)
        with ctx.kept():  # written once, not in each step: nothing else may lie there
            zeros = ctx.scratch(owner, "zeros", x.shape, dtype)
        zeros.fill(0)
        dx = ctx.scratch(owner, "dx", x.shape, dtype)
        self._do.activate(CODES["linear"], zeros, dx, None)
        return dx
