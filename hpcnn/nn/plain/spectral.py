"""Convolutions in the space of frequencies: real and imaginary parts by products of their own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hpcnn.nn.arithmetic import Grad, KernelBackward
from hpcnn.nn.sines import analysis, synthesis
from hpcnn.nn.workspace import Array, Workspace

Combine = Callable[..., Array]
"""``np.add`` or ``np.subtract``."""


class PlainSpectral:
    """See `Arithmetic`."""

    def spectral_convolution(
        self, ctx: Workspace, owner: object, x: Array, kernel: Array
    ) -> tuple[Array, KernelBackward]:
        """Multiply complex numbers by the rule: (a + ib)(c + id) = (ac - bd) + i(ad + bc)."""
        this = _Spectral(ctx, owner, kernel, len(x), x.shape[1])
        spectrum = this.transformed("spectrum", x, this.into)
        result = this.scratch("result", *this.parts, kernel.shape[3])
        for mode, (real, imaginary) in enumerate(kernel):
            this.combine(np.subtract, result[0, mode], (spectrum[0, mode], real), (spectrum[1, mode], imaginary))
            this.combine(np.add, result[1, mode], (spectrum[0, mode], imaginary), (spectrum[1, mode], real))
        y = this.points("y", result, this.back)

        def backward(dy: Array, kernel_grad: Grad, /, *, need_dx: bool) -> Array | None:
            dresult = this.transformed("dresult", dy, this.back.T)
            if kernel_grad is not None:
                for mode, (real, imaginary) in enumerate(kernel_grad):
                    (a, b), (da, db) = spectrum[:, mode], dresult[:, mode]
                    this.combine(np.add, real, (a.T, da), (b.T, db))
                    this.combine(np.subtract, imaginary, (a.T, db), (b.T, da))
            if not need_dx:
                return None
            dspectrum = this.scratch("dspectrum", *this.parts, kernel.shape[2])
            for mode, (real, imaginary) in enumerate(kernel):
                da, db = dresult[:, mode]
                this.combine(np.add, dspectrum[0, mode], (da, real.T), (db, imaginary.T))
                this.combine(np.subtract, dspectrum[1, mode], (db, real.T), (da, imaginary.T))
            return this.points("dx", dspectrum, this.into.T)

        return y, backward


class _Spectral:
    """The transforms of one layer. Coefficients are (2, modes, n, channels): real parts, then imaginary ones."""

    def __init__(self, ctx: Workspace, owner: object, kernel: Array, n: int, length: int) -> None:
        modes, code = len(kernel), kernel.dtype.char
        self._ctx, self._owner, self._dtype, self._length = ctx, owner, kernel.dtype, length
        self.parts = (2, modes, n)
        self.into = analysis(length, modes, code)[..., 0].transpose(0, 2, 1).reshape(length, 2 * modes)
        self.back = synthesis(length, modes, code).transpose(1, 0, 2).reshape(2 * modes, length)

    def scratch(self, use: str, *shape: int) -> Array:
        return self._ctx.scratch(self._owner, use, shape, self._dtype)

    def transformed(self, use: str, x: Array, table: Array) -> Array:
        """Return the coefficients of x (n, length, channels), by a table (length, 2 modes)."""
        (n, length, channels), (_, modes, _) = x.shape, self.parts
        rows, product = self.scratch(f"{use}/x", n, channels, length), self.scratch(f"{use}/p", n, channels, 2, modes)
        np.copyto(rows, x.transpose(0, 2, 1))
        self._ctx.matmul(rows.reshape(n * channels, length), table, out=product.reshape(n * channels, 2 * modes))
        out = self.scratch(use, *self.parts, channels)
        np.copyto(out, product.transpose(2, 3, 0, 1))
        return out

    def points(self, use: str, parts: Array, table: Array) -> Array:
        """Return what a table (2 modes, length) makes of coefficients: (n, length, channels)."""
        (_, modes, n), channels = self.parts, parts.shape[3]
        rows = self.scratch(f"{use}/parts", n, channels, 2, modes)
        product = self.scratch(f"{use}/p", n, channels, self._length)
        np.copyto(rows, parts.transpose(2, 3, 0, 1))
        flat = rows.reshape(n * channels, 2 * modes)
        self._ctx.matmul(flat, table, out=product.reshape(n * channels, self._length))
        out = self.scratch(use, n, self._length, channels)
        np.copyto(out, product.transpose(0, 2, 1))
        return out

    def combine(self, combine: Combine, out: Array, first: tuple[Array, Array], second: tuple[Array, Array]) -> None:
        """Write the sum or difference of two products to `out`."""
        part = self.scratch("part", *out.shape)
        self._ctx.matmul(*first, out=out)
        self._ctx.matmul(*second, out=part)
        combine(out, part, out=out)
