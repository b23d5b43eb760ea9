"""Recurrent layers, step by step."""

from __future__ import annotations

import numpy as np

from hpcnn.nn.arithmetic import Cell, Grad, RecurrentBackward
from hpcnn.nn.plain.cells import Cells, StepBackward, stack
from hpcnn.nn.plain.sums import sum_rows
from hpcnn.nn.workspace import Array, Workspace


class PlainRecurrent:
    """See `Arithmetic`."""

    def recurrent(
        self,
        ctx: Workspace,
        owner: object,
        cell: Cell,
        x: Array,
        kernel: Array,
        recurrent_kernel: Array,
        bias: Array | None,
        y: Array,
    ) -> RecurrentBackward:
        """Go through the steps with arrays (steps, n, ...), whose steps are plain matrices."""
        (n, steps, features), (units, width), dtype = x.shape, recurrent_kernel.shape, kernel.dtype
        first_bias, second_bias = bias, None
        if cell.kind == "gru_after" and bias is not None:
            first_bias, second_bias = bias
        by_step = stack(ctx, owner, "x", (steps, n, features), dtype)
        np.copyto(by_step, x.swapaxes(0, 1))
        z = stack(ctx, owner, "z", (steps, n, width), dtype)
        before = stack(ctx, owner, "before", (steps, n, units), dtype)
        rows, dz = by_step.reshape(steps * n, features), z.reshape(steps * n, width)
        ctx.matmul(rows, kernel, out=dz)
        if first_bias is not None:
            np.add(dz, first_bias, out=dz)
        cells = Cells(ctx, owner, cell, z, recurrent_kernel, second_bias, before)
        order = range(steps - 1, -1, -1) if cell.backwards else range(steps)
        h, backwards = ctx.scratch(owner, "h", (n, units), dtype), dict[int, StepBackward]()
        h.fill(0)
        for step in order:
            backwards[step] = cells.forward(step, h)
            np.copyto(y[:, step] if y.ndim == 3 else y, h)

        def backward(
            dy: Array, kernel_grad: Grad, recurrent_grad: Grad, bias_grad: Grad, /, *, need_dx: bool
        ) -> Array | None:
            dh = ctx.scratch(owner, "dh", (n, units), dtype)
            np.copyto(dh, 0 if y.ndim == 3 else dy)
            for step in reversed(order):
                if y.ndim == 3:
                    np.add(dh, dy[:, step], out=dh)
                backwards[step](dh)
            if kernel_grad is not None:
                ctx.matmul(rows.T, dz, out=kernel_grad)
            _recurrent_gradients(ctx, cells, recurrent_grad, bias_grad)
            if not need_dx:
                return None
            ctx.matmul(dz, kernel.T, out=rows)  # nobody needs the inputs any more
            dx = ctx.scratch(owner, "dx", x.shape, dtype)
            np.copyto(dx, by_step.swapaxes(0, 1))
            return dx

        return backward

    def combine(self, name: str, a: Array, b: Array | None, out: Array) -> Array:
        """Combine entry by entry."""
        if b is not None:
            a = np.multiply(a, b, out=out) if name == "multiply" else np.add(a, b, out=out)
        return np.multiply(a, 0.5, out=out) if name in ("halve", "average") else a


def _recurrent_gradients(ctx: Workspace, cells: Cells, kernel_grad: Grad, bias_grad: Grad) -> None:
    """Write the gradients of the recurrent kernel and the bias."""
    steps, n, width = cells.z.shape
    units, kind = cells.before.shape[2], cells.cell.kind
    inner = cells.inner.reshape(steps * n, width)
    if kernel_grad is not None:
        first = 2 * units if kind == "gru_before" else width
        for outputs, part in ((cells.before, slice(first)), (cells.scaled, slice(first, width))):
            ctx.matmul(outputs.reshape(steps * n, units).T, inner[:, part], out=kernel_grad[:, part])
    if bias_grad is not None and kind == "gru_after":
        sum_rows(inner, ctx, out=bias_grad[1])
        bias_grad = bias_grad[0]
    if bias_grad is not None:
        sum_rows(cells.z.reshape(steps * n, width), ctx, out=bias_grad)
