"""Recurrent layers: all steps in one operation of the core, and all other products over all steps at once."""

from __future__ import annotations

import math

from numpy.typing import DTypeLike

from hpcnn.nn.arithmetic import Cell, Grad, RecurrentBackward
from hpcnn.nn.native.base import CODES, NativeBase, sums
from hpcnn.nn.workspace import Array, Workspace

CELLS = {name: code for code, name in enumerate(("simple_rnn", "gru_before", "gru_after", "lstm"))}
"""Numbers of the cells in the core, which lists them in the same order."""
COMBINATIONS = {name: code for code, name in enumerate(("copy", "halve", "add", "average", "multiply"))}
"""Numbers of the combinations of rows in the core."""


class NativeRecurrent(NativeBase):
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
        """Multiply the inputs of all steps by the kernel, then go through the steps."""
        dtype, (n, steps, features), units = kernel.dtype, x.shape, len(recurrent_kernel)
        rows = self._plain(x, dtype).reshape(n * steps, features)
        gates, before = (
            ctx.scratch(owner, use, (n, steps, width), dtype)
            for use, width in (("gates", cell.gates * units), ("before", units))
        )
        dz = gates.reshape(n * steps, cell.gates * units)
        more = None  # see operations_recurrent.h
        if cell.kind != "simple_rnn":
            more = ctx.scratch(owner, "more", (n, steps, (3 if cell.kind == "gru_after" else 1) * units), dtype)
        first_bias, second_bias = bias, None
        if cell.kind == "gru_after" and bias is not None:
            first_bias, second_bias = bias
        settings = CELLS[cell.kind], CODES[cell.activation], CODES[cell.recurrent_activation], cell.backwards
        self._do.product(rows, kernel, dz, first_bias, 0, None)
        self._do.recurrent(*settings, gates, recurrent_kernel, second_bias, before, more, y)

        def backward(
            dy: Array, kernel_grad: Grad, recurrent_grad: Grad, bias_grad: Grad, /, *, need_dx: bool
        ) -> Array | None:
            self._do.recurrent_backward(*settings, gates, recurrent_kernel, before, more, self._rows(dy, dtype))
            if kernel_grad is not None:
                self._do.weight_gradient(self._shards_of(n * steps), rows, dz, sums(kernel_grad))
            self._recurrent_gradients(ctx, owner, cell, (dz, before, more), recurrent_grad, bias_grad)
            if not need_dx:
                return None
            dx = ctx.scratch(owner, "dx", x.shape, dtype)
            self._do.product(dz, kernel.T, dx.reshape(rows.shape), None, 0, None)
            return dx

        return backward

    def _recurrent_gradients(
        self,
        ctx: Workspace,
        owner: object,
        cell: Cell,
        arrays: tuple[Array, Array, Array | None],
        kernel_grad: Grad,
        bias_grad: Grad,
    ) -> None:
        """Write the gradients of the recurrent kernel and the bias, from what `recurrent_backward` left."""
        dz, before, more = arrays
        shards, outputs = self._shards_of(len(dz)), before.reshape(len(dz), before.shape[2])
        inner = more.reshape(dz.shape) if more is not None and cell.kind == "gru_after" else dz
        if kernel_grad is not None:
            if more is not None and cell.kind == "gru_before":
                self._gradient_by_parts(ctx, owner, (outputs, more.reshape(outputs.shape)), dz, sums(kernel_grad))
            else:
                self._do.weight_gradient(shards, outputs, inner, sums(kernel_grad))
        if bias_grad is None:
            return
        grads = sums(bias_grad)
        if cell.kind == "gru_after":
            self._do.column_sums(shards, inner, None, tuple(grad[1] for grad in grads))
            grads = tuple(grad[0] for grad in grads)
        self._do.column_sums(shards, dz, None, grads)

    def combine(self, name: str, a: Array, b: Array | None, out: Array) -> Array:
        """Combine entry by entry."""
        second = None if b is None else self._flat(b, out.dtype)
        self._do.combine_rows(COMBINATIONS[name], self._flat(a, out.dtype), second, self._flat(out, out.dtype))
        return out

    def _flat(self, array: Array, dtype: DTypeLike) -> Array:
        return self._plain(array, dtype).reshape(len(array), math.prod(array.shape[1:]))

    def _rows(self, dy: Array, dtype: DTypeLike) -> Array:
        """Return the same as an array whose rows are contiguous."""
        contiguous = dy.strides[-1] == dy.itemsize or dy.shape[-1] == 1
        return dy if dy.dtype == dtype and contiguous else self._plain(dy, dtype)

    def _gradient_by_parts(
        self, ctx: Workspace, owner: object, inputs: tuple[Array, Array], dz: Array, grads: tuple[Array, ...]
    ) -> None:
        """Write the gradient of a kernel whose first two thirds multiply one array, and the last another."""
        units, shards = inputs[0].shape[1], self._shards_of(len(dz))
        for place, (x, part) in enumerate(zip(inputs, (slice(2 * units), slice(2 * units, None)), strict=True)):
            own = ctx.scratch(owner, f"part{place}", (len(grads), units, (2 - place) * units), dz.dtype)
            self._do.weight_gradient(shards, x, dz[:, part], tuple(own))
            for each, grad in zip(own, grads, strict=True):
                self._do.combine_rows(COMBINATIONS["copy"], each, None, grad[:, part])
