"""The cells of recurrent layers, one step after the other, and their gradients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hpcnn.nn.activations import activation
from hpcnn.nn.arithmetic import Cell
from hpcnn.nn.workspace import Array, Workspace

Pull = Callable[[Array], Array]
StepBackward = Callable[[Array], None]
"""Turns the gradient of a step's output, in place, into that of the output before it."""


class Cells:
    """All steps of one pass.

    `z` holds the products of the inputs (steps, n, gates units), and takes their gradients in the pass back; `inner`
    takes those of the products of the outputs before. A bias is added to the latter, if there is one.
    """

    def __init__(
        self, ctx: Workspace, owner: object, cell: Cell, z: Array, kernel: Array, bias: Array | None, before: Array
    ) -> None:
        self.ctx, self.owner, self.cell = ctx, owner, cell
        self.z, self.kernel, self.bias, self.before = z, kernel, bias, before
        self.inner, self.scaled, self.carried = z, before, self._array("carried")
        if cell.kind == "gru_after":
            self.inner = stack(ctx, owner, "inner", z.shape, z.dtype)
        if cell.kind == "gru_before":
            self.scaled = self._steps("scaled")
        if cell.kind == "lstm":
            self.state = self._array("state")
            self.state.fill(0)
        self.carried.fill(0)

    def forward(self, step: int, h: Array) -> StepBackward:
        """Replace h by the output of this step, and return the step back."""
        np.copyto(self.before[step], h)
        found: StepBackward = getattr(self, f"_{self.cell.kind}")(step, h)
        return found

    def _simple_rnn(self, step: int, h: Array) -> StepBackward:
        z = self.z[step]
        np.add(z, self.ctx.matmul(h, self.kernel, out=self._array("product")), out=z)
        y, pull = self._gate("y", step, z, self.cell.activation)
        np.copyto(h, y)

        def backward(dh: Array) -> None:
            np.copyto(z, pull(dh))
            self.ctx.matmul(z, self.kernel.T, out=dh)

        return backward

    def _lstm(self, step: int, h: Array) -> StepBackward:
        z, rec, act = self.z[step], self.cell.recurrent_activation, self.cell.activation
        product = self.ctx.scratch(self.owner, "product", z.shape, z.dtype)
        np.add(z, self.ctx.matmul(h, self.kernel, out=product), out=z)
        names = zip("ifgo", (rec, rec, act, rec), self._parts(z), strict=True)
        (i, pull_i), (f, pull_f), (g, pull_g), (o, pull_o) = (
            self._gate(use, step, part, name) for use, name, part in names
        )
        c, c_before, temporary = self.state, self._steps("c")[step], self._array("temporary")
        np.copyto(c_before, c)
        np.multiply(f, c, out=c)
        np.add(c, np.multiply(i, g, out=temporary), out=c)
        tail, pull_tail = self._gate("tail", step, c, act)
        np.multiply(o, tail, out=h)

        def backward(dh: Array) -> None:
            dc, di, df, dg, do = (self._array(use) for use in ("carried", "di", "df", "dg", "do"))
            np.multiply(dh, tail, out=do)
            np.multiply(dh, o, out=dh)
            np.add(dc, pull_tail(dh), out=dc)
            np.multiply(dc, g, out=di)
            np.multiply(dc, c_before, out=df)
            np.multiply(dc, i, out=dg)
            np.multiply(dc, f, out=dc)
            for part, dz in zip(self._parts(z), (pull_i(di), pull_f(df), pull_g(dg), pull_o(do)), strict=True):
                np.copyto(part, dz)
            self.ctx.matmul(z, self.kernel.T, out=dh)

        return backward

    def _gru_after(self, step: int, h: Array) -> StepBackward:
        z, inner = self.z[step], self.inner[step]
        rec, act = self.cell.recurrent_activation, self.cell.activation
        self.ctx.matmul(h, self.kernel, out=inner)
        if self.bias is not None:
            np.add(inner, self.bias, out=inner)
        (z_update, z_reset, z_new), (in_update, in_reset, in_new) = self._parts(z), self._parts(inner)
        update, pull_update = self._gate("update", step, np.add(z_update, in_update, out=z_update), rec)
        reset, pull_reset = self._gate("reset", step, np.add(z_reset, in_reset, out=z_reset), rec)
        scaled = np.multiply(reset, in_new, out=self._array("temporary"))
        new, pull_new = self._gate("new", step, np.add(z_new, scaled, out=z_new), act)
        _mix(h, update, new)

        def backward(dh: Array) -> None:
            d_update, d_new, d_reset = self._mixed(dh, step, update, new, pull_new)
            np.multiply(d_new, in_new, out=d_reset)
            np.copyto(z_new, d_new)
            np.multiply(d_new, reset, out=in_new)
            for part, within, dz in (
                (z_update, in_update, pull_update(d_update)),
                (z_reset, in_reset, pull_reset(d_reset)),
            ):
                np.copyto(part, dz)
                np.copyto(within, dz)
            np.add(dh, self.ctx.matmul(inner, self.kernel.T, out=self._array("temporary")), out=dh)

        return backward

    def _gru_before(self, step: int, h: Array) -> StepBackward:
        z, scaled, before, units = self.z[step], self.scaled[step], self.before[step], self.before.shape[2]
        rec, act = self.cell.recurrent_activation, self.cell.activation
        first, last = self.kernel[:, : 2 * units], self.kernel[:, 2 * units :]
        both, z_new = z[:, : 2 * units], z[:, 2 * units :]
        np.add(both, self.ctx.matmul(h, first, out=self.ctx.scratch(self.owner, "both", both.shape, z.dtype)), out=both)
        update, pull_update = self._gate("update", step, both[:, :units], rec)
        reset, pull_reset = self._gate("reset", step, both[:, units:], rec)
        np.multiply(reset, h, out=scaled)
        np.add(z_new, self.ctx.matmul(scaled, last, out=self._array("temporary")), out=z_new)
        new, pull_new = self._gate("new", step, z_new, act)
        _mix(h, update, new)

        def backward(dh: Array) -> None:
            d_update, d_new, d_reset = self._mixed(dh, step, update, new, pull_new)
            np.copyto(z_new, d_new)
            d_scaled = self.ctx.matmul(d_new, last.T, out=self._array("temporary"))
            np.multiply(d_scaled, before, out=d_reset)
            np.add(dh, np.multiply(d_scaled, reset, out=d_scaled), out=dh)
            np.copyto(both[:, :units], pull_update(d_update))
            np.copyto(both[:, units:], pull_reset(d_reset))
            np.add(dh, self.ctx.matmul(both, first.T, out=d_scaled), out=dh)

        return backward

    def _mixed(self, dh: Array, step: int, update: Array, new: Array, pull_new: Pull) -> tuple[Array, Array, Array]:
        """Return the gradients of update, of what was new before its activation, and room for the third."""
        d_update, d_new = self._array("d_update"), self._array("d_new")
        np.subtract(self.before[step], new, out=d_update)
        np.multiply(d_update, dh, out=d_update)
        np.subtract(1, update, out=d_new)
        np.multiply(d_new, dh, out=d_new)
        np.multiply(dh, update, out=dh)
        return d_update, pull_new(d_new), self._array("d_reset")

    def _gate(self, use: str, step: int, z: Array, name: str) -> tuple[Array, Pull]:
        """Return the activation of z in memory of its own."""
        own = self._steps(use)[step]
        np.copyto(own, z)
        return activation(name)(own, self.ctx, (self.owner, use, step))

    def _parts(self, row: Array) -> list[Array]:
        units = self.before.shape[2]
        return [row[:, first : first + units] for first in range(0, row.shape[1], units)]

    def _array(self, use: str) -> Array:
        return self.ctx.scratch(self.owner, use, self.before.shape[1:], self.z.dtype)

    def _steps(self, use: str) -> Array:
        return stack(self.ctx, self.owner, f"{use} of all steps", self.before.shape, self.z.dtype)


def stack(ctx: Workspace, owner: object, use: str, shape: tuple[int, ...], dtype: object) -> Array:
    """Return scratch of shape (steps, n, width), a plain array for any n: that of (n, steps width), seen otherwise."""
    steps, n, width = shape
    return ctx.scratch(owner, use, (n, steps * width), dtype).reshape(shape)  # type: ignore[arg-type]


def _mix(h: Array, update: Array, new: Array) -> None:
    """Write update h + (1 - update) new to h."""
    np.subtract(h, new, out=h)
    np.multiply(h, update, out=h)
    np.add(h, new, out=h)
