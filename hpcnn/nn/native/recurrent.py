"""Recurrent layers: all steps in one operation of the core, and all other products over all steps at once."""

from __future__ import annotations

import numpy as np
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
        gates = ctx.scratch(owner, "gates", (n, steps, cell.gates * units), dtype)
        dz = gates.reshape(n * steps, -1) if n else np.empty((0, cell.gates * units), dtype)
        before = ctx.scratch(owner, "before", (n, steps, units), dtype)
        more = None
        if cell.kind != "simple_rnn":
            more = ctx.scratch(owner, "more", (n, steps, (3 if cell.kind == "gru_after" else 1) * units), dtype)
        after = cell.kind == "gru_after" and bias is not None  # this has two biases
        self._do.product(rows, kernel, dz, bias[0] if after and bias is not None else bias, 0, None)
        settings = CELLS[cell.kind], CODES[cell.activation], CODES[cell.recurrent_activation], cell.backwards
        recurrent_bias = bias[1] if after and bias is not None else None
        self._do.recurrent(*settings, gates, recurrent_kernel, recurrent_bias, before, more, y)

        def backward(
            dy: Array, kernel_grad: Grad, recurrent_grad: Grad, bias_grad: Grad, /, *, need_dx: bool
        ) -> Array | None:
            self._do.recurrent_backward(*settings, gates, recurrent_kernel, before, more, self._rows(dy, dtype))
            shards = self._shards_of(n * steps)
            inner = dz if more is None or cell.kind != "gru_after" else more.reshape(dz.shape)
            if kernel_grad is not None:
                self._do.weight_gradient(shards, rows, dz, sums(kernel_grad))
            if recurrent_grad is not None:
                outputs = before.reshape(n * steps, units)
                if cell.kind == "gru_before":
                    assert more is not None
                    scaled = more.reshape(n * steps, units)
                    self._gradient_by_parts(ctx, owner, (outputs, scaled), dz, sums(recurrent_grad))
                else:
                    self._do.weight_gradient(shards, outputs, inner, sums(recurrent_grad))
            if bias_grad is not None:
                parts = sums(bias_grad)
                self._do.column_sums(shards, dz, None, tuple(each[0] for each in parts) if after else parts)
                if after:
                    self._do.column_sums(shards, inner, None, tuple(each[1] for each in parts))
            if not need_dx:
                return None
            dx = ctx.scratch(owner, "dx", x.shape, dtype)
            self._do.product(dz, kernel.T, dx.reshape(rows.shape), None, 0, None)
            return dx

        return backward

    def combine(self, name: str, a: Array, b: Array | None, out: Array) -> Array:
        """Combine entry by entry."""
        second = None if b is None else self._flat(b, out.dtype)
        self._do.combine_rows(COMBINATIONS[name], self._flat(a, out.dtype), second, self._flat(out, out.dtype))
        return out

    def _flat(self, array: Array, dtype: DTypeLike) -> Array:
        return self._plain(array, dtype).reshape(len(array), -1) if len(array) else np.empty((0, 1), dtype)

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
